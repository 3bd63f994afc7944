"""How much a tenant, or one of its keys, may do in a minute, counted over all workers and replicas. Pure; ``now`` is given.

The minute slides: what was spent in the last calendar minute counts for the part of it that the last sixty seconds still cover,
as if it had come evenly. That needs two numbers a limit, where an exact log would need one a request.

A worker decides by what it knows: what all had spent when it last asked, and what it spent itself since. `Ledger.due` and
`Ledger.told` are the asking; while nobody answers, a worker keeps to its share: the limit, divided by how many workers had
requests of this tenant or key when they were last heard of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

MINUTE: Final = 60.0

KEPT_SECONDS: Final = 3 * MINUTE
"""How long a count is of use: the minute at hand and the one before, with one to spare for clocks that differ."""

REQUESTS, BYTES = "requests", "bytes"


class Allowed(Protocol):
    """What one tenant or key may spend in a minute; None: any amount. The settings have it."""

    @property
    def requests_per_minute(self) -> int | None: ...

    @property
    def bytes_per_minute(self) -> int | None: ...


class Refused(NamedTuple):
    """Which limit was reached, and in how many seconds there is room again if nobody spends more."""

    what: str
    limit: int
    seconds: int


class _Count:
    """What was spent in one minute: by all as the store last said, and by this worker."""

    __slots__ = ("known", "mine", "sending", "unsent")

    def __init__(self) -> None:
        self.known = 0  # by all, this worker's part that was sent included
        self.sending = self.unsent = 0  # by this worker, on the way and not yet
        self.mine = 0  # by this worker in all

    def add(self, amount: int) -> None:
        self.unsent += amount
        self.mine += amount


class _Subject:
    """A tenant or a key: its counts by what is counted and minute, and how many workers serve it."""

    __slots__ = ("counts", "sharers", "touched")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int], _Count] = {}
        self.sharers = 1
        self.touched = 0.0

    def count(self, what: str, minute: int) -> _Count:
        found = self.counts.get((what, minute))
        if found is None:
            found = self.counts[what, minute] = _Count()
        return found


_SHARERS: Final = "workers"


class Ledger:
    """What one worker knows of all that is limited. ``alone``: the store did not answer the last time."""

    def __init__(self) -> None:
        self._subjects: dict[str, _Subject] = {}
        self._asked: list[tuple[_Subject, str, int]] = []
        self.alone = False

    def __len__(self) -> int:
        return len(self._subjects)

    @property
    def share(self) -> int:
        """The largest number of workers that a limit is divided by while the store is gone."""
        return max((subject.sharers for subject in self._subjects.values()), default=1)

    def refused(self, name: str, allowed: Allowed, now: float) -> Refused | None:
        """Why a request of ``name`` may not go now, if it may not. Bytes are asked about before they are known: a request goes
        while there is any room for them."""
        subject = self._subject(name, now)
        minute, passed = int(now // MINUTE), now % MINUTE / MINUTE
        for what, limit in ((REQUESTS, allowed.requests_per_minute), (BYTES, allowed.bytes_per_minute)):
            if limit is None:
                continue
            here, before = subject.count(what, minute), subject.counts.get((what, minute - 1))
            if self.alone:
                limit = max(1, limit // subject.sharers)
                spent, earlier = here.mine, before.mine if before else 0
            else:
                spent = here.known + here.sending + here.unsent
                earlier = before.known + before.sending + before.unsent if before else 0
            if spent + earlier * (1 - passed) > limit - 1:
                return Refused(what, limit, _until(spent, earlier, limit - 1, passed))
        return None

    def spend(self, name: str, what: str, amount: int, now: float) -> None:
        """Count something that ``name`` did."""
        self._subject(name, now).count(what, int(now // MINUTE)).add(amount)

    def due(self, now: float) -> dict[str, int]:
        """What is to be added to the store's tallies, by name; 0 where it is only asked for. `told` takes the answer."""
        minute = int(now // MINUTE)
        amounts: dict[str, int] = {}
        self._asked = []
        for name, subject in list(self._subjects.items()):
            if now - subject.touched > KEPT_SECONDS:
                del self._subjects[name]
                continue
            for key in [key for key in subject.counts if key[1] < minute - 1]:
                del subject.counts[key]
            whats = {what for what, _ in subject.counts if what != _SHARERS}
            here = subject.counts.get((_SHARERS, minute))
            if here is None:
                subject.count(_SHARERS, minute).add(1)  # once a minute: this worker is one of them
            for what in (*sorted(whats), _SHARERS):
                for when in (minute - 1, minute):
                    count = subject.count(what, when)
                    count.sending, count.unsent = count.unsent, 0
                    amounts[f"{name}:{what}:{when}"] = count.sending
                    self._asked.append((subject, what, when))
        return amounts

    def told(self, totals: Sequence[int] | None) -> None:
        """What the tallies of `due` came to, in order; None: the store did not answer, and nothing was added."""
        self.alone = totals is None
        for number, (subject, what, when) in enumerate(self._asked):
            count = subject.counts.get((what, when))
            if count is None:
                continue
            if totals is None:
                count.unsent += count.sending
            else:
                count.known = totals[number]
            count.sending = 0
        if totals is not None:
            for subject in {id(one[0]): one[0] for one in self._asked}.values():
                subject.sharers = max(1, *(count.known for (what, _), count in subject.counts.items() if what == _SHARERS))
        self._asked = []

    def _subject(self, name: str, now: float) -> _Subject:
        found = self._subjects.get(name)
        if found is None:
            found = self._subjects[name] = _Subject()
        found.touched = now
        return found


def _until(spent: int, earlier: int, room: int, passed: float) -> int:
    """Whole seconds until ``spent + earlier * (what is covered of the minute before)`` is no more than ``room``."""
    if spent <= room:
        return max(1, math.ceil((1 - (room - spent) / earlier - passed) * MINUTE)) if earlier else 1
    return max(1, math.ceil((1 - passed + 1 - room / spent) * MINUTE))


def subjects(tenant: str, key: str, allowed: Allowed | None, for_each_key: Allowed | None) -> Mapping[str, Allowed]:
    """The names under which a request is counted, and what each may spend."""
    found: dict[str, Allowed] = {}
    if allowed is not None:
        found[f"limit:tenant:{tenant}"] = allowed
    if for_each_key is not None:
        found[f"limit:key:{tenant}:{key}"] = for_each_key
    return found
