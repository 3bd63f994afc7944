"""What a gateway loads before it serves, and what it answers meanwhile."""

from __future__ import annotations

import subprocess
import sys

from gateways import Gateway

HEAVY = ("fastapi", "starlette", "aioquic", "opentelemetry", "redis")


def test_the_data_plane_is_loaded_without_what_it_does_not_need() -> None:
    program = f"import sys, gateway.server; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_probes_are_answered_and_documented(echo_gateway: Gateway) -> None:
    with echo_gateway.client() as client:
        assert client.get("/healthz").json() == {"status": "alive"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        metrics = client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=")
        assert "portcullis_in_flight 0.0" in metrics.text
        assert client.post("/healthz").status_code == 405
        documented = client.get("/admin/openapi.json").json()["paths"]
    for path, told in (("/healthz", "Alive"), ("/readyz", "Ready"), ("/metrics", "All series")):
        assert documented[path]["get"]["description"].startswith(told)
        assert documented[path]["get"]["tags"] == ["health"]
