"""What the words of requests and of attacks are called in other languages, written by hand: ``words.txt``.

A line has a meaning, in English and in fourteen languages in the order of the first line, separated by semicolons; within a
language stand the forms of it that prompts use, separated by commas. Where a language has as many forms as English, they stand
for each other one by one, otherwise each for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

WORDS: Final = Path(__file__).parents[2] / "data" / "words.txt"


class LexiconError(ValueError):
    """A line that cannot be read; the message names the file and the line."""


class Entry(NamedTuple):
    """Forms of a language, and the English words, in lower case, that each of them stands for."""

    language: str
    forms: tuple[str, ...]
    english: tuple[str, ...]


def entries(path: Path = WORDS) -> Iterator[Entry]:
    """All that the lexicon knows, in the order in which it stands there."""
    head, *lines = path.read_text("utf-8").splitlines()
    languages = head.split(";")[1:]
    for number, line in enumerate(lines, 2):
        english, *others = (tuple(cell.split(",")) for cell in line.split(";"))
        if len(others) != len(languages):
            raise LexiconError(f"{path.name}:{number}: {len(others)} languages; wanted {len(languages)}")
        if not all(form.strip() for forms in (english, *others) for form in forms):
            raise LexiconError(f"{path.name}:{number}: nothing stands between two separators")
        for language, forms in zip(languages, others, strict=True):
            if len(forms) == len(english):
                yield from (Entry(language, (form,), (one,)) for form, one in zip(forms, english, strict=True))
            else:
                yield Entry(language, forms, english)
