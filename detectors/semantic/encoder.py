"""The encoder as serving runs it, the one door to ONNX Runtime: a window's ids in, its embedding and logits out.

The eight-bit model takes the scale of its activations from the tensor at hand, so windows that shared a batch would
change each other's scores. Each runs alone: no padding, no mask, and the same answer in any company.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from detectors.semantic.scripts import foreign

# ONNX Runtime names the machine in a file and reports what it runs to its makers as soon as it is imported. Asking it not to
# afterwards is too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

Floats = npt.NDArray[np.float32]

MAX_TOKENS: Final = 128
"""Tokens of one run, marks included, as in training; a window of more is halved until each part has fewer."""

_SMALLEST: Final = 16
"""Characters below which a text is not halved again; no character makes more than a few tokens."""

MAX_MET: Final = 20_000
"""Characters of which is remembered whether they can be read (2 MB); beyond that the memory starts anew."""

MAX_FRESH: Final = 4_096
"""Characters not met before that are looked at for one text, some microseconds each, the first of Unicode first. No text in a
language has as many different ones; what is left counts as unreadable."""

_MARKS: Final = 2
"""Tokens that stand around a text: its beginning and its end."""


class Encoded(NamedTuple):
    """What the encoder says of one text: embedding (384,) of unit length, logits (origins,), (categories,); ``unread`` is
    the share of its tokens, in 0..1, that the vocabulary does not have, ``words`` how many of those that it has are words or
    parts of words."""

    embedding: Floats
    origins: Floats
    categories: Floats
    unread: float
    words: int


class Encoder:
    """The session and the tokenizer; may be used by several threads at once."""

    def __init__(self, model: Path, tokenizer: Path, threads: int = 1) -> None:
        self._model = model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # keeps 30 MB from growing with each longer window; costs no time measured
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._met: dict[str, bool] = {}
        self._unknown = self._tokenizer.token_to_id("[UNK]") or 0

    @functools.cached_property
    def digest(self) -> str:
        """Names the weights: vectors of encoders with different names must not be compared."""
        return hashlib.sha256(self._model.read_bytes()).hexdigest()[:12]

    def unreadable(self, text: str) -> set[str]:
        """The characters of a text that can be part of no word that the encoder knows."""
        chars = set(text)
        met = self._met  # by character; other threads may add to it, or put another in its place
        if fresh := sorted(char for char in chars if char not in met):
            looked = {char: foreign(char) or not self._spells(char) for char in fresh[:MAX_FRESH]}
            if len(met) + len(looked) > MAX_MET:
                met = self._met = {char: met[char] for char in chars if char in met}
            met |= looked
        return {char for char in chars if met.get(char, True)}

    def _spells(self, char: str) -> bool:
        plain = self._tokenizer.normalizer.normalize_str(char)
        return all(one.isspace() or self._tokenizer.token_to_id(one) is not None for one in plain)

    def encode(self, text: str) -> Encoded:
        """Judge one window, whole.

        A text of more than `MAX_TOKENS` tokens is judged in halves: logits are the highest of any part, the embedding
        is the mean of the parts', made unit length again.
        """
        return _joined([self._run(ids) for ids in self._parts(text)])

    def embed(self, texts: Sequence[str]) -> Floats:
        """Embeddings float32 (texts, 384), of unit length. A thousand texts of 50 tokens take some 3 s of one core."""
        return np.stack([self.encode(text).embedding for text in texts])

    def unread(self, text: str) -> float:
        """The share of a text's tokens, in 0..1, that the vocabulary does not have."""
        return self._unread(self._ids(text))

    def _unread(self, ids: list[int]) -> float:
        tokens = len(ids) - _MARKS
        return ids.count(self._unknown) / tokens if tokens > 0 else 0.0

    def _ids(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._tokenizer.encode(text).ids
        except TypeError:  # half of a surrogate pair, which is no text: U+FFFD stands for it
            ids = self._tokenizer.encode(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")).ids
        return ids

    def _parts(self, text: str) -> list[list[int]]:
        ids = self._ids(text)
        if len(ids) <= MAX_TOKENS:
            return [ids]
        if len(text) <= _SMALLEST:
            return [ids[start : start + MAX_TOKENS] for start in range(0, len(ids), MAX_TOKENS)]
        middle = len(text) // 2
        space = text.rfind(" ", middle // 2, middle)
        cut = space if space > 0 else middle
        return self._parts(text[:cut]) + self._parts(text[cut:])

    def _run(self, ids: list[int]) -> Encoded:
        outputs: Any = self._session.run(None, {"ids": np.array([ids], np.int64)})
        embedding, origins, categories = (output[0] for output in outputs)
        said = (self._tokenizer.id_to_token(id) or "" for id in ids if id != self._unknown)
        words = sum(any(map(str.isalnum, token)) for token in said) - _MARKS
        return Encoded(embedding, origins, categories, self._unread(ids), words)


def _joined(parts: list[Encoded]) -> Encoded:
    if len(parts) == 1:
        return parts[0]
    mean = np.mean([part.embedding for part in parts], axis=0)
    return Encoded(
        (mean / np.linalg.norm(mean)).astype(np.float32),
        np.max([part.origins for part in parts], axis=0),
        np.max([part.categories for part in parts], axis=0),
        float(np.mean([part.unread for part in parts])),
        sum(part.words for part in parts),
    )
