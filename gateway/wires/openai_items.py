"""What the items of OpenAI's responses are: messages, tool calls and their results, reasoning, as a table."""

from __future__ import annotations

from typing import Any, Final

from detectors.values import Origin, Path
from gateway.wires.blocks import (
    DOCUMENT,
    FILE,
    JSON,
    LINK,
    NAME,
    RESULT,
    SCHEMA,
    TEXT,
    WALK,
    Field,
    How,
    Table,
    hidden,
    inside,
    read_block,
    read_parts,
    shape,
)
from gateway.wires.collecting import Collector
from gateway.wires.openai_common import TOOLS

_ORIGINS: Final = {
    "system": Origin.SYSTEM,
    "developer": Origin.SYSTEM,
    "user": Origin.USER,
    "assistant": Origin.ASSISTANT,
    "tool": Origin.TOOL_RESULT,
}
_CACHE: Final = "prompt_cache_breakpoint"
_IDS: Final = "id call_id status caller async object"

PARTS: Final[Table] = {
    "input_text": shape(_CACHE, text=TEXT),
    "output_text": shape("", text=TEXT, annotations=DOCUMENT, logprobs=hidden("token probabilities")),
    "text": shape(_CACHE, text=TEXT),
    "summary_text": shape("", text=TEXT),
    "reasoning_text": shape("", text=TEXT),
    "refusal": shape("", refusal=TEXT),
    "input_image": shape(f"file_id detail {_CACHE}", unread="image", image_url=LINK),
    "computer_screenshot": shape(f"file_id detail {_CACHE}", unread="image", image_url=LINK),
    "input_audio": shape(f"input_audio {_CACHE}", unread="audio"),
    "input_file": shape(
        f"file_id file_url detail {_CACHE}", Origin.DOCUMENT, unread="file", file_data=FILE, filename=WALK
    ),
}
_RESULTS: Final[Table] = {"": shape("file_id score", Origin.DOCUMENT, filename=WALK, text=WALK, attributes=WALK)}
_OUTPUTS: Final[Table] = {"logs": shape("", logs=RESULT), "image": shape("url", unread="image")}
_REASONS: Final = inside(PARTS)
_OUTPUT: Final = Field(How.PARTS, Origin.TOOL_RESULT, table=PARTS)
_TRANSCRIPT: Final = Field(How.WALK, Origin.TOOL_RESULT)

_A: Final = Origin.ASSISTANT
_R: Final = Origin.TOOL_RESULT
_CALL: Final = "tool_call"
ITEMS: Final[Table] = {
    "function_call": shape(_IDS, _A, _CALL, arguments=JSON, name=WALK),
    "function_call_output": shape(_IDS, _R, output=_OUTPUT, name=NAME),
    "custom_tool_call": shape(_IDS, _A, _CALL, input=JSON, name=WALK),
    "custom_tool_call_output": shape(_IDS, _R, output=_OUTPUT),
    "reasoning": shape(
        "id status",
        _A,
        "reasoning",
        summary=_REASONS,
        content=_REASONS,
        encrypted_content=hidden("encrypted"),
    ),
    "compaction": shape("id", _A, encrypted_content=hidden("encrypted")),
    "compaction_trigger": shape("id"),
    "item_reference": shape("id", unread="upstream state"),
    "file_search_call": shape("id status", _A, _CALL, queries=WALK, results=inside(_RESULTS)),
    "web_search_call": shape("id status", _A, _CALL, action=WALK),
    "computer_call": shape(_IDS, _A, _CALL, action=WALK, actions=WALK, pending_safety_checks=_TRANSCRIPT),
    "computer_call_output": shape(_IDS, _R, output=_OUTPUT, acknowledged_safety_checks=WALK),
    "code_interpreter_call": shape("id status container_id", _A, _CALL, code=WALK, outputs=inside(_OUTPUTS)),
    "image_generation_call": shape(
        "id status action background output_format quality size svg_usage",
        _A,
        _CALL,
        result=hidden("image"),
        revised_prompt=WALK,
    ),
    "local_shell_call": shape(_IDS, _A, _CALL, action=WALK),
    "local_shell_call_output": shape(_IDS, _R, output=JSON),
    "shell_call": shape(_IDS, _A, _CALL, action=WALK, environment=WALK),
    "shell_call_output": shape(f"{_IDS} max_output_length", _R, output=JSON),
    "apply_patch_call": shape(_IDS, _A, _CALL, operation=WALK),
    "apply_patch_call_output": shape(_IDS, _R, output=JSON),
    "mcp_list_tools": shape("id", Origin.TOOL_DEFINITION, "tool", tools=WALK, server_label=WALK, error=RESULT),
    "mcp_approval_request": shape("id", _A, _CALL, arguments=JSON, name=WALK, server_label=WALK),
    "mcp_approval_response": shape("id approval_request_id approve", Origin.USER, reason=WALK),
    "mcp_call": shape(
        f"{_IDS} approval_request_id",
        _A,
        _CALL,
        arguments=JSON,
        name=WALK,
        server_label=WALK,
        output=RESULT,
        error=RESULT,
    ),
    "tool_search_call": shape(f"{_IDS} execution", _A, _CALL, arguments=JSON),
    "tool_search_output": shape(f"{_IDS} execution", Origin.TOOL_DEFINITION, "tool", tools=inside(TOOLS)),
    "additional_tools": shape("id role", Origin.TOOL_DEFINITION, "tool", tools=inside(TOOLS)),
    "configuration_update": shape("id reasoning", text=SCHEMA),
    "program": shape(f"{_IDS} fingerprint", _A, _CALL, code=WALK),
    "program_output": shape(_IDS, _R, result=JSON),
}


_READ: Final = frozenset({"type", "role", "content"})
_SETTINGS: Final = frozenset({"id", "status", "phase", "object"})


def read_items(out: Collector, items: list[Any], origin: Origin, path: Path) -> None:
    """List items, each a turn of its own. ``origin`` speaks where an item does not say who does.

    Raises:
        Malformed: a field has a type that is not documented and ``out`` is strict.
    """
    for turn, item in enumerate(items):
        read_item(out, item, origin, turn, (*path, turn))


def read_item(
    out: Collector, item: Any, origin: Origin, turn: int, path: Path, parts: Table = PARTS, items: Table = ITEMS
) -> None:
    """List one item. ``parts`` and ``items`` are the tables of its dialect.

    Raises:
        Malformed: a field has a type that is not documented and ``out`` is strict.
    """
    if not isinstance(item, dict):
        out.wrong(item, "an object with a type", origin.value, origin, turn, path)
        return
    kind = item.get("type")
    if kind == "message" or (kind is None and "role" in item):
        _read_message(out, item, turn, path, parts)
    elif kind is None and item.keys() <= {"type", "id"}:
        out.hidden(origin, turn, path, "upstream state")
    else:
        read_block(out, item, items, origin.value, origin, turn, path, spoken=False)


def _read_message(out: Collector, item: dict[str, Any], turn: int, path: Path, parts: Table) -> None:
    role = item.get("role")
    origin = _ORIGINS.get(role) if isinstance(role, str) else None
    if origin is None or not isinstance(role, str):
        out.wrong(role, "one of " + ", ".join(_ORIGINS), "message", Origin.ASSISTANT, turn, (*path, "role"))
        role, origin = "assistant", Origin.ASSISTANT
    content = item.get("content")
    if isinstance(content, dict):
        out.wrong(content, "a string or a list of parts", role, origin, turn, (*path, "content"))
    else:
        read_parts(out, content, parts, role, origin, turn, (*path, "content"))
    out.unknown(item, _READ, origin, turn, path, _SETTINGS)
