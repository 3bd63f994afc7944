"""The state as a witness: it remembers how far each chain had come, so that a chain's end cannot be cut off unseen.

Whoever can rewrite the files beside the gateway need not be able to rewrite the state as well (another machine's Redis), and
needs to do both to shorten the newest chain without a trace.
"""

from __future__ import annotations

from typing import Final

import orjson

from gateway.audit import files
from gateway.audit.log import AuditLog
from gateway.audit.verify import Head
from gateway.state.base import State

MAX_CHAINS: Final = 512
"""Chains that are remembered, newest first: older ones have been noted by the chains that were opened after them."""

ATTEMPTS: Final = 8
"""How often a write is tried that another worker came before."""


def _name(log_id: str) -> str:
    return f"audit-heads:{log_id}"


async def testify(state: State, log: AuditLog) -> None:
    """Write down the last record of ``log`` that is on the disk.

    Raises:
        StateUnavailable: it could not be written.
    """
    stats = log.stats
    log_id = files.known_log_id(log.folder)
    if not stats.chain or log_id is None:
        return
    for _ in range(ATTEMPTS):
        kept = await state.get(_name(log_id))
        heads = orjson.loads(kept.value) if kept else {}
        if heads.get(stats.chain) == list(stats.durable):
            return
        heads[stats.chain] = stats.durable
        newest = {chain: heads[chain] for chain in sorted(heads)[-MAX_CHAINS:]}
        if await state.swap(_name(log_id), orjson.dumps(newest), kept.version if kept else 0) is not None:
            return


async def heads(state: State, log_id: str) -> dict[str, Head]:
    """What the state knows of a log: by chain the number and hash of a record that it had.

    Raises:
        StateUnavailable: it cannot be asked.
    """
    kept = await state.get(_name(log_id))
    return {chain: (int(seq), str(head)) for chain, (seq, head) in orjson.loads(kept.value).items()} if kept else {}
