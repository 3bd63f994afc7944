"""A frame of a stream with other texts in it."""

from __future__ import annotations

from collections.abc import Mapping

from detectors.values import Path
from gateway.wires.events import sse
from gateway.wires.frames import Frame
from gateway.wires.jsonedit import apply_edits, replace_text
from gateway.wires.probabilities import without_probabilities


def rewritten(frame: Frame, texts: Mapping[Path, str]) -> Frame:
    """The frame with its texts replaced. Probabilities of tokens tell the text that was there, so they go."""
    if len(texts) == 1:
        ((path, text),) = texts.items()
        data = replace_text(frame.data, path, text)
    else:
        data = apply_edits(frame.data, texts)
    data = without_probabilities(data)
    if frame.raw.count(frame.data) == 1:
        return Frame(frame.raw.replace(frame.data, data), frame.event, data)
    return Frame(sse(data, frame.event), frame.event, data)


def made_after(frame: Frame, texts: Mapping[Path, str]) -> Frame:
    """A frame of the gateway's own that is made after one that went out, and follows it."""
    made = rewritten(frame, texts)
    if made.raw.lstrip().startswith(b"["):  # that one opened the array; by now it is open
        return made._replace(raw=b",\r\n" + made.data)
    return made
