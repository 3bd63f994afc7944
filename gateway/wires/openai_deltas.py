"""What the deltas of a streamed chat completion say, as events."""

from __future__ import annotations

from typing import Any, Final

from detectors.values import Path
from gateway.wires.base import EventKind, StreamEvent
from gateway.wires.collecting import check_depth, words
from gateway.wires.events import labels, loose
from gateway.wires.numbering import number_of

_PART_TEXTS: Final = frozenset({"text", "thinking", "summary"})
_ARGUMENTS: Final = {("function", "arguments"), ("function_call", "arguments")}
_ONCE: Final = words("id type format role name signature thought_signature thoughtSignature data")
"""What a delta may say in full with every piece, where it stands among what is not known."""


def nested(value: Any, channel: tuple[str | int, ...], path: Path, events: list[StreamEvent]) -> None:
    """Events for what a delta says in a place that is not known. What stands in one place is one text, as for OpenAI's client,
    which puts such strings together."""
    check_depth(value, path)
    if isinstance(value, str) and value:
        events.append(StreamEvent(EventKind.OTHER, channel, value, path))
    elif isinstance(value, list):
        part_events(value, channel, EventKind.OTHER, path, events)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key in _ONCE:
                events += _once(key, one, channel, (*path, key))
            else:
                nested(one, (*channel, key), (*path, key), events)


def _once(key: str, value: Any, channel: tuple[str | int, ...], path: Path) -> list[StreamEvent]:
    """Events for what may be said in full with every piece. Of all but kinds OpenAI's client puts several together."""
    return labels(value, path, () if key == "type" else (*channel, key))


def message_events(message: Any, number: int, path: Path, so_far: bool) -> list[StreamEvent]:
    """Events for a message beside a delta. ``so_far``: it says all that was said by then (Perplexity's chunks do), and goes on
    with the next one."""
    found = []
    for one in loose(message, path):
        if one.path[-2:] in _ARGUMENTS:
            one = one._replace(kind=EventKind.TOOL)  # what comes back into them must leave them JSON
        if len(one.path) == len(path) + 1:
            one = one._replace(repeats=(number, str(one.path[-1])), so_far=so_far)
        if one.path != (*path, "role"):
            found.append(one)
    return found


def part_events(
    parts: list[Any], channel: tuple[str | int, ...], kind: EventKind, path: Path, events: list[StreamEvent]
) -> None:
    """Events for a piece of text, or of thoughts, that comes as typed parts, as Mistral's and OpenRouter's do."""
    for place, part in enumerate(parts):
        here = (*path, place)
        if not isinstance(part, dict):
            events += loose(part, here)
            continue
        numbered = part.get("index") is not None
        whose = (*channel, number_of(part["index"], (*here, "index"))) if numbered else channel
        for key, value in part.items():
            inner = whose if key == "text" else (*whose, key)
            if key in _PART_TEXTS and isinstance(value, str) and value:
                events.append(StreamEvent(kind if key == "text" else EventKind.REASONING, inner, value, (*here, key)))
            elif key == "thinking" and isinstance(value, list) and kind is EventKind.TEXT:
                part_events(value, inner, EventKind.REASONING, (*here, key), events)
            elif numbered:
                if key in _ONCE:
                    events += _once(key, value, whose, (*here, key))
                else:
                    nested(value, inner, (*here, key), events)
            else:
                events += loose(value, (*here, key))


def audio_events(audio: dict[str, Any], channel: tuple[str | int, ...], path: Path, events: list[StreamEvent]) -> None:
    for key, value in audio.items():
        here = (*path, key)
        if key == "transcript" and isinstance(value, str):
            events.append(StreamEvent(EventKind.TEXT, channel, value, here))
        elif key == "data" and isinstance(value, str) and value:
            events.append(StreamEvent(EventKind.AUDIO, (*channel, key), value, here))
        elif key == "id":
            events += labels(value, here, (*channel, key))
        else:
            nested(value, (*channel, key), here, events)


def call_events(call: Any, number: int, path: Path, events: list[StreamEvent]) -> None:
    if not isinstance(call, dict):
        events += loose(call, path)
        return
    channel = (number, "tool", number_of(call.get("index"), (*path, "index")))
    for key, value in call.items():
        if key == "function":
            function_events(value, channel, "arguments", EventKind.TOOL, (*path, key), events)
        elif key == "custom":
            function_events(value, channel, "input", EventKind.CODE, (*path, key), events)
        elif key in ("id", "type", "index"):
            events += labels(value, (*path, key), (*channel, key) if key == "id" else ())
        else:
            nested(value, (*channel, key), (*path, key), events)


def function_events(
    function: Any, channel: tuple[str | int, ...], text: str, kind: EventKind, path: Path, events: list[StreamEvent]
) -> None:
    if not isinstance(function, dict):
        events += loose(function, path)
        return
    for key, value in function.items():
        here = (*path, key)
        if isinstance(value, str) and value:
            if key == text:
                events.append(StreamEvent(kind, channel, value, here))
            else:  # where arguments begin the name is whole: it waits for nothing that might follow it
                named = key == "name" and text in function
                events.append(StreamEvent(EventKind.LABEL if named else EventKind.OTHER, (*channel, key), value, here))
        else:
            events += loose(value, (*path, key))
