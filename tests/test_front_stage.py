"""The front stage in C says what its definition says, which stands here in numpy, as plainly as can be."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.semantic import fast
from detectors.semantic._net import Net, phrases
from detectors.semantic._words import Vocabulary
from detectors.semantic.fast import BUCKETS, GRAM_BITS, Arrays, FastModel, Floats, Rows, grams, normal, rounded, tokens
from detectors.semantic.heads import column
from detectors.semantic.judge import MODELS
from detectors.semantic.windows import spans
from detectors.values import Origin

ROUNDING = 1e-3
"""How far a logit may be off: sums are taken in another order."""

FAST = FastModel.load(MODELS / "fast.npz")
ROWS = Rows(FAST.words)
KNOWN = {word: row for row, word in enumerate(FAST.words, 1)}

ascii_text = st.text(alphabet=st.characters(codec="ascii"), max_size=300)
any_text = st.text(max_size=300) | ascii_text
prose = st.lists(st.sampled_from(FAST.words[5000:]), max_size=60).map(" ".join)


def row(token: str) -> int:
    word = normal(token)
    stem = word[:5].encode("utf-8", "surrogatepass")
    return KNOWN.get(word) or 1 + len(KNOWN) + zlib.crc32(stem) % BUCKETS


def located(text: str) -> tuple[list[int], list[int]]:
    words, starts, at = tokens(text), [], 0
    for word in words:
        starts.append(text.index(word, at))
        at = starts[-1] + len(word)
    return [row(word) for word in words], starts


def hashed(rows: list[int]) -> tuple[list[int], list[int]]:
    def spread(number: int) -> int:
        return (number * 0x9E3779B97F4A7C15 % 2**64) >> (64 - GRAM_BITS)

    padded = [0, 0, *rows]
    step = 1_000_003
    pairs = [spread(padded[at + 1] * step + padded[at + 2]) for at in range(len(rows))]
    triples = [spread((padded[at] * step + padded[at + 1] + 1) * step + padded[at + 2]) for at in range(len(rows))]
    return pairs, triples


def convolved(states: Floats, net: Arrays, name: str) -> Floats:
    wide = np.concatenate([states[:-2], states[1:-1], states[2:]], 1)
    made: Floats = np.maximum(wide @ net[name] + net[f"{name}_bias"], 0)
    return made


def first(rows: list[int], net: Arrays) -> Floats:
    """The first convolution: what a word adds to it as the first, second and third of three is rounded to eight bits."""
    words = net["table"][rows].astype(np.float32)
    thirds = np.split(net["first"], 3)
    shares, scales = rounded(np.concatenate([words @ third for third in thirds], 1))
    left, middle, right = np.split(shares.astype(np.float32) * scales[:, None], 3, axis=1)
    made: Floats = np.maximum(left[:-2] + middle[1:-1] + right[2:] + net["first_bias"], 0)
    return made


def states_of(rows: list[int], net: Arrays) -> Floats:
    return convolved(first([0, 0, *(rows or [0]), 0, 0], net), net, "second")


def logit(text: str, start: int, end: int, origin: Origin) -> float:
    everybodys, users = FAST.nets
    said = said_by(everybodys, column(origin), text, start, end)
    return said + said_by(users, 0, text, start, end) if origin is Origin.USER else said


def said_by(net: Arrays, output: int, text: str, start: int, end: int) -> float:
    rows, starts = located(text)
    low, high = (sum(one < edge for one in starts) for edge in (start, end))
    states = states_of(rows, net)[low : max(high, low + 1)] if low < len(rows) else states_of([], net)
    said = net["grams"][output].astype(np.float32)[np.array(hashed(rows), np.int64)].sum(axis=0)[low:high]
    pooled = np.concatenate([states.max(axis=0), states.mean(axis=0)])
    hidden = np.maximum(pooled @ net["dense"] + net["dense_bias"], 0)
    last: Any = hidden @ net["last"][:, output] + net["last_bias"][output]
    return float(last + said.sum() / max(high - low, 1) ** 0.5)


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
@example([[0.0, 0.0, 0.0]])
def test_rounding_keeps_each_share_to_half_a_step(shares: list[list[float]]) -> None:
    exact = np.array(shares, np.float32)
    eight, scales = rounded(exact.copy())
    step = np.abs(exact).max(axis=1) / 127
    assert (np.abs(eight * scales[:, None] - exact) <= step[:, None] * 0.5001 + 1e-30).all()


def places(text: str) -> tuple[list[int], list[int]]:
    rows, starts = (np.frombuffer(found, np.int32).tolist() for found in ROWS.of(text))
    return rows, starts


@given(any_text | prose)
@settings(max_examples=300, deadline=None)
@example("A" * 24 + " " + "A" * 25 + " " + "9" * 24 + " 12345 123456 a1")
@example("\x1c\x1d\x1e\x1fa\x00b_c\x7f\x85d")
@example("\ud800x \u0e01\u4e00 \u0130stanbul \u01c5")
def test_words_are_found_where_they_stand(text: str) -> None:
    assert places(text) == located(text)


@given(ascii_text)
@settings(max_examples=100, deadline=None)
def test_ascii_is_read_as_any_text_is(text: str) -> None:
    rows, starts = places(text + " \u0436")
    assert places(text) == (rows[:-1], starts[:-1])


def test_every_word_of_the_vocabulary_has_its_row() -> None:
    assert [ROWS.known.row(word.encode()) for word in FAST.words] == list(range(1, len(FAST.words) + 1))


@given(st.lists(st.integers(0, 2**31 - 1), max_size=40))
@settings(max_examples=100, deadline=None)
def test_phrases_stand_where_their_words_say(rows: list[int]) -> None:
    pairs, triples = grams(np.array(rows, np.int32)).tolist()
    assert (pairs, triples) == hashed(rows)


@given(any_text | prose, st.sampled_from(list(Origin)))
@settings(max_examples=150, deadline=None)
@example("", Origin.USER)
@example(" \n ", Origin.DOCUMENT)
def test_a_text_is_judged_as_the_definition_has_it(text: str, origin: Origin) -> None:
    assert FAST.logit(text, origin) == pytest.approx(logit(text, 0, len(text), origin), abs=ROUNDING)


@given(st.lists(any_text | prose, max_size=4).map("\n".join), st.data())
@settings(max_examples=150, deadline=None)
def test_windows_are_judged_within_their_text(text: str, data: st.DataObject) -> None:
    edges = st.integers(0, len(text))
    windows = data.draw(st.lists(st.tuples(edges, edges).map(lambda pair: (min(pair), max(pair))), min_size=1, max_size=5))
    found = FAST.logits(text, windows, Origin.TOOL_RESULT)
    assert found == pytest.approx([logit(text, start, end, Origin.TOOL_RESULT) for start, end in windows], abs=ROUNDING)


@given(st.lists(any_text | prose, min_size=3, max_size=6).map("\n".join), st.integers(1, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_windows_are_judged_alike_in_groups(text: str, size: int, data: st.DataObject) -> None:
    edges = st.integers(0, len(text))
    windows = data.draw(st.lists(st.tuples(edges, edges).map(lambda pair: (min(pair), max(pair))), min_size=2, max_size=9))
    together = FAST.logits(text, windows, Origin.USER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "AT_ONCE", size)
        assert FAST.logits(text, windows, Origin.USER) == pytest.approx(together, abs=1e-5)


def test_windows_of_a_long_text_are_judged_as_they_would_be_alone() -> None:
    text = "One day a fox met a crow, and they spoke of cheese. " * 400  # long enough to let other threads go on
    assert len(tokens(text)) > 2_000
    found = FAST.logits(text, spans(text), Origin.USER)
    alone = [FAST.logit(text[start:end], Origin.USER) for start, end in spans(text)]
    # Neighbours across a window's edge are seen in the whole text: two tokens of some hundred.
    assert np.abs(np.array(found) - np.array(alone)).max() < 1.5


@given(any_text)
@settings(max_examples=50, deadline=None)
def test_means_are_those_of_the_words_vectors(text: str) -> None:
    middle = len(text) // 2
    rows, starts = located(text)
    table = FAST.nets[0]["table"].astype(np.float32)
    halves = [[row for row, at in zip(rows, starts, strict=True) if low <= at < high] for low, high in
              ((0, middle), (middle, len(text)))]  # fmt: skip
    wanted = np.array([table[half or [0]].mean(axis=0) for half in halves])
    assert FAST.means(text, [(0, middle), (middle, len(text))]) == pytest.approx(wanted, abs=1e-5)


def arrays(**other: Any) -> list[Any]:
    shapes = {"shares": (2, 48), "scales": (2,), "grams": (3, 4), "first_bias": (16,), "second": (48, 16), "second_bias": (16,),
              "dense": (32, 16), "dense_bias": (16,), "last": (16, 3), "last_bias": (3,)}  # fmt: skip
    sorts = {"shares": np.int8, "grams": np.float16}
    made = {name: np.zeros(shape, sorts.get(name, np.float32)) for name, shape in shapes.items()}
    return list((made | other).values())


def bad_net(**other: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        Net(2, 2, 16, 16, 3, *arrays(**other))
    return str(caught.value)


def test_arrays_of_another_size_are_refused_by_name() -> None:
    assert Net(2, 2, 16, 16, 3, *arrays()).logits(b"", b"", bytes(8), 2) == [0.0]
    assert bad_net(second=np.zeros((48, 15), np.float32)) == "second: wanted 48 x 16 numbers of 4 bytes"
    assert bad_net(shares=np.zeros((2, 48), np.float32)) == "shares: wanted 2 x 48 numbers of 1 bytes"
    assert bad_net(scales=np.zeros(3, np.float32)) == "scales: wanted 1 x 2 numbers of 4 bytes"
    assert "C-contiguous" in bad_net(last=np.zeros((16, 6), np.float32)[:, ::2])
    for sizes in ((2, 2, 15, 16, 3), (2, 2, 16, 0, 3), (2, 0, 16, 16, 3), (0, 2, 16, 16, 3), (2, 2, 16, 16, 2**40)):
        with pytest.raises(ValueError, match="wanted multiples of 16"):
            Net(*sizes, *arrays())


def test_what_does_not_belong_to_the_net_is_refused() -> None:
    net = Net(2, 2, 16, 16, 3, *arrays())
    one = np.array([1], np.int32)
    for rows, starts, output in ((one, b"", 0), (one, one, 3), (one, one, -1)):
        with pytest.raises(ValueError, match="of one length"):
            net.logits(rows, starts, bytes(8), output)
    for row in (2, -1):
        with pytest.raises(ValueError, match=f"row {row}: the table has none such"):
            net.logits(np.array([row], np.int32), one, bytes(8), 0)
    with pytest.raises(ValueError, match="bits: wanted 1 to 24"):
        phrases(one, 30)
    with pytest.raises(ValueError, match="must be ASCII"):
        ROWS.known.read("\u00e9")
    with pytest.raises(ValueError, match="buckets: wanted 1 to"):
        Vocabulary(b"one", 0)
    with pytest.raises(ValueError, match="words: 2 and 3 are the same"):
        Vocabulary(b"one\ntwo\ntwo", 8)
