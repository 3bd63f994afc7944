"""An index that grows and shrinks: the new one knows it, the old one stays as it was, and both find as brute force does."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.semantic.index import EF, GONE, Exemplar, ExemplarIndex, Floats

WIDTH = 32


def _vectors(count: int, seed: int) -> Floats:
    drawn = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


@pytest.fixture
def index() -> ExemplarIndex:
    return ExemplarIndex([Exemplar(f"e{i}", "jailbreak.persona" if i % 2 else "") for i in range(400)], _vectors(400, 1))


def _names(index: ExemplarIndex, vector: Floats, count: int = 3) -> list[str]:
    return [near.exemplar.id for near in index.nearest(vector, count)]


def test_what_is_added_is_found_and_what_leaves_is_not(index: ExemplarIndex) -> None:
    old = _vectors(400, 1)
    added = _vectors(3, 2)
    new = index.extended([Exemplar(f"n{i}", "") for i in range(3)], added, without={"e7", "unknown"})
    assert len(new) == 402
    for number in range(3):
        assert _names(new, added[number])[0] == f"n{number}"
        assert f"n{number}" not in _names(index, added[number])
    assert "e7" not in _names(new, old[7])
    assert _names(index, old[7])[0] == "e7"
    again = new.extended([], np.zeros((0, WIDTH), np.float32), without={"e8"})
    assert not {"e7", "e8"} & {*_names(again, old[7]), *_names(again, old[8])}
    assert len(again) == 401
    assert again.vectors.shape == (401, WIDTH)


def test_one_of_the_same_id_replaces_the_old_one(index: ExemplarIndex) -> None:
    old, moved = _vectors(400, 1), _vectors(1, 3)
    new = index.extended([Exemplar("e5", "")], moved)
    assert len(new) == 400
    assert _names(new, moved[0])[0] == "e5"
    assert "e5" not in _names(new, old[5])


def test_many_leavings_build_it_anew(index: ExemplarIndex) -> None:
    leaving = {f"e{i}" for i in range(int(400 * GONE) + 2)}
    new = index.extended([Exemplar("n", "")], _vectors(1, 4), without=leaving)
    assert len(new) == 401 - len(leaving)
    assert np.allclose(new.vectors[:-1], _vectors(400, 1)[len(leaving) :], atol=1e-5)


def test_a_changed_index_still_finds_what_brute_force_finds(index: ExemplarIndex) -> None:
    new = index.extended([Exemplar(f"n{i}", "") for i in range(200)], _vectors(200, 5), without={f"e{i}" for i in range(30)})
    vectors = new.vectors
    asked = _vectors(200, 6)
    best = (asked @ vectors.T).max(axis=1)
    found = np.array([new.nearest(vector)[0].similarity for vector in asked])
    assert np.mean(found >= best - 1e-4) >= 0.99
    assert EF >= 8


def test_lists_of_different_lengths_are_refused(index: ExemplarIndex) -> None:
    with pytest.raises(ValueError, match="1 exemplars but 2 vectors"):
        index.extended([Exemplar("n", "")], _vectors(2, 7))
