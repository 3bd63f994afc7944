"""Frames: what is written is read, however it is cut; what is no frame is an error, and costs no memory."""

from __future__ import annotations

import tracemalloc
import zlib
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sync import frames
from gateway.sync.frames import BUCKET_DIGEST, BUCKETS, MAX_FRAME, Frame, FrameError, Reader, decode, encode

names = st.text(min_size=1, max_size=20)
digests = st.binary(min_size=16, max_size=16)
counts = st.integers(0, 2**53)
members = st.builds(frames.Member, names, names, counts, st.booleans())
said = st.builds(frames.Said, st.binary(max_size=3_000), st.booleans(), names, st.integers(-9, 9), st.booleans())
scores = st.floats(0, 1)
places = st.integers(0, 8_191)
seen = st.builds(frames.Seen, names, names, names, scores, places, places, places)
marks = st.builds(frames.Mark, names, counts, counts)
listed = st.builds(frames.Listed, names, digests, counts, counts, names)

any_frame: st.SearchStrategy[Frame] = st.one_of(
    st.builds(frames.Hello, names, digests, names, digests, counts, counts),
    st.builds(frames.HelloSince, names, digests, names, digests, counts, counts, st.none() | st.lists(marks, max_size=4)),
    st.builds(frames.Ping, counts, digests, counts, counts, counts),
    st.builds(frames.Pong, counts, digests, counts, counts),
    st.builds(frames.Tree, st.binary(min_size=BUCKETS * BUCKET_DIGEST, max_size=BUCKETS * BUCKET_DIGEST)),
    st.builds(frames.Listing, st.integers(0, 255), st.lists(listed, max_size=4), st.integers(0, 255)),
    st.builds(frames.Want, st.lists(names, max_size=4)),
    st.builds(frames.Entries, counts, st.booleans(), st.lists(st.binary(max_size=3_000), min_size=1, max_size=4)),
    st.builds(frames.Ack, counts, st.lists(digests, max_size=4)),
    st.builds(frames.Holds, digests, st.lists(names, min_size=1, max_size=4)),
    st.builds(frames.Members, st.lists(members, min_size=1, max_size=4)),
    st.builds(
        frames.Question, counts, digests, names, st.integers(1, 60_000), st.lists(said, min_size=1, max_size=3)
    ),
    st.builds(
        frames.Answer, counts, st.sampled_from(["verdict", "knowledge", "busy", "failed"]), scores,
        st.lists(seen, max_size=3), st.lists(st.tuples(names, names), max_size=3),
    ),
    st.builds(frames.Bye, st.text(max_size=50)),
)


@given(st.lists(any_frame, max_size=5), st.data())
def test_frames_survive_any_cut(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, got = Reader(), []
    for start, end in pairwise([0, *cuts, len(stream)]):
        got += reader.feed(stream[start:end])
    assert got == sent


@given(st.binary(max_size=300))
def test_garbage_is_an_error_and_never_a_crash(raw: bytes) -> None:
    for deflated in (False, True):
        with pytest.raises(FrameError):
            decode(raw, deflated)


@given(any_frame, st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_an_error_or_another_frame(frame: Frame, at: int, flip: int) -> None:
    raw = bytearray(encode(frame))
    raw[at % len(raw)] ^= flip
    try:
        for read in Reader().feed(bytes(raw)):
            assert encode(read)
    except FrameError:
        pass


def test_a_long_frame_is_refused_before_it_comes() -> None:
    with pytest.raises(FrameError, match="is announced"):
        list(Reader().feed((MAX_FRAME + 1).to_bytes(4, "big")))
    with pytest.raises(FrameError, match="at most"):
        encode(frames.Entries(1, True, [bytes(msgspec.msgpack.encode(list(range(400_000))))] * 2))


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    with pytest.raises(FrameError, match="larger than"):
        decode(zlib.compress(bytes(20 * MAX_FRAME)), True)
    with pytest.raises(FrameError, match="not whole"):
        decode(zlib.compress(b"x" * 100)[:-3], True)


def test_frames_of_one_read_are_unfolded_one_by_one() -> None:
    """Of a megabyte 2 kB come: a read of 256 KiB may hold some hundred such frames."""
    raw = encode(frames.Entries(1, False, [bytes(2_000)] * 512))
    tracemalloc.start()
    try:
        assert sum(1 for _ in Reader().feed(raw * 32)) == 32
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_FRAME
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        (["hello", "", b"x" * 16, "a:1", b"x" * 16, 1, 1], "length >= 1"),
        (["hello", "a", b"x" * 15, "a:1", b"x" * 16, 1, 1], "length >= 16"),
        (["ping", -1, b"x" * 16, 1, 1, 1], ">= 0"),
        (["ping", 1, b"x" * 16, 1, 1, 1, 1], "length"),
        (["listing", 256, [], 0], "255"),
        (["entries", 1, True, []], "length >= 1"),
        (["entries", 1, True, ["text"]], "bytes"),
        (["execute", "x"], "execute"),
        ({"hello": 1}, "array"),
    ],
)
def test_a_frame_of_wrong_shape_is_refused(plain: object, says: str) -> None:
    with pytest.raises(FrameError, match=says):
        decode(msgspec.msgpack.encode(plain), False)
