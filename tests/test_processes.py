"""A gateway's processes: what they say first, where they listen, what one leaves behind that is killed."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pwd
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import StartGateway
from gateways import CACHE_DIR, START_SECONDS, Gateway, free_port, until
from wires_support import CHAT

from gateway import cli
from gateway.config.settings import Settings
from gateway.services import Services
from gateway.serving.app import App
from gateway.telemetry.board import Board
from gateway.telemetry.metrics import MAX_SERIES, Exposition, Metrics, Place
from gateway.telemetry.stderr import Stderr

HELLO = {"model": "echo-1", "messages": [{"role": "user", "content": "Hello!"}]}


@contextmanager
def started(folder: Path, listen: str) -> Iterator[list[str]]:
    """A gateway as a person starts it; its lines so far, of which the first two are for that person."""
    config = folder / "portcullis.yaml"
    config.write_text(yaml.safe_dump({"listen": listen, "state": f"sqlite:{folder / 'state.db'}", "data_dir": str(folder)}))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield [process.stderr.readline() for _ in range(3)]
    finally:
        process.kill()
        process.wait(20)
        process.stderr.close()


def test_any_address_is_that_of_ipv4_too_and_the_line_to_try_is_true(tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, f"[::]:{port}") as lines:
        assert lines[0].startswith(f"Portcullis listens on http://127.0.0.1:{port} ")
        assert lines[1] == "Whoever calls shows a key: portcullis keys create --role app\n"
        assert "-H 'authorization: Bearer KEY'" in lines[2]
        for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            with socket.socket(family) as caller:
                caller.connect((host, port))


def test_a_port_that_is_taken_is_not_told_of_as_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with started(tmp_path, taken) as lines:
            assert lines == [f"portcullis serve: listen: {taken}: Address already in use\n", "", ""]


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {"limits": {"ready_grace_seconds": 0}}, 2, {}, forked=False)
    workers = [line["pid"] for line in gateway.log if line["message"] == "serving"]
    gateway.process.kill()
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _runs(pid) for pid in workers))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port), 5)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gateway_that_cannot_start_ends_and_says_why(workers: int, tmp_path: Path) -> None:
    """With several workers, too: who calls must not wait at a port behind which nobody ever is."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    config = tmp_path / "portcullis.yaml"
    (data / "store.key").mkdir()
    taken = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{taken.getsockname()[1]}"
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"state": "sqlite::memory:"}, f"data_dir: {data}/store.key: cannot be read: Is a directory"),
        ({"state": f"redis://127.0.0.1:{free_port()}/0"}, "Connection refused"),
        ({"state": "sqlite::memory:", "sync": {"listen": place, "development": str(tmp_path / "sync")}},
         f"sync.listen: {place}: Address already in use"),
    )  # fmt: skip
    for settings, said in cases:
        config.write_text(yaml.safe_dump({"listen": "127.0.0.1:0", "data_dir": str(data), **settings}))
        command = [sys.executable, "-m", "gateway", "serve", "--json", "--config", str(config), "--workers", str(workers)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=START_SECONDS)
        lines = [line["message"] for line in map(json.loads, done.stderr.splitlines()) if line["level"] == "error"]
        assert done.returncode == 1
        assert 1 <= len(lines) <= workers
        assert all(said in line for line in lines), lines
        if (data / "store.key").is_dir():
            (data / "store.key").rmdir()
    taken.close()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_two_gateways_over_one_folder_count_for_themselves(start_gateway: StartGateway, tmp_path: Path) -> None:
    one = start_gateway(workers=2)
    data = {"data_dir": one.settings["data_dir"]}
    with one.client() as client:
        for _ in range(3):
            assert client.post(CHAT, json=HELLO).status_code == 200
        until(lambda: _counted(client) == 3)
        (tmp_path / "other").mkdir()
        other = Gateway(tmp_path / "other", data, 2, {})
        try:
            with other.client() as second:
                assert _counted(second) == 0
                assert second.post(CHAT, json=HELLO).status_code == 200
                until(lambda: _counted(second) == 1)
            assert _counted(client) == 3
        finally:
            other.stop()


def _counted(client: httpx.Client) -> float:
    rows = [line for line in client.get("/metrics").text.splitlines() if line.startswith("portcullis_requests_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in rows)


def _gone(count: int) -> Metrics:
    metrics = Metrics()
    metrics.clients_gone.add(("openai.chat",), count)
    metrics.gauge("portcullis_workers", "", (), lambda: {(): 1.0})
    return metrics


def test_what_a_scrape_was_told_is_not_taken_back() -> None:
    """Prometheus takes a number that went back for a new beginning, and counts all of it as new. There is no disk in it that
    could be full: a worker is killed, and whoever stands in for it counts on, whichever of the workers is asked."""
    board = Board(2)
    told, other = 'portcullis_clients_gone_total{wire="openai.chat"} 7.0', Exposition(_gone(0), Place(board, 1))
    other.flush()
    pid = os.fork()
    if pid == 0:
        found = told in Exposition(_gone(7), Place(board, 0)).render().decode()
        os.kill(os.getpid(), signal.SIGKILL if found else signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert told in other.render().decode()
    again = Exposition(_gone(2), Place(board, 0))
    assert told in other.render().decode(), "it has shown nothing yet"
    for asked in (again, other, again):
        text = asked.render().decode()
        assert told.replace("7.0", "9.0") in text
        assert "portcullis_workers 2.0" in text


def test_what_is_shown_is_read_whole_however_often_it_is_replaced() -> None:
    board, texts = Board(2), [bytes([letter]) * size for letter, size in ((65, 400_000), (66, 9), (67, 300_000))]
    board.show(1, texts[0])
    pid = os.fork()
    if pid == 0:
        while True:
            for text in texts:
                board.show(1, text)
    try:
        while board.shown(1) == texts[0]:
            os.sched_yield()
        seen = {board.shown(1) for _ in range(20_000)}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert seen <= set(texts)
    assert board.shown(1) in texts
    assert board.shown(0) == b""


def test_more_than_a_place_holds_stops_no_scrape(caplog: pytest.LogCaptureFixture) -> None:
    metrics, board = _gone(7), Board(1)
    exposition = Exposition(metrics, Place(board, 0))
    exposition.flush()
    for number in range(1, MAX_SERIES):
        metrics.clients_gone.add((f"{number:04}" + "x" * 4_000,))
    assert exposition.render().count(b"portcullis_clients_gone_total{") == MAX_SERIES
    metrics.clients_gone.add(("openai.chat",))
    exposition.flush()  # and is said once
    assert [line.message[:47] for line in caplog.records] == ["metrics cannot be shared with the other workers"]
    assert len(board.shown(0)) < 10_000, "what was shown before stands"


def test_a_process_that_is_no_worker_ends_and_none_is_started_for_it(tmp_path: Path) -> None:
    """As process 1 of a container a supervisor is given every process that lost its parent."""
    stranger = ["sh", "-c", 'true & exec "$0" "$@"']
    gateway = Gateway(tmp_path, {"limits": {"ready_grace_seconds": 0}}, 2, {}, prefix=stranger)
    try:
        [worker, _] = [line["pid"] for line in gateway.log if line["message"] == "serving"]
        os.kill(worker, signal.SIGKILL)
        gateway.wait_for(lambda line: line["message"] == "serving", count=3)
        assert [line["message"] for line in gateway.log if "started again" in line["message"]] == [
            "a worker ended with -9 and is started again"
        ]
    finally:
        assert gateway.stop() == 0


def test_a_key_is_shown_to_a_user_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setenv("PORTCULLIS_STATE", f"sqlite:{tmp_path / 'state.db'}")
    monkeypatch.setenv("PORTCULLIS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORTCULLIS_CONFIG", os.devnull)
    monkeypatch.setenv("PORTCULLIS_KEY", "pc_of_the_command_line")
    assert cli.main(["keys", "create", "--role", "viewer"]) == 0
    assert capsys.readouterr().out.startswith("pc_")
    assert cli.main(["audit", "export"]) == 0
    assert f'"user":"{os.getuid()}"' in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "told"), [
    (["--role", "approver"], True), (["--role", "analyst", "--json"], True), (["--role", "approver", "--owner", "ann"], False), ([], False),
])  # fmt: skip
def test_whoever_labels_or_approves_is_told_of_as_somebody(
    arguments: list[str], told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two keys without an owner are two people, whoever holds them."""
    monkeypatch.setenv("PORTCULLIS_STATE", f"sqlite:{tmp_path / 'state.db'}")
    monkeypatch.setenv("PORTCULLIS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORTCULLIS_CONFIG", os.devnull)
    assert cli.main(["keys", "create", *arguments]) == 0
    assert ("without --owner this key is a person of its own" in capsys.readouterr().err) == told


def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    """As behind a collector that hangs: what does not fit into the pipe waits, then is dropped, and is counted."""
    data = tmp_path / "var"
    data.mkdir()
    (data / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    config, port = tmp_path / "portcullis.yaml", free_port()
    config.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{port}", "state": f"sqlite:{tmp_path / 'state.db'}", "data_dir": str(data)}))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            until(lambda: _alive(client))
            for _ in range(600):  # some 350 bytes each, of which a pipe holds 64 KB
                assert client.get("/v1/models").status_code == 200
            assert client.get("/healthz").status_code == 200
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()


def _alive(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_lines_go_out_whole_and_what_is_too_much_is_counted() -> None:
    read, write = os.pipe()
    out = Stderr(write, most=1_000)
    lines = [b"%d:%b" % (number, b"x" * (number % 700)) for number in range(3_000)]
    out.write(lines)
    assert not out.drain(0.0)
    assert 1_900 < out.dropped <= 2_000, "all but those that wait, and those in the pipe"
    got = b""
    while got.count(b"\n") < 3_000 - out.dropped:
        got += os.read(read, 65_536)
    assert got.splitlines() == lines[: 3_000 - out.dropped]
    assert out.drain(20)
    os.close(read)
    before = out.dropped
    out.write([b"to nobody"])
    assert out.drain(20)
    assert out.dropped == before + 1
    os.close(write)


class NoFiles:
    """What an import meets while a process has no file descriptor left."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "gateway.admin":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)


def test_a_control_plane_that_could_not_be_loaded_is_loaded_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    settings = Settings(data_dir=tmp_path, state=f"sqlite:{tmp_path}/state.db", detection={"model": False})

    async def loaded() -> None:
        app = App(Services(settings, None, None))
        with monkeypatch.context() as full:
            full.delitem(sys.modules, "gateway.admin", raising=False)
            full.setattr(sys, "meta_path", [NoFiles(), *sys.meta_path])
            with pytest.raises(OSError, match="Too many open files"):
                await app.load()
        assert await app.load() is await app.load()

    asyncio.run(loaded())


def test_an_interrupt_while_a_command_is_loaded_is_no_fault() -> None:
    program = (
        "import sys; from gateway import cli\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'gateway.cli.common': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "sys.exit(cli.main(['check']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(("words", "said"), [
    (("serve", "--wokers", "2"), "portcullis serve: error: unrecognized arguments: --wokers 2; did you mean --workers?"),
    (("patterns", "list", "--jsno=1"), "portcullis patterns list: error: unrecognized arguments: --jsno=1; did you mean --json?"),
    (("scan", "a", "b"), "portcullis scan: error: unrecognized arguments: b"),
    (("keys", "list", "--frobnicate"), "portcullis keys list: error: unrecognized arguments: --frobnicate"),
])  # fmt: skip
def test_what_a_command_does_not_know_is_told_with_its_own_usage(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    usage, _, last = capsys.readouterr().err.strip().rpartition("\n")
    assert last == said
    assert usage.startswith(f"usage: {said.partition(':')[0]} ")


def _helps() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    commands = cli.parser()._subparsers
    assert commands is not None
    for name, command in commands._group_actions[0].choices.items():  # type: ignore[union-attr]
        command.learn()
        found.append((name,))
        for group in command._subparsers._group_actions if command._subparsers else ():
            found += [(name, action) for action in group.choices or ()]
    return found


@pytest.mark.parametrize(("words", "heavy"), [
    (["--help"], "pydantic|fastapi|numpy|detectors|yaml|asyncio"), (["--version"], "pydantic|fastapi|numpy|detectors|yaml|asyncio"),
    (["health", "--help"], "fastapi|numpy|detectors.engine"), (["feedback", "--help"], "fastapi|numpy|detectors.engine"),
    (["keys", "list"], "fastapi|numpy|onnxruntime|detectors.engine"), (["audit", "verify"], "fastapi|numpy|detectors.engine"),
    (["patterns", "--help"], "fastapi"),
])  # fmt: skip
def test_a_command_loads_nothing_that_it_has_no_use_for(words: list[str], heavy: str, tmp_path: Path) -> None:
    program = (
        "import sys; from gateway import cli\n"
        "try: cli.main(sys.argv[2:])\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.argv[1].split('|')) & set(sys.modules)), file=sys.stderr)"
    )
    environment = os.environ | {"PORTCULLIS_DATA_DIR": str(tmp_path), "PORTCULLIS_STATE": f"sqlite:{tmp_path}/state.db"}
    done = subprocess.run([sys.executable, "-c", program, heavy, *words], capture_output=True, text=True, env=environment)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", _helps()[1:], ids=" ".join)
def test_every_help_ends_with_an_example_that_is_one(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.parser().parse_args([*words, "--help"])
    example = capsys.readouterr().out.rpartition("\nexample:\n  ")[2].strip()
    assert "\n" not in example
    assert f"portcullis {words[0]}" in example
    for command in example.split(" | ")[-1].split(" && "):
        given = shlex.split(command.partition(" > ")[0])
        assert tuple(given[: 1 + len(words)]) == ("portcullis", *words)
        cli.parser().parse_args(given[1:])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_all_is_written_down_ends_nothing_early(start_gateway: StartGateway, number: signal.Signals) -> None:
    gateway = start_gateway()
    with gateway.client() as client:
        client.post("/v1/chat/completions", json=CHAT)
    gateway.signal(number)
    gateway.wait_for(lambda line: "Finished server process" in line["message"])
    gateway.signal(number)
    assert gateway.stop() == 0
