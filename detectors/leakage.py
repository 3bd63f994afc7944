"""Whether a reply gives away the system prompt of its request: by a mark that was planted in it, or by its words.

The mark (a canary) stands at the beginning of the prompt, so whoever repeats the prompt begins with it. Words are compared in
sequences of four (shingling, Broder 1997), so that case, punctuation, line breaks and a changed word here and there hide
nothing, and a word or two of the prompt tells nothing. What the caller's other messages say too is no secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from detectors.fold import fold
from detectors.values import Finding, Origin, Segment

THREAT: Final = "prompt_extraction.canary_leak"
DETECTOR: Final = "leakage"

PHRASE: Final = 4
"""Words of a sequence: fewer stand in any text, more are broken by any change."""

PARAGRAPH: Final = 60
"""Sequences of a prompt that make a reply a leak whatever else the prompt says; of a shorter prompt, all of it."""

LEAST: Final = 8
"""Sequences that a prompt must have: "You are a helpful assistant" is no secret."""

TOLD: Final = 0.5
"""The score from which a leak is told: half a paragraph, or half of the prompt."""

CERTAIN: Final = 1.0
"""The score of a canary. Nothing but the prompt holds it."""

MOST: Final = 0.97
"""The score of a prompt that was repeated word for word: the model may have been asked for a text that is in it."""

BATCH: Final = 128
"""Characters whose words are looked at together: each look costs some microseconds. For a mark, every piece is looked at."""

_WORD: Final = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
_CACHED: Final = 64
"""Prompts whose sequences are kept: an application has few."""

_MAX_CACHED: Final = 64 * 1024
"""Characters of a prompt that is kept; a larger one is read anew each time, some milliseconds."""


class Leak(NamedTuple):
    """What a reply gives away: ``cause`` is ``leak.canary`` or ``leak.overlap``."""

    cause: str
    score: float
    channel: object


class Leakage:
    """Follows one reply, all of its texts, each in pieces or whole."""

    __slots__ = ("_asked", "_canary", "_letters", "_others", "_pending", "_phrases", "_said", "_size", "_tails", "leaks")

    def __init__(self, request: Sequence[Segment], canary: str = "") -> None:
        """
        Args:
            request: what was asked, of all origins.
            canary: the mark that was planted in its system prompt: ASCII letters and digits.
        """
        self._asked = request
        self._canary = canary.lower()
        self._phrases: frozenset[int] = frozenset()
        for segment in request:
            if segment.origin is Origin.SYSTEM:
                self._phrases |= _phrases(segment.text) if len(segment.text) <= _MAX_CACHED else _read(segment.text)
        self._size = min(PARAGRAPH, len(self._phrases))
        self._others = False  # whether what other messages say was taken away
        self._said: set[int] = set()
        self._pending: dict[object, str] = {}
        self._tails: dict[object, tuple[str, ...]] = {}  # the last words of each text
        self._letters: dict[object, str] = {}  # the last letters and digits
        self.leaks: dict[str, Leak] = {}

    @property
    def idle(self) -> bool:
        """Whether there is nothing to look for."""
        return not self._canary and self._size < LEAST

    def feed(self, channel: object, piece: str) -> Leak | None:
        """Take the next piece of a text; tells a leak that was not told before, or is worse now."""
        mark = self._marked(channel, piece) if self._canary else None
        text = self._pending.get(channel, "") + piece
        if len(text) < BATCH:
            self._pending[channel] = text
            return mark
        cut = _last_break(text)
        self._pending[channel] = text[cut:]
        overlap = self._look(channel, text[:cut])
        return mark or overlap

    def finish(self, channel: object) -> Leak | None:
        """A text is over."""
        return self._look(channel, self._pending.pop(channel, ""))

    def finish_all(self) -> Leak | None:
        """All texts are over."""
        found = [leak for channel in list(self._pending) if (leak := self.finish(channel))]
        return max(found, key=lambda leak: leak.score, default=None)

    def findings(self, segments: Sequence[Segment]) -> Iterator[Finding]:
        """The leaks as findings in the segments of a reply, whose paths begin with the channels."""
        for leak in self.leaks.values():
            channel = leak.channel if isinstance(leak.channel, tuple) else ()
            number = next((n for n, one in enumerate(segments) if one.path[: len(channel)] == channel), None)
            if number is not None:
                yield Finding(DETECTOR, leak.cause, THREAT, leak.score, number, 0, len(segments[number].text))

    def _marked(self, channel: object, piece: str) -> Leak | None:
        """Look for the mark: nothing that stands between its letters, or only looks like them, hides it."""
        plain = piece if piece.isascii() else "".join(map(fold, piece))
        letters = self._letters.get(channel, "") + "".join(filter(str.isalnum, plain)).lower()
        self._letters[channel] = letters[-len(self._canary) :]
        return self._tell(Leak("leak.canary", CERTAIN, channel)) if self._canary in letters else None

    def _look(self, channel: object, text: str) -> Leak | None:
        together = (*self._tails.get(channel, ()), *_WORD.findall(text.lower()))
        self._tails[channel] = together[-PHRASE + 1 :]
        return self._overlap(channel, together)

    def _overlap(self, channel: object, words: Sequence[str]) -> Leak | None:
        """Count the prompt's sequences among more words of the reply."""
        if self._size < LEAST:
            return None
        said = self._phrases.intersection(_sequences(words))
        if said <= self._said:
            return None
        self._said |= said
        if self._score() >= TOLD and not self._others:
            self._leave_out_others()
        score = self._score()
        return self._tell(Leak("leak.overlap", round(score, 3), channel)) if score >= TOLD else None

    def _score(self) -> float:
        return MOST * min(1.0, len(self._said) / self._size) if self._size >= LEAST else 0.0

    def _leave_out_others(self) -> None:
        """Take away what the caller's other messages say as well: done when it matters, which it seldom does."""
        self._others = True
        others: set[int] = set()
        for segment in self._asked:
            if segment.origin is not Origin.SYSTEM:
                others.update(_sequences(_WORD.findall(segment.text.lower())))
        self._phrases -= others
        self._said -= others
        self._size = min(PARAGRAPH, len(self._phrases))

    def _tell(self, leak: Leak) -> Leak | None:
        known = self.leaks.get(leak.cause)
        if known is not None and known.score >= leak.score:
            return None
        self.leaks[leak.cause] = leak
        return leak


def _sequences(words: Sequence[str]) -> Iterable[int]:
    return map(hash, zip(*(words[at:] for at in range(PHRASE)), strict=False))


def _read(prompt: str) -> frozenset[int]:
    return frozenset(_sequences(_WORD.findall(prompt.lower())))


_phrases = lru_cache(_CACHED)(_read)


def _last_break(text: str) -> int:
    """Where the last word of a text begins, which may go on; the end where that is longer than words are."""
    for end in range(len(text), max(0, len(text) - BATCH), -1):
        if not text[end - 1].isalnum():
            return end
    return len(text) if len(text) >= BATCH else 0
