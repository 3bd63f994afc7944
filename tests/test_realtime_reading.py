"""What an event of the client's must be before anybody looks at what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from gateway.realtime.reading import Read, read_event
from gateway.screening.inspection import OFFLOAD_BYTES
from gateway.wires.base import Malformed, Target
from gateway.wires.openai_realtime import OpenAIRealtime
from gateway.wires.openai_realtime_events import MAX_ID
from gateway.wires.strict import BadJson

TARGET = Target(OpenAIRealtime(), "realtime")


class Scanner(ThreadPoolExecutor):
    """A thread that counts what it is given."""

    given = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        self.given += 1
        return super().submit(fn, *args, **named)


def read(body: bytes) -> tuple[Read, int]:
    with Scanner(1) as scanner:
        return asyncio.run(read_event(body, TARGET, scanner)), scanner.given


@pytest.mark.parametrize("name", ["event_id", "item_id", "previous_item_id", "response_id"])
@pytest.mark.parametrize("id", [7, ["i"], {"id": "i"}, True, "i" * (MAX_ID + 1)])
@pytest.mark.parametrize("kind", ["conversation.item.retrieve", "brand.new"])
def test_an_id_is_a_string_of_bounded_length(kind: str, name: str, id: object) -> None:
    found, _ = read(orjson.dumps({"type": kind, name: id}))
    assert isinstance(found.wrong, Malformed)
    assert found.wrong.path == (name,)
    assert found.id is None, "what is told does not repeat it"


@pytest.mark.parametrize("id", ["i" * MAX_ID, "", None])
def test_other_ids_are_taken(id: str | None) -> None:
    found, _ = read(orjson.dumps({"type": "conversation.item.delete", "event_id": id, "item_id": id}))
    assert (found.wrong, found.id) == (None, id)


def test_what_is_long_is_read_in_a_thread_and_what_is_short_is_not() -> None:
    short = orjson.dumps({"type": "input_audio_buffer.append", "event_id": "e", "audio": "QUJD"})
    long = orjson.dumps({"type": "input_audio_buffer.append", "event_id": "e", "audio": "QUJD" * OFFLOAD_BYTES})
    for body, given in ((short, 0), (long, 1)):
        found, threads = read(body)
        assert (found.id, found.wrong, threads) == ("e", None, given)
        assert [part.reason for part in found.parsed.opaque] == ["audio"]
    for body, wrong in ((b"[" * OFFLOAD_BYTES * 2, BadJson), (b"[1" + b",1" * OFFLOAD_BYTES + b"]", Malformed)):
        found, threads = read(body)
        assert isinstance(found.wrong, wrong)
        assert threads == 1
