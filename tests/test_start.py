"""What a gateway loads before it serves, and what it answers meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest
from gateways import Gateway

HEAVY = ("fastapi", "starlette", "aioquic", "opentelemetry", "redis", "cryptography.x509",
         "wsproto", "h11", "prometheus_client")  # fmt: skip


def test_the_data_plane_is_loaded_without_what_it_does_not_need() -> None:
    program = f"import sys, gateway.serving.server; print([name for name in {HEAVY} if name in sys.modules])"
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
        for path in ("/healthz", "/readyz", "/metrics"):  # load balancers and watchers of up-times ask by HEAD, too
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) > 10
        assert client.post("/healthz").status_code == 405
        documented = client.get("/admin/openapi.json").json()["paths"]
    for path, told in (("/healthz", "Alive"), ("/readyz", "Ready"), ("/metrics", "All series")):
        assert documented[path]["get"]["description"].startswith(told)
        assert documented[path]["get"]["tags"] == ["health"]


LEAVING = """
import asyncio, threading, time
from concurrent.futures import ThreadPoolExecutor
from gateway.serving import server

async def leave() -> None:
    pool = ThreadPoolExecutor(thread_name_prefix=server.ASIDE)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(pool)
    begun = threading.Event()

    def work() -> None:
        begun.set()
        time.sleep({seconds})

    loop.run_in_executor(None, work)
    await asyncio.to_thread(begun.wait)
    print("left", flush=False)
    await server._leave(pool)
    print("of itself")

asyncio.run(leave())
"""


@pytest.mark.parametrize(("seconds", "said"), [(600, "left\n"), (0, "left\nof itself\n")])
def test_no_thread_keeps_a_gateway_from_ending(seconds: int, said: str) -> None:
    """A compilation may take a minute, and SIGKILL comes after thirty seconds."""
    done = subprocess.run([sys.executable, "-c", LEAVING.format(seconds=seconds)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == said
