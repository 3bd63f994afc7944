"""Keys in the state: what the command line does with them, and how a worker follows their changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from gateway.keys import Keyring, NewKey, Role, StoredKey, Tenant, checked_name, make_key
from gateway.state.base import State
from gateway.state.opening import open_state

MOST_NAMED: Final = 10
"""Keys that one line of the log names."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class KeyWatch:
    """Follows the keys of a store. ``ring`` is what the last `refresh` saw; it serves on while the store is
    gone. ``unreadable`` of its keys are none, and open nothing.

    Before the first refresh nobody passes.

    Args:
        tenants: the configuration's tenants by name.
        open_when_empty: see `Keyring`. A store that had keys and has none any more was lost, not opened: the
            ring stays closed.
    """

    def __init__(
        self, state: State, tenants: Mapping[str, Tenant] = MappingProxyType({}), *, open_when_empty: bool
    ) -> None:
        self._state = state
        self._tenants = tenants
        self._open_when_empty = open_when_empty
        self._version: int | None = None
        self.ring = Keyring((), open_when_empty=False)
        self.unreadable = 0

    async def refresh(self) -> bool:
        """Look whether keys changed, and take them over; True where they did. Cheap enough for every second.

        Raises:
            StateUnavailable: the store does not answer. The ring stays as it is; expiry still holds.
        """
        version = await self._state.keys_version()
        if version == self._version:
            return False
        keys = await self._state.keys()
        unreadable = [key.id for key in keys if not key.readable]
        if unreadable:
            named = ", ".join(map(ascii, unreadable[:MOST_NAMED]))
            _log.error("%d keys cannot be read and open nothing: %s", len(unreadable), named)
        self.unreadable = len(unreadable)
        if keys:
            self._open_when_empty = False
        self.ring = Keyring(keys, self._tenants, open_when_empty=self._open_when_empty)
        self._version = version
        return True


def create(
    url: str,
    role: Role,
    tenant: str,
    now: float,
    *,
    policy: str | None = None,
    expires_at: float | None = None,
    note: str = "",
    owner: str = "",
) -> NewKey:
    """Make a key and store it. Arguments as for `make_key`; ``url`` as for `open_state`.

    Raises:
        ValueError: an argument is not usable; the message names it.
        StateUnavailable: the store did not take it.
    """
    made = make_key(role, tenant, now, policy=policy, expires_at=expires_at, note=note, owner=owner)
    _with_state(url, lambda state: state.put_key(made.key))
    return made


def every(url: str) -> list[StoredKey]:
    """Every key ever made, oldest first.

    Raises:
        ValueError: ``url`` is not usable.
        StateUnavailable: the store does not answer.
    """
    return _with_state(url, lambda state: state.keys())


def revoke(url: str, key_id: str, now: float) -> bool:
    """Revoke a key; False where there is none with this id. Running gateways follow with their next refresh.

    Raises:
        ValueError: ``url`` is not usable.
        StateUnavailable: the store did not take it.
    """
    return _with_state(url, lambda state: state.revoke_key(key_id, now))


def own(url: str, key_id: str, owner: str) -> StoredKey | None:
    """Say whose a key is, where that was not said before; the key as it is then, or None where there is none with this id.

    Raises:
        ValueError: ``url`` is not usable, or ``owner`` is no name.
        StateUnavailable: the store did not take it.
    """
    checked_name("owner", owner)
    return _with_state(url, lambda state: state.own_key(key_id, owner))


def _with_state(url: str, use: Callable[[State], Awaitable[T]]) -> T:
    async def run() -> T:
        state = open_state(url)
        try:
            return await use(state)
        finally:
            await state.close()

    return asyncio.run(run())
