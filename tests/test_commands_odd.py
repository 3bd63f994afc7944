"""Commands that are given what nobody should: each ends with a line that says so, and none in a traceback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from gateways import CACHE_DIR

from gateway import cli

PACK = """pack: own
version: 1
patterns:
  - {id: own.word, kind: regex, body: zanzibarfrob, category: prompt_injection.instruction_override, severity: high,
     hits: [say zanzibarfrob], misses: [say nothing]}
"""

ASKING = (
    ("health", "--config", "CONFIG"),
    ("feedback", "list", "--url", "URL"),
    ("feedback", "add", "attack", "--text", "x", "--url", "URL"),
    ("feedback", "import", "LABELS", "--url", "URL"),
    ("feedback", "retract", "--by", "x", "--reason", "y", "--url", "URL"),
    ("patterns", "show", "x", "--url", "URL"),
    ("patterns", "add", "PACK", "--url", "URL"),
    ("patterns", "import", "PACK", "--url", "URL"),
    ("patterns", "diff", "1", "2", "--url", "URL"),
    ("patterns", "effects", "--url", "URL"),
    ("patterns", "export", "--url", "URL"),
    ("patterns", "generations", "--url", "URL"),
    ("patterns", "proposals", "--url", "URL"),
    ("patterns", "proposals", "x", "--url", "URL"),
)
ANSWERS = {
    "a list": b"[]", "a number": b"7", "nothing": b"null", "an empty object": b"{}", "a page": b"<html>busy</html>",
    "half": b'{"status":', "no body": b"", "no text": b"\xff\x00", "deep": b"[" * 5_000 + b"]" * 5_000,
    "other types": b'{"status":[],"feedback":7,"patterns":7,"generations":7,"proposals":7,"next":"x","taken":"x","wrong":[],'
                   b'"ids":1,"faults":3,"wait":1e300}',
    "other rows": b'{"feedback":[1],"patterns":[1],"generations":[1],"proposals":[1],"added":[1],"removed":[1],"changed":{"a":[1]},'
                  b'"history":[1],"effectiveness":1,"next":null,"taken":1,"wrong":0,"ids":[],"faults":[{}],"wait":0}',
}  # fmt: skip


@contextmanager
def _server(body: bytes) -> Iterator[int]:
    """Answers everything with the same bytes; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        said: ClassVar[bytes] = body

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("content-length", str(len(self.said)))
            self.end_headers()
            self.wfile.write(self.said)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("said", ANSWERS)
def test_whatever_listens_where_a_gateway_should(said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _server(ANSWERS[said]) as port:
        named = {"CONFIG": tmp_path / "c.yaml", "LABELS": tmp_path / "labels.jsonl", "PACK": tmp_path / "pack.yaml"}
        named["CONFIG"].write_text(f"listen: 127.0.0.1:{port}\n")
        named["LABELS"].write_text('{"text":"a","label":"attack"}\n')
        named["PACK"].write_text(PACK)
        places = {**{name: str(path) for name, path in named.items()}, "URL": f"http://127.0.0.1:{port}"}
        for words in ASKING:
            if said == "other rows" and words[1] in ("export", "effects"):
                continue  # they ask until a page is empty
            if said == "other types" and words[0] == "health":
                continue  # a status is shown as it is
            assert cli.main([places.get(word, word) for word in words]) == 1, words
            [line] = capsys.readouterr().err.splitlines()[-1:]
            assert line.startswith(f"portcullis {words[0]}: ")
            assert str(port) in line


@pytest.mark.parametrize(("encoding", "code"), [("ascii", 1), ("cp1251", 1), ("latin-1", 0), ("utf-8", 0)])
def test_what_the_output_cannot_hold_is_no_fault_of_the_gateway(encoding: str, code: int) -> None:
    page = {"generations": [{"number": 7, "changes": 1, "author": "René", "reason": "x"}], "latest": 7, "next": None}
    with _server(json.dumps(page).encode()) as port:
        command = [sys.executable, "-m", "gateway", "patterns", "generations", "--url", f"http://127.0.0.1:{port}"]
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, check=False, env=env)
    assert done.returncode == code
    if code:
        [line] = done.stderr.decode().splitlines()
        assert line == (
            f"portcullis patterns: '\\xe9' cannot be written: the output is in {encoding}, not in UTF-8 (set PYTHONIOENCODING=utf-8)"
        )
    else:
        assert "René" in done.stdout.decode(encoding)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("health", "--seconds"), "seconds"),
        (("sync", "init-ca", "ca", "--days"), "days"),
        (("keys", "create", "--days"), "days"),
    ],
)
@pytest.mark.parametrize("number", ["nan", "inf", "1e300", "-1", "0", "9" * 30, "x", ""])
def test_a_number_that_is_none(words: tuple[str, ...], name: str, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words[:-1], f"{words[-1]}={number}"])
    assert ended.value.code == 2
    assert f"{number!r}: wanted a number of {name} above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("audit", "verify", "--no-state", "--directory", "FILE"), 1, "FILE: Not a directory"),
        (("audit", "verify", "--no-state", "--directory", "x" * 5000), 1, "x: File name too long"),
        (("patterns", "list", "x" * 5000), 1, "x: File name too long"),
        (("keys", "revoke", "\udcff", "--config", "CONFIG"), 2, "what was given is not UTF-8"),
        (("patterns", "show", "\udcff"), 2, "what was given is not UTF-8"),
        (("feedback", "add", "attack", "--text", "\udcff"), 2, "what was given is not UTF-8"),
    ],
)
def test_what_names_no_file_and_no_key(
    words: tuple[str, ...], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, config = tmp_path / "FILE", tmp_path / "CONFIG"
    file.write_bytes(b"\x00\xff")
    config.write_text(f"data_dir: {tmp_path}\nstate: sqlite:{tmp_path}/state.db\n")
    places = {"FILE": str(file), "CONFIG": str(config)}
    assert cli.main([places.get(word, word) for word in words]) == code
    assert capsys.readouterr().err.endswith(f"{told}\n")


def test_a_damaged_file_of_the_audit_log_is_a_problem_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = tmp_path / "20261101T000000-00000000"
    chain.mkdir()
    whole = bytearray(gzip.compress(b'{"n":1}\n' * 1000, mtime=0))
    whole[12:20] = b"\xff" * 8
    (chain / "000000000001.jsonl.gz").write_bytes(whole)
    assert cli.main(["audit", "verify", "--no-state", "--directory", str(tmp_path)]) == 1
    assert "000000000001.jsonl.gz" in capsys.readouterr().out
    assert cli.main(["audit", "export", "--directory", str(tmp_path)]) == 1
    assert "000000000001.jsonl.gz" in capsys.readouterr().err


def test_streams_that_are_closed(tmp_path: Path) -> None:
    """What is opened next would take their numbers, and what is printed would go into it."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    for shell in ("keys list --json >&-", "scan - <&-", "keys list 2>&-"):
        command = f"exec {sys.executable} -m gateway {shell}"
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(Path.cwd())}
        )
        assert (done.returncode, done.stderr) == (0, ""), shell
