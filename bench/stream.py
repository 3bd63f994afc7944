"""``python -m bench stream``: what screening a streamed reply costs, and how long its text waits.

First in this process: how much of ordinary text is held, CPU for each delta with few and with many patterns, memory of a
stream, and whether a byte of a redacted value ever goes out. Then over the network (`bench.stream_network`), beside nginx and
beside a bare relay on our own stack: time to the first byte, how many streams fit at once, and what each policy costs.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from bench import dear, report, stream_network
from bench.load import Run
from bench.machine import machine, versions
from bench.processes import BenchError
from bench.proxies import CACHE
from bench.report import Goal
from bench.stream_network import FIRST, Network
from detectors.lexical import Match
from detectors.stream import TextStream
from detectors.streamrules import Act, StreamRules
from detectors.values import ChannelKind
from gateway import live
from gateway.redaction.vault import Vault
from gateway.screening.policy import Policy, preset
from gateway.streams.following import Follower
from gateway.streams.relay import Relay
from gateway.wires.base import Target
from gateway.wires.events import sse
from gateway.wires.openai_chat import OpenAIChat
from patterns.schema import Kind, Pattern, State, read_pattern

NAME: Final = "stream"
HELP: Final = "what is held of a stream and for how long, CPU for each delta, added delay with many streams at once"

DELTA: Final = 20
"""Characters of a delta: about four tokens, as providers send them together."""

SIZES: Final = (1_000, 10_000)
"""Patterns in all, the shipped ones and made-up ones."""

LIBRARY: Final = (
    "argparse", "asyncio", "bisect", "collections", "datetime", "decimal", "difflib", "doctest", "email", "fractions",
    "functools", "heapq", "logging", "pickle", "random", "statistics", "string", "textwrap", "unittest", "urllib", "zipfile",
)  # fmt: skip
"""Modules of Python's standard library whose words are taken for ordinary English."""

RELAYED: Final = 2_000
"""Events that are relayed to weigh one."""

STREAMS_WEIGHED: Final = 400
ROUNDS_OF_LEAKS: Final = 3
WALKS: Final = 20


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
    """CPU of screening one delta, the least of some walks through the text: what else the machine does adds to the others."""
    pieces = [text[at : at + DELTA] for at in range(0, len(text), DELTA)]
    best = float("inf")
    for _ in range(WALKS):
        stream = TextStream(rules, _stand_in)
        began = time.thread_time_ns()
        for piece in pieces:
            stream.feed(piece)
        best = min(best, (time.thread_time_ns() - began) / len(pieces) / 1_000)
        stream.close()
    return round(best, 2)


def relay_us(rules: StreamRules, policy: Policy, text: str) -> float:
    """CPU of one event of a chat completion in the relay: its frame read, its text followed and screened, the frame passed on.
    As `cpu_us`, and with as long streams as the network's."""
    texts = [text[at : at + DELTA] for at in range(0, len(text), DELTA)]
    frames = [_frame(number, piece) for number, piece in enumerate(texts)]
    target = Target(OpenAIChat(), "chat")
    best = float("inf")
    for _ in range(WALKS):
        began = time.thread_time_ns()
        for at in range(0, len(frames), stream_network.EVENTS):
            follower = Follower(policy, policy.ahead or 0)
            relay = Relay(target, "bench", dict.fromkeys(ChannelKind, rules), Vault(b"bench"), follower)
            for frame in frames[at : at + stream_network.EVENTS]:
                relay.feed(frame, lambda cut: "")
                follower.judged = follower.heard
            relay.close()
        best = min(best, (time.thread_time_ns() - began) / len(frames) / 1_000)
    return round(best, 2)


def _frame(number: int, text: str) -> bytes:
    """An event as ``upstream.c`` sends them."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return sse(orjson.dumps({
        "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "bench",
        "obfuscation": f"fp_{number:019}", "choices": [choice],
    }))  # fmt: skip


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


def inside(texts: dict[str, str], quick: bool) -> dict[str, Any]:
    """All that is measured in this process; of ``texts`` the first is what CPU and memory are measured with."""
    shipped = [one for one in live.load_patterns((), CACHE) if one.state is State.ACTIVE and one.kind is not Kind.SEMANTIC]
    balanced = _rules(shipped, "balanced")
    text = next(iter(texts.values()))
    plain = text.encode("ascii", "ignore").decode()
    cpu = {"shipped": cpu_us(balanced, plain), "shipped_with_typographic_characters": cpu_us(balanced, _typeset(plain))}
    found: dict[str, Any] = {
        "held": {name: held(balanced, text) for name, text in texts.items()},
        "late": balanced.late,
        "cpu_us_per_delta": cpu,
        "relay_us_per_event": relay_us(balanced, preset("balanced"), plain[: DELTA * RELAYED]),
        "dear": dear.ratios(balanced, plain),
        "kb_per_stream": kilobytes(balanced, text),
    }
    found["values_streamed"], found["values_leaked"] = leaks(balanced)
    if not quick:
        found["held"]["strict"] = held(_rules(shipped, "strict"), text)
        for size in SIZES:
            cpu[f"{size}_patterns"] = cpu_us(_rules([*shipped, *_made_up(size - len(shipped))], "balanced"), plain)
    return found


def _typeset(text: str) -> str:
    """The text as a word processor sets it: curly quotes and dashes, which read as themselves, and now and then a space or a
    hyphen that does not break, which stands for another character."""
    text = text.replace("'", "\u2019").replace(" - ", " \u2013 ")
    return re.sub(r"(\d) ", "\\1\u00a0", text)


def goals(figures: dict[str, Any], network: Network | None) -> list[Goal]:
    """What the issue asks for."""
    cpu = figures["cpu_us_per_delta"]
    found = []
    for name, waits in figures["held"].items():
        if name != "strict":  # in which the last word may become an address, and waits
            found += [
                Goal(f"share_released_of_{name}_at_least", waits["share_released"], 0.95),
                Goal(f"median_hold_of_{name}_at_most", waits["median"], 0),
                Goal(f"p99_hold_of_{name}_at_most", waits["p99"], 24),
            ]
    found += [
        Goal("kb_per_stream_at_most", figures["kb_per_stream"], 40),
        Goal("values_leaked_at_most", figures["values_leaked"], 0),
        *(
            Goal(f"cpu_us_per_delta_{size}_at_most", cpu.get(f"{size}_patterns", float("nan")), most)
            for size, most in zip(SIZES, (15, 25), strict=True)
        ),
    ]
    if network is not None:
        added = network.first["portcullis"].first_p50 - network.first["bare"].first_p50
        found.append(Goal("added_first_byte_us_p50_at_most", round(added, 1), 100))
        for name, steps in network.steps.items():
            found.append(Goal(f"streams_at_once_{name}_at_least", stream_network.fitting(steps), 1_000))
    return found


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="shipped patterns only, one short round: to see that it works")
    parser.add_argument("--no-network", action="store_true", help="leave out what needs nginx, wrk and a C compiler")
    parser.add_argument("--seconds", type=int, default=3, metavar="S", help="length of each measurement (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measurements of the first byte (default: 3)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="ordinary text (default: Python's and our documentation)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    """Run it; 1 when a goal is missed."""
    if min(arguments.seconds, arguments.rounds) < 1:
        raise BenchError("--seconds and --rounds: wanted 1 or more")
    texts = {"text": arguments.text.read_text(encoding="utf-8")} if arguments.text else ordinary()
    figures = inside(texts, arguments.quick)
    network = None
    if not arguments.no_network:
        quick = arguments.quick
        network = stream_network.measure(1 if quick else arguments.rounds, 1 if quick else arguments.seconds, whole=not quick)
    print(tables(figures, network))
    reached = goals(figures, network)
    report.finish(NAME, machine(), versions(), {**figures, "network": network and network.figures()}, reached, arguments.json)
    return 0 if all(goal.met for goal in reached) else 1


def ordinary() -> dict[str, str]:
    """Ordinary English that was not written for this: what Python's standard library says of itself, and our documentation."""
    return {"docstrings": _docstrings(), "documentation": _documentation()}


def _docstrings() -> str:
    found: dict[str, None] = {}
    for name in LIBRARY:
        module = importlib.import_module(name)
        for each in (module, *vars(module).values()):
            told = getattr(each, "__doc__", None)
            if isinstance(told, str) and len(told) > 200:
                found[told] = None
    return "\n\n".join(found)


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


def tables(figures: dict[str, Any], network: Network | None) -> str:
    """For people."""
    parts = [
        report.table("Held after each word of ordinary text, in characters", ("text", "words that waited for nothing",
                     "median", "p99", "max"), [(name, *one.values()) for name, one in figures["held"].items()]),
        report.table(f"CPU of screening {DELTA} characters", ("patterns", "us"), list(figures["cpu_us_per_delta"].items())),
        report.table("CPU of an event in the relay", ("", "us"), [("chat completion", figures["relay_us_per_event"])]),
        report.table(f"Text that was written to be dear, {dear.DELTA} characters an event: times the CPU of ordinary text",
                     ("text", "times"), list(figures["dear"].items())),
        report.table("One stream", ("KB", "values streamed", "leaked"),
                     [(figures["kb_per_stream"], figures["values_streamed"], figures["values_leaked"])]),
    ]  # fmt: skip
    if network is None:
        return "\n".join(parts)
    times = ("first_p50", "first_p99", "delay_p50", "delay_p99")
    columns = ("streams/s", "CPU us each", "first p50", "first p99", "event p50", "event p99", "bad", "others' share")

    def row(run: Run) -> tuple[float, ...]:
        return run.rate, run.cpu_us, *(getattr(run, each) for each in times), run.bad, run.neighbours

    parts.append(report.table(FIRST.title, ("proxy", *columns), [(name, *row(run)) for name, run in network.first.items()]))
    for name, steps in network.steps.items():
        rows = [(str(one.at_once), *row(one.ours), one.bare.delay_p99, one.added_us) for one in steps]
        parts.append(report.table(f"{name}: streams at once, 50 events a second each", ("at once", *columns,
                                  "bare's event p99", "added"), rows))  # fmt: skip
    if network.policies:
        rows = [(name, *row(one.run), one.judgements, one.lag and one.lag * 1e3) for name, one in network.policies.items()]
        parts.append(report.table(f"{stream_network.FEW} streams at once under each policy", ("policy", *columns,
                                  "judgements each", "lag ms"), rows))  # fmt: skip
    return "\n".join(parts)
