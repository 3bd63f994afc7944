"""Replicas in processes of their own (`bench.sync_replica`), started, told what to do and listened to."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from bench.processes import BenchError, before_exec, free_port
from gateway.sync import certificates
from gateway.sync.neighbours import REVIEW_SECONDS

PATIENCE: Final = 30.0
"""Seconds that anything may take before a run is given up."""

SETTLED_SECONDS: Final = REVIEW_SECONDS + 2.0
"""After so long in peace a replica has ended the connections that it does not need."""


class ReplicaProcess:
    """One running replica. ``events`` are the lines that it printed, oldest first."""

    def __init__(self, name: str, configuration: Mapping[str, Any], prefix: Sequence[str] = ()) -> None:
        """``prefix``: a command that runs it elsewhere, such as ``ip netns exec NAME``."""
        self.name = name
        self.prefix = prefix
        self.configuration = dict(configuration)
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "bench.sync_replica"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True, preexec_fn=before_exec,
        )  # fmt: skip
        self._write(configuration)
        threading.Thread(target=self._read, daemon=True).start()

    def begun(self) -> dict[str, Any]:
        """What it said when it had begun: the time, and the CPU seconds that it took."""
        return self.wait(lambda event: bool(event.get("ready")))

    def order(self, *words: Any) -> None:
        self._write(list(words))

    def wait(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE) -> dict[str, Any]:
        """The first event that is wanted.

        Raises:
            BenchError: there is none in time, or the process ended.
        """
        deadline = time.monotonic() + seconds
        seen = 0
        with self._changed:
            while True:
                for event in self.events[seen:]:
                    if wanted(event):
                        return event
                seen = len(self.events)
                if not self._changed.wait(deadline - time.monotonic()) or self.process.poll() is not None:
                    raise BenchError(f"replica {self.name}: what was waited for did not happen within {seconds:.0f} s")

    def held(self, identity: str, seconds: float = PATIENCE) -> float:
        """When it came to hold a pattern, in UNIX seconds of its own clock."""
        return float(self.wait(lambda event: identity in event.get("held", ()), seconds)["at"])

    def count(self, number: int, seconds: float = PATIENCE) -> float:
        """When it came to hold so many."""
        return float(self.wait(lambda event: event.get("count", 0) >= number, seconds)["at"])

    def status(self) -> dict[str, Any]:
        """What it says of itself now."""
        before = len(self.events)
        self.order("status")
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not (found := [event for event in self.events[before:] if "status" in event]):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise BenchError(f"replica {self.name} says nothing")
        return found[0]

    def connected(self, number: int, seconds: float = PATIENCE) -> None:
        """Wait until it is connected to so many that agree with it."""
        deadline = time.monotonic() + seconds
        while sum(peer["agrees"] for peer in self.status()["status"]["peers"]) < number:
            if time.monotonic() > deadline:
                raise BenchError(f"replica {self.name} is not connected to {number} that agree: {self.status()['status']}")
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.order("stop")
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()

    def _write(self, what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(what) + b"\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.events.append(orjson.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


class SyncLab:
    """A folder with an authority, and the replicas started in it. A context manager: leaving it ends all of them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="portcullis-sync-"))
        self.replicas: dict[str, ReplicaProcess] = {}
        certificates.init_authority(self.folder / "ca")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for replica in self.replicas.values():
            replica.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(
        self, name: str, listen: str = "", peers: Sequence[str] = (), prefix: Sequence[str] = (), shift: float = 0.0,
        **settings: Any,
    ) -> ReplicaProcess:
        """Start a replica, or start it again with the store that it had."""
        files = certificates.issue(self.folder / "ca", name, self.folder)
        sync = {
            "listen": listen or f"127.0.0.1:{free_port()}", "node": name, "peers": list(peers), "ca": str(files.authority),
            "certificate": str(files.certificate), "key": str(files.key), **settings,
        }  # fmt: skip
        configuration = {"folder": str(self.folder / name), "sync": sync, "clock_shift": shift}
        replica = self.replicas[name] = ReplicaProcess(name, configuration, prefix)
        replica.begun()
        return replica

    def again(self, name: str, **changes: Any) -> ReplicaProcess:
        """Start a replica that ended, with the store that it had; ``changes`` as `bench.sync_replica` reads them."""
        before = self.replicas[name]
        replica = self.replicas[name] = ReplicaProcess(name, {**before.configuration, **changes}, before.prefix)
        replica.begun()
        return replica

    def cluster(self, size: int, **settings: Any) -> list[ReplicaProcess]:
        """So many replicas that know each other and agree."""
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(size)]
        found = [self.start(f"r{number}", address, addresses, **settings) for number, address in enumerate(addresses)]
        for replica in found:
            replica.connected(1)
        return found
