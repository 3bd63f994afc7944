"""The index of exemplars, the one door to hnswlib: which known attack or harmless text lies nearest.

An index never changes, and another model comes with another one; what is learnt meanwhile is judged by prototypes
(`detectors.semantic.prototypes`). Stored, a vector takes a byte per dimension, and the graph its links alone; both are put
together when loading, which takes a tenth of the time that building the graph anew would.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import hnswlib
import numpy as np
import numpy.typing as npt

M: Final = 16
EF_CONSTRUCTION: Final = 200
EF: Final = 64
"""Candidates held while searching: recall against brute force is above 0.99 on the shipped vectors (see the tests)."""

SEED: Final = 7
STEPS: Final = 127.0
"""A stored coordinate is a whole number of 1/127 of the vector's largest."""

Floats = npt.NDArray[np.float32]


class Exemplar(NamedTuple):
    """A text that stands for others like it; ``category`` is its threat, empty where it is harmless."""

    id: str
    category: str

    @property
    def attack(self) -> bool:
        return bool(self.category)


class Neighbour(NamedTuple):
    """An exemplar and its cosine similarity to what was asked for."""

    exemplar: Exemplar
    similarity: float


class ExemplarIndex:
    """Exemplars with their vectors, ready to be searched by any number of threads."""

    def __init__(self, exemplars: Sequence[Exemplar], vectors: Floats) -> None:
        """Build the graph. ``vectors`` float32 (exemplars, width), of unit length; an empty index has no neighbours."""
        if len(exemplars) != len(vectors):
            raise ValueError(f"{len(exemplars)} exemplars but {len(vectors)} vectors")
        self._exemplars = tuple(exemplars)
        self._graph = None if not len(vectors) else _build(vectors)

    @classmethod
    def _of(cls, exemplars: Sequence[Exemplar], graph: Any) -> ExemplarIndex:
        index = cls.__new__(cls)
        index._exemplars, index._graph = tuple(exemplars), graph
        return index

    def __len__(self) -> int:
        return len(self._exemplars)

    @property
    def exemplars(self) -> tuple[Exemplar, ...]:
        return self._exemplars

    @property
    def vectors(self) -> Floats:
        """The unit vectors, float32 (exemplars, width), a copy: the graph holds the only ones."""
        if self._graph is None:
            return np.zeros((0, 0), np.float32)
        return np.array(self._graph.get_items(np.arange(len(self))), np.float32)

    def nearest(self, vector: Floats, count: int = 1) -> list[Neighbour]:
        """The ``count`` exemplars nearest to a vector of unit length, nearest first; fewer where there are fewer."""
        if self._graph is None:
            return []
        labels, distances = self._graph.knn_query(vector, k=min(count, len(self)), num_threads=1)
        pairs = zip(labels[0].tolist(), distances[0].tolist(), strict=True)
        return [Neighbour(self._exemplars[label], 1.0 - distance) for label, distance in pairs]

    def save(self, path: Path) -> None:
        """Write ``path`` (npz): exemplars, vectors in eight bits, and the graph without the vectors it repeats."""
        if self._graph is None:
            raise ValueError("an empty index is not saved")
        stored, scale = quantise(self.vectors)
        state = self._graph.__getstate__()[0]
        rows = state.pop("data_level0").reshape(len(self), state["size_data_per_element"])
        width = state["label_offset"] - state["offset_data"]
        links = np.delete(rows, np.s_[state["offset_data"] : state["offset_data"] + width], axis=1)
        arrays: dict[str, Any] = {f"graph_{name}": value for name, value in state.items() if isinstance(value, np.ndarray)}
        numbers = {name: value for name, value in state.items() if not isinstance(value, np.ndarray)}
        np.savez_compressed(
            path, vectors=stored, scale=scale, links=links, numbers=np.array([repr(sorted(numbers.items()))]),
            ids=np.array([e.id for e in self._exemplars]), categories=np.array([e.category for e in self._exemplars]),
            **arrays,
        )

    @classmethod
    def load(cls, path: Path) -> ExemplarIndex:
        """Read what `save` wrote. The vectors are those that were stored, which differ by rounding from the built ones."""
        with np.load(path) as stored:
            state: dict[str, Any] = dict(ast.literal_eval(str(stored["numbers"][0])))
            state |= {name.removeprefix("graph_"): stored[name] for name in stored.files if name.startswith("graph_")}
            vectors, links = stored["vectors"], stored["links"]
            begin, end, size = (state[name] for name in ("offset_data", "label_offset", "size_data_per_element"))
            rows = np.empty((len(vectors), size), np.int8)
            rows[:, :begin], rows[:, end:] = links[:, :begin], links[:, begin:]
            dequantise(vectors, stored["scale"], rows[:, begin:end].view(np.float32))
            state["data_level0"] = rows.ravel()
            exemplars = [Exemplar(i, c) for i, c in zip(stored["ids"].tolist(), stored["categories"].tolist(), strict=True)]
        return cls._of(exemplars, _restored(state))


def quantise(vectors: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Vectors in eight bits, int8 (n, width), and the scale of each, float32 (n,)."""
    scale = np.maximum(np.abs(vectors).max(axis=1), 1e-9).astype(np.float32) / np.float32(STEPS)
    return np.round(vectors / scale[:, None]).astype(np.int8), scale


def dequantise(stored: npt.NDArray[np.int8], scale: Floats, out: Floats | None = None) -> Floats:
    """Unit vectors, float32 (n, width), from what `quantise` gave; written to ``out``, if that is given."""
    vectors = np.multiply(stored, scale[:, None], out=out, dtype=np.float32)
    vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors


def _restored(state: dict[str, Any]) -> Any:
    graph = hnswlib.Index.__new__(hnswlib.Index)
    graph.__setstate__((state,))
    graph.set_ef(EF)
    return graph


def _build(vectors: Floats) -> Any:
    graph = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    graph.init_index(max_elements=len(vectors), M=M, ef_construction=EF_CONSTRUCTION, random_seed=SEED)
    graph.add_items(vectors, np.arange(len(vectors)), num_threads=1)
    graph.set_ef(EF)
    return graph
