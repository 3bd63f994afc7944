"""What was written by hand for the model: attacks with harmless twins of the same words, and harmless texts beside them.

``written/ORIGIN/FILE.seeds`` holds them by who speaks, in sections ``attack.FILE.FAMILY`` and ``harmless.FILE.FAMILY``. Several
authors wrote them, who saw neither a source nor each other's texts nor what a model makes of them. A fifth of the families is
kept out of all training: what is said of the encoder that ships is said on those, and scales are set by their harmless texts.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from detectors.train.dataset import windows_of
from detectors.train.generate import Example
from detectors.train.grammar import Grammar
from detectors.train.sources import labels
from detectors.values import Origin

FOLDER: Final = Path(__file__).parent / "written"

SAID: Final = 0.5
"""Share of a window's phrases up to which it is an attack's own; of a long attack the window with the fewest always is."""

PHRASE: Final = 12
"""Characters of a phrase."""

PARTS: Final = 5
"""Parts into which families are dealt; the first is kept out of training."""


class Text(NamedTuple):
    """A text as ``origin`` says it, 1 where it is hostile; ``family`` is the situation, which is dealt as a whole."""

    text: str
    label: int
    origin: Origin
    family: str

    @property
    def kept(self) -> bool:
        """Whether it is kept out of training."""
        return zlib.crc32(self.family.encode()) % PARTS == 0


def texts(folder: Path = FOLDER) -> Iterator[Text]:
    """All of them."""
    for of_origin in sorted(path for path in folder.iterdir() if path.is_dir()):
        grammar, rng = Grammar(of_origin), random.Random(0)
        for section, templates in grammar.sections.items():
            called, family = section.split(".", 1)
            for template in templates:
                yield Text(grammar.wording(template, rng), int(called == "attack"), Origin(of_origin.name), family)


def examples(folder: Path = FOLDER) -> list[Example]:
    """What the encoder is trained on: the windows of all but the families that are kept."""
    learnt = [one for one in texts(folder) if not one.kept]
    harmless: dict[str, list[set[str]]] = {}
    for one in learnt:
        if not one.label:
            harmless.setdefault(one.family, []).append(_phrases(one.text))
    found = []
    for one in learnt:
        pieces = windows_of(one.text)
        if one.label and len(pieces) > 1:  # the attack does not stand where a harmless text says the same
            shares = [_shared(piece, harmless.get(one.family, [])) for piece in pieces]
            pieces = [piece for piece, share in zip(pieces, shares, strict=True) if share <= max(SAID, min(shares))]
        found += [Example(piece, _labels(one), f"written:{one.origin.value}") for piece in pieces]
    return found


def _shared(piece: str, harmless: Sequence[set[str]]) -> float:
    """The largest share of a window's phrases that a harmless text has."""
    phrases = _phrases(piece)
    return max((len(phrases & other) / max(1, len(phrases)) for other in harmless), default=0.0)


def _phrases(text: str) -> set[str]:
    return {text[at : at + PHRASE] for at in range(len(text) - PHRASE + 1)}


def _labels(one: Text) -> tuple[float, ...]:
    """What each origin's output is to learn: a user's order in a document, and his harmless one, is told by other texts."""
    if one.origin is Origin.USER:
        return labels(user=1.0) if one.label else labels(user=0.0, system=0.0)
    value = float(one.label)
    if one.origin is Origin.TOOL_DEFINITION:
        return labels(tool_definition=value)
    return labels(document=value, tool_result=value)
