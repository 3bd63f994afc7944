"""Which path is which wire: the table of the data plane."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from gateway.wires.anthropic import AnthropicMessages, AnthropicModels
from gateway.wires.base import Target, Wire
from gateway.wires.gemini import GeminiEmbed, GeminiGenerate, GeminiModels
from gateway.wires.openai_chat import OpenAIChat
from gateway.wires.openai_completions import OpenAICompletions
from gateway.wires.openai_embeddings import OpenAIEmbeddings
from gateway.wires.openai_models import OpenAIModels
from gateway.wires.openai_realtime import OpenAIRealtime
from gateway.wires.openai_responses import OpenAIResponses, StoredResponse

_CHAT: Final = OpenAIChat()
_RESPONSES: Final = OpenAIResponses()
_STORED: Final = StoredResponse()
_OPENAI_MODELS: Final = OpenAIModels()
_MESSAGES: Final = AnthropicMessages()
_ANTHROPIC_MODELS: Final = AnthropicModels()
_GENERATE: Final = GeminiGenerate()
_EMBED: Final = GeminiEmbed()
_GEMINI_MODELS: Final = GeminiModels()

_STATIC: Final = {
    "POST /v1/chat/completions": Target(_CHAT, "chat.completions"),
    "POST /v1/completions": Target(OpenAICompletions(), "completions"),
    "POST /v1/responses": Target(_RESPONSES, "responses"),
    "POST /v1/responses/compact": Target(_RESPONSES, "responses.compact"),
    "POST /v1/responses/input_tokens": Target(_RESPONSES, "responses.input_tokens"),
    "POST /v1/embeddings": Target(OpenAIEmbeddings(), "embeddings"),
    "POST /v1/messages": Target(_MESSAGES, "messages"),
    "POST /v1/messages/count_tokens": Target(_MESSAGES, "count_tokens"),
}
REALTIME: Final = "/v1/realtime"
"""Where a session begins, as a WebSocket."""
UPLOADS: Final = "/upload/v1"
"""Where Google's clients put files."""

_SESSION: Final = Target(OpenAIRealtime(), "realtime")
_LISTS: Final = {
    "openai": Target(_OPENAI_MODELS, "models.list"),
    "anthropic": Target(_ANTHROPIC_MODELS, "models.list"),
    "gemini": Target(_GEMINI_MODELS, "models.list"),
}
_GEMINI: Final[dict[str, Wire]] = {
    "generateContent": _GENERATE,
    "streamGenerateContent": _GENERATE,
    "countTokens": _GENERATE,
    "embedContent": _EMBED,
    "batchEmbedContents": _EMBED,
}
_METHODS: Final = ("GET", "POST")
_ERRORS: Final[dict[str, Wire]] = {"openai": _CHAT, "anthropic": _MESSAGES, "gemini": _GENERATE}

SCREENED: Final = (
    *(key.removeprefix("POST ") for key in _STATIC if key.startswith("POST ")),
    REALTIME,
    *(f"/{version}/models/MODEL:{call}" for version in ("v1", "v1beta", "v1alpha") for call in _GEMINI),
)
"""The paths that carry text to a model: none of them can be passed through."""

_ENDINGS: Final = (
    *(key.removeprefix("POST /v1") for key in _STATIC if key.startswith("POST ")),
    *(f":{call}" for call in _GEMINI),
)
"""How the paths that carry text to a model end, whatever a base URL put before that."""

# Names in a path end where the upstream's path would begin to mean something else: no dot segment, no control
# character.
_GEMINI_CALL: Final = re.compile(r"/v1(?:beta|alpha)?/models/([A-Za-z0-9][\w.-]{0,127}):([A-Za-z]{1,40})", re.ASCII)
_MODELS: Final = re.compile(r"/v1(beta|alpha)?/models(?:/(.+))?")
_MODELS_AT_END: Final = re.compile(r"(?:/v1(beta|alpha))?(/models(?:/.+)?)\Z", re.DOTALL)
_MODEL: Final = re.compile(r"(?:[A-Za-z0-9][\w.:@-]{0,127}/){0,3}[A-Za-z0-9][\w.:@-]{0,127}", re.ASCII)
_GEMINI_MODEL: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,127}", re.ASCII)  # what stands behind a colon is a call
_RESPONSE: Final = re.compile(r"/v1/responses/([A-Za-z0-9_-]{1,256})")
_SSE: Final = re.compile(rb"(?:^|&)(?:\$|%24)?alt=sse(?=&|$)", re.IGNORECASE)
_STREAM: Final = re.compile(rb"(?:^|&)stream=true(?=&|$)", re.IGNORECASE)


def find(method: str, path: str, query: bytes = b"", provider: str = "openai") -> Target | None:
    """What a request names, or None.

    ``path`` is decoded. ``provider`` (see `dialect`) tells apart the lists of models, which share a path.
    """
    target = _STATIC.get(f"{method} {path}")
    if target is not None:
        return target
    if method == "POST":
        if (call := _GEMINI_CALL.fullmatch(path)) and (wire := _GEMINI.get(call[2])):
            return Target(wire, call[2], call[1], call[2] == "streamGenerateContent" and bool(_SSE.search(query)))
    elif method == "GET":
        if path == REALTIME:
            return _SESSION._replace(model=_asked_model(query))
        if response := _RESPONSE.fullmatch(path):
            return Target(_STORED, "responses.get", sse=bool(_STREAM.search(query)), id=response[1])
        if models := _MODELS.fullmatch(path):
            whose, model = "gemini" if models[1] else provider, models[2]
            if model is None:
                return _LISTS[whose]
            if (_GEMINI_MODEL if whose == "gemini" else _MODEL).fullmatch(model):
                return _LISTS[whose]._replace(operation="models.get", model=model)
    return None


def meant(path: str, provider: str = "openai") -> str | None:
    """The path that an unknown one of a provider's client would be with another base URL; None where it ends as none does."""
    path = path.rstrip("/")
    if ends := [ending for ending in _ENDINGS if path.endswith(ending)]:
        longest = max(ends, key=len)
        return f"/v1beta/models/MODEL{longest}" if longest[0] == ":" else f"/v1{longest}"
    if models := _MODELS_AT_END.search(path):
        version = "/v1beta" if models[1] or provider == "gemini" else "/v1"
        if target := find("GET", version + models[2]):
            return f"{version}/models" if target.model is None else f"{version}/models/MODEL"
    return None


def _asked_model(query: bytes) -> str | None:
    """The model that a session's query names; the upstream reads it itself."""
    return next((value for name, value in parse_qsl(query.decode("latin-1")) if name == "model"), None)


def allowed(path: str, provider: str = "openai") -> tuple[str, ...]:
    """The methods that a path takes from a provider's client: none for an unknown one. A known path with another method is a
    405."""
    return tuple(method for method in _METHODS if find(method, path, provider=provider))


def dialect(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The provider whose client sends such headers (names in lower case)."""
    for name, _ in headers:
        if name == b"anthropic-version":
            return "anthropic"
        if name == b"x-goog-api-key" or name == b"x-goog-api-client":
            return "gemini"
    return "openai"


def errors_of(provider: str) -> Wire:
    """A wire of ``provider``, for its errors."""
    return _ERRORS[provider]


def wire_for_error(path: str, provider: str = "openai") -> Wire:
    """The wire whose errors a client understands that asks for a path we do not know."""
    call = _GEMINI_CALL.fullmatch(path)
    if path.startswith(("/v1beta", "/v1alpha", UPLOADS)) or (call and call[2] in _GEMINI):
        return _GENERATE
    if path.startswith("/v1/messages") or provider == "anthropic":
        return _MESSAGES
    return _GENERATE if provider == "gemini" else _CHAT
