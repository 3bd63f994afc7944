"""What a session knows between its events. Pure: events of either side in, what becomes of them out.

A *turn* is a run of the server's events: while a response is under way it lasts, and its relay follows it
(`gateway.streams.relay`). Responses that were cut, and items that were taken back, leave traces in later events of the server:
those are dropped here.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from detectors.passages import THREAD
from detectors.values import Origin, Segment
from gateway.wires import strict
from gateway.wires.base import Parsed
from gateway.wires.halves import may_have_halves, without_halves
from gateway.wires.openai_realtime_events import HEARD, MAX_ID

MAX_SYSTEM: Final = 32
"""System messages of a session that replies are compared with, beside its instructions: the last ones."""

MAX_TRACES: Final = 4_096
"""Ids of cut responses, of their items, and of items taken back, that are remembered. Later events that name older ones are
screened like any. How many are under way the turn's reader bounds (`MAX_ITEMS` there)."""

Event = dict[str, Any]


class Heard(NamedTuple):
    """What the provider understood of the user's audio item ``item``: a piece, or, where it is ``whole``, all of it."""

    item: str
    text: str
    whole: bool


class Told(NamedTuple):
    """What becomes of an event of the server.

    Attributes:
        message: what goes on to the relay; None for an event that is dropped.
        over: the turn ends with it.
        heard: what it tells of the user's words.
        asks: events for the server.
    """

    message: bytes | None
    over: bool
    heard: Heard | None = None
    asks: tuple[Event, ...] = ()


class Conversation:
    """One session's memory."""

    def __init__(self, mark: str) -> None:
        """``mark``: how the ids of events begin that the gateway itself sends to the server; nobody else can know it. What
        answers them is not for the caller."""
        self._mark = mark
        self._instructions: tuple[Segment, ...] = ()
        self._for_response: tuple[Segment, ...] = ()
        self._system: deque[Segment] = deque(maxlen=MAX_SYSTEM)
        self._thread: deque[Segment] = deque()
        self._under_way: dict[str, set[str]] = {}
        self._cut: dict[str, None] = {}  # responses
        self._cut_items: dict[str, None] = {}
        self._taken_back: dict[str, None] = {}  # items that the upstream was asked to forget, and did not confirm yet
        self._number = 0

    @property
    def thread(self) -> list[Segment]:
        """The user's last words, as turns before the one that is at hand: what is dealt out over events is judged together."""
        return [segment._replace(turn=turn - len(self._thread) - 1) for turn, segment in enumerate(self._thread)]

    @property
    def prompt(self) -> list[Segment]:
        """What the session's system prompt is made of, and what the user said, which is no secret."""
        return [*self._instructions, *self._for_response, *self._system, *self.thread]

    def said(self, kind: str, parsed: Parsed) -> None:
        """An event of the client's went on."""
        system = tuple(part for part in parsed.segments if part.origin is Origin.SYSTEM)
        if kind == "session.update":
            told = tuple(part for part in system if part.path[-1:] == ("instructions",))
            self._instructions = told or self._instructions
        elif kind == "response.create":
            self._for_response = system
        else:
            self._system.extend(system)
        for part in parsed.segments:
            if part.origin is Origin.USER:
                self._remember(part)

    def _remember(self, part: Segment) -> None:
        self._thread.append(part)
        over = sum(len(one.text) for one in self._thread) - THREAD
        while over > 0:
            first = self._thread.popleft()
            if len(first.text) > over:
                self._thread.appendleft(first._replace(text=first.text[over:]))
            over -= len(first.text)

    def told(self, message: bytes, event: Event | None) -> Told:
        """Take an event of the server, read by `read_told`."""
        if event is None:
            return Told(message, True)  # the relay says what is wrong
        kind, item = event["type"], _item(event)
        if kind == "error" and (answered := _answered(event)).startswith(self._mark):
            self._taken_back.pop(answered.removeprefix(f"{self._mark}delete_"), None)
            return Told(None, not self.responding)
        if kind.startswith("response."):
            return self._response(event, kind, item, message)
        if kind == "conversation.item.deleted":
            self._taken_back.pop(item, None)
        elif item in self._cut_items:
            return Told(None, not self.responding)
        if kind.startswith(HEARD):
            text, whole = event.get("transcript"), kind == HEARD + "completed"
            said = text if whole else event.get("delta")
            return Told(message, not self.responding, Heard(item, said, whole) if said else None)
        return Told(message, not self.responding)

    def cut(self) -> list[Event]:
        """The responses under way end here; gives what the server is asked."""
        asked = [self._ask("response.cancel", response_id=id) for id in self._under_way]
        for id, items in self._under_way.items():
            _note(self._cut, id)
            for item in items:
                _note(self._cut_items, item)
        self._under_way.clear()
        return asked

    def take_back(self, item: str) -> list[Event]:
        """What was said in an item is not to reach the model any more; gives what the server is asked.

        A response that begins before the server confirms may be one to that item: it is cut, too.
        """
        if item:
            _note(self._taken_back, item)
        asked = {"type": "conversation.item.delete", "event_id": f"{self._mark}delete_{item}", "item_id": item}
        return [asked, *(self.cut() or [self._ask("response.cancel")])]

    @property
    def responding(self) -> bool:
        """Whether a response is under way."""
        return bool(self._under_way)

    def _response(self, event: Event, kind: str, item: str, message: bytes) -> Told:
        whole = event.get("response")
        id = _id(event.get("response_id", whole.get("id") if isinstance(whole, dict) else None))
        asks: tuple[Event, ...] = ()
        if self._taken_back and kind == "response.created":
            _note(self._cut, id)
            asks = (self._ask("response.cancel", response_id=id),)
        if id in self._cut:
            if item:
                _note(self._cut_items, item)
            if kind == "response.done":
                del self._cut[id]
            return Told(None, not self.responding, None, asks)
        if kind == "response.done":
            self._under_way.pop(id, None)
        else:
            items = self._under_way.setdefault(id, set())
            if item:
                items.add(item)
        return Told(message, not self.responding)

    def _ask(self, kind: str, **fields: str) -> Event:
        self._number += 1
        return {"type": kind, "event_id": f"{self._mark}{self._number}", **fields}


def read_told(message: bytes) -> tuple[bytes, Event | None]:
    """An event of the server, and what a `Conversation` looks at of it; None where it is no JSON object, or says two things at
    once."""
    message = without_halves(message) if may_have_halves(message) else message
    try:
        event = strict.loads(message)
    except strict.BadJson:
        return message, None
    if not isinstance(event, dict):
        return message, None
    seen: Event = {name: _name(event[name]) for name in _SEEN if name in event}
    for name, inner in _SEEN_INSIDE:
        if isinstance(value := event.get(name), dict) and inner in value:
            seen[name] = {inner: _name(value[inner])}
    return message, {"type": "", **seen}


_SEEN: Final = ("type", "item_id", "response_id", "transcript", "delta")
_SEEN_INSIDE: Final = (("item", "id"), ("response", "id"), ("error", "event_id"))


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""


def _id(value: object) -> str:
    """Of an id as much as one may have: a longer one is not remembered, and the turn's reader stops whoever sends it."""
    return _name(value)[:MAX_ID]


def _item(event: Event) -> str:
    item = event.get("item")
    return _id(event.get("item_id", item.get("id") if isinstance(item, dict) else None))


def _answered(event: Event) -> str:
    error = event.get("error")
    return _name(error.get("event_id")) if isinstance(error, dict) else ""


def _note(ids: dict[str, None], id: str) -> None:
    ids[id] = None
    if len(ids) > MAX_TRACES:
        del ids[next(iter(ids))]
