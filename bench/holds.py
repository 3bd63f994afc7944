"""``python -m bench.holds docs/streams.svg``: a picture of a real run, in which one sees what waits and when.

Each row is what a caller has after one more delta of the upstream: what was released, and behind it what is held.
"""

from __future__ import annotations

import re
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from detectors.lexical import Match
from detectors.stream import TextStream
from detectors.values import ChannelKind
from gateway import live
from gateway.redaction.vault import Vault
from gateway.screening.policy import preset
from patterns.schema import State

SAID: Final = (
    "Sure, here it is. The access key is AKIAZ7QMX2LK4PWT9VBD and the password is Tr0ub4dor&3, so keep both safe."
    " In 2025 we pay by card 4111 1111 1111 1111 as ever, and nothing else of this text has to wait for what follows it."
)
"""What the model says: an invented key, password and test card among ordinary words."""

_KEY: Final = bytes(32)
_CHAR, _ROW, _LEFT, _TOP = 6.6, 19, 150, 46
_WIDTH: Final = 118
"""Characters shown of each row: its end."""


class Step(NamedTuple):
    """After one delta: the delta, all that was released by then, and what is held."""

    delta: str
    released: str
    held: str


def steps(text: str) -> list[Step]:
    """Stream ``text`` word by word through the shipped patterns under ``balanced``."""
    with tempfile.TemporaryDirectory() as folder:
        patterns = [one for one in live.load_patterns((), Path(folder)) if one.state is State.ACTIVE]
        rules = live.stream_rules(patterns, preset("balanced"), Path(folder))[ChannelKind.PROSE]
    vault = Vault(_KEY)

    def stand_in(match: Match, value: str) -> str:
        return vault.stand_in(value, match.pattern.category)

    stream = TextStream(rules, stand_in)
    found: list[Step] = []
    released = ""
    said = 0
    for delta in re.findall(r"\s*\S+", text):
        released += stream.feed(delta).text
        said += len(delta)
        found.append(Step(delta, released, text[said - stream.held : said] if stream.held else ""))
    released += stream.finish().text
    found.append(Step("(end)", released, ""))
    return found


def picture(rows: list[Step]) -> str:
    """The steps as SVG; rows between which nothing was ever held are left out but for the first and the last."""
    shown = [row for at, row in enumerate(rows) if row.held or at in (0, len(rows) - 1) or rows[at - 1].held]
    width, height = _LEFT + _WIDTH * _CHAR + 24, _TOP + len(shown) * _ROW + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-family="monospace" font-size="11">',
        f'<rect width="{width:.0f}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="20" font-size="13" font-weight="bold" fill="#1b1f24">What the caller has after each delta</text>',
        f'<text x="{_LEFT + 190}" y="20" fill="#1b1f24">black: released</text>',
        f'<rect x="{_LEFT + 310}" y="10" width="74" height="14" fill="#ffd8a8"/>',
        f'<text x="{_LEFT + 314}" y="21" fill="#7a3b00">held back</text>',
    ]
    for at, row in enumerate(shown):
        y = _TOP + at * _ROW
        room = _WIDTH - len(row.held)
        released = row.released if len(row.released) <= room else "…" + row.released[-room + 1 :]
        parts.append(f'<text x="12" y="{y}" fill="#57606a" xml:space="preserve">{escape(row.delta.strip()[:20])}</text>')
        parts.append(_line(released, _LEFT, y, "#1b1f24"))
        if row.held:
            x = _LEFT + len(released) * _CHAR
            parts.append(f'<rect x="{x:.1f}" y="{y - 12}" width="{len(row.held) * _CHAR:.1f}" height="16" fill="#ffd8a8"/>')
            parts.append(_line(row.held, x, y, "#7a3b00"))
    return "\n".join([*parts, "</svg>\n"])


def _line(text: str, x: float, y: int, fill: str) -> str:
    style = f'fill="{fill}" xml:space="preserve" textLength="{len(text) * _CHAR:.1f}"'
    return f'<text x="{x:.1f}" y="{y}" {style}>{escape(text)}</text>'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(steps(SAID)), encoding="utf-8")
