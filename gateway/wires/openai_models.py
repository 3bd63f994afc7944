"""OpenAI's list of models: ``GET /v1/models`` and ``GET /v1/models/{id}``. No prompt, no model's words."""

from __future__ import annotations

from typing import Any, Final

from gateway.wires import openai_common as common
from gateway.wires.base import Parsed, Reply, StreamReader, Target, Wire
from gateway.wires.blocks import read_catalogue, shape
from gateway.wires.openai_completions import CompletionStream

_MODEL: Final = {"": shape("id object created owned_by data has_more first_id last_id root parent")}


class OpenAIModels(Wire):
    """The wire of model lists."""

    name = "openai.models"
    provider = "openai"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        return Parsed(target.model, False, [], [])

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        return read_catalogue(doc, "data", _MODEL)

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return CompletionStream(model)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        return common.refusal_error(message)

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return common.error(status, code, message)
