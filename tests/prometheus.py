"""A real Prometheus in a process of its own, which scrapes a gateway every second and evaluates our rules."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.processes import free_port


class Prometheus:
    """A running Prometheus that answers queries."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """An instant query's samples.

        Raises:
            AssertionError: Prometheus refuses the query.
        """
        got = self._client.get("/api/v1/query", params={"query": expr}).json()
        assert got["status"] == "success", f"{expr}: {got.get('error')}"
        result: list[dict[str, Any]] = got["data"]["result"]
        return result

    def ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def wait_for(self, expr: str, seconds: float = 60) -> None:
        """Wait until a query has a sample: until that much was scraped or evaluated."""
        end = time.monotonic() + seconds
        while not self.query(expr):
            assert time.monotonic() < end, f"no sample after {seconds} s: {expr}"
            time.sleep(0.2)

    def close(self) -> None:
        self._client.close()


@contextmanager
def prometheus(folder: Path, targets: Sequence[str], rules: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``targets`` (host:port) as job ``portcullis``."""
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "portcullis", "static_configs": [{"targets": list(targets)}]}],
    }))  # fmt: skip
    port = free_port()
    process = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    running = Prometheus(f"http://127.0.0.1:{port}")
    try:
        end = time.monotonic() + 60
        while not running.ready():
            assert process.poll() is None, "Prometheus ended"
            assert time.monotonic() < end, "Prometheus does not become ready"
            time.sleep(0.1)
        yield running
    finally:
        running.close()
        process.terminate()
        process.wait(20)
