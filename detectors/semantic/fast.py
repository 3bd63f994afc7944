"""The front stage: small convolutional nets over word vectors beside tables of phrases, some microseconds for a short text.

Words have vectors taken from the encoder's own table and made smaller; two convolutions of width three look at five
neighbours at once; the highest and the mean answer over a window go through one dense layer to a logit per origin. To it
comes what each pair and triple of words says by itself, known by heart (wide and deep learning, Cheng et al. 2016). Both
run once over a long text, whatever number of windows it has.

Users' texts are judged by two such nets, whose logits are added: one that was fitted for all origins and on what drowns among
other sentences, and one for users' texts alone. They err in different places.

Every text passes here, so what is looked up and reckoned is in C: ``_words.c`` and ``_net.c``.
"""

from __future__ import annotations

import functools
import operator
import re
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detectors.semantic._net import Net, phrases
from detectors.semantic._words import Vocabulary
from detectors.semantic.heads import column
from detectors.values import Origin

BUCKETS: Final = 4096
"""Rows that words outside the vocabulary share, by their first letters."""

MAX_CACHED: Final = 100_000
"""Words of texts beyond ASCII whose rows are remembered (some 10 MB); beyond that the memory starts anew."""

MAX_WORD: Final = 24
"""Longer runs of letters are blobs, keys or links: all count as one word, since none is ever seen twice."""

GRAM_BITS: Final = 17
"""Rows of the table of phrases, as a power of two: pairs and triples of words share them by their hash."""

AT_ONCE: Final = 128
"""Windows that are judged together: some 36,000 characters, for which the net takes a megabyte or so."""

BLOCK: Final = 4096
"""Rows of the table that are made ready together: all at once take 60 MB meanwhile, some of which the process keeps."""

AROUND: Final = 3
"""Words beside windows that bear on them: two in the convolutions and the phrases, and the word after a window without any."""

LONG: Final = "\x00long"
PAD: Final = 0
"""Row of the mark that stands around every text, so that what opens or closes it is told apart."""

_TOKEN = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+|[^\w\s]|_")

_ORDER: Final = ("table", "grams", "first", "first_bias", "second", "second_bias", "dense", "dense_bias", "last", "last_bias")
_HALVES: Final = ("table", "grams")

Arrays = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


class Rows(dict[str, int]):
    """Token to row of the table, filled as tokens are met."""

    def __init__(self, words: Sequence[str] | bytes) -> None:
        """``words``: in the order of their rows, or as they are stored."""
        super().__init__()
        self.known = Vocabulary(words if isinstance(words, bytes) else _lines(words), BUCKETS)

    def __missing__(self, token: str) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        row = self[token] = self.known.row(normal(token).encode("utf-8", "surrogatepass"))
        return row

    def of(self, text: str) -> tuple[bytes, bytes]:
        """The rows of a text's tokens and where in the text each begins, int32 (tokens,) both."""
        if text.isascii():
            return self.known.read(text)
        matches = list(_TOKEN.finditer(text))
        rows = array("i", [self[match[0]] for match in matches])
        return rows.tobytes(), array("i", map(re.Match.start, matches)).tobytes()


def normal(token: str) -> str:
    """A token as the vocabulary has it: lower case, numbers by their length, blobs all alike."""
    word = token.lower()
    if len(word) > MAX_WORD:
        return LONG
    return "\x00" + "9" * min(len(word), 5) if word.isdigit() else word


def tokens(text: str) -> list[str]:
    """The words, marks and single characters of scripts without spaces, in order."""
    return _TOKEN.findall(text)


def grams(rows: Ints) -> Ints:
    """Rows of the table of phrases for the pair and the triple that end at each token, int32 (2, tokens)."""
    return np.frombuffer(phrases(rows, GRAM_BITS), np.int32).reshape(2, -1)


class FastModel:
    """The nets' weights. ``logits`` are uncalibrated.

    ``nets`` are the arrays of one or two nets, the second one for users' texts alone and with one output. By name: ``table``
    (1 + words + BUCKETS, d), ``first`` (3d, h), ``second`` (3h, h), ``dense`` (2h, k), ``last`` (k, origins), each with its
    offset ``*_bias``; ``grams`` (origins, 2 ** GRAM_BITS). Tables are float16.
    """

    def __init__(self, words: Sequence[str], *nets: Arrays) -> None:
        self.words, self.nets = tuple(words), tuple(map(_ordered, nets))
        self._path: Path | None = None
        self._made_ready(_lines(words))

    def _made_ready(self, lines: bytes) -> None:
        self._rows = Rows(lines)
        self._everybodys, *more = map(_net, self.nets)
        self._users = more[0] if more else None

    @classmethod
    def load(cls, path: Path) -> FastModel:
        """Read ``fast.npz``: words, and arrays in half precision. What the nets do not need is read again if asked for."""
        model = cls.__new__(cls)
        lines, model.nets = _stored(path)
        model._path = path
        model._made_ready(lines)  # no list of its words: in a process that stays, what that leaves is some megabytes
        del model.nets
        return model

    def save(self, path: Path) -> None:
        """Write ``fast.npz``: not packed, for that makes it a seventh smaller and reading it five times as long."""
        halves: dict[str, Any] = {f"{name}{number or ''}": value.astype(np.float16)
                                  for number, net in enumerate(self.nets) for name, value in net.items()}  # fmt: skip
        np.savez(path, words=np.frombuffer(_lines(self.words), np.uint8), **halves)

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        assert self._path is not None
        return tuple(_stored(self._path)[0].decode("utf-8", "surrogatepass").split("\n"))

    @functools.cached_property
    def nets(self) -> tuple[Arrays, ...]:
        assert self._path is not None
        return _stored(self._path)[1]

    @functools.cached_property
    def _table(self) -> npt.NDArray[np.float16]:
        found: npt.NDArray[np.float16] = (_stored(self._path)[1] if self._path else self.nets)[0]["table"]
        return found

    def logit(self, text: str, origin: Origin) -> float:
        """The logit of a text taken as one window."""
        return self.logits(text, [(0, len(text))], origin)[0]

    def logits(self, text: str, spans: Sequence[tuple[int, int]] | Ints, origin: Origin) -> list[float]:
        """The logit of each window of a text, as pairs or int32 (windows, 2). One without words is judged by the word after it,
        or as an empty text."""
        rows, starts = self._rows.of(text)
        windows = np.array(spans, np.int32)
        if len(windows) <= AT_ONCE:
            return self._said(rows, starts, windows, origin)
        found: list[float] = []
        words, places = np.frombuffer(rows, np.int32), np.frombuffer(starts, np.int32)
        for first in range(0, len(windows), AT_ONCE):
            group = windows[first : first + AT_ONCE]
            low, high = np.searchsorted(places, (group.min(), group.max())).tolist()
            near = slice(max(0, low - AROUND), high + AROUND)
            found += self._said(words[near], places[near], group, origin)
        return found

    def _said(self, rows: bytes | Ints, starts: bytes | Ints, windows: Ints, origin: Origin) -> list[float]:
        said = self._everybodys.logits(rows, starts, windows, column(origin))
        if self._users is None or origin is not Origin.USER:
            return said
        return list(map(operator.add, said, self._users.logits(rows, starts, windows, 0)))

    def means(self, text: str, spans: Sequence[tuple[int, int]]) -> Floats:
        """The mean word vector of each window of a text, float32 (windows, d): what its words are about, in no order."""
        rows, starts = self._rows.of(text)
        table = self._table
        vectors = table[np.frombuffer(rows, np.int32)].astype(np.float32)
        bounds = np.searchsorted(np.frombuffer(starts, np.int32), np.array(spans, np.int32)).tolist()
        return np.array([vectors[low:high].mean(axis=0) if high > low else table[PAD] for low, high in bounds], np.float32)


def _net(arrays: Arrays) -> Net:
    table, grams, first, *rest = arrays.values()
    channels, (hidden, outputs) = first.shape[1], arrays["last"].shape
    # The first convolution is linear in each of its three words, so what a word adds to it is known beforehand.
    in_turn = first.reshape(3, -1, channels).transpose(1, 0, 2).reshape(-1, 3 * channels)
    shares, scales = np.empty((len(table), 3 * channels), np.int8), np.empty(len(table), np.float32)
    for at in range(0, len(table), BLOCK):
        block = slice(at, at + BLOCK)
        shares[block], scales[block] = rounded(table[block].astype(np.float32) @ in_turn)
    return Net(GRAM_BITS, len(table), channels, hidden, outputs, shares, scales, grams, *rest)


def rounded(shares: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Shares (words, n) in eight bits, and what each word's, (words,), are to be multiplied with again."""
    scales = np.abs(shares).max(axis=1) / 127
    shares /= np.maximum(scales, np.finfo(np.float32).tiny)[:, None]
    return np.rint(shares, out=shares).astype(np.int8), scales


def _stored(path: Path) -> tuple[bytes, tuple[Arrays, ...]]:
    """The words, a line each, and the arrays."""
    with np.load(path) as stored:
        nets = (_ordered({name: stored[f"{name}{end}"] for name in _ORDER}) for end in ("", "1") if f"last{end}" in stored)
        return stored["words"].tobytes(), tuple(nets)


def _lines(words: Sequence[str]) -> bytes:
    return "\n".join(words).encode("utf-8", "surrogatepass")


def _ordered(arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    return {name: np.ascontiguousarray(arrays[name], np.float16 if name in _HALVES else np.float32) for name in _ORDER}
