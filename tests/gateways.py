"""A real gateway in a process of its own, for tests that use it as its users do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from forked import Forked

from bench.processes import free_port

START_SECONDS = 300.0  # the first start of a run compiles all patterns, beside whatever else a machine does


class Gateway:
    """A started gateway: ``url`` without a trailing slash, ``log`` its JSON log lines so far."""

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], workers: int, environment: Mapping[str, str], *,
        host: str = "127.0.0.1", prefix: Sequence[str] = (), forked: bool = True, constants: Mapping[str, Any] | None = None,
    ) -> None:
        """``prefix``: a command that runs it elsewhere, such as ``ip netns exec NAME``, where it listens on ``host``.
        ``forked``: see the module of that name, which also says what ``constants`` are."""
        self.folder = folder
        self.workers = workers
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self.config = folder / "portcullis.yaml"
        self.settings = {
            "listen": f"{host}:{self.port}",
            "state": f"sqlite:{folder / 'state.db'}",
            "data_dir": str(_data_dir(folder)),
            **settings,
        }
        self.write(self.settings)
        self.log: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._ended = False
        command = ["serve", "--config", str(self.config), "--workers", str(workers), "--json"]
        whole = {**os.environ, **environment}
        self.process: Forked | subprocess.Popen[bytes]
        if forked and not prefix:
            self.process = Forked(command, whole, constants or {})
        else:
            plain = [*prefix, sys.executable, "-m", "gateway", *command]
            self.process = subprocess.Popen(plain, stderr=subprocess.PIPE, env=whole)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for(lambda line: line["message"] == "serving", count=workers)
        except AssertionError:
            self.process.kill()
            raise

    def write(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration file anew."""
        self.config.write_text(yaml.safe_dump(dict(settings)))

    def signal_with(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration file anew and have each process read it once, for a signal, and not because it has changed."""
        before, fresh = self.config.stat(), self.config.with_suffix(".fresh")
        fresh.write_text(yaml.safe_dump(dict(settings)))
        os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
        fresh.replace(self.config)
        self.signal(signal.SIGHUP)

    def take(self, settings: Mapping[str, Any]) -> None:
        """Have every process take a configuration, and wait until it did."""
        before = sum(map(_taken, self.log))
        self.signal_with(settings)
        self.wait_for(_taken, before + self.workers)

    def wait_for(self, wanted: Any, count: int = 1, seconds: float = START_SECONDS) -> list[dict[str, Any]]:
        """Wait until ``count`` log lines satisfy ``wanted``."""

        def enough() -> bool:
            return sum(map(wanted, self.log)) >= count or self._ended

        with self._changed:
            self._changed.wait_for(enough, seconds)
        found = [line for line in self.log if wanted(line)]
        assert len(found) >= count, f"not in the log after {seconds} s; it ends with {self.log[-5:]}"
        return found

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def raw(self, data: bytes) -> bytes:
        """What comes back for these bytes on a connection of their own, until it ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(data)
            got = b""
            while piece := connection.recv(65536):
                got += piece
            return got

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """End the gateway in an orderly way; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(40)
        except TimeoutError as error:
            self._reader.join(5)
            error.add_note("\n".join(line["message"] for line in self.log[-200:]))
            raise
        self._reader.join(5)
        return code

    def decision(self, client: httpx.Client, id: str) -> Any:
        """The record of a decision. That of a stream comes when its caller has had the last of it already."""
        until(lambda: client.get(f"/admin/v1/decisions/{id}").status_code == 200)
        return client.get(f"/admin/v1/decisions/{id}").json()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"message": raw.decode(errors="replace").rstrip()}
            with self._changed:
                self.log.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _taken(line: Mapping[str, Any]) -> bool:
    return bool(line["message"].startswith("configuration taken"))


def _data_dir(folder: Path) -> Path:
    """A gateway's own folder, in which only what was compiled is shared with others."""
    data = folder / "var"
    data.mkdir(exist_ok=True)
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    if not (data / "cache").exists():  # it is there where a gateway is started again
        (data / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    return data


def until(true: Callable[[], object], seconds: float = 120.0) -> float:
    """Ask a process of its own, again and again, until something is so; returns the seconds that passed."""
    begin = time.monotonic()
    while not true():
        passed = time.monotonic() - begin
        assert passed < seconds
        time.sleep(min(0.01 + passed / 20, 0.1))  # what asks keeps a core from who is to answer
    return time.monotonic() - begin


CACHE_DIR = Path(__file__).parent.parent / "var" / "tests" / "cache"
"""Compiled patterns are shared by all gateways of a test run: they are keyed by what was compiled."""
