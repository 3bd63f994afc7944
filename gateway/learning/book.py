"""Cases, labels, proposals and effects in the state, which all workers and replicas share.

Every change reads, changes and writes if nobody else wrote meanwhile, and starts over if somebody did.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from gateway.learning.promotion import Effect
from gateway.learning.quorum import Record, judged
from gateway.learning.values import Case, Proposal, Stage, decode_case, decode_proposal, encode_case, encode_proposal
from gateway.state.base import MAX_PAGE, Change, State, StateUnavailable, Versioned

CASES: Final = "case"
LABELS: Final = "label"
PROPOSALS: Final = "proposal"
EFFECTS: Final = "effect"
LABELLERS: Final = "labeller"
TURNS: Final = "label-turns"

_DIRTY: Final = "learning-dirty"
_ANEW: Final = "learning-anew"

PAGE: Final = 100
"""Documents of a kind read at once: each may be 240 kB."""

TURN_BYTES: Final = 500_000
"""Bytes of documents that are read before others have their turn: some milliseconds."""

TRIES: Final = 20
"""How often a change starts over; each time somebody else succeeded, so twenty means a storm."""


T = TypeVar("T")


class Listed(NamedTuple):
    """A label as it is listed: its id sorts by time."""

    id: str
    case: str
    by: str
    role: str
    said: str
    category: str
    note: str
    at: float


class Book:
    """Reads and writes what the learning loop remembers."""

    def __init__(self, state: State, person: Callable[[str], str] = str) -> None:
        """``person``: who somebody is by now, given the name that he spoke under: a key may be said to be somebody's later."""
        self._state = state
        self._person = person

    # Cases

    async def case(self, id: str) -> Case | None:
        found = await self._state.document(CASES, id)
        return self._case(found.value) if found else None

    async def change_case(self, id: str, change: Callable[[Case | None], Case | None]) -> Case | None:
        """Let ``change`` make a new case from the present one (None where there is none); None from it changes nothing."""
        return await self._change(CASES, id, self._case, encode_case, change)

    async def cases(self) -> AsyncIterator[Case]:
        """All cases, in no useful order."""
        async for case in self._all(CASES, self._case):
            yield case

    async def remove_case(self, id: str) -> bool:
        return await self._state.remove(CASES, id)

    # Labels, for listing: the cases hold what counts

    async def add_label(self, label: Listed) -> None:
        await self._state.put(LABELS, label.id, orjson.dumps(list(label)), 0)

    async def labels(self, limit: int, before: str | None) -> list[Listed]:
        """Labels, newest first."""
        found = [Listed(*orjson.loads(found.value)) for _, found in await self._state.documents(LABELS, limit, before)]
        return [one._replace(by=self._person(one.by)) for one in found]

    async def remove_label(self, id: str) -> bool:
        return await self._state.remove(LABELS, id)

    async def remove_labels(self, before: str) -> int:
        """Remove the labels whose ids are below ``before``; returns how many they were."""
        removed = 0
        while page := await self._state.documents(LABELS, MAX_PAGE, before):
            for id, _ in page:
                removed += await self._state.remove(LABELS, id)
        return removed

    # Proposals

    async def proposal(self, id: str) -> Proposal | None:
        found = await self._state.document(PROPOSALS, id)
        return self._proposal(found.value) if found else None

    async def change_proposal(self, id: str, change: Callable[[Proposal | None], Proposal | None]) -> Proposal | None:
        """As `change_case`."""
        return await self._change(PROPOSALS, id, self._proposal, encode_proposal, change)

    async def remove_proposal(self, id: str) -> bool:
        return await self._state.remove(PROPOSALS, id)

    async def proposals(self, limit: int = MAX_PAGE, before: str | None = None) -> list[Proposal]:
        """Proposals, newest first."""
        return [self._proposal(found.value) for _, found in await self._state.documents(PROPOSALS, limit, before)]

    async def all_proposals(self) -> AsyncIterator[Proposal]:
        """All proposals, newest first."""
        async for proposal in self._all(PROPOSALS, self._proposal):
            yield proposal

    # Whether there are labels that no pass has looked at yet

    async def mark_dirty(self) -> None:
        await self._mark(_DIRTY)

    async def dirty(self) -> int:
        """A number that changes with every label; 0 before the first."""
        return await self._marked(_DIRTY)

    async def mark_anew(self) -> None:
        """Cases changed by no label: nothing that is remembered of them holds."""
        await self._mark(_ANEW)

    async def anew(self) -> int:
        return await self._marked(_ANEW)

    async def _mark(self, what: str) -> None:
        found = await self._state.get(what)
        await self._state.swap(what, b"", found.version if found else 0)  # whoever was first marked it as well

    async def _marked(self, what: str) -> int:
        found = await self._state.get(what)
        return found.version if found else 0

    # How patterns and labellers did

    async def effect(self, pattern: str) -> Effect:
        found = await self._state.document(EFFECTS, pattern)
        return Effect(*orjson.loads(found.value)) if found else Effect()

    async def effects(self) -> dict[str, Effect]:
        """How every pattern did that ever matched, by id."""
        found: dict[str, Effect] = {}
        before: str | None = None
        while page := await self._state.documents(EFFECTS, MAX_PAGE, before):
            found |= {id: Effect(*orjson.loads(one.value)) for id, one in page}
            before = page[-1][0]
        return found

    async def counted(self, seen: int, matches: Mapping[str, int], at: float, watched: Collection[Stage]) -> list[Change]:
        """What is to be written because patterns matched in so many of ``seen`` requests up to ``at``: their effects, and of
        proposals in the stages that are ``watched`` how they do."""
        changes: list[Change] = []
        for pattern, hits in matches.items():
            found = await self._state.document(EFFECTS, pattern)
            old = Effect(*orjson.loads(found.value)) if found else Effect()
            new = old._replace(hits=old.hits + hits, last_seen=max(old.last_seen, at))
            changes.append(Change(EFFECTS, pattern, _write(new), found.version if found else 0))
        if not seen:
            return changes
        async for id, one in self._documents(PROPOSALS):
            if (proposal := decode_proposal(one.value)).stage in watched:
                alarms = proposal.alarms + matches.get(proposal.pattern.id, 0)
                told = replace(proposal, watched=proposal.watched + seen, alarms=alarms)
                changes.append(Change(PROPOSALS, id, encode_proposal(told), one.version))
        return changes

    async def set_spoken(self, pattern: str, confirmed: int, refuted: int, spoken_for: float, spoken_against: float) -> None:
        """What all labels together say of a pattern."""

        def change(old: Effect | None) -> Effect | None:
            before = old or Effect()
            new = before._replace(
                confirmed=confirmed, refuted=refuted, spoken_for=spoken_for, spoken_against=spoken_against
            )
            return None if new == old else new

        await self._change(EFFECTS, pattern, _read(Effect), _write, change)

    async def standing(self, labeller: str) -> Record:
        found = await self._state.document(LABELLERS, labeller)
        return Record(*orjson.loads(found.value)) if found else Record()

    async def set_standing(self, labeller: str, record: Record) -> None:
        await self._change(LABELLERS, labeller, _read(Record), _write, lambda old: None if old == record else record)

    async def turn(self, labeller: str, a_minute: float, now: float) -> float:
        """Take one of the turns that a labeller has a minute, with all workers together; returns 0, or in how many seconds
        there is one."""
        wait = 0.0

        def change(old: tuple[float, float] | None) -> tuple[float, float] | None:
            nonlocal wait
            left, at = old or (a_minute, now)
            left = min(a_minute, left + max(0.0, now - at) * a_minute / 60)  # a clock that went back costs nobody his turn
            wait = max(0.0, (1 - left) * 60 / a_minute)
            return None if wait else (left - 1, now)

        await self._change(TURNS, labeller, orjson.loads, _write, change)
        return wait

    def _case(self, body: bytes) -> Case:
        case = decode_case(body)
        named = case.of_people(self._person)
        return case if named is case else judged(named)

    def _proposal(self, body: bytes) -> Proposal:
        return decode_proposal(body).of_people(self._person)

    async def _all(self, kind: str, decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        async for _, found in self._documents(kind):
            yield decode(found.value)

    async def _documents(self, kind: str) -> AsyncIterator[tuple[str, Versioned]]:
        """All documents of a kind, greatest id first; between some of them others have their turn."""
        before, size = None, 0
        while page := await self._state.documents(kind, PAGE, before):
            for id, found in page:
                yield id, found
                size += len(found.value)
                if size > TURN_BYTES:
                    size = 0
                    await asyncio.sleep(0)
            before = page[-1][0]

    async def _change(
        self, kind: str, id: str, decode: Callable[[bytes], T], encode: Callable[[T], bytes],
        change: Callable[[T | None], T | None],
    ) -> T | None:  # fmt: skip
        for _ in range(TRIES):
            found = await self._state.document(kind, id)
            new = change(decode(found.value) if found else None)
            if new is None:
                return None
            if await self._state.put(kind, id, encode(new), found.version if found else 0) is not None:
                return new
        raise StateUnavailable(kind, f"others changed {id} {TRIES} times while this change was made")


def _read(kind: Callable[..., Any]) -> Callable[[bytes], Any]:
    return lambda body: kind(*orjson.loads(body))


def _write(value: Any) -> bytes:
    return orjson.dumps(list(value))
