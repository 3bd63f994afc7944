"""Texts from hand-written seeds: a small grammar of sections, slots and choices.

A ``.seeds`` file is lines under ``# section`` headers; each line is one template, and another file may add to a section.
In a template ``(a|b|)`` picks one alternative, ``$name`` stands for a text of section ``name`` (of any file), ``\\n`` is a
line break, and ``\\$``, ``\\|`` are the characters themselves. Parentheses without ``|`` and ``$`` before anything but a
section's name stay as they are.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SEEDS: Final = Path(__file__).parent / "seeds"

MAX_DEPTH: Final = 12
"""Slots within slots; the deepest seed needs 6, so more is a section that names itself."""

_HEADER = re.compile(r"# ([a-z_.]+)")
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\$([a-z_]+(?:\.[a-z_]+)?)")
_ESCAPES: Final = {"\\n": "\n", "\\$": "\ue000", "\\|": "\ue001"}
_UNESCAPES: Final = str.maketrans({"\ue000": "$", "\ue001": "|"})


class SeedError(ValueError):
    """A seed file that cannot be read; the message names the file and the line."""


class Grammar:
    """All sections of some seed files, and the texts that they stand for."""

    def __init__(self, folder: Path = SEEDS) -> None:
        self.sections: dict[str, list[str]] = {}
        self.files: dict[str, list[str]] = {}
        for path in sorted(folder.glob("*.seeds")):
            self._read(path)

    def _read(self, path: Path) -> None:
        lines: list[str] | None = None
        begun = self.files.setdefault(path.stem, [])
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if header := _HEADER.fullmatch(line):
                if header[1] in begun:
                    raise SeedError(f"{path.name}:{number}: section {header[1]!r} stands twice")
                lines = self.sections.setdefault(header[1], [])
                begun.append(header[1])
            elif line.strip():
                if lines is None:
                    raise SeedError(f"{path.name}:{number}: a template before the first section")
                for written, meant in _ESCAPES.items():
                    line = line.replace(written, meant)
                lines.append(line)

    def names(self, file: str) -> list[str]:
        """The sections of one file, by its name without suffix."""
        return self.files[file]

    def weights(self, sections: Sequence[str]) -> list[float]:
        """How often to draw each section: by the root of its templates, so that a large one does not drown the rest."""
        return [math.sqrt(len(self.sections[section])) for section in sections]

    def text(self, section: str, rng: random.Random, held_out: bool | None = None) -> str:
        """One text of a section.

        ``held_out`` picks the template from a fixed fifth of the section kept for validation (True), from the rest
        (False), or from all (None); only the outermost template is split so, its slots never are.
        """
        templates = self.sections[section]
        if held_out is not None and len(templates) >= 5:
            templates = [t for i, t in enumerate(templates) if (i % 5 == 2) == held_out]
        return self.wording(rng.choice(templates), rng)

    def wording(self, template: str, rng: random.Random) -> str:
        """One text of a template of `sections`."""
        return self._expand(template, rng, 0).translate(_UNESCAPES).strip()

    def wordings(self, section: str, each: int, rng: random.Random) -> list[str]:
        """So many different texts of each template of a section, which must have as many."""
        found: dict[str, None] = {}
        for template in self.sections[section]:
            enough = len(found) + each
            while len(found) < enough:
                found[self._expand(template, rng, 0).translate(_UNESCAPES).strip()] = None
        return list(found)

    def _expand(self, template: str, rng: random.Random, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise SeedError(f"a section names itself: {template[:60]!r}")
        changed = True
        while changed:
            chosen = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), template)
            changed, template = chosen != template, chosen
        return _SLOT.sub(lambda match: self._slot(match, rng, depth), template)

    def _slot(self, match: re.Match[str], rng: random.Random, depth: int) -> str:
        name, rest = match[1], ""
        if name not in self.sections and "." in name:
            head, _, tail = name.partition(".")
            name, rest = head, "." + tail
        if name not in self.sections:
            return match[0]
        return self._expand(rng.choice(self.sections[name]), rng, depth + 1) + rest
