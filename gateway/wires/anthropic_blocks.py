"""What the content blocks of Anthropic's messages are, as a table."""

from __future__ import annotations

from typing import Final

from detectors.values import Origin
from gateway.wires.blocks import (
    DOCUMENT,
    FILE,
    JSON,
    PARTS,
    SCHEMA,
    TEXT,
    WALK,
    Shape,
    Table,
    hidden,
    inside,
    shape,
)

_A: Final = Origin.ASSISTANT
_D: Final = Origin.DOCUMENT
_R: Final = Origin.TOOL_RESULT
_CACHE: Final = "cache_control"
_RESULT: Final = "tool_use_id is_error caller cache_control"
_CALL: Final = shape("id caller cache_control", _A, "tool_call", name=WALK, input=JSON, server_name=WALK)


_CHANGE: Final = shape(_CACHE, Origin.TOOL_DEFINITION, "tool", tool=WALK)
_FILES: Final = hidden("file")
_CITED: Final = inside({"": shape("enabled")})  # whether a source may be quoted, not what it says


def _result(origin: Origin) -> Shape:
    """The result of a tool: a text, blocks, or one block that is known by its type."""
    return shape(_RESULT, origin, content=PARTS, toolset_name=WALK)


# Plain text stands in a document's source as it is, or in base64; what is at an address or in a store is not read, and what is
# no text neither.
_SOURCES: Final[dict[str, Shape]] = {
    "text": shape("media_type", data=TEXT),
    "base64": shape("media_type", unread="file", data=FILE),
    "url": shape("url", unread="file"),
    "file": shape("file_id", unread="file"),
}

BLOCKS: Final[Table] = {
    "text": shape(_CACHE, text=TEXT, citations=DOCUMENT),
    "image": shape(f"source transformations {_CACHE}", unread="image"),
    "document": shape(_CACHE, _D, "document", source=inside(_SOURCES), title=WALK, context=WALK, citations=_CITED),
    "search_result": shape(_CACHE, _D, "search_result", content=PARTS, source=WALK, title=WALK, citations=_CITED),
    "thinking": shape("signature", _A, "thinking", thinking=WALK),
    "redacted_thinking": shape("data", _A, unread="encrypted"),
    "tool_use": _CALL,
    "server_tool_use": _CALL,
    "mcp_tool_use": _CALL,
    "tool_result": _result(_R),
    "mcp_tool_result": _result(_R),
    "code_execution_tool_result": _result(_R),
    "bash_code_execution_tool_result": _result(_R),
    "text_editor_code_execution_tool_result": _result(_R),
    "tool_search_tool_result": _result(_R),
    "advisor_tool_result": _result(_R),
    "web_search_tool_result": _result(_D),
    "web_fetch_tool_result": _result(_D),
    "web_search_result": shape("", _D, url=WALK, title=WALK, page_age=WALK, encrypted_content=hidden("encrypted")),
    "web_fetch_result": shape("retrieved_at", _D, url=WALK, content=PARTS),
    "code_execution_result": shape("return_code", _R, stdout=JSON, stderr=JSON, content=_FILES),
    "encrypted_code_execution_result": shape(
        "return_code", _R, encrypted_stdout=hidden("encrypted"), stderr=JSON, content=_FILES
    ),
    "bash_code_execution_result": shape("return_code", _R, stdout=JSON, stderr=JSON, content=_FILES),
    "text_editor_code_execution_view_result": shape("file_type", _R, content=JSON),
    "advisor_result": shape("", _R, text=JSON),
    "advisor_redacted_result": shape("encrypted_content", _R, unread="encrypted"),
    "container_upload": shape(f"file_id {_CACHE}", _D, unread="file"),
    "mcp_tool_listing": shape("", Origin.TOOL_DEFINITION, "tool", tools=WALK, mcp_server_name=WALK),
    "tool_addition": _CHANGE,
    "tool_removal": _CHANGE,
    "compaction": shape(
        f"signature {_CACHE}",
        _A,
        content=PARTS,
        encrypted_content=hidden("encrypted"),
        tool_changes=SCHEMA,
    ),
}

_SOURCES["content"] = shape("", content=inside(BLOCKS))

TOOLS: Final[Table] = {"": shape("type cache_control max_uses defer_loading", Origin.TOOL_DEFINITION, "tool")}
SERVERS: Final[Table] = {"": shape("type", Origin.TOOL_DEFINITION, "tool", authorization_token=hidden("credential"))}
