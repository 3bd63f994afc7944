"""What encoder and front stage say of our own corpora: what corrections of the model are made with and tried on.

Reading ten thousand texts takes a minute of one core. It is done a little at a time, so that the worker that learns goes on
serving, and is kept on disk by what it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from detectors.semantic.heads import column
from detectors.semantic.judge import NEIGHBOURS, SemanticModel, lean
from detectors.semantic.windows import spans
from detectors.values import Origin
from gateway.learning.trial import Corpus
from patterns import cache as caching
from patterns.taxonomy import CATEGORIES

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

SLICE_SECONDS: Final = 0.4
"""How long one `Readings.advance` reads: the pass that calls it comes twice a second, and renews the lease."""

ATTACKS: Final = tuple(name for name, category in CATEGORIES.items() if category.attack)
"""The categories that the encoder tells apart, in its order."""


class Judged(NamedTuple):
    """The corpora as the model judges them when one origin says them; each array has one row a text, harmless ones first.

    ``total`` are calibrated log-odds of the most suspicious window; ``read`` says whether the encoder would be asked at all.
    """

    total: Floats
    read: Flags
    attack: Flags
    category: npt.NDArray[np.int8]
    vectors: Floats


class Readings:
    """The corpora, read by a model. Synchronous; for one thread at a time."""

    def __init__(self, model: SemanticModel, corpus: Corpus, cache: Path | None) -> None:
        """``cache`` is the folder in which what was read is kept, or None."""
        self._model = model
        self._texts = (*corpus.harmless, *corpus.hostile)
        self._attack: Flags = np.arange(len(self._texts)) >= len(corpus.harmless)
        self._file = None if cache is None else cache / f"corpus-{self._key}.npz"
        self._rows: list[tuple[Floats, Floats, int, float]] = []
        self._known: dict[Origin, Judged] = {}
        self._load()

    @property
    def complete(self) -> bool:
        return len(self._rows) == len(self._texts)

    def advance(self, seconds: float = SLICE_SECONDS) -> bool:
        """Read for so long, or to the end; True once all is read."""
        end = time.monotonic() + seconds
        while not self.complete and time.monotonic() < end:
            self._rows.append(self._read(len(self._rows)))
            if self.complete:
                self._save()
        return self.complete

    def judged(self, origin: Origin) -> Judged:
        """All of it under one origin; only when it is complete. A third of a second when it is asked for first."""
        assert self.complete, "the corpora are not read yet"
        if origin not in self._known:
            front = np.array([
                self._model.fast.logits(text, [span], origin)[0] for text, span in zip(self._texts, self._windows, strict=True)
            ])  # fmt: skip
            weights = self._model.calibration.weights[origin]
            windows = zip(self._texts, self._windows, strict=True)
            setting = np.array([self._model.setting(text[start:end], 1, origin) for text, (start, end) in windows])
            logits = np.array([row[1] for row in self._rows])
            encoder = logits[:, column(origin)]
            leaning = np.array([row[3] for row in self._rows])
            self._known[origin] = Judged(
                (weights.offset + weights.encoder * encoder + weights.front * front + weights.lean * leaning
                 + self._model.calibration.meaning(self._vectors, logits, origin) + setting).astype(np.float32),
                front >= self._model.calibration.sure[origin], self._attack,
                np.array([row[2] for row in self._rows], np.int8), self._vectors,
            )  # fmt: skip
        return self._known[origin]

    @cached_property
    def _windows(self) -> list[tuple[int, int]]:
        """The most suspicious window of each text."""
        found = []
        for text in self._texts:
            pieces = spans(text)
            worst = int(np.argmax(self._model.fast.logits(text, pieces, Origin.USER))) if pieces[1:] else 0
            found.append(pieces[worst])
        return found

    @cached_property
    def _vectors(self) -> Floats:
        return np.array([row[0] for row in self._rows], np.float32)

    @cached_property
    def _key(self) -> str:
        """Names model and texts: with others, what was read is worth nothing."""
        state = hashlib.sha256(self._model.encoder.digest.encode())
        for text, (start, end) in zip(self._texts, self._windows, strict=True):
            state.update(text[start:end].encode("utf-8", "surrogatepass") + b"\0")
        return state.hexdigest()[:24]

    def _read(self, at: int) -> tuple[Floats, Floats, int, float]:
        start, end = self._windows[at]
        encoded = self._model.encoder.encode(self._texts[at][start:end])
        # The text is in the index itself, and no other text would find itself there.
        near = [one for one in self._model.index.nearest(encoded.embedding, NEIGHBOURS + 1) if one.similarity < SELF]
        return encoded.embedding, encoded.origins, int(encoded.categories.argmax()), lean(near[:NEIGHBOURS])

    def _load(self) -> None:
        raw = None if self._file is None else caching.read(self._file)
        if raw is None:
            return
        with contextlib.suppress(OSError, ValueError, KeyError, BadZipFile), np.load(BytesIO(raw)) as kept:
            names = ("vectors", "origins", "categories", "leaning")
            columns: list[Any] = [kept[name] for name in names]
            if all(len(one) == len(self._texts) for one in columns):
                vectors = columns[0]
                self._rows = [
                    (vector, logits, int(category), float(leans))
                    for vector, logits, category, leans in zip(vectors.astype(np.float32), *columns[1:], strict=True)
                ]

    def _save(self) -> None:
        if self._file is None:
            return
        vectors, origins, categories, leaning = zip(*self._rows, strict=True)
        caching.write_with(self._file, lambda out: np.savez(
            out, vectors=np.array(vectors, np.float16), origins=np.array(origins, np.float32),
            categories=np.array(categories, np.int8), leaning=np.array(leaning, np.float32),
        ))  # fmt: skip


SELF: Final = 0.9999
"""Cosine from which a neighbour of a text of the corpus is that text itself; vectors are stored in eight bits."""
