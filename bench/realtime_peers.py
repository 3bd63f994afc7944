"""Processes of ``python -m bench realtime``: a provider that speaks, a relay that looks at nothing, and callers.

    python -m bench.realtime_peers provider PORT DELTAS
    python -m bench.realtime_peers relay PORT UPSTREAM_PORT
    python -m bench.realtime_peers call PORT SESSIONS SECONDS
    python -m bench.realtime_peers long PORT KIND BYTES
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

EVENTS: Final = 100
"""Pieces of a response."""

EVERY_SECONDS: Final = 0.02

_STAMP: Final = "event_"

LONG: Final = {
    "words": ("response.output_text.delta", "The market beside the harbour is open on Sundays. "),
    "values": ("response.output_text.delta", "pay with 4111 1111 1111 1111 now, "),
    "audio": ("response.output_audio.delta", "QUJD"),
}
"""What a long event is made of: its type, and what it says again and again."""


async def _provide(connection: ServerConnection, deltas: itertools.cycle[str]) -> None:
    """Answer each `response.create` with a response of text, at a model's pace."""

    async def say(kind: str, **more: Any) -> None:
        await connection.send(json.dumps({"type": kind, "event_id": f"{_STAMP}{time.monotonic_ns()}", **more}))

    await say("session.created", session={"type": "realtime", "id": "sess_1", "object": "realtime.session"})
    async for message in connection:
        asked = json.loads(message)
        if asked["type"] != "response.create":
            continue
        place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
        response = {"id": "resp_1", "object": "realtime.response", "output": []}
        await say("response.created", response={**response, "status": "in_progress"})
        if wanted := asked.get("response", {}).get("metadata"):
            kind, piece = LONG[wanted["kind"]]
            await say(kind, **place, delta=piece * (int(wanted["bytes"]) // len(piece)))
            await say("response.done", response={**response, "status": "completed"})
            continue
        due = time.monotonic()
        for _ in range(EVENTS):
            await say("response.output_text.delta", **place, delta=next(deltas))
            due += EVERY_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await say("response.done", response={**response, "status": "completed"})


async def _relay(connection: ServerConnection, port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}/", proxy=None, compression=None, max_size=None) as upstream:

        async def back() -> None:
            async for message in upstream:
                await connection.send(message)

        answers = asyncio.ensure_future(back())
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await upstream.send(message)
        answers.cancel()


async def _serve(port: int, handler: Callable[[ServerConnection], Awaitable[None]]) -> None:
    async with serve(handler, "127.0.0.1", port, compression=None):
        await asyncio.Event().wait()


def _dial(port: int) -> connect:
    address = f"ws://127.0.0.1:{port}/v1/realtime?model=bench"
    return connect(address, proxy=None, compression=None, max_size=None, ping_interval=None)


async def _answer(session: ClientConnection, delays: list[int], **more: Any) -> None:
    """Have a response made, and note the nanoseconds that each piece of it was on its way."""
    await session.send(json.dumps({"type": "response.create", **more}))
    async for message in session:
        now = time.monotonic_ns()
        event = json.loads(message)
        if event["type"] == "response.output_text.delta":
            delays.append(now - int(event["event_id"].removeprefix(_STAMP)))
        elif event["type"] == "error":
            raise SystemExit(f"refused: {message!r}")
        elif event["type"] == "response.done":
            return


async def _long(port: int, kind: str, size: str) -> dict[str, float]:
    """Have a long event passed while another session is spoken to."""
    delays: list[int] = []
    async with _dial(port) as other, _dial(port) as session:
        await _answer(other, [])  # what is loaded for the first one is not counted

        async def ask() -> float:
            began = time.monotonic()
            await session.send(json.dumps({"type": "response.create", "response": {"metadata": {"kind": kind, "bytes": size}}}))
            while b"response.done" not in (await session.recv(decode=False))[:64]:  # not parsed: that would hold this process
                pass
            return time.monotonic() - began

        asking = asyncio.ensure_future(ask())
        while not asking.done():
            await _answer(other, delays)
        return {"seconds": await asking, "most_us": max(delays) / 1e3}


async def _call(port: int, sessions: int, seconds: float) -> dict[str, float]:
    delays: list[int] = []
    until = time.monotonic() + seconds
    began = time.monotonic()

    async def hold(number: int) -> None:
        await asyncio.sleep(number * 0.618034 % 1 * EVENTS * EVERY_SECONDS)  # they do not speak in chorus
        async with _dial(port) as session:
            while time.monotonic() < until:
                await _answer(session, delays)

    await asyncio.gather(*map(hold, range(sessions)))
    delays.sort()
    return {"events": len(delays), "seconds": time.monotonic() - began, "p50_us": delays[len(delays) // 2] / 1e3,
            "p99_us": delays[len(delays) * 99 // 100] / 1e3}  # fmt: skip


def main() -> None:
    what, port, *rest = sys.argv[1:]
    if what == "provider":
        deltas = itertools.cycle([json.loads(line) for line in Path(rest[0]).read_text(encoding="ascii").splitlines()])
        asyncio.run(_serve(int(port), lambda connection: _provide(connection, deltas)))
    elif what == "relay":
        asyncio.run(_serve(int(port), lambda connection: _relay(connection, int(rest[0]))))
    elif what == "long":
        print(json.dumps(asyncio.run(_long(int(port), *rest))))
    else:
        print(json.dumps(asyncio.run(_call(int(port), int(rest[0]), float(rest[1])))))


if __name__ == "__main__":
    main()
