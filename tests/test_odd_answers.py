"""A Redis that answers something else than was asked: nothing is believed, and nothing breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from gateway.keys import Principal
from gateway.redaction.sealing import Sealer, answered
from gateway.redaction.threads import Threads
from gateway.redaction.vault import Vault
from gateway.screening.policy import Mode
from gateway.screening.verdicts import SharedVerdicts
from gateway.state.base import State, StateUnavailable
from gateway.state.opening import open_state
from gateway.wires.base import Thread

ODD: Final = (
    b":5\r\n", b"*1\r\n:5\r\n", b"*1\r\n*1\r\n+x\r\n", b"*0\r\n", b"$-1\r\n", b"*-1\r\n", b"+text\r\n", b"*1\r\n$5\r\nshort\r\n",
    b"*3\r\n$1\r\nx\r\n+y\r\n$-1\r\n", b"*1\r\n$0\r\n\r\n", b"#t\r\n", b",1.5\r\n", b":x\r\n", b"no answer at all\r\n",
)  # fmt: skip
SECRET: Final = b"0123456789abcdef0123456789abcdef"


def against(odd: bytes, story: Callable[[State], Awaitable[None]]) -> None:
    """Run a story with a store that answers ``odd`` once it is greeted."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            asked = b"MGET" in data or b"EVAL" in data
            greeting = b"%1\r\n$5\r\nproto\r\n:3\r\n" if b"HELLO" in data else b"+OK\r\n" * data.count(b"CLIENT")
            writer.write(odd if asked else greeting)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1")
        state = open_state(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            await story(state)
        finally:
            await state.close()
            server.close()

    asyncio.run(run())


@pytest.mark.parametrize("odd", ODD)
def test_values_of_a_conversation_stay_away(odd: bytes) -> None:
    async def story(state: State) -> None:
        threads, vault = Threads(state), Vault(b"key", {"pii": Mode.FORMAT}, True)
        threads.begin(SECRET)
        fetching = threads.fetch(Thread(("resp_1",)), Principal("key", "acme", None, frozenset()))
        assert fetching is not None
        await asyncio.wait([fetching])
        await threads.take(fetching, vault)
        assert not vault.values
        assert sum(threads.results.values()) == 1
        assert threads.results["found"] + threads.results["missing"] == 0

    against(odd, story)


@pytest.mark.parametrize("odd", ODD)
def test_a_limit_is_kept_by_share(odd: bytes) -> None:
    async def story(state: State) -> None:
        with pytest.raises(StateUnavailable):
            await state.tally("x", {"a": 1}, time.time() + 60)

    against(odd, story)


@pytest.mark.parametrize("odd", ODD)
def test_a_verdict_is_not_believed(odd: bytes) -> None:
    async def story(state: State) -> None:
        shared = SharedVerdicts(state, None, None, None)  # type: ignore[arg-type]  # only the store is asked
        assert await shared._find(Sealer(SECRET, "verdict"), ["verdict:00"]) == [None]
        await asyncio.gather(*shared._asking, return_exceptions=True)
        assert sum(shared.results.values()) == 1
        assert shared.results["hit"] + shared.results["miss"] == 0

    against(odd, story)


@pytest.mark.parametrize("given", [5, None, [], [5], [["x"]], ["text"], [b""], [b"short"], [True], [None, None], {"a": b""}])
def test_what_is_no_answer_does_not_open(given: object) -> None:
    sealer = Sealer(SECRET, "verdict")
    found = answered(["a"], given)
    assert [(name, value is not None and sealer.open(name, value)) for name, value in found] == [("a", None)]


def test_an_answer_stands_with_its_name() -> None:
    assert answered(["a", "b"], [b"x", None]) == [("a", b"x"), ("b", None)]
