"""``portcullis scan``: text in, verdict out."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

import orjson

from detectors.engine import Engine
from detectors.values import Origin, Segment, show_path
from gateway import live
from gateway.cli.common import add_config, compiling, positive, settings, write_json
from gateway.cli.faults import Failed, Misused
from gateway.cli.streaming import available, stream
from gateway.screening.coverage import stages
from gateway.screening.policy import Action, Direction, Policy, evaluate
from gateway.wires.base import Malformed
from gateway.wires.collecting import Collector
from gateway.wires.openai_chat import read_message
from patterns.schema import PatternError
from patterns.taxonomy import is_attack

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
    parser.add_argument("--jobs", type=positive, default=available(), metavar="N",
                        help="processes for --jsonl (default: one for each core)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    with _source(arguments.file) as source:  # before the patterns, which may have to be compiled
        scanner = Scanner.load(arguments)
        if arguments.jsonl:
            return _lines(scanner, source, Origin(arguments.origin), arguments.jobs)
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

    def __init__(self, engine: Engine, policy: Policy, stages: tuple[str, ...]) -> None:
        self._engine = engine
        self._policy = policy
        self._stages = stages

    @classmethod
    def load(cls, arguments: argparse.Namespace) -> Scanner:
        """
        Raises:
            Misused: the configuration cannot be used. Failed: the patterns cannot.
        """
        try:
            chosen = settings(arguments)
            with compiling("what data_dir/cache does not have yet"):
                engine = live.load_engine(chosen, 1, time.time())
        except PatternError as error:
            raise Failed(str(error)) from None
        policy, _ = live.bind(chosen.policy, engine.thresholds)
        return cls(engine, policy, stages(chosen.detection))

    def judge(self, segments: list[Segment], direction: Direction = Direction.REQUEST) -> dict[str, Any]:
        """The verdict on one input, as the command line promises it."""
        began = time.perf_counter_ns()
        judged = self._engine.judge(segments, "")
        verdict, ran = judged.verdict, set().union(*judged.stages)
        ruling = evaluate(self._policy, verdict, segments, direction)
        # What attacks comes first; a value to protect is no reason for the score.
        worst = max(verdict.findings, key=lambda found: (is_attack(found.category), found.score), default=None)
        skipped = {one.stage: one.reason for one in verdict.skipped}
        return {
            "action": ruling.action.value,
            "score": round(verdict.score, 6),
            "category": worst.category if worst else None,
            "findings": [
                {
                    "detector": one.detector, "pattern": one.pattern, "category": one.category,
                    "score": round(one.score, 6), "path": show_path(segments[one.segment].path),
                    "start": one.start, "end": one.end, "action": action.value,
                }
                for one, action in zip(verdict.findings, ruling.actions, strict=False)
            ],
            "complete": verdict.complete,
            "stages": {stage: skipped.get(stage, "ran" if stage in ran else "not needed") for stage in self._stages},
            "us": (time.perf_counter_ns() - began) // 1000,
        }  # fmt: skip

    def line(self, line: bytes, origin: Origin) -> dict[str, Any]:
        """The answer to one line of ``--jsonl``."""
        identity: Any = None
        try:
            identity, segments = read_line(line, origin)
            return {"id": identity, **self.judge(segments)}
        except ValueError as error:
            return {"id": getattr(error, "identity", identity), "error": str(error)}


def _lines(scanner: Scanner, source: IO[bytes], origin: Origin, jobs: int) -> int:
    code = 0
    out = sys.stdout.buffer
    for written, failed in stream(source, functools.partial(_answer, scanner, origin), jobs):
        code |= failed
        out.write(written)
        out.flush()
    return code


def _answer(scanner: Scanner, origin: Origin, lines: Sequence[bytes]) -> tuple[bytes, bool]:
    """The answers to some lines, and whether one of them was bad."""
    results = [scanner.line(line, origin) for line in lines]
    return b"".join(orjson.dumps(result) + b"\n" for result in results), any("error" in result for result in results)


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
    if len(line) > MAX_LINE:
        raise BadLine(None, f"longer than {MAX_LINE} bytes")
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadLine(None, f"not valid JSON: {error.msg}") from None
    if not isinstance(raw, dict):
        raise BadLine(None, "wanted a JSON object")
    return raw.get("id"), segments_of(raw, origin)


def segments_of(raw: dict[str, Any], origin: Origin) -> list[Segment]:
    """What a line holds: ``text``, or ``messages`` (also called ``turns``), with an ``origin`` where it names one.

    Raises:
        BadLine: it has neither or both, or an unknown origin or role.
    """
    identity = raw.get("id")
    try:
        origin = Origin(raw["origin"]) if "origin" in raw else origin
    except ValueError:
        raise BadLine(identity, f"origin: wanted one of {', '.join(Origin)}") from None
    name = "messages" if "messages" in raw else "turns"
    messages = raw.get(name)
    if isinstance(text := raw.get("text"), str):
        if messages is not None:
            raise BadLine(identity, f"wanted text or {name}, not both")
        return [Segment(text, "user", origin, 0, ("text",))]
    if not isinstance(messages, list):
        raise BadLine(identity, "wanted text (a string) or messages (a list)")
    out = Collector()
    try:
        for turn, message in enumerate(messages):
            read_message(out, message, turn, (name, turn))
    except Malformed as error:
        raise BadLine(identity, str(error)) from None
    if "origin" in raw:
        return [segment._replace(origin=origin) for segment in out.segments]
    return out.segments


def _show(verdict: dict[str, Any]) -> None:
    left_open = [f"{stage} {state}" for stage, state in verdict["stages"].items() if state not in ("ran", "not needed")]
    print(f"{verdict['action']}  score {verdict['score']:.3f}  {verdict['us']} µs"
          + ("" if verdict["complete"] else f"  INCOMPLETE: {', '.join(left_open)}"))  # fmt: skip
    for one in verdict["findings"]:
        print(f"  {one['action']:6}  {one['category']}  {one['pattern']}  {one['start']}-{one['end']}"
              f"  {one['score']:.2f} ({one['detector']})")  # fmt: skip
