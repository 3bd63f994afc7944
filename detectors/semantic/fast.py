"""The front stage: a small convolutional net over word vectors beside a table of phrases, in numpy, some hundred
microseconds for a short text.

Words have vectors taken from the encoder's own table and made smaller; two convolutions of width three look at five
neighbours at once; the highest and the mean answer over a window go through one dense layer to a logit per origin. To it
comes what each pair and triple of words says by itself, known by heart (wide and deep learning, Cheng et al. 2016). Both
run once over a long text, whatever number of windows it has.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.semantic.heads import column
from detectors.values import Origin

BUCKETS: Final = 4096
"""Rows that words outside the vocabulary share, by their first letters."""

MAX_CACHED: Final = 100_000
"""Words whose rows are remembered (some 10 MB); beyond that the memory starts anew."""

MAX_WORD: Final = 24
"""Longer runs of letters are blobs, keys or links: all count as one word, since none is ever seen twice."""

GRAM_BITS: Final = 17
"""Rows of the table of phrases, as a power of two: pairs and triples of words share them by their hash."""

_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_STEP: Final = np.uint64(1_000_003)

LONG: Final = "\x00long"
PAD: Final = 0
"""Row of the mark that stands around every text, so that what opens or closes it is told apart."""

_STEM: Final = 5
_ASCII_TOKEN = re.compile(r"[a-zA-Z0-9]+|[^a-zA-Z0-9\s\x1c-\x1f]", re.ASCII)
"""Finds in ASCII text what `_TOKEN` finds, in two thirds of the time."""

_TOKEN = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+|[^\w\s]|_")

_SPACE, _WORD, _MARK = range(3)
_SORTS: Final = np.array(
    [_WORD if chr(code).isalnum() else _SPACE if chr(code).isspace() else _MARK for code in range(128)], np.uint8
)
"""What `_ASCII_TOKEN` takes each ASCII character for."""

Floats = npt.NDArray[np.float32]


class Rows(dict[str, int]):
    """Word to row of the table, filled as words are met."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self._known = {word: row for row, word in enumerate(words, 1)}

    def __missing__(self, token: str) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        word = normal(token)
        row = self._known.get(word)
        if row is None:
            stem = word[:_STEM].encode("utf-8", "surrogatepass")
            row = 1 + len(self._known) + zlib.crc32(stem) % BUCKETS
        self[token] = row
        return row


def normal(token: str) -> str:
    """A token as the vocabulary has it: lower case, numbers by their length, blobs all alike."""
    word = token.lower()
    if len(word) > MAX_WORD:
        return LONG
    return "\x00" + "9" * min(len(word), 5) if word.isdigit() else word


def grams(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows of the table of phrases for the pair and the triple that end at each token, int64 (2, tokens)."""
    words = np.zeros(len(rows) + 2, np.uint64)  # two pads: what opens a text is a phrase of its own
    words[2:] = rows
    stepped = words * _STEP
    hashed = np.empty((2, len(rows)), np.uint64)
    pairs, triples = hashed
    np.add(stepped[1:-1], words[2:], out=pairs)
    np.add(stepped[:-2], words[1:-1], out=triples)
    triples += np.uint64(1)
    triples *= _STEP
    triples += words[2:]
    hashed *= _SPREAD
    hashed >>= np.uint64(64 - GRAM_BITS)
    return hashed.view(np.int64)


def tokens(text: str) -> list[str]:
    """The words, marks and single characters of scripts without spaces, in order."""
    return (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text)


def located(text: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The tokens of a text and where each begins, int64 (tokens,)."""
    if text.isascii():
        sorts = _SORTS[np.frombuffer(text.encode(), np.uint8)]
        opens = sorts != _SPACE  # a mark is a token by itself, and of a word only the first
        opens[1:] &= (sorts[1:] == _MARK) | (sorts[1:] != sorts[:-1])
        return _ASCII_TOKEN.findall(text), np.flatnonzero(opens)
    matches = list(_TOKEN.finditer(text))
    return [match[0] for match in matches], np.fromiter((match.start() for match in matches), np.int64, len(matches))


class FastModel:
    """The net's weights. ``logits`` are uncalibrated.

    Arrays by name: ``table`` (1 + words + BUCKETS, d), ``first`` (3d, h), ``second`` (3h, h), ``dense`` (2h, k),
    ``last`` (k, origins), each with its offset ``*_bias``; ``grams`` (origins, 2 ** GRAM_BITS).
    """

    def __init__(self, words: Sequence[str], arrays: dict[str, Floats]) -> None:
        self.words = tuple(words)
        self.arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}
        self._rows = Rows(words)
        self._table, self._first, self._second = (self.arrays[name] for name in ("table", "first", "second"))
        self._first_bias, self._second_bias = self.arrays["first_bias"], self.arrays["second_bias"]
        self._dense, self._dense_bias = self.arrays["dense"], self.arrays["dense_bias"]
        self._last, self._last_bias = self.arrays["last"].T.copy(), self.arrays["last_bias"]
        self._grams = self.arrays["grams"]
        self._nothing = self._states(np.zeros(0, np.int64))[0]

    @classmethod
    def load(cls, path: Path) -> FastModel:
        """Read ``fast.npz``: the words, and the arrays in half precision."""
        with np.load(path) as stored:
            words = str(stored["words"][0]).split("\n")
            return cls(words, {name: stored[name].astype(np.float32) for name in stored.files if name != "words"})

    def save(self, path: Path) -> None:
        """Write ``fast.npz``."""
        halves: dict[str, Any] = {name: value.astype(np.float16) for name, value in self.arrays.items()}
        np.savez_compressed(path, words=np.array(["\n".join(self.words)]), **halves)

    def rows(self, words: Sequence[str]) -> npt.NDArray[np.int64]:
        """Rows of the table for the tokens of a text, int64 (tokens,)."""
        return np.fromiter(map(self._rows.__getitem__, words), np.int64, len(words))

    def logit(self, text: str, origin: Origin) -> float:
        """The logit of a text taken as one window."""
        rows, output = self.rows(tokens(text)), column(origin)
        return float(self._judged(self._states(rows), self._phrases(rows, output), output))

    def logits(self, text: str, spans: Sequence[tuple[int, int]], origin: Origin) -> Floats:
        """The logit of each window of a text, float32 (windows,)."""
        if len(spans) == 1:
            return np.array([self.logit(text, origin)], np.float32)
        output = column(origin)
        words, starts = located(text)
        rows = self.rows(words)
        lows, highs = np.searchsorted(starts, np.array(spans, np.int64)).T
        ends = np.maximum(highs, lows + 1)  # a window without words is judged by the word after it, or as an empty text
        stretches = np.stack((lows, ends), 1).ravel()
        states = np.zeros((len(rows) + 2, len(self._nothing)), np.float32)
        states[: len(rows)] = self._states(rows)[: len(rows)]
        states[len(rows)] = self._nothing
        phrases = np.zeros(len(rows) + 2, np.float32)
        phrases[: len(rows)] = self._phrases(rows, output)
        highest = np.maximum.reduceat(states, stretches, axis=0)[::2]
        means = np.add.reduceat(states, stretches, axis=0)[::2] / (ends - lows)[:, None].astype(np.float32)
        said = np.add.reduceat(phrases, stretches)[::2] * (highs > lows) / np.sqrt((ends - lows).astype(np.float32))
        hidden = np.maximum(np.concatenate((highest, means), 1) @ self._dense + self._dense_bias, 0)
        found: Floats = hidden @ self._last[output] + self._last_bias[output] + said
        return found

    def means(self, text: str, spans: Sequence[tuple[int, int]]) -> Floats:
        """The mean word vector of each window of a text, float32 (windows, d): what its words are about, in no order."""
        words, at = located(text)
        vectors, starts = self._table[self.rows(words)], at.tolist()
        bounds = [(bisect_left(starts, low), bisect_left(starts, high)) for low, high in spans]
        return np.array(
            [vectors[low:high].mean(axis=0) if high > low else self._table[PAD] for low, high in bounds], np.float32
        )

    def _phrases(self, rows: npt.NDArray[np.int64], output: int) -> Floats:
        """What the phrases that end at each token say, float32 (tokens,)."""
        pairs, triples = self._grams[output].take(grams(rows))
        said: Floats = pairs + triples
        return said

    def _states(self, rows: npt.NDArray[np.int64]) -> Floats:
        """What the second convolution says at each token, float32 (tokens, h); one row for a text without tokens."""
        count = max(len(rows), 1)
        vectors = np.empty((count + 4, self._table.shape[1]), np.float32)
        vectors[:3] = vectors[-2:] = self._table[PAD]  # the third is a token's, if there is one
        self._table.take(rows, axis=0, out=vectors[2 : 2 + len(rows)], mode="clip")  # the mode that copies once
        inner = _convolved(vectors, self._first, self._first_bias)
        return _convolved(inner, self._second, self._second_bias)

    def _judged(self, states: Floats, phrases: Floats, output: int) -> np.float32:
        # The functions beneath `max` and `mean`, which look at their arguments longer than they reckon.
        channels = states.shape[1]
        pooled = np.empty(2 * channels, np.float32)
        np.maximum.reduce(states, axis=0, out=pooled[:channels])
        np.add.reduce(states, axis=0, out=pooled[channels:])
        pooled[channels:] /= len(states)
        hidden = pooled @ self._dense
        hidden += self._dense_bias
        np.maximum(hidden, 0, out=hidden)
        said = np.add.reduce(phrases) / max(len(phrases), 1) ** 0.5
        return np.float32(hidden @ self._last[output] + self._last_bias[output] + said)


def _convolved(states: Floats, weights: Floats, bias: Floats) -> Floats:
    """Width-three convolution and ReLU: float32 (n, d) to (n - 2, h)."""
    # A view in which each row is a row of ``states`` with the two that follow it; numpy's own helper for that takes longer
    # than the product.
    step, item = states.strides
    wide: Floats = np.ndarray((len(states) - 2, 3 * states.shape[1]), np.float32, states, 0, (step, item))
    made: Floats = np.ascontiguousarray(wide) @ weights  # numpy multiplies overlapping rows three times slower
    made += bias
    return np.maximum(made, 0, out=made)
