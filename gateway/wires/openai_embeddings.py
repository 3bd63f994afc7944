"""OpenAI embeddings: ``POST /v1/embeddings``."""

from __future__ import annotations

from typing import Any, Final

from detectors.values import Origin
from gateway.wires import openai_common as common
from gateway.wires.base import Parsed, Reply, StreamReader, Target, Wire
from gateway.wires.collecting import Collector, want_model
from gateway.wires.openai_completions import CompletionStream

_SETTINGS: Final = frozenset({"model", "dimensions", "encoding_format"})
_REPLY: Final = frozenset({"object", "data", "model", "usage"})


class OpenAIEmbeddings(Wire):
    """The wire of embeddings: text in, numbers out. It has no streams, and a refusal is always an error."""

    name = "openai.embeddings"
    provider = "openai"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        out = Collector()
        common.read_prompts(out, doc.get("input"), "input")
        out.unknown(doc, {"input"}, Origin.USER, settings=_SETTINGS)
        return out.parsed(want_model(doc))

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        out = Collector(strict=False)
        if isinstance(doc, dict) and isinstance(doc.get("data"), list):
            out.hidden(Origin.ASSISTANT, 0, ("data",), "vectors")
            out.unknown(doc, _REPLY, Origin.ASSISTANT)
        else:
            out.walk(doc, "assistant", Origin.ASSISTANT, 0, ())
        return out.parsed()

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return CompletionStream(model)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        return common.refusal_error(message)

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return common.error(status, code, message)
