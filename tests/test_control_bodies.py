"""Bodies that a caller of the control plane never sends to their end."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateways import Gateway


@pytest.mark.parametrize("path", ["/admin/v1/session", "/v1/feedback", "/admin/v1/feedback/bulk"])
def test_a_body_that_does_not_come_holds_no_connection(tmp_path: Path, path: str) -> None:
    """Anybody could hold as many connections as there are, each with the first byte of a body."""
    gateway = Gateway(tmp_path, {}, 1, {}, constants={"gateway.admin.bodies.BODY_SECONDS": 1.0})
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{gateway.port}\r\ncontent-type: application/json\r\ncontent-length: 60\r\n\r\n"
    got = gateway.raw(head.encode() + b"{")
    assert got.startswith(b"HTTP/1.1 408 "), got
    assert b"the body did not come within 1 s" in got
    with gateway.client() as client:
        assert client.post("/admin/v1/feedback", json={"text": "hello", "label": "benign"}).status_code == 202
    assert gateway.stop() == 0
