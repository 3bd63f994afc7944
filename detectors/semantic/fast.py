"""The front stage: hashed words and word pairs, one weight per origin, read from a table in tens of microseconds.

A text's tokens give features (word, its first letters, neighbours); each feature is a row of the table, and a window's
logit is the sum of its rows over the root of their number. Sums over a long text are differences of one running sum,
so all its windows together cost little more than reading it once.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from detectors.values import Origin

ORIGINS: Final = tuple(Origin)

BITS: Final = 18
"""The table has 2**18 rows: six origins in int8 are 1.5 MB, and collisions cost nothing that was measured."""

FEATURES_PER_TOKEN: Final = 5
"""Word, stem, pair, pair with one token between, triple."""

MAX_CACHED: Final = 100_000
"""Tokens whose hashes are remembered (some 10 MB); beyond that the memory starts anew."""

MAX_TOKEN: Final = 24
"""Longer runs of letters are blobs, keys or links: all count as one token, since none is ever seen twice."""

_STEM: Final = 5
_SHIFT: Final = np.uint32(32 - BITS)
_TOKEN = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|[^\w\s]")

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.uint32]


class _Hashes(dict[str, int]):
    """Token to its word hash (high half) and stem hash (low half), filled as tokens are met."""

    def __missing__(self, token: str) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        word = token.lower()
        if len(word) > MAX_TOKEN:
            word = "\x00long"
        elif word.isdigit():
            word = "\x00" + "9" * min(len(word), 5)
        value = zlib.crc32(word.encode("utf-8", "surrogatepass")) << 32
        value |= zlib.crc32(b"s" + word[:_STEM].encode("utf-8", "surrogatepass"))
        self[token] = value
        return value


_HASHES = _Hashes()  # a pure function's memory: shared by all tables, never part of an answer


def features(tokens: Sequence[str]) -> Rows:
    """Rows of the table, shape (FEATURES_PER_TOKEN, tokens + 2): column i holds what token i completes.

    A mark stands before the first and after the last token, so what opens or closes a text is told apart.
    """
    count = len(tokens)
    packed = np.fromiter(map(_HASHES.__getitem__, tokens), np.uint64, count)
    words = np.ones(count + 2, np.uint32)
    stems = np.ones(count + 2, np.uint32)
    words[1:-1] = packed >> np.uint64(32)
    stems[1:-1] = packed & np.uint64(0xFFFFFFFF)
    rows = np.zeros((FEATURES_PER_TOKEN, count + 2), np.uint32)
    rows[0] = words * np.uint32(0x9E3779B1)
    rows[1] = stems * np.uint32(0x85EBCA6B)
    pairs = stems[:-1] * np.uint32(0xC2B2AE35) ^ stems[1:] * np.uint32(0x27D4EB2F)
    rows[2, 1:] = pairs * np.uint32(0x165667B1)
    rows[3, 2:] = (stems[:-2] * np.uint32(0x2C1B3C6D) ^ stems[2:] * np.uint32(0x297A2D39)) * np.uint32(0x9E3779B1)
    rows[4, 2:] = (pairs[:-1] * np.uint32(0x85EBCA77) ^ stems[2:]) * np.uint32(0xC2B2AE3D)
    return rows >> _SHIFT


class FastModel:
    """The table, its scale and the offset of each origin; ``logits`` are uncalibrated."""

    def __init__(self, table: npt.NDArray[np.int8], scale: Floats, bias: Floats) -> None:
        # One contiguous column per origin: a text is read under one origin only.
        self._columns = [np.ascontiguousarray(table[:, i]) for i in range(len(ORIGINS))]
        self._scale, self._bias = scale, bias

    @classmethod
    def load(cls, path: Path) -> FastModel:
        """Read ``fast.npz``: table int8 (2**BITS, origins), scale and bias float32 (origins,)."""
        with np.load(path) as stored:
            return cls(stored["table"], stored["scale"], stored["bias"])

    def parts(self) -> tuple[npt.NDArray[np.int8], Floats, Floats]:
        """Table, scale and bias as they are stored."""
        return np.stack(self._columns, axis=1), self._scale, self._bias

    def logit(self, text: str, origin: Origin) -> float:
        """The logit of a text taken as one window."""
        column = ORIGINS.index(origin)
        rows = features(_TOKEN.findall(text))
        total = float(self._columns[column].take(rows).sum(dtype=np.int64))
        return total * float(self._scale[column]) / rows.size**0.5 + float(self._bias[column])

    def logits(self, text: str, spans: Sequence[tuple[int, int]], origin: Origin) -> Floats:
        """The logit of each window of a text, float32 (windows,)."""
        if len(spans) == 1:
            return np.array([self.logit(text, origin)], np.float32)
        column = ORIGINS.index(origin)
        matches = list(_TOKEN.finditer(text))
        starts = np.fromiter((match.start() for match in matches), np.int64, len(matches))
        rows = features([match[0] for match in matches])
        running = np.zeros(rows.shape[1] + 1, np.int64)
        np.cumsum(self._columns[column].take(rows).sum(axis=0, dtype=np.int64), out=running[1:])
        bounds = np.searchsorted(starts, np.array(spans, np.int64)) + 1  # column 0 is the mark before the text
        bounds[0, 0], bounds[-1, 1] = 0, rows.shape[1]
        counts = np.maximum((bounds[:, 1] - bounds[:, 0]) * FEATURES_PER_TOKEN, 1)
        totals = (running[bounds[:, 1]] - running[bounds[:, 0]]).astype(np.float32)
        logits: Floats = totals * self._scale[column] / np.sqrt(counts, dtype=np.float32) + self._bias[column]
        return logits


def tokens(text: str) -> list[str]:
    """The tokens of a text, as the table's training sees them."""
    return _TOKEN.findall(text)
