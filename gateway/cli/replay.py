"""``portcullis replay``: judge what was kept of past traffic once more, as things stand now, and say what would differ.

Only texts that retention kept can be judged again: by default none, and never those of requests that were simply allowed. A
decision without them is counted and never called the same.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from detectors.values import Origin, Segment
from gateway.cli.common import add_config, settings, write_json, write_table
from gateway.cli.faults import Failed, Misused
from gateway.cli.scan import Scanner
from gateway.records.decisions import KeptTexts, Record
from gateway.screening.policy import Direction
from gateway.state.base import MAX_PAGE, Filter, State, StateUnavailable
from gateway.state.opening import open_state

EXAMPLE = "portcullis replay --config candidate.yaml --hours 24"

MAX_HOURS: Final = 24 * 366
"""A year: nobody keeps texts for longer."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--hours", type=float, default=24.0, help="how far to look back (default: 24)")
    parser.add_argument("--tenant", help="only this tenant's decisions")
    parser.add_argument("--limit", type=int, default=10_000, metavar="N", help="decisions to look at, newest first")


def run(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.hours <= MAX_HOURS:
        raise Misused(f"--hours: got {arguments.hours:g}; wanted more than 0 and at most {MAX_HOURS}")
    if arguments.limit < 1:
        raise Misused(f"--limit: got {arguments.limit}; wanted 1 or more")
    scanner = Scanner.load(arguments)
    state = open_state(settings(arguments).state)
    try:
        told = asyncio.run(_replay(scanner, state, arguments))
    except StateUnavailable as error:
        raise Failed(f"the state does not answer: {error}") from None
    if arguments.json:
        write_json(told)
    else:
        _show(told)
    return 1 if told["changed"] else 0


async def _replay(scanner: Scanner, state: State, arguments: argparse.Namespace) -> dict[str, Any]:
    now = time.time()
    wanted = Filter(tenant=arguments.tenant, since=now - arguments.hours * 3600)
    told: dict[str, Any] = {"decisions": 0, "without_texts": 0, "redacted": 0, "same": 0, "changed": []}
    try:
        async for record in _records(state, wanted, arguments.limit):
            told["decisions"] += 1
            kept = await state.kept_texts(record.id, now)
            if kept is None:
                told["without_texts"] += 1
                continue
            told["redacted"] += kept.redacted
            changes = [change for direction in Direction if (change := _again(scanner, record, kept, direction))]
            told["changed"] += changes
            told["same"] += not changes
    finally:
        await state.close()
    return told


async def _records(state: State, wanted: Filter, limit: int) -> AsyncIterator[Record]:
    """Decisions, newest first, a page at a time."""
    cursor = None
    while limit > 0:
        page = await state.decisions(wanted, min(limit, MAX_PAGE), cursor)
        for record in page.decisions:
            yield record
        limit -= len(page.decisions)
        cursor = page.cursor
        if cursor is None:
            return


def _again(scanner: Scanner, record: Record, kept: KeptTexts, direction: Direction) -> dict[str, Any] | None:
    """What would be decided of one direction now, where that differs from what was."""
    before = record.request if direction is Direction.REQUEST else record.reply
    texts = [text for text in kept.texts if text.direction == direction.value]
    if before is None or not texts:
        return None
    known = {part.path: part for part in before.parts}
    segments = []
    for number, text in enumerate(texts):
        part = known.get(text.path)
        origin = Origin(part.origin) if part else Origin.USER
        role = part.channel if part else ""
        segments.append(Segment(text.text, role, origin, part.turn if part else number, (text.path,)))
    now = scanner.judge(segments, direction)
    if now["action"] == before.action:
        return None
    return {
        "id": record.id, "time": record.time, "tenant": record.tenant, "direction": direction.value,
        "before": before.action, "now": now["action"], "score_before": round(before.score, 6), "score": now["score"],
        "category": now["category"], "complete": now["complete"],
    }  # fmt: skip


def _show(told: dict[str, Any]) -> None:
    if told["changed"]:
        write_table(
            ("decision", "direction", "before", "now", "score", "category"),
            [(one["id"], one["direction"], one["before"], one["now"], f"{one['score_before']:.3f} -> {one['score']:.3f}",
              one["category"] or "-") for one in told["changed"]],
        )  # fmt: skip
    print(f"{told['decisions']} decisions, {told['same']} judged the same, {len(told['changed'])} changes, "
          f"{told['without_texts']} without texts (retention kept none)")  # fmt: skip
    if told["redacted"]:
        print(f"{told['redacted']} of them were kept with values redacted: what the values caused is not seen again")
