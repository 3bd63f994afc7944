"""``python -m bench results``: what tools return to agents, plain and with an order planted, and whole sessions of agents.

The texts (``bench/results``) are outputs of commands, what people ask of each other (mails, tickets, chats, minutes, contracts,
pages, articles), what services answer (payments, mail, shops, clinics, pages), also with an order planted, orders in many
wordings, none of them learnt from, and three recorded sessions of coding agents. With
``--also``, outputs of the reader's own as well: JSON lines of ``{"kind", "text"}``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from bench import report
from bench.machine import machine, versions
from bench.school import Bench
from detectors.figures import auc
from detectors.values import Origin, Segment
from gateway.screening.policy import Action, Direction, Policy, evaluate
from gateway.wires.routes import find

NAME: Final = "results"
HELP: Final = "tools' results, harmless and with orders planted, and sessions of coding agents"

TEXTS: Final = Path(__file__).parent / "results"
BETWEEN: Final = "\n%%\n"

PRESETS: Final = ("balanced", "strict")
ORIGINS: Final = (Origin.TOOL_RESULT, Origin.DOCUMENT)

SHORT: Final = range(60, 350)
LONG: Final = range(1_200, 100_000)
CUT: Final = 2_000
"""Characters of the outputs that an order is planted in, and of which a long one is cut."""

SEED: Final = 3


class Planted(NamedTuple):
    """An order, by itself or within an output."""

    where: str
    group: str
    text: str


class Judged(NamedTuple):
    """How many texts there are, how many of them each policy blocks, and the score of each."""

    counts: tuple[int, ...]
    scores: list[float]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--also", type=Path, metavar="FILE", help="JSON lines of more outputs: kind and text")
    parser.add_argument("--cache", type=Path, default=Path("var"), help="a folder with compiled patterns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to a file too")


def run(arguments: argparse.Namespace) -> int:
    bench = Bench(arguments.cache)
    policies = [bench.live.presets[name].policy for name in PRESETS]
    outputs = {
        "outputs": _texts("outputs.txt"), "what people ask of each other": _texts("people.txt"),
        "what services answer": _texts("services.txt"),
    }  # fmt: skip
    if arguments.also:
        for line in arguments.also.read_text("utf-8").splitlines():
            more = json.loads(line)
            outputs.setdefault(f"also: {more['kind']}", []).append(more["text"])
    figures: dict[str, Any] = {}
    columns = ("number", *(f"blocked by {name}" for name in PRESETS))
    for origin in ORIGINS:
        harmless = {name: _judged(bench, policies, texts, origin) for name, texts in outputs.items()}
        rows = [(name, *judged.counts) for name, judged in harmless.items()]
        print(report.table(f"Harmless, as {origin}", ("texts", *columns), rows))
        figures |= {f"{origin}, {name}": dict(zip(columns, told, strict=True)) for name, *told in rows}
        plants = list(_planted(outputs["outputs"]))
        for key in ("where", "group"):
            named = {name: [one.text for one in plants if getattr(one, key) == name] for name in
                     dict.fromkeys(getattr(one, key) for one in plants)}  # fmt: skip
            orders = {name: _judged(bench, policies, texts, origin) for name, texts in named.items()}
            ranked = [(judged, [_above(judged, one) for one in harmless.values()]) for judged in orders.values()]
            rows = [(name, *judged.counts, *above) for name, (judged, above) in zip(orders, ranked, strict=True)]
            all_columns = (*columns, *(f"AUC to {name}" for name in harmless))
            print(report.table(f"Orders, as {origin}, by {key}", ("orders", *all_columns), rows))
            figures |= {f"{origin}, {name}": dict(zip(all_columns, told, strict=True)) for name, *told in rows}
    rows = [(file.stem, *_session(bench, policies[0], json.loads(file.read_text("utf-8"))))
            for file in sorted(TEXTS.glob("*.json"))]  # fmt: skip
    print(report.table("Sessions under balanced", ("session", "turns", "requests refused", "replies refused", "by"), rows))
    report.finish(NAME, machine(), versions(), figures, [], arguments.json)
    return 0


def _texts(file: str) -> list[str]:
    return (TEXTS / file).read_text("utf-8").rstrip("\n").split(BETWEEN)


def _judged(bench: Bench, policies: Sequence[Policy], texts: Sequence[str], origin: Origin) -> Judged:
    told = [_taken(bench, policies, [Segment(text, "tool", origin, 0, ())], Direction.REQUEST) for text in texts]
    blocked = [sum(taken[at] is Action.BLOCK for taken, _ in told) for at in range(len(policies))]
    return Judged((len(texts), *blocked), [score for _, score in told])


def _above(orders: Judged, harmless: Judged) -> float:
    """How often an order has a higher score than a harmless text."""
    labels = np.repeat([1, 0], [len(orders.scores), len(harmless.scores)])
    return round(auc(np.array(orders.scores + harmless.scores), labels), 4)


def _taken(
    bench: Bench, policies: Sequence[Policy], segments: Sequence[Segment], direction: Direction
) -> tuple[list[Action], float]:
    screening = bench.base.screen(segments, "")
    verdict = screening.close([bench.reading(window.text) for window in screening.asked]).verdict
    return [evaluate(policy, verdict, segments, direction).action for policy in policies], verdict.score


def _planted(outputs: Sequence[str]) -> Iterator[Planted]:
    """Each order alone, on a line of a short output and on one of a long one; and those in what services answer."""
    rng = random.Random(SEED)
    for line in (TEXTS / "orders.txt").read_text("utf-8").splitlines():
        group, _, order = line.partition(": ")
        yield Planted("alone", group, order)
        for where, lengths in (("in a short output", SHORT), ("in a long output", LONG)):
            around = rng.choice([text for text in outputs if len(text) in lengths])[:CUT].split("\n")
            around.insert(rng.randint(0, len(around)), order)
            yield Planted(where, group, "\n".join(around))
    yield from (Planted("in what services answer", "services'", text) for text in _texts("planted.txt"))


def _session(bench: Bench, policy: Policy, session: dict[str, Any]) -> tuple[int, int, int, str]:
    """Turns, requests and replies that are refused, and the origins that are to blame. A request has all turns before it."""
    target = find("POST", "/v1/messages")
    assert target is not None
    refused, blamed = 0, set[str]()
    stopped = False
    document = _document(session)
    for turn in range(len(document["messages"])):
        part = {**document, "messages": document["messages"][turn : turn + 1]}
        if turn:
            part |= {"system": "", "tools": []}
        segments = [one for one in target.wire.read_request(part, target).segments if one.text]
        mine = document["messages"][turn]["role"] == "assistant"
        for origin in {one.origin for one in segments}:
            told = [one for one in segments if one.origin is origin]
            if _taken(bench, [policy], told, Direction.REQUEST)[0] == [Action.BLOCK]:
                stopped = True
                blamed.add(str(origin))
        refused += stopped and not mine
    replies = [one for one in document["messages"] if one["role"] == "assistant"]
    cut = sum(_taken(bench, [policy], _reply(target, one), Direction.REPLY)[0] == [Action.BLOCK] for one in replies)
    return len(document["messages"]), refused, cut, ", ".join(sorted(blamed)) or "-"


def _reply(target: Any, message: dict[str, Any]) -> list[Segment]:
    reply = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": message["content"],
             "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    return list(target.wire.read_reply(reply, target).segments)


def _document(session: dict[str, Any]) -> dict[str, Any]:
    """The last request of a session, as Anthropic's API has it."""
    messages: list[dict[str, Any]] = []
    calls = 0
    for kind, said in session["turns"]:
        calls += kind == "call"
        id = f"toolu_{calls:04}"
        if kind == "call":
            block = {"type": "tool_use", "id": id, **said}
        elif kind == "result":
            block = {"type": "tool_result", "tool_use_id": id, "content": said}
        else:
            block = {"type": "text", "text": said}
        role = "assistant" if kind in ("assistant", "call") else "user"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"].append(block)
        else:
            messages.append({"role": role, "content": [block]})
    tools = [{"name": name, "description": about, "input_schema": {"type": "object"}} for name, about in session["tools"]]
    return {"model": "m", "max_tokens": 1, "system": session["system"], "tools": tools, "messages": messages}
