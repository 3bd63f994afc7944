"""The echo model in the dialect of OpenAI's realtime sessions.

`Session` is pure: the client's events in, the server's out. Its voice is the UTF-8 of its words, and what it hears in audio is
the text that the bytes are. `serve` is the same behind ASGI.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final

import orjson

from detectors.values import Origin
from gateway.echo import model
from gateway.echo.model import Answer, Ask, Tool
from gateway.wires import strict
from gateway.wires.base import Malformed, Target
from gateway.wires.collecting import Collector
from gateway.wires.openai_items import read_item
from gateway.wires.openai_realtime import ITEMS, PARTS
from gateway.wires.openai_realtime_events import error_event

MODEL: Final = "echo-1"
_BETA: Final = {
    "response.output_text.": "response.text.", "response.output_audio_transcript.": "response.audio_transcript.",
    "response.output_audio.": "response.audio.",
}  # fmt: skip
"""What events were called in the beta, by how their names begin."""

Event = dict[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Session:
    """One session. `opened` is the first event; `receive` gives the answers to an event of the client, one by one."""

    def __init__(self, target: Target, beta: bool = False) -> None:
        self._target = target
        self._beta = beta
        self._count = 0
        self._items: list[Event] = []
        self._sound = bytearray()
        self._responding = ""  # the id of the response that is being told
        self._settings: Event = {
            "type": "realtime", "object": "realtime.session", "id": "sess_echo", "model": target.model or MODEL,
            "output_modalities": ["audio"], "instructions": "", "tools": [], "tool_choice": "auto",
        }  # fmt: skip

    def opened(self) -> Event:
        return self._event("session.created", session=self._settings)

    def receive(self, event: Any) -> Iterator[Event]:
        """Answer an event."""
        try:
            if not isinstance(event, dict):
                raise Malformed((), event, "an object")
            self._target.wire.read_request(event, self._target)
            yield from self._answers(event)
        except Malformed as error:
            told = error_event(str(self._count), "invalid_value", str(error), event_id=event and event.get("event_id"))
            yield told

    def cancel(self) -> Iterator[Event]:
        """End the response that is being told."""
        details = {"type": "cancelled", "reason": "client_cancelled"}
        yield self._event("response.done", response=self._response("cancelled", [], details))
        self._responding = ""

    def _answers(self, event: Event) -> Iterator[Event]:
        match event["type"]:
            case "session.update":
                self._settings.update(event["session"])
                yield self._event("session.updated", session=self._settings)
            case "conversation.item.create":
                yield from self._add({"id": f"item_{self._next()}", "object": "realtime.item", "status": "completed"}
                                     | event["item"])  # fmt: skip
            case "input_audio_buffer.append":
                self._sound += base64.b64decode(event["audio"])
            case "input_audio_buffer.commit":
                yield from self._hear()
            case "input_audio_buffer.clear":
                self._sound.clear()
                yield self._event("input_audio_buffer.cleared")
            case "conversation.item.delete":
                self._items = [item for item in self._items if item["id"] != event.get("item_id")]
                yield self._event("conversation.item.deleted", item_id=event.get("item_id"))
            case "conversation.item.retrieve":
                for item in self._items:
                    if item["id"] == event.get("item_id"):
                        yield self._event("conversation.item.retrieved", item=item)
            case "response.create":
                yield from self._respond(event.get("response") or {})
            case "response.cancel":
                yield error_event(str(self._count), "response_cancel_not_active", "no response is under way",
                                  event_id=event.get("event_id"))  # fmt: skip
            case kind:
                yield error_event(str(self._count), "invalid_value", f"no such event: {kind}"[:100],
                                  param="type", event_id=event.get("event_id"))  # fmt: skip

    def _add(self, item: Event) -> Iterator[Event]:
        before = self._items[-1]["id"] if self._items else None
        self._items.append(item)
        for name in ("created",) if self._beta else ("added", "done"):
            yield self._event(f"conversation.item.{name}", previous_item_id=before, item=item)

    def _hear(self) -> Iterator[Event]:
        said = self._sound.decode("utf-8", "replace")
        self._sound.clear()
        id = f"item_{self._next()}"
        yield self._event("input_audio_buffer.committed", item_id=id)
        part = {"type": "input_audio", "transcript": said}
        yield from self._add({"id": id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user",
                              "content": [part]})  # fmt: skip
        name = "conversation.item.input_audio_transcription."
        for piece in model.pieces(said):
            yield self._event(f"{name}delta", item_id=id, content_index=0, delta=piece)
        yield self._event(f"{name}completed", item_id=id, content_index=0, transcript=said,
                          usage={"type": "duration", "seconds": 1.0})  # fmt: skip

    def _respond(self, wanted: Event) -> Iterator[Event]:
        answer = model.answer(self._ask(wanted))
        number = self._next()
        self._responding = f"resp_{number}"
        settings = self._settings | wanted
        spoken = "audio" in (settings.get("output_modalities") or settings.get("modalities") or ())
        keeps = wanted.get("conversation") != "none"
        yield self._event("response.created", response=self._response("in_progress", [], None))
        items = self._made(answer, number, spoken)
        for index, item in enumerate(items):
            yield from self._tell(index, item, keeps)
        cut = answer.finish == "length"
        status = "incomplete" if cut else "completed"
        details = {"type": status, "reason": "max_output_tokens"} if cut else None
        done = self._response(status, items, details) | {"usage": _usage(answer)}
        self._responding = ""
        yield self._event("response.done", response=done)
        yield self._event("rate_limits.updated", rate_limits=[])

    def _ask(self, wanted: Event) -> Ask:
        out = Collector(strict=False)
        settings = self._settings | wanted
        if settings.get("instructions"):
            out.text(settings["instructions"], "system", Origin.SYSTEM, -1, ("instructions",))
        for turn, item in enumerate(wanted.get("input", self._items)):
            read_item(out, item, Origin.USER, turn, ("input", turn), PARTS, ITEMS)
        offered = [tool for tool in settings.get("tools") or () if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
        choice = settings.get("tool_choice")
        forced = "" if choice == "required" else choice.get("name") if isinstance(choice, dict) else None
        limit = settings.get("max_output_tokens")
        return Ask(
            id=model.request_id([self._count, wanted]),
            model=str(self._settings["model"]),
            parsed=out.parsed(),
            tools=tuple(Tool(tool["name"], tool.get("parameters")) for tool in offered if choice != "none"),
            forced=forced,
            limit=limit if isinstance(limit, int) and limit > 0 else None,
        )

    def _made(self, answer: Answer, number: int, spoken: bool) -> list[Event]:
        common: Event = {"object": "realtime.item", "status": "completed"}
        calls = [
            {"id": f"item_{number}_{index}", **common, "type": "function_call", "call_id": f"call_{number}_{index}",
             "name": call.name, "arguments": call.text}
            for index, call in enumerate(answer.calls)
        ]  # fmt: skip
        if calls:
            return calls
        part = {"type": "output_audio", "transcript": answer.text} if spoken else {"type": "output_text", "text": answer.text}
        if self._beta:
            part["type"] = part["type"].removeprefix("output_")
        return [{"id": f"item_{number}_0", **common, "type": "message", "role": "assistant", "content": [part]}]

    def _tell(self, index: int, item: Event, keeps: bool) -> Iterator[Event]:
        place = {"response_id": self._responding, "output_index": index}
        empty: Event = item | {"status": "in_progress"}
        empty["arguments" if item["type"] == "function_call" else "content"] = "" if item["type"] == "function_call" else []
        yield self._event("response.output_item.added", **place, item=empty)
        here = {**place, "item_id": item["id"]}
        if keeps:
            self._items.append(item)
            yield self._event("conversation.item.created" if self._beta else "conversation.item.added",
                              previous_item_id=None, item=empty)  # fmt: skip
        if item["type"] == "function_call":
            for piece in model.argument_pieces(item["arguments"]):
                yield self._event("response.function_call_arguments.delta", **here, call_id=item["call_id"], delta=piece)
            yield self._event("response.function_call_arguments.done", **here, call_id=item["call_id"], name=item["name"],
                              arguments=item["arguments"])  # fmt: skip
        else:
            yield from self._tell_part(item["content"][0], {**here, "content_index": 0})
        if keeps and not self._beta:
            yield self._event("conversation.item.done", previous_item_id=None, item=item)
        yield self._event("response.output_item.done", **place, item=item)

    def _tell_part(self, part: Event, here: Event) -> Iterator[Event]:
        field = "transcript" if "transcript" in part else "text"
        name = "output_audio_transcript" if field == "transcript" else "output_text"
        yield self._event("response.content_part.added", **here, part=part | {field: ""})
        for piece in model.pieces(part[field]):
            yield self._event(f"response.{name}.delta", **here, delta=piece)
            if field == "transcript":
                sound = base64.b64encode(piece.encode("utf-8", "replace")).decode()
                yield self._event("response.output_audio.delta", **here, delta=sound)
        if field == "transcript":
            yield self._event("response.output_audio.done", **here)
        yield self._event(f"response.{name}.done", **here, **{field: part[field]})
        yield self._event("response.content_part.done", **here, part=part)

    def _response(self, status: str, items: list[Event], details: Event | None) -> Event:
        return {
            "object": "realtime.response", "id": self._responding, "status": status, "status_details": details, "output": items,
            "conversation_id": "conv_echo", "output_modalities": self._settings["output_modalities"], "metadata": None,
            "max_output_tokens": "inf", "usage": None,
        }  # fmt: skip

    def _event(self, kind: str, **fields: Any) -> Event:
        if self._beta:
            kind = next((old + kind.removeprefix(new) for new, old in _BETA.items() if kind.startswith(new)), kind)
        return {"type": kind, "event_id": f"event_{self._next()}", **fields}

    def _next(self) -> int:
        self._count += 1
        return self._count


def _usage(answer: Answer) -> Event:
    return {
        "total_tokens": answer.prompt_words + answer.words, "input_tokens": answer.prompt_words, "output_tokens": answer.words,
        "input_token_details": {"text_tokens": answer.prompt_words, "audio_tokens": 0, "cached_tokens": 0},
        "output_token_details": {"text_tokens": answer.words, "audio_tokens": 0},
    }  # fmt: skip


async def serve(target: Target, headers: list[tuple[bytes, bytes]], offered: list[str], receive: Receive, send: Send,
                delay: float) -> None:  # fmt: skip
    """Hold one session over ASGI's messages; ``delay`` is the pause before each event of an answer, in seconds."""
    await receive()
    beta = (b"openai-beta", b"realtime=v1") in headers or "openai-beta.realtime-v1" in offered
    await send({"type": "websocket.accept", "subprotocol": "realtime" if "realtime" in offered else None})
    session = Session(target, beta)
    come: deque[str] = deque()
    news = asyncio.Event()
    listening = asyncio.ensure_future(_listen(receive, come, news))

    async def tell(event: Event) -> None:
        await send({"type": "websocket.send", "text": orjson.dumps(event).decode()})

    try:
        await tell(session.opened())
        while not listening.done() or come:
            if not come:
                news.clear()
                await news.wait()
                continue
            for event in session.receive(_read(come.popleft())):
                if delay:
                    await asyncio.sleep(delay)
                if any('"response.cancel"' in text for text in come):
                    come = deque(text for text in come if '"response.cancel"' not in text)
                    for end in session.cancel():
                        await tell(end)
                    break
                await tell(event)
    finally:
        listening.cancel()


async def _listen(receive: Receive, come: deque[str], news: asyncio.Event) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            news.set()
            return
        come.append(message.get("text") or "")
        news.set()


def _read(text: str) -> Any:
    try:
        return strict.loads(text)
    except strict.BadJson:
        return None
