"""Redis in every way that a URL can name it: real servers, on loopback, each in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis as redis_client

from bench.processes import free_port

COMMON = ("--save", "", "--appendonly", "no", "--loglevel", "notice")


@dataclass
class RedisServer:
    """One server. ``options`` are those of its command line, and say where it listens."""

    folder: Path
    url: str
    options: Sequence[str]
    password: str = ""
    port: int = 0
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            ["redis-server", *self.options], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.wait_for("ready to accept connections", "sentinel id is")

    def wait_for(self, *words: str) -> None:
        """Read on in its log until it says one of these."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if any(word in line.lower() for word in words):
                return
        raise RuntimeError(f"redis-server ended before it said {' or '.join(words)}")

    def client(self) -> redis_client.Redis:
        return redis_client.Redis(port=self.port) if self.port else redis_client.Redis.from_url(self.url)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@contextmanager
def running(*servers: RedisServer) -> Iterator[None]:
    assert shutil.which("redis-server"), "redis-server is not installed (Debian: apt-get install redis-server)"
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.stop()


@contextmanager
def redis_server(folder: Path, password: str = "") -> Iterator[RedisServer]:
    """A server on a Unix socket that only the test knows."""
    options = ["--port", "0", "--unixsocket", "redis.sock", *COMMON, *(["--requirepass", password] if password else [])]
    server = RedisServer(folder, f"unix://{f':{password}@' if password else ''}{folder / 'redis.sock'}", options, password)
    with running(server):
        yield server


def on_port(folder: Path, *options: str) -> RedisServer:
    port = free_port()
    return RedisServer(folder, f"redis://127.0.0.1:{port}", ["--port", str(port), *COMMON, *options], port=port)


@dataclass
class Group:
    """Servers that stand in for one another, and the URL by which they are used."""

    url: str
    master: RedisServer
    standby: RedisServer
    promoted: str
    """What the standby's log says when it has taken over."""

    def fail_over(self) -> None:
        """Kill the master, and wait until the standby is one."""
        self.master.stop()
        self.standby.wait_for(self.promoted)


@contextmanager
def sentinel_group(folder: Path) -> Iterator[Group]:
    """A master, a standby and a Sentinel that watches them."""
    master = on_port(folder / "master")
    standby = on_port(folder / "standby", "--replicaof", "127.0.0.1", str(master.port))
    watcher = on_port(folder / "sentinel")
    watcher.folder.mkdir()
    (watcher.folder / "sentinel.conf").write_text(
        f"port {watcher.port}\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 3000\n"
    )
    watcher.options = ["sentinel.conf", "--sentinel"]
    with running(master, standby):
        standby.wait_for("sync: finished with success")
        with running(watcher):
            watcher.wait_for("+slave slave")
            yield Group(f"redis+sentinel://127.0.0.1:{watcher.port}/main", master, standby, "master mode enabled")


@contextmanager
def cluster_group(folder: Path) -> Iterator[Group]:
    """Three masters, of which the first has our names, and a standby of that one."""
    buses = [free_port() for _ in range(4)]
    servers = [
        on_port(folder / str(number), "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "500")
        for number, bus in enumerate(buses)
    ]
    master, *others, standby = servers
    with running(*servers), master.client() as first:
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            first.execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)
        ours = int(first.execute_command("CLUSTER KEYSLOT", "{portcullis}"))
        first.execute_command("CLUSTER ADDSLOTSRANGE", 2, 16_383)
        assert ours > 1
        for slot, server in enumerate(others):  # so that there is a majority of masters to elect a new one
            with server.client() as asked:
                asked.execute_command("CLUSTER ADDSLOTS", slot)
        for server in servers:
            server.wait_for("cluster state changed: ok")
        with standby.client() as asked:
            asked.execute_command("CLUSTER REPLICATE", first.execute_command("CLUSTER MYID"))
        standby.wait_for("sync: finished with success")
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        yield Group(f"redis+cluster://{hosts}", master, standby, "failover election won")
