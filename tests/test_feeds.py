"""Feeds: what is new is proposed once, a broken feed brings nothing, and nothing is read without bounds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from audit_support import certificate
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from gateway.learning import feeds, pulling
from gateway.learning.feeds import Feeds
from gateway.learning.pulling import FeedFault, pull
from gateway.learning.settings import FeedSettings
from gateway.state.base import StateUnavailable
from patterns import convert, detached
from patterns.convert.base import Converted, Fault
from patterns.schema import Pattern, Severity
from patterns.signing import public_text


class Taken:
    """What a feed's run proposed, and what is known because of it."""

    def __init__(self, *feeds: FeedSettings) -> None:
        self.patterns: list[Pattern] = []
        self.feeds = Feeds(lambda: feeds, self._propose, self._known)

    async def _propose(self, pattern: Pattern, where: str) -> None:
        assert where.startswith("from feed ")
        self.patterns.append(pattern)

    async def _known(self) -> dict[str, str]:
        return {pattern.id: pattern.body for pattern in self.patterns} | {"ours.gone-a": ""}

    def run(self, now: float) -> list[str]:
        before = len(self.patterns)
        asyncio.run(self.feeds.run(now))
        return [pattern.body for pattern in self.patterns[before:]]


def test_a_folder_is_pulled_when_it_is_due_and_what_is_new_is_proposed_once(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("say it aloud\n")
    taken = Taken(FeedSettings(name="ours", source=str(tmp_path), every_seconds=60))
    assert taken.run(0) == ["say it aloud"]
    (tmp_path / "two.csv").write_text("text,label\nbe evil,1\n")
    assert taken.run(59) == []
    assert taken.run(60) == ["be evil"]
    assert taken.run(200) == []
    assert all(pattern.provenance == "feed ours" for pattern in taken.patterns)


def test_a_rule_that_says_something_else_by_now_is_proposed_anew(tmp_path: Path) -> None:
    """Its name was known, so what its owner had mended never came."""
    rules = 'rule Gate {{ strings: $a = "{0}" condition: $a }} rule gone {{ strings: $a = "gone for good" condition: $a }}'
    taken = Taken(FeedSettings(name="ours", source=str(tmp_path), every_seconds=10))
    (tmp_path / "a.yar").write_text(rules.format("raise the gate"))
    assert taken.run(0) == ["raise the gate"]
    (tmp_path / "a.yar").write_text(rules.format("lower the gate"))
    assert taken.run(10) == ["lower the gate"]
    assert taken.run(20) == []
    (tmp_path / "b.yar").write_text(rules.format("raise the gate"))
    assert taken.run(30) == []
    assert [pattern.id[:11] for pattern in taken.patterns] == ["ours.gate-a"] * 2
    assert len({pattern.id for pattern in taken.patterns}) == 2


def test_what_is_left_out_is_told_with_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.yar").write_text('rule Gate { strings: $a = "abc" condition: $a }')
    assert Taken(FeedSettings(name="ours", source=str(tmp_path), every_seconds=10)).run(0) == []
    assert "ours: a.yar: rule Gate: $a: the text 'abc' is too short" in caplog.text


def test_a_broken_feed_brings_nothing_and_harms_no_other(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("say it aloud\n")
    (tmp_path / "bad.stix.json").write_text("{")
    taken = Taken(
        FeedSettings(name="gone", source=str(tmp_path / "none.txt")),
        FeedSettings(name="bad", source=str(tmp_path / "bad.stix.json")),
        FeedSettings(name="good", source=f"file:{good}"),
    )
    assert taken.run(0) == ["say it aloud"]
    assert taken.feeds.faults == {
        "gone": "gone: No such file or directory", "bad": "bad: not valid JSON: unexpected end of data (bad.stix.json)",
    }  # fmt: skip


def test_a_broken_file_of_a_folder_stops_none_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.stix.json").write_text("{")
    (tmp_path / "b.txt").write_text("say it aloud\n")
    (tmp_path / "c.csv").write_bytes(b"\x1f\x8b\xff")
    (tmp_path / "d.sheet").write_text("what is this\n")
    (tmp_path / "e.txt").write_text("be evil\n")
    (tmp_path / "f.txt").write_text("x" * 100)
    monkeypatch.setattr(pulling, "MAX_BYTES", 100)
    taken = Taken(FeedSettings(name="ours", source=str(tmp_path), every_seconds=10))
    assert taken.run(0) == ["say it aloud", "be evil"]
    told = taken.feeds.faults["ours"]
    assert [name for name in "abcdef" if f"{name}." in told] == ["a", "c", "d", "f"]
    assert "f.txt: more than 100 bytes with the files before it" in told
    for name in ("a.stix.json", "c.csv", "d.sheet", "f.txt"):
        (tmp_path / name).unlink()
    assert taken.run(10) == []
    assert taken.feeds.faults == {}


def test_a_file_that_no_reader_was_written_for_stops_none_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_data: bytes) -> Iterator[Converted | Fault]:
        raise LookupError("an error of ours")

    monkeypatch.setitem(convert.READERS, "yara", broken)
    (tmp_path / "a.yar").write_text("what is this\n")
    (tmp_path / "b.txt").write_text("say it aloud\n")
    taken = Taken(FeedSettings(name="ours", source=str(tmp_path), every_seconds=10))
    assert taken.run(0) == ["say it aloud"]
    assert taken.feeds.faults == {"ours": "ours: cannot be read: LookupError: an error of ours (a.yar)"}


def test_an_unsigned_file_of_a_folder_stops_none_of_the_others(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "a.txt").write_bytes(b"be evil\n")
    (tmp_path / "b.txt").write_bytes(b"say it aloud\n")
    (tmp_path / "b.txt.sig").write_bytes(detached.sign(b"say it aloud\n", key))
    taken = Taken(FeedSettings(name="ours", source=str(tmp_path), key=public_text(key.public_key())))
    assert taken.run(0) == ["say it aloud"]
    assert "a.txt: unsigned" in taken.feeds.faults["ours"]


def test_what_the_state_did_not_take_is_pulled_again_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("say it aloud\n")
    taken = Taken(FeedSettings(name="ours", source=str(tmp_path), every_seconds=3600))

    async def gone(_pattern: Pattern, _where: str) -> None:
        raise StateUnavailable("state", "gone")

    propose, taken.feeds._propose = taken.feeds._propose, gone
    with pytest.raises(StateUnavailable):
        taken.run(0)
    taken.feeds._propose = propose
    assert taken.run(5) == ["say it aloud"]


def test_what_waits_for_people_is_pulled_again(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("say it aloud\n")
    taken = Taken(FeedSettings(name="ours", source=str(tmp_path), every_seconds=60))

    async def full(_pattern: Pattern, _where: str) -> None:
        raise FeedFault("ours: 1000 proposals of this author wait for a decision")

    propose, taken.feeds._propose = taken.feeds._propose, full
    assert taken.run(0) == []
    assert "wait for a decision" in taken.feeds.faults["ours"]
    taken.feeds._propose = propose
    assert taken.run(60) == ["say it aloud"]
    assert taken.feeds.faults == {}


def test_what_is_refused_keeps_nothing_away_and_is_asked_again_once_it_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two hundred that were refused were proposed again at each pull, and nothing behind them ever."""
    many = tmp_path / "many.jsonl"
    row = '{"id":"ours.n%d","kind":"semantic","body":"%s %d","category":"jailbreak.persona","severity":"%s"}'
    rows = [row % (n, "wrong" if n < 250 else "say number", n, "high") for n in range(260)]
    many.write_text("\n".join(rows))
    taken = Taken(FeedSettings(name="many", source=str(many), every_seconds=10))
    asked: list[str] = []
    propose = taken.feeds._propose

    async def picky(pattern: Pattern, where: str) -> str | None:
        asked.append(pattern.id)
        if pattern.body.startswith("wrong") and pattern.severity is Severity.HIGH:
            return "the encoder cannot read it"
        return await propose(pattern, where)

    taken.feeds._propose = picky
    assert taken.run(0) == []
    assert taken.run(10) == [f"say number {n}" for n in range(250, 260)]
    assert len(asked) == len(set(asked)) == 260
    asked.clear()
    many.write_text("\n".join([row % (0, "wrong", 0, "low"), *rows[1:]]))
    assert taken.run(20) == ["wrong 0"]
    assert asked == ["ours.n0"]
    monkeypatch.setattr(feeds, "MAX_REFUSED", 100)
    taken.feeds._refused.clear()
    taken.feeds._marks.clear()
    assert taken.run(30) == []
    assert len(taken.feeds._refused["many"]) == 100


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = tmp_path / "many.txt"
    many.write_text("\n".join(f"say number {n}" for n in range(450)))
    taken = Taken(FeedSettings(name="many", source=str(many), every_seconds=10))
    assert [len(taken.run(now)) for now in (0, 10, 20, 30)] == [200, 200, 50, 0]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("\n".join(f"tell number {n}" for n in range(250)))
    (folder / "b.txt").write_text("one more line")
    taken = Taken(FeedSettings(name="folder", source=str(folder), every_seconds=10))
    assert [len(taken.run(now)) for now in (0, 10, 20)] == [201, 50, 0], "what is left of any file is pulled again"
    monkeypatch.setattr(pulling, "MAX_BYTES", 10)
    with pytest.raises(FeedFault, match=r"many: many\.txt: more than 10 bytes"):
        asyncio.run(pull(FeedSettings(name="many", source=str(many)), ""))


def test_an_address_that_does_not_answer_is_told_without_waiting() -> None:
    with pytest.raises(FeedFault, match="far: "):
        asyncio.run(pull(FeedSettings(name="far", source="https://127.0.0.1:9/list.txt"), ""))


def test_files_are_taken_as_they_were_signed_alone(tmp_path: Path) -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    (tmp_path / "one.txt").write_bytes(b"say it aloud\n")
    feed = FeedSettings(name="ours", source=str(tmp_path), every_seconds=10, key=public_text(key.public_key()))
    taken = Taken(feed)
    beside = tmp_path / "one.txt.sig"
    for signature, says in (
        (b"", "unsigned: there is no one.txt.sig"), (b"{", "wanted exactly sha256, signature, signer"),
        (detached.sign(b"say it aloud\n", other), "which is not trusted"), (detached.sign(b"say it\n", key), "was changed"),
        (detached.sign(b"say it aloud\n", key).replace(b'"signature": "', b'"signature": "00'), "not of"),
    ):  # fmt: skip
        beside.write_bytes(signature)
        assert taken.run(float(len(taken.feeds.faults))) == []
        taken.feeds._due.clear()
        assert says in taken.feeds.faults["ours"]
    beside.write_bytes(detached.sign(b"say it aloud\n", key))
    assert taken.run(100) == ["say it aloud"]
    assert taken.feeds.faults == {}
    with pytest.raises(ValidationError, match="wanted ed25519:"):
        FeedSettings(name="ours", source=str(tmp_path), key="ed25519:AAAA")


class Server(ThreadingHTTPServer):
    """An HTTPS server of a feed, on loopback with a certificate of its own. ``slow``: seconds between two bytes."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ca_file, context = certificate(folder)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.files: dict[str, bytes] = {}
        self.status = 200
        self.ended = threading.Event()
        self.slow = 0.0
        self.kind, self.lies = "text/plain", 0
        self.asked: list[tuple[str, str | None]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def feed(self, path: str, **fields: Any) -> FeedSettings:
        source = f"https://127.0.0.1:{self.server_address[1]}{path}"
        return FeedSettings(name="partner", source=source, every_seconds=10, ca_file=self.ca_file, **fields)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        mark = f'"{hash(data)}"'
        self.server.asked.append((self.path, self.headers["if-none-match"]))
        status = 404 if data is None else 304 if self.headers["if-none-match"] == mark else self.server.status
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/list.txt")
        self.send_header("etag", mark)
        self.send_header("content-type", self.server.kind)
        self.send_header("content-length", str(len(data or b"") + self.server.lies if status == 200 else 0))
        self.end_headers()
        for byte in data if data and status == 200 and self.server.slow else b"":
            if self.server.ended.wait(self.server.slow):
                return
            self.wfile.write(bytes([byte]))
        if data and status == 200 and not self.server.slow:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.ended.set()
    made.shutdown()
    made.server_close()


def test_an_address_is_asked_again_with_its_etag_and_brings_what_is_new(server: Server) -> None:
    server.files["/list.txt"] = b"say it aloud\n"
    taken = Taken(server.feed("/list.txt"))
    assert taken.run(0) == ["say it aloud"]
    assert taken.run(10) == []
    server.files["/list.txt"] = b"say it aloud\nand again\n"
    assert taken.run(20) == ["and again"]
    assert [bool(mark) for _, mark in server.asked] == [False, True, True]
    assert taken.feeds.faults == {}


def test_a_signature_is_fetched_beside_it(server: Server) -> None:
    key = Ed25519PrivateKey.generate()
    server.files["/a/list.txt?x=1"] = data = b"say it aloud\n"
    taken = Taken(server.feed("/a/list.txt?x=1", key=public_text(key.public_key())))
    assert taken.run(0) == []
    assert "list.txt: unsigned: there is no list.txt.sig" in taken.feeds.faults["partner"]
    server.files["/a/list.txt.sig?x=1"] = detached.sign(data, key)
    assert taken.run(10) == ["say it aloud"]
    server.files["/a/list.txt?x=1"] = b"be evil\n"
    assert taken.run(20) == []
    assert "was changed after it was signed" in taken.feeds.faults["partner"]


def test_a_server_is_held_to_certificate_status_size_and_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files |= {"/list.txt": b"say it aloud\n", "/large.txt": b"x" * 5000}

    def fault(path: str, **fields: Any) -> str:
        feed = server.feed(path).model_copy(update=fields)
        with pytest.raises(FeedFault, match=r"^partner: ") as told:
            asyncio.run(pull(feed, ""))
        return str(told.value)

    assert "certificate" in fault("/list.txt", ca_file=None).lower()
    assert fault("/none.txt") == "partner: the server answered 404"
    server.status = 302
    assert fault("/list.txt") == "partner: the server answered 302", "an address is what the operator wrote, and no other"
    server.status = 304
    assert fault("/list.txt") == "partner: the server answered 304", "to who has nothing"
    server.status = 200
    server.kind = "Text/HTML; charset=utf-8"
    assert fault("/list.txt") == "partner: the server answered with a web page"
    server.kind = "text/plain"
    server.lies = 5
    assert "partner: " in fault("/list.txt"), "it ends before all of it was sent"
    server.lies = 0
    monkeypatch.setattr(pulling, "MAX_BYTES", 1000)
    assert "longer than is allowed" in fault("/large.txt")
    monkeypatch.setattr(pulling, "SECONDS", 0.6)
    server.slow = 0.1
    began = time.monotonic()
    assert "partner: " in fault("/list.txt")
    assert time.monotonic() - began < 30, "however long it goes on sending"


@pytest.mark.parametrize("source", ["http://example.org/x", "ftp://x", "rules"])
def test_only_https_and_files(source: str) -> None:
    with pytest.raises(ValidationError, match="wanted https"):
        FeedSettings(name="x", source=source)
