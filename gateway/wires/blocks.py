"""Tables that say what the fields of content blocks are, and the one reader for all of them.

Providers write messages as lists of typed blocks that hold texts, media and further blocks. A wire describes
its blocks as a table, type by type; what the table does not name is walked and listed, so a new type or field
is screened, not missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from detectors.values import CODED, Origin, Path
from gateway.wires import files
from gateway.wires.base import Parsed
from gateway.wires.collecting import Collector, check_depth, unknown_role


class How(Enum):
    """What a field holds."""

    SETTING = auto()  # no text for a model
    TEXT = auto()  # the block's own text, which goes on where the text block before it ended
    PARTS = auto()  # a text, a block, or a list of them
    JSON = auto()  # a text that may be JSON, or any value
    WALK = auto()  # any value
    MEDIA = auto()  # a blob or a link with its MIME type
    FILE = auto()  # a file in base64, whose MIME type stands in it or beside it
    LINK = auto()  # an address, or an object whose ``url`` it is; of a ``data:`` URL that is text, that
    HIDDEN = auto()  # what no detector reads, for the field's reason


class Field(NamedTuple):
    """One field: what it holds, and who speaks in it where that is not the speaker of the block."""

    how: How
    origin: Origin | None = None
    role: str = ""
    reason: str = ""
    table: Mapping[str, Shape] | None = None  # the blocks inside, where they are of other types


class Shape(NamedTuple):
    """One type of block. With a ``reason``, the block as a whole is something that no detector reads, unless it is a file that
    turns out to be text."""

    fields: Mapping[str, Field]
    origin: Origin | None = None
    role: str = ""
    reason: str = ""


Table = Mapping[str, Shape]
"""Block type to shape; the shape under the empty name is for blocks without a type in the table."""

SETTING: Final = Field(How.SETTING)
TEXT: Final = Field(How.TEXT)
PARTS: Final = Field(How.PARTS)
JSON: Final = Field(How.JSON)
WALK: Final = Field(How.WALK)
DOCUMENT: Final = Field(How.WALK, Origin.DOCUMENT)
RESULT: Final = Field(How.JSON, Origin.TOOL_RESULT)
NAME: Final = Field(How.WALK, Origin.ASSISTANT, "tool_call")  # of the tool that a result is of
SCHEMA: Final = Field(How.WALK, Origin.TOOL_DEFINITION)
MEDIA: Final = Field(How.MEDIA)
FILE: Final = Field(How.FILE)
LINK: Final = Field(How.LINK)


def hidden(reason: str) -> Field:
    """A field that no detector reads."""
    return Field(How.HIDDEN, reason=reason)


def inside(table: Table, origin: Origin | None = None) -> Field:
    """A field of blocks that have a table of their own."""
    return Field(How.PARTS, origin, table=table)


def shape(settings: str = "", origin: Origin | None = None, role: str = "", unread: str = "", **fields: Field) -> Shape:
    """A `Shape` from the names of its settings, parted by spaces, and its other fields.

    ``unread`` is the reason of a block that as a whole no detector reads.
    """
    return Shape({**dict.fromkeys(settings.split(), SETTING), **fields}, origin, role, unread)


def read_parts(out: Collector, value: Any, table: Table, role: str, origin: Origin, turn: int, path: Path) -> None:
    """List a text, a block, or a list of them.

    Raises:
        Malformed: it is something else and ``out`` is strict, or nested too deeply.
    """
    if isinstance(value, str):
        read_text(out, value, role, origin, turn, path)
    elif isinstance(value, list):
        check_depth(value, path)
        glued = False
        for index, part in enumerate(value):
            here = (*path, index)
            if isinstance(part, str):
                read_text(out, part, role, origin, turn, here, glued)
                glued = True
            elif isinstance(part, dict):
                glued = read_block(out, part, table, role, origin, turn, here, glued)
            else:
                out.wrong(part, "an object with a type", role, origin, turn, here)
    elif isinstance(value, dict):
        read_block(out, value, table, role, origin, turn, path)
    elif value is not None:
        out.wrong(value, "a string, a list of parts or null", role, origin, turn, path)


def read_text(out: Collector, value: str, role: str, origin: Origin, turn: int, path: Path, glued: bool = False) -> None:
    """List a text. What a tool answers is JSON more often than not."""
    if origin is Origin.TOOL_RESULT:
        out.json_text(value, role, origin, turn, path, glued)
    else:
        out.text(value, role, origin, turn, path, glued)


def read_block(
    out: Collector,
    block: dict[str, Any],
    table: Table,
    role: str,
    origin: Origin,
    turn: int,
    path: Path,
    glued: bool = False,
    spoken: bool = True,
) -> bool:
    """List one block; return whether a text that follows would continue it. ``spoken``: it is part of what ``origin`` said, and
    not one of those of whom each says who speaks.

    Raises:
        Malformed: a field of it has the wrong type and ``out`` is strict, or it is nested too deeply.
    """
    check_depth(block, path)
    kind = block.get("type")
    found = table.get(kind) if isinstance(kind, str) else None
    typed = found is not None
    if found is None:
        found = table.get("")
        if found is None:
            speaker = _within(_speaker(kind, origin), origin, out.strict and spoken)
            out.walk(block, unknown_role(role, speaker), speaker, turn, path, nested=True)
            return False
    origin = _within(found.origin or origin, origin, out.strict and spoken)
    role = found.role or role
    is_text = is_read = False
    for key, value in block.items():
        field = found.fields.get(key)
        if field is None:
            if key != "type" or not typed:
                out.walk({key: value}, unknown_role(role, origin), origin, turn, path)
        elif field.how is How.TEXT:
            is_text = True
            if isinstance(value, str):
                read_text(out, value, role, origin, turn, (*path, key), glued)
            else:
                out.wrong(value, "a string", role, origin, turn, (*path, key))
        elif field.how is How.FILE:
            is_read = read_file(out, value, block, role, origin, turn, (*path, key)) and not block.keys() & _ELSEWHERE
        elif field.how is How.LINK:
            is_read = _read_link(out, value, role, origin, turn, (*path, key)) and not block.keys() & _ELSEWHERE
        elif field.how is How.SETTING:
            # Of a block that is listed as such, an address or a blob is no text; words are, all the same.
            if not found.reason or (isinstance(value, str) and len(value.split(maxsplit=1)) > 1):
                out.setting(value, role, origin, turn, (*path, key))
        elif value is not None:
            _read_field(out, value, field, table, field.role or role, field.origin or origin, turn, (*path, key))
    if found.reason and not is_read:
        out.hidden(origin, turn, path, found.reason)
    return is_text


def read_file(out: Collector, value: Any, around: dict[str, Any], role: str, origin: Origin, turn: int, path: Path) -> bool:
    """List the text of a file in base64, of the type that the object ``around`` it names; False where it is no text, or is
    named one and does not look like it."""
    text = files.text_of(value, _media_type(around)) if isinstance(value, str) else None
    if text is not None:
        out.json_text(text, role, origin, turn, (*path, CODED))
    return text is not None and files.legible(text)


def _read_link(out: Collector, value: Any, role: str, origin: Origin, turn: int, path: Path) -> bool:
    """List the text of a ``data:`` URL; False where it is none, or no text."""
    if isinstance(value, dict):
        out.unknown(value, _ADDRESS, Origin.DOCUMENT if origin is Origin.USER else origin, turn, path, _DETAIL)
        value, path = value.get("url"), (*path, "url")
    if not isinstance(value, str) or value[:5].lower() != "data:":
        return False
    origin = Origin.DOCUMENT if origin is Origin.USER else origin
    if files.is_coded(value):
        return read_file(out, value, {}, role, origin, turn, path)
    out.text(value, role, origin, turn, path)  # it stands there as it is, but for what an address must escape
    return True


def _read_field(
    out: Collector, value: Any, field: Field, table: Table, role: str, origin: Origin, turn: int, path: Path
) -> None:
    match field.how:
        case How.PARTS:
            read_parts(out, value, table if field.table is None else field.table, role, origin, turn, path)
        case How.JSON if isinstance(value, str):
            out.json_text(value, role, origin, turn, path)
        case How.JSON:
            out.walk(value, role, origin, turn, path, nested=True)
        case How.MEDIA:
            _read_media(out, value, role, origin, turn, path)
        case How.HIDDEN if value:
            out.hidden(origin, turn, path, field.reason)
        case How.HIDDEN:
            pass
        case _:
            out.walk(value, role, origin, turn, path)


def read_catalogue(doc: Any, key: str, table: Table) -> Parsed:
    """List what a provider writes about its models: a list of them under ``key``, or one."""
    out = Collector(strict=False)
    read_parts(out, doc, table, "catalogue", Origin.DOCUMENT, 0, ())
    models = doc.get(key) if isinstance(doc, dict) else None
    if models is not None:
        read_parts(out, models, table, "catalogue", Origin.DOCUMENT, 0, (key,))
    return out.parsed()


def _speaker(kind: object, origin: Origin) -> Origin:
    """Who speaks in a block of a type that we do not know: a new tool's result is named like the old ones."""
    if isinstance(kind, str):
        if kind.endswith(("_output", "_result")):
            return Origin.TOOL_RESULT
        if kind.endswith(("_call", "_use")):
            return Origin.ASSISTANT
    return origin


def _within(speaker: Origin, origin: Origin, spoken: bool) -> Origin:
    """Who speaks in a block of ``speaker``'s kind that is part of what ``origin`` said: a call that a user writes is none of a
    model's, and in a tool's result or a document nobody speaks who is trusted more."""
    return origin if spoken and speaker not in _PARTS_OF.get(origin, Origin) else speaker


def _read_media(out: Collector, value: Any, role: str, origin: Origin, turn: int, path: Path) -> None:
    if isinstance(value, dict):
        speaker = Origin.DOCUMENT if origin is Origin.USER else origin
        out.unknown(value, _BLOB, speaker, turn, path)  # the name under which it is shown to the model, above all
        if read_file(out, value.get("data"), value, role, speaker, turn, (*path, "data")):
            return
    out.hidden(origin, turn, path, _media(value))


def _media(value: Any) -> str:
    """The reason for a blob: the first half of its MIME type, where detectors of that kind could read it one
    day."""
    family = _media_type(value).partition("/")[0].lower() if isinstance(value, dict) else ""
    return family if family in ("image", "audio", "video") else "file"


def _media_type(around: dict[str, Any]) -> str:
    return next((str(around[key]) for key in _TYPES if key in around), "")


_FOUND: Final = (Origin.TOOL_RESULT, Origin.DOCUMENT)
_PARTS_OF: Final = {
    Origin.USER: (Origin.USER, Origin.TOOL_DEFINITION, *_FOUND),
    Origin.TOOL_RESULT: _FOUND,
    Origin.DOCUMENT: _FOUND,
}
"""Whose words may be part of theirs in a request."""

_TYPES: Final = ("mimeType", "mime_type", "media_type")
_ADDRESS: Final = frozenset({"url"})
_DETAIL: Final = frozenset({"detail", "format"})
_BLOB: Final = frozenset(("data", "fileUri", "file_uri", *_TYPES))
_ELSEWHERE: Final = frozenset({"file_id", "file_url"})
"""What a block names a file by that is not in it: then what is in it is not all."""
