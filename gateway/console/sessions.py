"""Sessions of the console: a signed cookie that names a key, and the token that proves a request comes from our own page. Pure.

Every worker can read the cookie, since all share the secret that signs it. A session ends when it expires, when its key is
revoked (the key itself is asked each time) or when somebody signs out; what the state keeps of it is that last thing alone.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

COOKIE: Final = "portcullis_session"

CSRF_HEADER: Final = "x-portcullis-csrf"

SESSION_SECONDS: Final = 8 * 3600
"""A working day; then the key is asked for again."""

FAILURES: Final = 5
"""Wrong keys from one address in `WINDOW_SECONDS`, after which it waits. Keys cannot be guessed; this keeps logs readable."""

ALL_FAILURES: Final = 100
"""Wrong keys from everywhere in `WINDOW_SECONDS`."""

WINDOW_SECONDS: Final = 60.0

MAX_ADDRESSES: Final = 1_024
"""Addresses whose failures are remembered; the one that failed longest ago is forgotten first."""

_COOKIE: Final = re.compile(r"([a-z2-7]{8})\.(\d{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})")


class Session(NamedTuple):
    """A session that is valid: whose key, until when (UNIX seconds), its CSRF token, and what tells it from others."""

    key: str
    expires_at: int
    csrf: str
    id: str

    @property
    def ended(self) -> str:
        """The name under which the state knows that it was ended."""
        return f"console.ended.{self.id}"


class Sessions:
    """Makes and reads cookies under one secret."""

    def __init__(self, secret: bytes, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._secret = secret
        self._entropy = entropy

    def begin(self, key: str, now: float, key_expires_at: float) -> tuple[str, Session]:
        """A cookie for the bearer of a key, and the session that it stands for."""
        expires_at = int(min(now + SESSION_SECONDS, key_expires_at))
        id_ = self._entropy(16).hex()
        body = f"{key}.{expires_at}.{id_}"
        return f"{body}.{self._sign('session', body)}", Session(key, expires_at, self._sign("csrf", body), id_)

    def read(self, cookie: str, now: float) -> Session | None:
        """The session of a cookie; None where it is none of ours or has expired."""
        match = _COOKIE.fullmatch(cookie)
        if match is None:
            return None
        body = cookie.rpartition(".")[0]
        if not hmac.compare_digest(self._sign("session", body), match[4]) or now >= int(match[2]):
            return None
        return Session(match[1], int(match[2]), self._sign("csrf", body), match[3])

    def _sign(self, purpose: str, body: str) -> str:
        return hmac.new(self._secret, f"{purpose}\n{body}".encode(), hashlib.sha256).hexdigest()


def right_token(session: Session, given: str) -> bool:
    """Whether a request carries the session's CSRF token."""
    return hmac.compare_digest(session.csrf.encode(), given.encode("utf-8", "surrogatepass"))


class Attempts:
    """Counts wrong keys by address, and says who has to wait."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, list[float]] = OrderedDict()
        self._all: list[float] = []

    def wait(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0 where it may now."""
        self._all = _recent(self._all, now)
        mine = _recent(self._failed.get(address, []), now)
        waits = [
            times[-limit] + WINDOW_SECONDS - now
            for times, limit in ((mine, FAILURES), (self._all, ALL_FAILURES)) if len(times) >= limit
        ]  # fmt: skip
        return max(waits, default=0.0)

    def failed(self, address: str, now: float) -> None:
        """Note a wrong key."""
        self._all = [*_recent(self._all, now), now]
        self._failed[address] = [*_recent(self._failed.pop(address, []), now), now][-FAILURES:]
        while len(self._failed) > MAX_ADDRESSES:
            self._failed.popitem(last=False)


def _recent(times: list[float], now: float) -> list[float]:
    return [time for time in times if now - WINDOW_SECONDS < time <= now]
