"""Reading an event of the client's: as JSON, and as what it is to say. What is long is read in a thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple

from gateway.screening.inspection import OFFLOAD_BYTES
from gateway.wires import strict
from gateway.wires.base import Malformed, Parsed, Target
from gateway.wires.openai_realtime_events import MAX_ID

_IDS: Final = ("event_id", "item_id", "previous_item_id", "response_id")
_NOTHING: Final = Parsed(None, True, [], [])


class Read(NamedTuple):
    """An event, as far as it could be read, and what is ``wrong`` with it."""

    event: Any
    parsed: Parsed = _NOTHING
    wrong: strict.BadJson | Malformed | None = None

    @property
    def id(self) -> str | None:
        """The event's own id, where it is one."""
        id = self.event.get("event_id") if isinstance(self.event, dict) else None
        return id if isinstance(id, str) and len(id) <= MAX_ID else None


async def read_event(body: bytes, target: Target, scanner: Executor) -> Read:
    """Read an event; in ``scanner``, where it is long. Its ids may be null: some clients write what they leave out."""
    if len(body) <= OFFLOAD_BYTES:
        return _read(body, target)
    return await asyncio.get_running_loop().run_in_executor(scanner, _read, body, target)


def _read(body: bytes, target: Target) -> Read:
    event: Any = None
    try:
        event = strict.loads(body)
        if not isinstance(event, dict):
            raise Malformed((), event, "an event: a JSON object")
        for name in _IDS:
            id = event.get(name)
            if id is not None and not (isinstance(id, str) and len(id) <= MAX_ID):
                raise Malformed((name,), id, f"a string of at most {MAX_ID} characters")
        return Read(event, target.wire.read_request(event, target))
    except (strict.BadJson, Malformed) as error:
        return Read(event, wrong=error)
