"""Whether, and after how long, a request is tried again. Pure; clocks and chance are given.

Only what cannot have been acted on is repeated: a connection that never stood, and a refusal (429, 503, 529) that says so.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from gateway.upstream.errors import ConnectFailed, TimedOut, UpstreamError
from gateway.upstream.http1 import Headers

REFUSALS: Final = frozenset({429, 503, 529})
"""Statuses by which an upstream says that it did not act: too many requests, unavailable, and Anthropic's overloaded."""


_NUMBER: Final = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
_LONGEST: Final = 999_999_999.0  # seconds; whoever asks for more says no more by it


class RetryPolicy(NamedTuple):
    """How often and how patiently.

    Attributes:
        attempts: sends of one request, the first included.
        base: seconds that the first wait takes at most; each later one takes at most twice as long.
        longest: seconds that any wait takes at most. An upstream that asks for more is not waited for: its refusal is
            the reply, and the caller reads its ``retry-after``.
    """

    attempts: int = 2
    base: float = 0.25
    longest: float = 8.0


def nothing_was_sent(error: UpstreamError) -> bool:
    """Whether the request cannot have reached the upstream, though it tried to."""
    return isinstance(error, ConnectFailed) or (isinstance(error, TimedOut) and error.phase == "connect")


def delay(policy: RetryPolicy, attempt: int, remaining: float, chance: float, wanted: float | None) -> float | None:
    """Seconds to wait before the next attempt; None if there is to be none.

    Args:
        attempt: attempts made so far, from 1.
        remaining: seconds until the request's deadline.
        chance: random, in 0..1: full jitter, so that the callers of a recovering upstream do not come back as one.
        wanted: seconds that the upstream asked for, if it did; never undercut.
    """
    if attempt >= policy.attempts:
        return None
    spread = chance * min(policy.base * 2.0 ** (attempt - 1), policy.longest)
    wait = spread if wanted is None else wanted + spread
    if wait >= remaining or (wanted is not None and wanted > policy.longest):
        return None
    return wait


def retry_after(headers: Headers, wall: float) -> float | None:
    """Seconds that an upstream asks for; None if it says nothing that can be read.

    ``retry-after`` is whole seconds or a date (RFC 9110 §10.2.3), but providers send fractions too. OpenAI and Azure say it to
    the millisecond beside that, in ``retry-after-ms``, by which their clients go.

    Args:
        headers: lower-case names.
        wall: the time as `time.time`, for the form that is a date.
    """
    said = dict(reversed(headers))
    if (number := _NUMBER.fullmatch(said.get(b"retry-after-ms", b""))) is not None:
        return min(float(number[0]) / 1000, _LONGEST)
    value = said.get(b"retry-after", b"")
    if (number := _NUMBER.fullmatch(value)) is not None:
        return min(float(number[0]), _LONGEST)
    try:
        when = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - wall)
