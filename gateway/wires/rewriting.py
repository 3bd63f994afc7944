"""A frame of a stream with other texts in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from detectors.values import Key, Path
from gateway.wires.base import StreamReader
from gateway.wires.events import one_line, sse
from gateway.wires.frames import Frame
from gateway.wires.jsonedit import apply_edits, replace_text
from gateway.wires.probabilities import tell_more, without_probabilities


def rewritten(frame: Frame, texts: Mapping[Path, str], said: Collection[str] = ()) -> Frame:
    """The frame with its texts replaced. Probabilities of tokens tell the text that was there, so they go; where no text is
    replaced, they go if they tell another one than what is ``said``."""
    if not texts and not tell_more(frame.data, said):
        return frame
    if len(texts) == 1:
        ((path, text),) = texts.items()
        data = replace_text(frame.data, path, text)
    else:
        data = apply_edits(frame.data, texts)
    data = one_line(without_probabilities(data))
    if frame.raw.count(frame.data) == 1:
        return Frame(frame.raw.replace(frame.data, data), frame.event, data)
    return Frame(sse(data, frame.event), frame.event, data)


def sequel(reader: StreamReader, frame: Frame, path: Path, others: Mapping[Path, str], text: str) -> Frame:
    """A frame that goes on with the text at ``path`` in ``frame``, which was sent, and says nothing else.

    Args:
        others: what went out of the texts of ``frame``, by their paths.
    """
    doc = reader.sequel(orjson.loads(frame.data), path, others, text)
    renamed = {at[-1].name: name for at, name in others.items() if isinstance(at[-1], Key) and at[-1].name != name}
    if renamed:
        doc = _renamed(doc, renamed)
    data = one_line(without_probabilities(orjson.dumps(doc)))
    if frame.raw.startswith(frame.data):  # a message of its own
        return Frame(frame.raw.replace(frame.data, data), frame.event, data)
    if frame.raw.lstrip()[:1] in (b"[", b","):  # of an array, which is open by now
        return Frame(b",\r\n" + data, frame.event, data)
    event = str(doc.get("type")).encode() if frame.event else b""
    return Frame(sse(data, event), event, data)


def _renamed(value: Any, renamed: Mapping[str, str]) -> Any:
    """The value with other names for some of its fields, wherever they stand."""
    if isinstance(value, dict):
        return {renamed.get(key, key): _renamed(one, renamed) for key, one in value.items()}
    return [_renamed(one, renamed) for one in value] if isinstance(value, list) else value
