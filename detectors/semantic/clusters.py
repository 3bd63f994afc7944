"""Exemplars in clusters of one meaning, each named by the words that tell it from the others. Pure.

Spherical k-means (Dhillon and Modha, "Concept decompositions for large sparse text data", 2001) over the embeddings, begun as
k-means++ does (Arthur and Vassilvitskii, 2007) from a fixed seed, so that the same texts give the same clusters. What all texts
have in common is taken out first: embeddings of one trade lie in a narrow cone. `naming` gives each its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.semantic.index import ExemplarIndex
from detectors.semantic.naming import names
from patterns import packs
from patterns.packs import Example

Floats = npt.NDArray[np.float32]

ROUNDS: Final = 30
"""At most so many; ten thousand texts settle in about twenty."""


class Cluster(NamedTuple):
    """``members`` are places in what was given, the most central first; ``closeness`` is their mean cosine to the centre."""

    name: str
    members: tuple[int, ...]
    closeness: float


def clusters(vectors: Floats, texts: Sequence[Example], count: int) -> list[Cluster]:
    """Cluster texts, largest cluster first.

    Args:
        vectors: float32 (n, width), of unit length. texts: n.
        count: how many clusters; fewer come out where there are fewer different texts.
    """
    if not len(vectors):
        return []
    vectors = vectors - vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    owners, centres = _settled(vectors, min(count, len(vectors)))
    near = (vectors * centres[owners]).sum(axis=1)
    found = []
    for number in range(len(centres)):
        members = np.flatnonzero(owners == number)
        if len(members):
            found.append((members[np.argsort(-near[members], kind="stable")], float(near[members].mean())))
    named = names([[texts[at] for at in members.tolist()] for members, _ in found])
    made = [Cluster(name, tuple(members.tolist()), closeness) for name, (members, closeness) in zip(named, found, strict=True)]
    return sorted(made, key=lambda one: (-len(one.members), one.name))


def of_exemplars(index: ExemplarIndex, harmless: bool, count: int) -> list[tuple[Cluster, list[str]]]:
    """The shipped exemplars in clusters, each with its members' ids, the most central first."""
    known = packs.examples("benign" if harmless else "attacks")
    places = [place for place, exemplar in enumerate(index.exemplars) if exemplar.id in known]
    ids = [index.exemplars[place].id for place in places]
    found = clusters(np.ascontiguousarray(index.vectors[places]), [known[id] for id in ids], count)
    return [(one, [ids[at] for at in one.members]) for one in found]


def _settled(vectors: Floats, count: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """The cluster of each vector, and the centres (count, width), of unit length."""
    centres = _begun(vectors, count)
    owners = np.full(len(vectors), -1, np.intp)
    for _ in range(ROUNDS):
        fresh = (vectors @ centres.T).argmax(axis=1)
        if (fresh == owners).all():
            break
        owners = fresh
        for number in range(len(centres)):
            total = vectors[owners == number].sum(axis=0)
            length = float(np.linalg.norm(total))
            if length > 0:
                centres[number] = total / length
    return owners, centres


def _begun(vectors: Floats, count: int) -> Floats:
    """Centres to begin with, each drawn by its distance to those before."""
    rng = np.random.default_rng(0)
    chosen = [int(rng.integers(len(vectors)))]
    far = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        weights = np.clip(far, 0, None).astype(np.float64)
        if weights.sum() <= 1e-9:
            break  # all texts are the same as one of those chosen
        chosen.append(int(rng.choice(len(vectors), p=weights / weights.sum())))
        far = np.minimum(far, 1 - vectors @ vectors[chosen[-1]])
    return vectors[chosen].copy()
