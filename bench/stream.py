"""``python -m bench stream``: what screening a streamed reply costs, and how long its text waits.

First in this process: how much of ordinary text is held, CPU for each delta with few and with many patterns, memory of a
stream, and whether a byte of a redacted value ever goes out. Then over the network, beside nginx and beside a bare relay on
our own stack, in interleaved rounds: time to the first byte, and the delay of events with many streams at once.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import prompts, report
from bench.load import VARIED_STREAMS, Load, Loader, Run, median, start_upstream
from bench.machine import machine, versions
from bench.processes import BenchError, Child, Lab, wait_until_it_answers
from bench.proxies import CACHE, PATH, STREAMERS
from bench.report import Goal
from detectors.lexical import Match
from detectors.stream import TextStream
from detectors.streamrules import Act, StreamRules
from detectors.values import ChannelKind
from gateway import live
from gateway.policy import preset
from patterns.schema import Kind, Pattern, State, read_pattern

NAME: Final = "stream"
HELP: Final = "what is held of a stream and for how long, CPU for each delta, added delay with many streams at once"

DELTA: Final = 20
"""Characters of a delta: about four tokens, as providers send them together."""

SIZES: Final = (1_000, 10_000)
"""Patterns in all, the shipped ones and made-up ones."""

FIRST: Final = Load("first", "streams of 20 events 1 ms apart, 1 connection", "sse-20-1000", 300, 1, VARIED_STREAMS)
MANY: Final = tuple(
    Load(f"at_once_{count}", f"{count} streams at once, 50 events a second each", "sse-100-20000", 300, count, VARIED_STREAMS)
    for count in (100, 300, 1_000)
)

STREAMS_WEIGHED: Final = 400
ROUNDS_OF_LEAKS: Final = 3


def _stand_in(match: Match, value: str) -> str:
    return "\0"


def _rules(patterns: Sequence[Pattern], policy: str) -> StreamRules:
    found = live.stream_rules(patterns, preset(policy), CACHE, channels=(ChannelKind.PROSE,))
    if not found:
        raise BenchError(f"{policy}: no pattern acts on a stream")
    return found[ChannelKind.PROSE]


def _made_up(count: int) -> list[Pattern]:
    """Patterns as a security team adds them: keys of its own services, and commands that nobody should be told to run."""
    pick = random.Random(7)
    made = []
    for number in range(count):
        name = "".join(pick.choices("bcdfghjklmnpqrstvwxz", k=5))
        value = number % 2 == 0
        body = rf"\b{name}{number}_([A-Za-z0-9]{{24}})\b" if value else rf"\b{name}ctl\s{{1,3}}--purge\s{{1,3}}node{number}\b"
        made.append(read_pattern({
            "id": f"made.{number}", "kind": "pii" if value else "regex", "body": body, "severity": "high", "hits": ["x"],
            "misses": ["y"], "category": "secret.generic_credential" if value else "harmful_code.destructive_command",
        }, "bench"))  # fmt: skip
    return made


def held(rules: StreamRules, text: str) -> dict[str, float]:
    """What waits after each word of a text."""
    stream = TextStream(rules, _stand_in)
    waits = []
    for word in re.findall(r"\s*\S+", text):
        stream.feed(word)
        waits.append(stream.held)
    stream.close()
    waits.sort()
    return {
        "share_released": round(waits.count(0) / len(waits), 4),
        "median": waits[len(waits) // 2], "p99": waits[len(waits) * 99 // 100], "max": waits[-1],
    }  # fmt: skip


def cpu_us(rules: StreamRules, text: str) -> float:
    """CPU of screening one delta, the least of five walks through the text: what else the machine does adds to the others."""
    pieces = [text[at : at + DELTA] for at in range(0, len(text), DELTA)]
    best = float("inf")
    for _ in range(5):
        stream = TextStream(rules, _stand_in)
        began = time.thread_time_ns()
        for piece in pieces:
            stream.feed(piece)
        best = min(best, (time.thread_time_ns() - began) / len(pieces) / 1_000)
        stream.close()
    return round(best, 2)


def kilobytes(rules: StreamRules, text: str) -> float:
    """Memory of one stream that has said some thousand characters: its texts and the automata's state, as malloc counts it.

    NaN where the C library cannot tell (glibc can).
    """
    before = _allocated()
    streams = [TextStream(rules, _stand_in) for _ in range(STREAMS_WEIGHED)]
    for stream in streams:
        for at in range(0, 4_000, DELTA):
            stream.feed(text[at : at + DELTA])
    used = _allocated() - before
    for stream in streams:
        stream.close()
    return round(used / len(streams) / 1_024, 1)


class _MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]  # fmt: skip


def _allocated() -> float:
    try:
        tell = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return float("nan")
    tell.restype = _MallInfo
    told = tell()
    return float(told.uordblks + told.hblkhd)


def leaks(rules: StreamRules) -> tuple[int, int]:
    """Values streamed under random cuts, and how many times a byte of one went out that the whole text redacts."""
    pick = random.Random(11)
    streamed = leaked = 0
    for rule, act in zip(rules.rules, rules.acts, strict=True):
        if act is Act.CUT:
            continue
        for hit in rule.pattern.hits:
            text = f"As you asked, here it is: {hit} and that is all that I can tell you about it for the time being, I think."
            wanted, found = _through(rules, [text])
            streamed += ROUNDS_OF_LEAKS * len(found)
            for _ in range(ROUNDS_OF_LEAKS):
                marks = sorted({pick.randrange(1, len(text)) for _ in range(pick.choice((1, 5, 40, 400)))})
                pieces = [text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]
                leaked += _through(rules, pieces) != (wanted, found)
    return streamed, leaked


def _through(rules: StreamRules, pieces: Sequence[str]) -> tuple[str, list[tuple[str, int, int]]]:
    stream = TextStream(rules, _stand_in)
    said, found = "", []
    for piece in (*pieces, None):
        released = stream.finish() if piece is None else stream.feed(piece)
        said += released.text
        found += [(match.pattern.id, match.start, match.end) for act, match in released.found if act is Act.REPLACE]
        if released.cut is not None:
            break
    stream.close()
    return said, sorted(found)


def inside(text: str, quick: bool) -> dict[str, object]:
    """All that is measured in this process."""
    shipped = [one for one in live.load_patterns((), CACHE) if one.state is State.ACTIVE and one.kind is not Kind.SEMANTIC]
    found: dict[str, object] = {}
    balanced = _rules(shipped, "balanced")
    found["held"] = {"balanced": held(balanced, text)}
    found["late"] = balanced.late
    found["cpu_us_per_delta"] = {"shipped": cpu_us(balanced, text)}
    found["kb_per_stream"] = kilobytes(balanced, text)
    found["values_streamed"], found["values_leaked"] = leaks(balanced)
    if not quick:
        found["held"]["strict"] = held(_rules(shipped, "strict"), text)  # type: ignore[index]
        for size in SIZES:
            rules = _rules([*shipped, *_made_up(size - len(shipped))], "balanced")
            found["cpu_us_per_delta"][f"{size}_patterns"] = cpu_us(rules, text)  # type: ignore[index]
    return found


def outside(rounds: int, seconds: int, loads: Sequence[Load]) -> dict[str, dict[str, Run]]:
    """All that is measured over the network, by proxy and load."""
    runs: dict[tuple[str, str], list[Run]] = {}
    with Lab() as lab:
        upstream = start_upstream(lab)
        loader = Loader(lab)
        standing: list[tuple[str, Child]] = []
        for proxy in STREAMERS:
            child = proxy.start(lab, upstream.port)
            wait_until_it_answers(child, PATH, prompts.request_body("whole", "Hello!"), {})
            standing.append((proxy.name, child))
        for _, child in standing:
            loader.run(FIRST, child, upstream, {}, 1)
        for _ in range(rounds):
            for load in loads:
                for name, child in standing:
                    length = seconds if load is FIRST else max(seconds, 5)
                    runs.setdefault((name, load.name), []).append(loader.run(load, child, upstream, {}, length))
    found: dict[str, dict[str, Run]] = {}
    for (name, kind), some in runs.items():
        found.setdefault(name, {})[kind] = median(some)
    return found


def goals(figures: dict[str, object], runs: dict[str, dict[str, Run]]) -> list[Goal]:
    """What the issue asks for."""
    waits = figures["held"]["balanced"]  # type: ignore[index]
    cpu = figures["cpu_us_per_delta"]
    found = [
        Goal("share_released_at_once_at_least", waits["share_released"], 0.95),
        Goal("median_hold_at_most", waits["median"], 0),
        Goal("p99_hold_at_most", waits["p99"], 24),
        Goal("kb_per_stream_at_most", figures["kb_per_stream"], 40),  # type: ignore[arg-type]
        Goal("values_leaked_at_most", figures["values_leaked"], 0),  # type: ignore[arg-type]
        *(
            Goal(f"cpu_us_per_delta_{size}_at_most", cpu.get(f"{size}_patterns", float("nan")), most)  # type: ignore[attr-defined]
            for size, most in zip(SIZES, (15, 25), strict=True)
        ),
    ]
    if runs:
        ours, bare = runs["portcullis"], runs["bare"]
        added = ours[FIRST.name].first_p50 - bare[FIRST.name].first_p50
        found.append(Goal("added_first_byte_us_p50_at_most", round(added, 1), 100))
        for load in MANY:
            if load.name in ours:
                delay = ours[load.name].delay_p99 - bare[load.name].delay_p99
                found.append(Goal(f"added_delay_ms_p99_{load.name}_at_most", round(delay / 1_000, 3), 5))
    return found


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="shipped patterns only, one short round: to see that it works")
    parser.add_argument("--no-network", action="store_true", help="leave out what needs nginx, wrk and a C compiler")
    parser.add_argument("--seconds", type=int, default=3, metavar="S", help="length of each measurement (default: 3)")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="measurements of each (default: 1)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="ordinary text to measure with (default: our documentation)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Run it; 1 when a goal is missed."""
    if min(arguments.seconds, arguments.rounds) < 1:
        raise BenchError("--seconds and --rounds: wanted 1 or more")
    text = arguments.text.read_text(encoding="utf-8") if arguments.text else _documentation()
    figures = inside(text, arguments.quick)
    runs: dict[str, dict[str, Run]] = {}
    if not arguments.no_network:
        rounds, seconds, loads = (1, 1, (FIRST,)) if arguments.quick else (arguments.rounds, arguments.seconds, (FIRST, *MANY))
        runs = outside(rounds, seconds, loads)
    print(tables(figures, runs))
    reached = goals(figures, runs)
    network = {name: {kind: one._asdict() for kind, one in some.items()} for name, some in runs.items()}
    report.finish(NAME, machine(), versions(), {**figures, "network": network}, reached, arguments.json)
    return 0 if all(goal.met for goal in reached) else 1


def _documentation() -> str:
    """Our own prose: paragraphs of the documentation, without code and tables."""
    root = Path(__file__).parent.parent
    paragraphs = [
        paragraph
        for file in (root / "README.md", *sorted((root / "docs").glob("*.md")))
        for paragraph in re.split(r"\n\s*\n", re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.S))
        if not paragraph.lstrip().startswith(("|", "#", "-", "    "))
    ]
    return "\n\n".join(paragraphs)


def tables(figures: dict[str, object], runs: dict[str, dict[str, Run]]) -> str:
    """For people."""
    waits: dict[str, dict[str, float]] = figures["held"]  # type: ignore[assignment]
    cpu: dict[str, float] = figures["cpu_us_per_delta"]  # type: ignore[assignment]
    parts = [
        report.table("Held after each word of ordinary text, in characters", ("policy", "words that waited for nothing",
                     "median", "p99", "max"), [(name, *one.values()) for name, one in waits.items()]),
        report.table(f"CPU of screening {DELTA} characters", ("patterns", "us"), list(cpu.items())),
        report.table("One stream", ("KB", "values streamed", "leaked"),
                     [(figures["kb_per_stream"], figures["values_streamed"], figures["values_leaked"])]),
    ]  # fmt: skip
    for load in (FIRST, *MANY):
        rows = [
            (name, one[load.name].rate, one[load.name].cpu_us, one[load.name].first_p50, one[load.name].first_p99,
             one[load.name].delay_p50, one[load.name].delay_p99, one[load.name].bad)
            for name, one in runs.items() if load.name in one
        ]  # fmt: skip
        if rows:
            columns = ("proxy", "streams/s", "CPU us each", "first p50", "first p99", "event p50", "event p99", "bad")
            parts.append(report.table(load.title, columns, rows))
    return "\n".join(parts)
