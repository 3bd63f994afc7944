"""OpenAI completions, the older text form: ``POST /v1/completions``."""

from __future__ import annotations

from typing import Any, Final, Self

import orjson

from detectors.values import Origin, Path
from gateway.wires import openai_common as common
from gateway.wires.base import EventKind, Malformed, Parsed, Reply, StreamEvent, StreamReader, Target, Wire, check_choices
from gateway.wires.collecting import UNKNOWN, Collector, want_flag, want_model, words
from gateway.wires.events import labels, load_frame, loose, sse
from gateway.wires.frames import Frame

_SETTINGS: Final = words(
    "model best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed",
    "stream stream_options temperature top_p service_tier",
)
_REPLY: Final = frozenset({"id", "object", "created", "model", "choices", "usage", "system_fingerprint"})
_LABELS: Final = _REPLY - {"choices", "created"}
_CHOICE: Final = frozenset({"index", "finish_reason", "text", "logprobs"})


class OpenAICompletions(Wire):
    """The wire of text completions."""

    name = "openai.completions"
    provider = "openai"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        out = Collector()
        common.read_prompts(out, doc.get("prompt"), "prompt")
        suffix = doc.get("suffix")
        if isinstance(suffix, str):
            out.text(suffix, "user", Origin.USER, len(out.segments), ("suffix",))
        elif suffix is not None:
            raise Malformed(("suffix",), suffix, "a string")
        out.unknown(doc, {"prompt", "suffix"}, Origin.USER, settings=_SETTINGS)
        return out.parsed(want_model(doc), want_flag(doc, "stream"))

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        out = Collector(strict=False)
        if isinstance(doc, dict) and isinstance(choices := doc.get("choices"), list):
            for index, choice in enumerate(choices):
                _read_choice(out, choice, index, ("choices", index))
            out.unknown(doc, _REPLY, Origin.ASSISTANT)
        else:
            out.walk(doc, UNKNOWN, Origin.ASSISTANT, 0, ())
        return out.parsed()

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return CompletionStream(model)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        if not as_reply:
            return common.refusal_error(message)
        whole: dict[str, Any] = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": 0,
            "model": parsed.model or "",
            "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "content_filter"}],
        }
        return common.filtered([whole], parsed.streaming, {**whole, "usage": common.NO_USAGE})

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return common.error(status, code, message)


def _read_choice(out: Collector, choice: Any, index: int, path: Path) -> None:
    if not isinstance(choice, dict):
        out.walk(choice, UNKNOWN, Origin.ASSISTANT, index, path)
        return
    for key, value in choice.items():
        if key == "logprobs" and value is not None:
            out.hidden(Origin.ASSISTANT, index, (*path, key), "token probabilities")
        elif key == "text":
            out.walk(value, "assistant", Origin.ASSISTANT, index, (*path, key))
        elif key not in _CHOICE:
            out.walk({key: value}, UNKNOWN, Origin.ASSISTANT, index, path)


class CompletionStream(StreamReader):
    """Follows the chunks of one text completion."""

    def __init__(self, model: str | None) -> None:
        self._head: dict[str, Any] = {
            "id": "",
            "object": "text_completion",
            "created": 0,
            "model": model or "",
        }
        self._open: dict[int, bool] = {0: True}
        self._done = False

    def read(self, frame: Frame) -> list[StreamEvent]:
        if frame.data.strip() == b"[DONE]":
            self._done = True
            return [StreamEvent(EventKind.STOP, ())]
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
                for place, choice in enumerate(value):
                    self._choice(choice, (key, place), events)
            elif key == "choices" or key not in _REPLY:
                events += loose(value, (key,))
        return events or [StreamEvent(EventKind.OTHER, ())]

    def _choice(self, choice: Any, path: Path, events: list[StreamEvent]) -> None:
        if not isinstance(choice, dict):
            events += loose(choice, path)
            return
        number = choice.get("index", 0)
        number = number if isinstance(number, int) else 0
        self._open[number] = choice.get("finish_reason") is None
        check_choices(self._open, path)
        for key, value in choice.items():
            if key == "text" and isinstance(value, str):
                if value:
                    events.append(StreamEvent(EventKind.TEXT, (number, key), value, (*path, key)))
            elif key == "finish_reason":
                events += labels(value, (*path, key), (number, key))
            elif key == "text" or key not in _CHOICE:
                events += loose(value, (*path, key))
        if not self._open[number]:
            events.append(StreamEvent(EventKind.STOP, (number,)))

    def hear_of(self, other: Self) -> None:
        self._open = dict.fromkeys(other._open, True) | self._open

    def stop(self, message: str) -> bytes:
        if self._done:
            return b""
        choices = [
            {"index": number, "text": "", "logprobs": None, "finish_reason": "content_filter"}
            for number, is_open in sorted(self._open.items())
            if is_open
        ]
        return sse(orjson.dumps({**self._head, "choices": choices})) + common.DONE

    def fail(self, message: str) -> bytes:
        return b"" if self._done else common.stream_error(message)
