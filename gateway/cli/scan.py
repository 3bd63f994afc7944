"""``portcullis scan``: text in, verdict out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import orjson

from detectors.engine import STAGES, Engine
from detectors.values import Origin, Segment, show_path
from gateway import live
from gateway.cli.common import Failed, Misused, add_config, settings, write_json
from gateway.policy import Action, Direction, Policy, evaluate
from gateway.wires.base import Collector, Malformed
from gateway.wires.openai_chat import read_message
from patterns.schema import PatternError

NAME = "scan"
HELP = "judge a text, or one text a line, without a gateway"
EXAMPLE = "echo 'Ignore all previous instructions' | portcullis scan -"

MAX_LINE: Final = 64 * 2**20
"""Bytes of one line of --jsonl: twice the largest request that the gateway takes."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="a file, or - for standard input (default)")
    parser.add_argument(
        "--jsonl", action="store_true",
        help='one object a line: {"id","text"} or {"id","messages":[{"role","content"}]}, with an "origin" if you like',
    )  # fmt: skip
    parser.add_argument("--origin", choices=[origin.value for origin in Origin], default=Origin.USER.value)


def run(arguments: argparse.Namespace) -> int:
    scanner = Scanner.load(arguments)
    with _source(arguments.file) as source:
        if arguments.jsonl:
            return _lines(scanner, source, Origin(arguments.origin))
        try:
            text = source.read().decode()
        except UnicodeDecodeError:
            raise Misused(f"{arguments.file}: is not UTF-8") from None
        verdict = scanner.judge([Segment(text, "user", Origin(arguments.origin), 0, ())])
    if arguments.json:
        write_json(verdict)
    else:
        _show(verdict)
    return 1 if verdict["action"] != Action.ALLOW else 0


def _source(name: str) -> IO[bytes]:
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise Misused(f"{name}: {error.strerror}") from None


class Scanner:
    """Judges texts outside of a gateway, by the same engine and the same policy."""

    def __init__(self, engine: Engine, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy

    @classmethod
    def load(cls, arguments: argparse.Namespace) -> Scanner:
        """
        Raises:
            Misused: the configuration cannot be used. Failed: the patterns cannot.
        """
        try:
            built = live.build(settings(arguments), 1, time.time())
        except PatternError as error:
            raise Failed(str(error)) from None
        return cls(built.engine, built.default.policy)

    def judge(self, segments: list[Segment]) -> dict[str, Any]:
        """The verdict on one input, as the command line promises it."""
        began = time.perf_counter_ns()
        verdict = self._engine.judge(segments, "").verdict
        ruling = evaluate(self._policy, verdict, segments, Direction.REQUEST)
        worst = max(verdict.findings, key=lambda finding: finding.score, default=None)
        skipped = {one.stage: one.reason for one in verdict.skipped}
        return {
            "action": ruling.action.value,
            "score": round(verdict.score, 6),
            "category": worst.category if worst else None,
            "findings": [
                {
                    "detector": one.detector, "pattern": one.pattern, "category": one.category, "score": one.score,
                    "path": show_path(segments[one.segment].path), "start": one.start, "end": one.end,
                    "action": action.value,
                }
                for one, action in zip(verdict.findings, ruling.actions, strict=False)
            ],
            "complete": verdict.complete,
            "stages": {stage: skipped.get(stage, "ran") for stage in STAGES},
            "us": (time.perf_counter_ns() - began) // 1000,
        }  # fmt: skip


def _lines(scanner: Scanner, source: IO[bytes], origin: Origin) -> int:
    code = 0
    out = sys.stdout.buffer
    for line in _read_lines(source):
        identity: Any = None
        try:
            identity, segments = read_line(line, origin)
            result = {"id": identity, **scanner.judge(segments)}
        except ValueError as error:
            code = 1
            result = {"id": getattr(error, "identity", identity), "error": str(error)}
        out.write(orjson.dumps(result) + b"\n")
    out.flush()
    return code


def _read_lines(source: IO[bytes]) -> Iterator[bytes]:
    while line := source.readline(MAX_LINE):
        if line.strip():
            yield line


class BadLine(ValueError):  # noqa: N818
    """A line that cannot be judged; ``identity`` is its id where it has one."""

    def __init__(self, identity: Any, message: str) -> None:
        self.identity = identity
        super().__init__(message)


def read_line(line: bytes, origin: Origin) -> tuple[Any, list[Segment]]:
    """Read one line of ``--jsonl``.

    Raises:
        BadLine: it is not JSON, or has neither text nor messages.
    """
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadLine(None, f"not valid JSON: {error.msg}") from None
    if not isinstance(raw, dict):
        raise BadLine(None, "wanted a JSON object")
    identity = raw.get("id")
    try:
        origin = Origin(raw["origin"]) if "origin" in raw else origin
    except ValueError:
        raise BadLine(identity, f"origin: wanted one of {', '.join(Origin)}") from None
    if isinstance(text := raw.get("text"), str):
        return identity, [Segment(text, "user", origin, 0, ("text",))]
    messages = raw.get("messages")
    if not isinstance(messages, list):
        raise BadLine(identity, "wanted text (a string) or messages (a list)")
    out = Collector()
    try:
        for turn, message in enumerate(messages):
            read_message(out, message, turn, ("messages", turn))
    except Malformed as error:
        raise BadLine(identity, str(error)) from None
    if "origin" in raw:
        return identity, [segment._replace(origin=origin) for segment in out.segments]
    return identity, out.segments


def _show(verdict: dict[str, Any]) -> None:
    print(f"{verdict['action']}  score {verdict['score']:.3f}  {verdict['us']} µs"
          + ("" if verdict["complete"] else "  INCOMPLETE"))  # fmt: skip
    for one in verdict["findings"]:
        print(f"  {one['action']:6}  {one['category']}  {one['pattern']}  {one['start']}-{one['end']}"
              f"  {one['score']:.2f} ({one['detector']})")  # fmt: skip
