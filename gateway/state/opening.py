"""From the configuration's ``state`` to a store."""

from __future__ import annotations

from typing import Final

from gateway.state.base import State
from gateway.state.redis_url import SCHEMES
from gateway.state.sqlite import SqliteState

_WANTED: Final = (
    "sqlite:PATH, sqlite::memory:, redis://HOST:PORT/DB, unix://PATH, redis+sentinel://HOST,HOST/MASTER or "
    "redis+cluster://HOST,HOST; rediss for TLS"
)


def open_state(url: str) -> State:
    """The store that ``url`` names. It is not touched before the first call; `State.ping` tells whether it is
    there.

    Raises:
        ValueError: ``url`` names none; the message names the configuration's key and shows no credential.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest and not rest.startswith("//"):
        return SqliteState(rest)
    if scheme in SCHEMES:
        from gateway.state.redis import RedisState  # takes a tenth of a start to load

        try:
            return RedisState(url)
        except ValueError as error:
            raise ValueError(f"state: {error}; wanted {_WANTED}") from None
    raise ValueError(f"state: got a URL that begins with {scheme[:20]!r}; wanted {_WANTED}")
