"""OpenAI completions, the older text form: ``POST /v1/completions``."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from detectors.values import Origin, Path
from gateway.wires import openai_common as common
from gateway.wires.base import EventKind, Malformed, Parsed, Reply, StreamEvent, StreamReader, Target, Wire
from gateway.wires.collecting import UNKNOWN, Collector, want_flag, want_model, words
from gateway.wires.events import labels, loose
from gateway.wires.numbering import asked, ended
from gateway.wires.openai_choices import ChoicesStream, read_choices

_SETTINGS: Final = words(
    "model best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed",
    "stream stream_options temperature top_p service_tier",
)
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
        prompts = doc.get("prompt")
        tokens = isinstance(prompts, list) and all(type(one) is int for one in prompts)  # of one prompt
        choices = asked(doc.get("n"), len(prompts) if isinstance(prompts, list) and not tokens else 1)
        return out.parsed(want_model(doc), want_flag(doc, "stream"))._replace(choices=choices)

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        return read_choices(doc, _read_choice)

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return CompletionStream(model, target.choices)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        if not as_reply:
            return common.refusal_error(message)
        whole: dict[str, Any] = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": 0,
            "model": parsed.model or "",
            "choices": [
                {"index": number, "text": "", "logprobs": None, "finish_reason": "content_filter"}
                for number in ended(parsed.choices, {0: True})
            ],
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


class CompletionStream(ChoicesStream):
    """Follows the chunks of one text completion."""

    object = "text_completion"
    nothing: ClassVar = {"text": ""}

    def said(self, choice: dict[str, Any], number: int, path: Path, events: list[StreamEvent]) -> None:
        for key, value in choice.items():
            if key == "text" and isinstance(value, str):
                if value:
                    events.append(StreamEvent(EventKind.TEXT, (number, key), value, (*path, key)))
            elif key == "finish_reason":
                events += labels(value, (*path, key), (number, key))
            elif key == "text" or key not in _CHOICE:
                events += loose(value, (*path, key))
