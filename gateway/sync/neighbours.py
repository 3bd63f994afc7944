"""Which members a node is connected to: whom to dial, and which connections have done their service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.sync.link import Link
from gateway.sync.membership import Directory

REVIEW_SECONDS: Final = 10.0
"""How often it is looked for connections that are no longer needed, and for members of whom no word comes."""


class Neighbours:
    """The addresses behind connections, and those that are being dialled."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._dialing: set[str] = set()
        self._aliases: dict[str, str] = {}  # address: the node that answered there
        self._sought: set[str] = set()  # addresses that were dialled because no word came from there
        self._reviewed_at = float("-inf")

    def stands(self, address: str) -> None:
        """A connection that we dialled stands."""
        self._dialing.discard(address)

    def answered(self, address: str, node: str) -> None:
        """A node named itself at an address that we dialled."""
        self._directory.reached(address)
        self._aliases[address] = node

    def failed(self, address: str, now: float) -> None:
        """An address cannot be reached, or its connection ended."""
        self._dialing.discard(address)
        self._sought.discard(address)
        self._directory.failed(address, now)

    def dial(self, links: Iterable[Link], limit: int, now: float) -> list[str]:
        """The addresses to dial now, at most ``limit``."""
        wanted = self._directory.to_dial(self._connected(links), self._dialing, now)[:limit]
        self._dialing.update(wanted)
        return wanted

    def review(self, links: Iterable[Link], limit: int, now: float) -> tuple[list[Link], list[str]]:
        """Now and then: connections to end, since what they stood in for is back; and addresses to dial besides, at most
        ``limit``, since no word comes from there."""
        if 0 <= now - self._reviewed_at < REVIEW_SECONDS:
            return [], []
        self._reviewed_at = now
        self._forget(self._directory.forget(now))
        connected = self._connected(links)
        lost = self._directory.lost(connected | self._dialing, self._aliases, now)[:limit]
        self._dialing.update(lost)
        self._sought.update(lost)
        return self._unneeded(links, connected), lost

    def _forget(self, addresses: set[str]) -> None:
        """Of who answered at an address, keep what may still be so: another member may say by now that it is there."""
        told = {member.address: member.node for member in self._directory.members}
        self._aliases = {
            address: node for address, node in self._aliases.items() if address in addresses and told.get(address, node) == node
        }

    def _unneeded(self, links: Iterable[Link], connected: set[str]) -> list[Link]:
        # A connection that brought a lost member back stays: it may be all that holds two halves together.
        needed = connected - self._directory.surplus(connected) | self._sought
        found = []
        for link in links:
            names = {link.dialed, link.address, *(a for a, node in self._aliases.items() if node == link.node)}
            if link.dialed is not None and link.node and link.outstanding == 0 and not names & needed:
                found.append(link)
        return found

    def _connected(self, links: Iterable[Link]) -> set[str]:
        nodes = {link.node for link in links if link.node}
        addresses = {address for link in links for address in (link.dialed, link.address) if address}
        return addresses | {address for address, node in self._aliases.items() if node in nodes}
