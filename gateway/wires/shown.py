"""Which texts of a whole reply clients show as one, whatever stands between them: calls, thoughts, results of tools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from detectors.values import Path


def shown_together(doc: Any) -> list[list[Path]]:
    """The paths of such texts, in their order, a list for each that is put together of several."""
    found: defaultdict[tuple[str, Any], list[Path]] = defaultdict(list)
    chunks = enumerate(doc) if isinstance(doc, list) else [(None, doc)]  # a stream in array form, read whole
    for at, chunk in chunks:
        if isinstance(chunk, dict):
            for whose, path in _texts(chunk):
                found[whose].append(path if at is None else (at, *path))
    return [paths for paths in found.values() if len(paths) > 1]


def _texts(doc: dict[str, Any]) -> Iterator[tuple[tuple[str, Any], Path]]:
    for path in _parts(doc.get("content"), ("content",)):  # Anthropic's
        yield ("content", 0), path
    for at, item in _objects(doc.get("output")):  # Responses
        for path in _parts(item.get("content"), ("output", at, "content")) if item.get("type") == "message" else ():
            yield ("output", 0), path
    for at, choice in _objects(doc.get("choices")):  # Chat Completions, where a provider writes its content in parts
        message = choice.get("message")
        for path in _parts(message.get("content"), ("choices", at, "message", "content")) if isinstance(message, dict) else ():
            yield ("choices", at), path
    for at, candidate in _objects(doc.get("candidates")):  # Gemini's
        content = candidate.get("content")
        for path in _parts(content.get("parts"), ("candidates", at, "content", "parts")) if isinstance(content, dict) else ():
            yield ("candidates", at), path


def _parts(parts: Any, path: Path) -> Iterator[Path]:
    """Parts that are said: Google's have no type, and its thoughts are marked."""
    for at, part in _objects(parts):
        said = part.get("type", "text") in ("text", "output_text") and not part.get("thought")
        if said and isinstance(part.get("text"), str):
            yield (*path, at, "text")


def _objects(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for at, one in enumerate(value if isinstance(value, list) else ()):
        if isinstance(one, dict):
            yield at, one
