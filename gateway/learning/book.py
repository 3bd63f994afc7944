"""Cases, labels, proposals and effects in the state, which all workers and replicas share.

Every change reads, changes and writes if nobody else wrote meanwhile, and starts over if somebody did.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from gateway.learning.promotion import Effect
from gateway.learning.quorum import Record
from gateway.learning.values import Case, Proposal, decode_case, decode_proposal, encode_case, encode_proposal
from gateway.state.base import MAX_PAGE, State, StateUnavailable

CASES: Final = "case"
LABELS: Final = "label"
PROPOSALS: Final = "proposal"
EFFECTS: Final = "effect"
LABELLERS: Final = "labeller"

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

    def __init__(self, state: State) -> None:
        self._state = state

    # Cases

    async def case(self, id: str) -> Case | None:
        found = await self._state.document(CASES, id)
        return decode_case(found.value) if found else None

    async def change_case(self, id: str, change: Callable[[Case | None], Case | None]) -> Case | None:
        """Let ``change`` make a new case from the present one (None where there is none); None from it changes nothing."""
        return await self._change(CASES, id, decode_case, encode_case, change)

    def cases(self) -> AsyncIterator[Case]:
        """All cases, in no useful order."""
        return self._all(CASES, decode_case)

    # Labels, for listing: the cases hold what counts

    async def add_label(self, label: Listed) -> None:
        await self._state.put(LABELS, label.id, orjson.dumps(list(label)), 0)

    async def labels(self, limit: int, before: str | None) -> list[Listed]:
        """Labels, newest first."""
        return [Listed(*orjson.loads(found.value)) for _, found in await self._state.documents(LABELS, limit, before)]

    # Proposals

    async def proposal(self, id: str) -> Proposal | None:
        found = await self._state.document(PROPOSALS, id)
        return decode_proposal(found.value) if found else None

    async def change_proposal(self, id: str, change: Callable[[Proposal | None], Proposal | None]) -> Proposal | None:
        """As `change_case`."""
        return await self._change(PROPOSALS, id, decode_proposal, encode_proposal, change)

    async def proposals(self, limit: int = MAX_PAGE, before: str | None = None) -> list[Proposal]:
        """Proposals, newest first."""
        return [decode_proposal(found.value) for _, found in await self._state.documents(PROPOSALS, limit, before)]

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

    async def add_effect(
        self, pattern: str, *, hits: int = 0, confirmed: int = 0, refuted: int = 0, last_seen: float = 0.0
    ) -> None:
        def change(old: Effect | None) -> Effect:
            old = old or Effect()
            return Effect(old.hits + hits, max(0, old.confirmed + confirmed), max(0, old.refuted + refuted),
                          max(old.last_seen, last_seen))  # fmt: skip

        await self._change(EFFECTS, pattern, _read(Effect), _write, change)

    async def standing(self, labeller: str) -> Record:
        found = await self._state.document(LABELLERS, labeller)
        return Record(*orjson.loads(found.value)) if found else Record()

    async def add_standing(self, labeller: str, agreed: int, disagreed: int) -> None:
        def change(old: Record | None) -> Record:
            old = old or Record()
            return Record(max(0, old.agreed + agreed), max(0, old.disagreed + disagreed))

        await self._change(LABELLERS, labeller, _read(Record), _write, change)

    async def _all(self, kind: str, decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        before: str | None = None
        while page := await self._state.documents(kind, MAX_PAGE, before):
            for _, found in page:
                yield decode(found.value)
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
