"""How much a tenant, or one of its keys, may do in a minute, counted over all workers and replicas. Pure; ``now`` is given.

The minute slides: what was spent in the last calendar minute counts for the part of it that the last sixty seconds still cover,
as if it had come evenly. That needs two numbers a limit, where an exact log would need one a request.

A worker decides by what it knows: what the others had spent when it last asked, and what it spent itself. `Ledger.due` and
`Ledger.told` are the asking. A worker says what it spent in the minute so far, not what came on top, so it may say so again
when an answer got lost. While nobody answers, a worker keeps to its share: the limit, divided by how many workers had requests
of this tenant or key when they were last heard of.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

MINUTE: Final = 60.0

GRACE_SECONDS: Final = 1e-5
"""So much too early is in time: whoever waited as he was told is not refused for the last digit of a clock."""

KEPT_SECONDS: Final = 3 * MINUTE
"""How long a count is of use: the minute at hand and the one before, with one to spare for clocks that differ."""

SETTLED_SECONDS: Final = 5.0
"""How long after a minute's end all workers have told what they spent in it. Its tally is read when it is first needed, and
once more after this time."""

MAX_SUBJECTS: Final = 100
"""Tenants and keys asked about at a time, with four tallies each at most: they hold up the event loop and the store for some
milliseconds. The others come the next time."""

REQUESTS, BYTES, TOKENS = "requests", "bytes", "tokens"


class Allowed(Protocol):
    """What one tenant or key may spend in a minute; None: any amount. The settings have it."""

    @property
    def requests_per_minute(self) -> int | None: ...

    @property
    def bytes_per_minute(self) -> int | None: ...

    @property
    def tokens_per_minute(self) -> int | None: ...


class Refused(NamedTuple):
    """Which limit was reached, and in how many seconds there is room again if nobody spends more."""

    what: str
    limit: int
    seconds: int


class _Count:
    """What was spent in one minute, by this worker and by all others as the store last said. ``back`` is what was counted of
    mine and given back, for whoever spends next: what the store was told cannot be taken back."""

    __slots__ = ("back", "mine", "others", "read", "told", "workers")

    def __init__(self) -> None:
        self.mine = self.others = self.back = 0
        self.told = 0  # of mine, what the store is known to have
        self.workers = 0  # how many spend, as the store last said
        self.read = 0.0  # when that was

    @property
    def spent(self) -> int:
        return self.mine - self.back + self.others


class _Subject:
    """A tenant or a key: its counts by what is counted and minute, how many workers serve it, and how many tokens its requests
    that are under way here may take."""

    __slots__ = ("counts", "held", "sharers", "touched")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int], _Count] = {}
        self.sharers = 1
        self.held = 0
        self.touched = 0.0

    def count(self, what: str, minute: int) -> _Count:
        found = self.counts.get((what, minute))
        if found is None:
            found = self.counts[what, minute] = _Count()
        return found


class _Said(NamedTuple):
    """One tally of a round, and what this worker said of it."""

    name: str
    subject: _Subject
    spent: _Count
    mine: int


class Ledger:
    """What one worker knows of all that is limited. ``alone``: the store did not answer the last time."""

    def __init__(self) -> None:
        self._subjects: OrderedDict[str, _Subject] = OrderedDict()  # the one used last comes last
        self._used: dict[str, None] = {}  # since they were last asked about
        self._round: list[_Said] = []
        self._round_at = 0.0
        self.alone = False

    def __len__(self) -> int:
        return len(self._subjects)

    @property
    def waiting(self) -> bool:
        """Whether there is something to ask about."""
        return bool(self._used)

    @property
    def share(self) -> int:
        """The largest number of workers that a limit is divided by while the store is gone."""
        return max((subject.sharers for subject in self._subjects.values()), default=1)

    def refused(self, name: str, allowed: Allowed, now: float, tokens: int = 1) -> Refused | None:
        """Why a request of ``name`` may not go now, if it may not. Bytes are asked about before they are known: a request goes
        while there is any room for them. So are ``tokens``, until the request was read."""
        subject = self._subject(name, now)
        minute, left = int(now // MINUTE), MINUTE - now % MINUTE
        for what, limit, asked in (
            (REQUESTS, allowed.requests_per_minute, 1), (BYTES, allowed.bytes_per_minute, 1),
            (TOKENS, allowed.tokens_per_minute, tokens),
        ):  # fmt: skip
            if limit is None:
                continue
            here, before = subject.count(what, minute), subject.counts.get((what, minute - 1))
            if self.alone:
                limit = max(1, limit // subject.sharers)
                spent, earlier = here.mine - here.back, before.mine - before.back if before else 0
            else:
                spent, earlier = here.spent, before.spent if before else 0
            if what == TOKENS:
                spent += subject.held
            room = limit - min(asked, limit)  # what no minute has room for goes where a whole one is free
            if earlier * max(0.0, left - GRACE_SECONDS) > (room - spent) * MINUTE:
                return Refused(what, limit, _until(spent, earlier, room, left))
        return None

    def spend(self, name: str, what: str, amount: int, now: float) -> None:
        """Count something that ``name`` did."""
        count = self._subject(name, now).count(what, int(now // MINUTE))
        before = min(count.back, amount)
        count.back -= before
        count.mine += amount - before

    def give_back(self, name: str, what: str, amount: int, now: float) -> None:
        """Something that was counted was not done after all."""
        self._subject(name, now).count(what, int(now // MINUTE)).back += amount

    def hold(self, name: str, tokens: int, now: float) -> None:
        """A request that may take so many tokens is under way; the same below nought when it is over."""
        subject = self._subject(name, now)
        subject.held = max(0, subject.held + tokens)

    def due(self, now: float) -> dict[str, int]:
        """What this worker spent, by the names of the store's tallies, of what was used since it was last asked about: no more
        than `MAX_SUBJECTS`, first those that wait longest. `told` takes the answer."""
        while self._subjects and now - next(iter(self._subjects.values())).touched > KEPT_SECONDS:
            self._subjects.popitem(last=False)
        minute = int(now // MINUTE)
        over, settled = minute * MINUTE, minute * MINUTE + SETTLED_SECONDS  # the minute before
        mine: dict[str, int] = {}
        self._round, self._round_at = [], now
        for name in list(islice(self._used, MAX_SUBJECTS)):
            del self._used[name]
            subject = self._subjects.get(name)
            if subject is None:
                continue
            for key in [key for key in subject.counts if key[1] < minute - 1]:
                del subject.counts[key]
            for what in sorted({what for what, _ in subject.counts}):
                for when in (minute - 1, minute):
                    count = subject.count(what, when)
                    final = count.read >= (settled if now >= settled else over)
                    if when == minute or count.told < count.mine or not final:
                        mine[f"{name}:{what}:{when}"] = count.mine
                        self._round.append(_Said(name, subject, count, count.mine))
        return mine

    def told(self, totals: Sequence[tuple[int, int]] | None) -> None:
        """What the tallies of `due` came to and how many workers they are of, in order; None: the store did not answer. Whether
        it heard is not known then, and need not be: the same is said again."""
        self.alone = totals is None
        if totals is None:
            self._used |= dict.fromkeys(said.name for said in self._round)
        else:
            for (_, subject, count, mine), (total, workers) in zip(self._round, totals, strict=True):
                count.others, count.told = max(0, total - mine), mine
                count.workers, count.read = workers, self._round_at
                subject.sharers = max(1, *(each.workers for each in subject.counts.values()))
        self._round = []

    def _subject(self, name: str, now: float) -> _Subject:
        found = self._subjects.get(name)
        if found is None:
            found = self._subjects[name] = _Subject()
        found.touched = now
        self._subjects.move_to_end(name)
        self._used[name] = None
        return found


def _until(spent: int, earlier: int, room: int, left: float) -> int:
    """Whole seconds until ``spent`` and so much of ``earlier`` as the minute before still covers are no more than ``room``.
    ``left``: seconds to the end of this minute."""
    if spent <= room:
        return max(1, math.ceil(left - (room - spent) * MINUTE / earlier)) if earlier else 1
    return max(1, math.ceil(left + MINUTE - room * MINUTE / spent))


def subjects(tenant: str, key: str, allowed: Allowed | None, for_each_key: Allowed | None) -> Mapping[str, Allowed]:
    """The names under which a request is counted, and what each may spend."""
    found: dict[str, Allowed] = {}
    if allowed is not None:
        found[f"limit:tenant:{tenant}"] = allowed
    if for_each_key is not None:
        found[f"limit:key:{tenant}:{key}"] = for_each_key
    return found
