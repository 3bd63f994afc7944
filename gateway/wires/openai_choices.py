"""What chat and text completions of OpenAI have in common: replies and chunks that are lists of choices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Final, Self

import orjson

from detectors.values import Origin, Path
from gateway.wires import openai_common as common
from gateway.wires.base import EventKind, Parsed, StreamEvent, StreamReader, check_choices
from gateway.wires.collecting import UNKNOWN, Collector
from gateway.wires.events import labels, load_frame, loose, sse
from gateway.wires.frames import Frame
from gateway.wires.numbering import distinct, ended, number_of

REPLY: Final = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"})
"""Fields of a reply and of a chunk."""

_LABELS: Final = REPLY - {"choices", "created"}
_DONE: Final = StreamEvent(EventKind.STOP, ())


def read_choices(doc: Any, read_choice: Callable[[Collector, Any, int, Path], None]) -> Parsed:
    """What a whole reply says, each choice read by ``read_choice(out, choice, index, path)``."""
    out = Collector(strict=False)
    if isinstance(doc, dict) and isinstance(choices := doc.get("choices"), list):
        for index, choice in enumerate(choices):
            read_choice(out, choice, index, ("choices", index))
        out.unknown(doc, REPLY, Origin.ASSISTANT)
    else:
        out.walk(doc, UNKNOWN, Origin.ASSISTANT, 0, ())
    return out.parsed()


class ChoicesStream(StreamReader):
    """Follows the chunks of one completion.

    Attributes:
        object: what a chunk calls itself.
        nothing: what a choice has that says no more.
        known: fields of a chunk that `read` does not look for text in.
    """

    object: ClassVar[str]
    nothing: ClassVar[dict[str, Any]]
    known: ClassVar[frozenset[str]] = REPLY

    def __init__(self, model: str | None, asked: int | None = None) -> None:
        """``asked``: how many choices were asked for, where that is known."""
        self._asked = asked
        self._head: dict[str, Any] = {"id": "", "object": self.object, "created": 0, "model": model or ""}
        self._open: dict[int, bool] = {0: True}
        self._done = False

    @abstractmethod
    def said(self, choice: dict[str, Any], number: int, path: Path, events: list[StreamEvent]) -> None:
        """Add what choice ``number`` says in a chunk, its reason to finish included."""

    def read(self, frame: Frame) -> list[StreamEvent]:
        if frame.data.strip() == b"[DONE]":
            self._done = True
            return [_DONE]
        chunk = load_frame(frame)
        if chunk is None:
            return [StreamEvent(EventKind.OTHER, ())]
        events: list[StreamEvent] = []
        for key, value in chunk.items():
            if key in self._head:
                self._head[key] = value
            if key in _LABELS:
                events += labels(value, (key,), (key,))
            elif key == "error" and value:
                events += (StreamEvent(EventKind.ERROR, ()), *loose(value, (key,)))
            elif key == "choices" and isinstance(value, list):
                distinct(value, (key,))
                for place, choice in enumerate(value):
                    self._choice(choice, (key, place), events)
            elif key == "choices" or key not in self.known:
                events += loose(value, (key,))
        return events or [StreamEvent(EventKind.OTHER, ())]

    def _choice(self, choice: Any, path: Path, events: list[StreamEvent]) -> None:
        if not isinstance(choice, dict):
            events += loose(choice, path)
            return
        number = number_of(choice.get("index"), (*path, "index"))
        self._open[number] = not choice.get("finish_reason")  # an empty one is none, to all clients
        check_choices(self._open, path, self._asked)
        self.said(choice, number, path, events)
        if not self._open[number]:
            events.append(StreamEvent(EventKind.STOP, (number,)))

    def hear_of(self, other: Self) -> None:
        self._open = dict.fromkeys(other._open, True) | self._open

    def stop(self, message: str) -> bytes:
        if self._done:
            return b""
        choices = [
            {"index": number, **self.nothing, "logprobs": None, "finish_reason": "content_filter"}
            for number in ended(self._asked, self._open)
        ]
        return sse(orjson.dumps({**self._head, "choices": choices})) + common.DONE

    def fail(self, message: str) -> bytes:
        return b"" if self._done else common.stream_error(message)
