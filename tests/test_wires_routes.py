"""Which path is which wire."""

from __future__ import annotations

import pytest
from wires_support import read_reply, target, texts

from gateway.wires import routes
from gateway.wires.frames import BadFraming, Frame

KNOWN = [
    ("POST", "/v1/chat/completions", b"", "openai.chat", "chat.completions", None, False),
    ("POST", "/v1/completions", b"", "openai.completions", "completions", None, False),
    ("POST", "/v1/responses", b"", "openai.responses", "responses", None, False),
    ("POST", "/v1/responses/compact", b"", "openai.responses", "responses.compact", None, False),
    ("POST", "/v1/responses/input_tokens", b"", "openai.responses", "responses.input_tokens", None, False),
    ("GET", "/v1/responses/resp_1", b"include=a", "openai.responses", "responses.get", None, False),
    ("GET", "/v1/responses/resp_1", b"include=a&stream=true", "openai.responses", "responses.get", None, True),
    ("POST", "/v1/embeddings", b"", "openai.embeddings", "embeddings", None, False),
    ("GET", "/v1/models", b"", "openai.models", "models.list", None, False),
    ("GET", "/v1/models/ft:gpt-4o:org::x", b"", "openai.models", "models.get", "ft:gpt-4o:org::x", False),
    ("GET", "/v1/models/meta/llama-3", b"", "openai.models", "models.get", "meta/llama-3", False),
    ("POST", "/v1/messages", b"beta=true", "anthropic.messages", "messages", None, False),
    ("POST", "/v1/messages/count_tokens", b"", "anthropic.messages", "count_tokens", None, False),
    ("GET", "/v1beta/models", b"pageSize=5", "gemini.models", "models.list", None, False),
    ("GET", "/v1beta/models/gemini-2.5-pro", b"", "gemini.models", "models.get", "gemini-2.5-pro", False),
    ("GET", "/v1alpha/models", b"", "gemini.models", "models.list", None, False),
    ("POST", "/v1beta/models/g:generateContent", b"alt=sse", "gemini.generate", "generateContent", "g", False),
    ("POST", "/v1/models/g:generateContent", b"", "gemini.generate", "generateContent", "g", False),
    ("POST", "/v1alpha/models/g:countTokens", b"", "gemini.generate", "countTokens", "g", False),
    ("POST", "/v1beta/models/g:streamGenerateContent", b"", "gemini.generate", "streamGenerateContent", "g", False),
    ("POST", "/v1beta/models/g:streamGenerateContent", b"alt=sse", "gemini.generate", "streamGenerateContent", "g", True),
    ("POST", "/v1beta/models/g:streamGenerateContent", b"key=k&%24alt=sse", "gemini.generate", "streamGenerateContent", "g",
        True),
    ("POST", "/v1beta/models/g:streamGenerateContent", b"alt=ssex", "gemini.generate", "streamGenerateContent", "g", False),
    ("POST", "/v1beta/models/g:embedContent", b"", "gemini.embed", "embedContent", "g", False),
    ("POST", "/v1beta/models/g:batchEmbedContents", b"", "gemini.embed", "batchEmbedContents", "g", False),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "query", "wire", "operation", "model", "sse"), KNOWN)
def test_a_known_path(method: str, path: str, query: bytes, wire: str, operation: str, model: str | None, sse: bool) -> None:
    found = target(path, query, method)

    assert (found.wire.name, found.operation, found.model, found.sse) == (wire, operation, model, sse)
    assert method in routes.allowed(path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/V1/chat/completions"),
        ("POST", "/v1/files"),
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/responses/"),
        ("GET", "/v1/responses/.."),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("POST", "/v1/responses/resp_1"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/.."),
        ("GET", "/v1/models/../files"),
        ("GET", "/v1/models/a/../../files"),
        ("GET", "/v1/models/a//b"),
        ("GET", "/v1/models/a\n"),
        ("GET", "/v1/models/a?b"),
        ("GET", "/v1beta/models/a/b"),
        ("POST", "/v1beta/models/a/b:generateContent"),
        ("POST", "/v1beta/models/../x:generateContent"),
        ("POST", "/v1beta/models/:generateContent"),
        ("POST", "/v1beta/models/g:deleteEverything"),
        ("POST", "/v1beta/models/g:generateContent/x"),
        ("POST", "/v1beta/models/" + "g" * 200 + ":generateContent"),
    ],
)
def test_an_unknown_path_is_none(method: str, path: str) -> None:
    assert routes.find(method, path) is None
    assert method not in routes.allowed(path)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/messages", ("POST",)),
        ("/v1beta/models", ("GET",)),
        ("/v1/models/g:generateContent", ("GET", "POST")),  # a fine-tuned model of OpenAI may be called so
        ("/v1/nothing", ()),
    ],
)
def test_a_known_path_names_its_methods(path: str, methods: tuple[str, ...]) -> None:
    assert routes.allowed(path) == methods
    assert routes.find("PUT", path) is None


def test_a_call_that_google_has_and_we_do_not_is_no_model() -> None:
    assert routes.allowed("/v1/models/g:batchGenerateContent", "gemini") == ()
    assert routes.allowed("/v1/models/g", "gemini") == ("GET",)


@pytest.mark.parametrize(
    ("headers", "provider"),
    [
        ([], "openai"),
        ([(b"authorization", b"Bearer x")], "openai"),
        ([(b"host", b"h"), (b"anthropic-version", b"2023-06-01")], "anthropic"),
        ([(b"x-goog-api-key", b"k")], "gemini"),
    ],
)
def test_the_list_of_models_is_the_clients_own(headers: list[tuple[bytes, bytes]], provider: str) -> None:
    assert routes.dialect(headers) == provider
    for path in ("/v1/models", "/v1/models/x"):
        assert target(path, method="GET", provider=routes.dialect(headers)).wire.name == f"{provider}.models"


@pytest.mark.parametrize(
    ("path", "provider", "wire"),
    [
        ("/v1/nothing", "openai", "openai"),
        ("/", "openai", "openai"),
        ("/v1/messages/batches", "openai", "anthropic"),
        ("/v1/nothing", "anthropic", "anthropic"),
        ("/v1beta/nothing", "openai", "gemini"),
        ("/upload/v1beta/files", "openai", "gemini"),
        ("/v1/models/x:generateContent", "openai", "gemini"),
        ("/v1/models/llama3:latest", "openai", "openai"),
        ("/v1/nothing", "gemini", "gemini"),
    ],
)
def test_an_unknown_path_has_the_error_that_its_client_reads(path: str, provider: str, wire: str) -> None:
    assert routes.wire_for_error(path, provider).provider == wire


@pytest.mark.parametrize(
    ("path", "provider", "served"),
    [
        ("/chat/completions", "openai", "/v1/chat/completions"),
        ("/v1/v1/messages", "anthropic", "/v1/messages"),
        ("/openai/v1/responses", "openai", "/v1/responses"),
        ("/messages/count_tokens", "anthropic", "/v1/messages/count_tokens"),
        ("/models/x:generateContent", "gemini", "/v1beta/models/MODEL:generateContent"),
        ("/v1/chat/completions/", "openai", "/v1/chat/completions"),
        ("/models", "openai", "/v1/models"),
        ("/v1/models/", "openai", "/v1/models"),
        ("/v1/v1/models", "anthropic", "/v1/models"),
        ("/models/ft:gpt-4o:org::x", "openai", "/v1/models/MODEL"),
        ("/openai/v1/models/meta/llama-3", "openai", "/v1/models/MODEL"),
        ("/models", "gemini", "/v1beta/models"),
        ("/v1/v1beta/models/g", "openai", "/v1beta/models/MODEL"),
        ("/v1/models/g:batchGenerateContent", "gemini", None),
        ("/v1beta/models/g:batchGenerateContent", "openai", None),
        ("/v1/models/../files", "openai", None),
        ("/models/" * 1000 + "\nx", "openai", None),
        ("/v1/files", "openai", None),
        ("/api/chat", "openai", None),
    ],
)
def test_a_path_that_wants_another_base_url_is_told_so(path: str, provider: str, served: str | None) -> None:
    assert routes.meant(path, provider) == served


@pytest.mark.parametrize(
    ("path", "provider", "doc"),
    [
        ("/v1/models", "openai", {"object": "list", "data": [{"id": "a", "object": "model", "owned_by": "o", "note": "n"}]}),
        (
            "/v1/models",
            "anthropic",
            {"data": [{"type": "model", "id": "a", "display_name": "A", "note": "n"}], "has_more": False},
        ),
        ("/v1beta/models", "openai", {"models": [{"name": "models/a", "displayName": "A", "description": "n"}]}),
    ],
)
def test_what_a_catalogue_says_beyond_names_is_listed(path: str, provider: str, doc: dict[str, object]) -> None:
    where = target(path, method="GET", provider=provider)

    assert where.wire.read_request({}, where).segments == []
    assert texts(where.wire.read_reply(doc, where)) - {"note"} == {"n"}
    assert read_reply("/v1/embeddings", None).segments == []


@pytest.mark.parametrize("data", [b"nonsense", b"7", b"[1]", b'"text"', b"null", b'{"half": '])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages",
                                  "/v1/models/m:streamGenerateContent"])  # fmt: skip
def test_a_frame_that_no_wire_can_read_is_refused(path: str, data: bytes) -> None:
    asked = target(path, b"alt=sse")
    with pytest.raises(BadFraming, match="not a JSON object"):
        asked.wire.stream(asked, "m").read(Frame(b"data: " + data + b"\n\n", b"", data))
