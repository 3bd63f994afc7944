"""Limits of tenants and keys, enforced: the shell around `gateway.limits.buckets`.

No request waits for the store. Each worker decides by what it knows, and while there are requests of a limited tenant it tells
the store what was spent, and is told what all spent, every `ASK_SECONDS`, or less often where that is much.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from detectors.values import Segment
from gateway.config.settings import Settings
from gateway.faults import CallerFault
from gateway.keys import Principal
from gateway.limits.buckets import BYTES, KEPT_SECONDS, REQUESTS, TOKENS, Allowed, Ledger, subjects
from gateway.limits.usage import Usage, estimated
from gateway.state.base import State, StateUnavailable
from gateway.telemetry.metrics import Metrics

ASK_SECONDS: Final = 0.05
"""How often a worker asks, at most: what all workers together may let through beyond a limit is what comes in this time."""

TALLY_SECONDS: Final = 0.0002
"""How long a worker rests for each tally that it asked about, if that is longer: some twenty times what asking takes of the
event loop with Redis, and ten times what it takes of SQLite's thread."""

_SAID: Final = {REQUESTS: "requests", BYTES: "bytes of requests and replies", TOKENS: "tokens of requests and replies"}


class Meter:
    """What one request is held against: names of tenant and key with what each may spend. ``usage`` reads what its reply says
    of tokens, None where these are not limited; ``held`` are the tokens that it is taken to need."""

    __slots__ = ("allowed", "held", "tenant", "usage")

    def __init__(self, tenant: str, allowed: Mapping[str, Allowed]) -> None:
        self.tenant, self.allowed = tenant, allowed
        self.usage = Usage() if any(each.tokens_per_minute is not None for each in allowed.values()) else None
        self.held = 0


class Limiter:
    """The limits of one worker."""

    def __init__(self, state: State, settings: Callable[[], Settings]) -> None:
        self._state, self._settings = state, settings
        self._ledger = Ledger()
        self._asking: asyncio.Task[None] | None = None
        self._who = secrets.token_hex(8)
        self._next = 0.0  # not to ask before (monotonic)
        self.refused: Counter[tuple[str, str]] = Counter()
        self.decided: Counter[str] = Counter()

    @property
    def enforces(self) -> bool:
        """Whether any tenant has a limit."""
        return any(one.rate_limits or one.key_rate_limits for one in self._settings().tenants.values())

    @property
    def health(self) -> str:
        """In words, for /readyz."""
        if not self._ledger.alone:
            return "counted together"
        return f"the state is gone: each worker keeps to its share, down to 1/{self._ledger.share} of a limit"

    def register(self, metrics: Metrics) -> None:
        """Count refusals, and by what was decided."""
        metrics.count(
            "portcullis_limited", "Requests refused by a limit of their tenant or key.", ("tenant", "limit"),
            self._refusals,
        )  # fmt: skip
        metrics.count(
            "portcullis_limits_decided", "Requests held against a limit, by what all spent or by this worker's share.", ("by",),
            lambda: {(by,): float(self.decided[by]) for by in ("all", "share")},
        )  # fmt: skip

    def admit(self, principal: Principal) -> Meter | None:
        """Count a request, if there is room for it; None where nothing is limited.

        Raises:
            CallerFault: there is none.
        """
        own = self._settings().tenants.get(principal.tenant)
        if own is None or (own.rate_limits is None and own.key_rate_limits is None):
            return None
        allowed = subjects(principal.tenant, principal.key, own.rate_limits, own.key_rate_limits)
        meter, now = Meter(principal.tenant, allowed), time.time()
        self.decided["share" if self._ledger.alone else "all"] += 1
        self._ask()
        self._check(meter, 1, now)
        self._count(meter, now)
        return meter

    def read(self, meter: Meter, segments: Sequence[Segment]) -> None:
        """A request that was admitted was read: see whether there is room for its tokens, and, by what was heard of other
        workers meanwhile, still for itself. Nobody waited for that.

        Raises:
            CallerFault: there is none; it counts no more.
        """
        now = time.time()
        for name, allowed in meter.allowed.items():
            if allowed.requests_per_minute is not None:
                self._ledger.give_back(name, REQUESTS, 1, now)
        tokens = estimated(segments) if meter.usage is not None else 0
        self._check(meter, tokens, now)
        self._count(meter, now)
        self._hold(meter, tokens, now)

    def spend(self, meter: Meter, size: int, tokens: int = 0) -> None:
        """Count bytes and tokens of a request that was admitted, and of its reply."""
        now = time.time()
        self._hold(meter, -meter.held, now)
        for name, allowed in meter.allowed.items():
            for what, amount, limit in (
                (BYTES, size, allowed.bytes_per_minute), (TOKENS, tokens, allowed.tokens_per_minute),
            ):  # fmt: skip
                if limit is not None and amount:
                    self._ledger.spend(name, what, amount, now)
                    self._ask()

    def _check(self, meter: Meter, tokens: int, now: float) -> None:
        for name, allowed in meter.allowed.items():
            refused = self._ledger.refused(name, allowed, now, tokens)
            if refused is not None:
                whose = "tenant" if name.startswith("limit:tenant:") else "key"
                self.refused[meter.tenant, f"{whose}_{refused.what}"] += 1
                allowance = f"{refused.limit} {_SAID[refused.what]} a minute"
                problem = f"this {whose} may use {allowance}; try again in {refused.seconds} s"
                raise CallerFault(429, "rate_limit_exceeded", problem, ((b"retry-after", b"%d" % refused.seconds),))

    def _count(self, meter: Meter, now: float) -> None:
        for name, allowed in meter.allowed.items():
            if allowed.requests_per_minute is not None:
                self._ledger.spend(name, REQUESTS, 1, now)

    def _hold(self, meter: Meter, tokens: int, now: float) -> None:
        if tokens:
            meter.held += tokens
            for name in meter.allowed:
                self._ledger.hold(name, tokens, now)

    def _refusals(self) -> dict[tuple[str, ...], float]:
        """Counted from zero: of a series that begins with its first count, Prometheus sees no increase."""
        found: dict[tuple[str, ...], float] = {}
        for name, tenant in self._settings().tenants.items():
            for whose, limits in (("tenant", tenant.rate_limits), ("key", tenant.key_rate_limits)):
                for what in (REQUESTS, BYTES, TOKENS) if limits is not None else ():
                    if getattr(limits, f"{what}_per_minute") is not None:
                        found[name, f"{whose}_{what}"] = 0.0
        return found | {labels: float(number) for labels, number in self.refused.items()}

    async def stop(self) -> None:
        """Tell the store what it was not told yet."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
        while self._ledger.waiting:
            await self._tell()
            if self._ledger.alone:
                break

    def _ask(self) -> None:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._tell_all())

    async def _tell_all(self) -> None:
        try:
            while self._ledger.waiting:
                await asyncio.sleep(self._next - time.monotonic())  # at once, where the last time is long past
                await self._tell()
                if self._ledger.alone:
                    break  # the next request tries again
        finally:
            self._asking = None

    async def _tell(self) -> None:
        now = time.time()
        mine = self._ledger.due(now)
        try:
            self._ledger.told(await self._state.tally(self._who, mine, now + KEPT_SECONDS) if mine else [])
        except StateUnavailable:
            self._ledger.told(None)
        self._next = time.monotonic() + max(ASK_SECONDS, len(mine) * TALLY_SECONDS)
