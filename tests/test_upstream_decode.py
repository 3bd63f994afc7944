"""Content codings, undone in any cuts, and bombs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.decode import MAX_DECODED, MAX_EMPTY, PIECE, Decoder, decoder_for
from gateway.upstream.errors import BadReply


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(6, zlib.DEFLATED, -15)
    return coder.compress(data) + coder.flush()


CODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress, b"deflate": zlib.compress, b"deflate (raw)": raw_deflate}  # fmt: skip


def decode(coding: bytes, pieces: list[bytes], most: int = MAX_DECODED) -> bytes:
    decoder = Decoder(gzip=coding == b"gzip", most=most)
    out = b""
    for piece in pieces:
        decoder.push(piece)
        while got := decoder.pull():
            assert len(got) <= PIECE
            out += got
        assert not decoder.pending or len(piece) == 1
    decoder.finish()
    return out


def cut(data: bytes, places: list[int]) -> list[bytes]:
    places = sorted(place % (len(data) + 1) for place in places)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


PLACES = st.lists(st.integers(0, 10**6), max_size=8)


@given(st.sampled_from(sorted(CODERS)), st.binary(max_size=400), st.integers(1, 700), PLACES)
def test_any_cut_decodes_alike(coding: bytes, text: bytes, times: int, places: list[int]) -> None:
    text *= times
    assert decode(coding, cut(CODERS[coding](text), places)) == text


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), PLACES)
def test_gzip_members_may_follow_one_another(texts: list[bytes], places: list[int]) -> None:
    coded = b"".join(gzip.compress(text) for text in texts)
    assert decode(b"gzip", cut(coded, places)) == b"".join(texts)


EMPTY = gzip.compress(b"")


@given(st.integers(0, MAX_EMPTY), st.integers(0, MAX_EMPTY), st.binary(min_size=1, max_size=50), PLACES)
def test_a_few_empty_gzip_members_are_taken_and_more_refused_in_any_cuts(
    before: int, after: int, text: bytes, places: list[int]
) -> None:
    pieces = cut(EMPTY * before + gzip.compress(text) + EMPTY * after, places)
    if before + after <= MAX_EMPTY:
        assert decode(b"gzip", pieces) == text
    else:
        with pytest.raises(BadReply, match="empty"):
            decode(b"gzip", pieces)


def test_empty_gzip_members_are_refused_before_the_rest_of_them_is_read() -> None:
    decoder = Decoder(gzip=True)
    decoder.push(EMPTY * (MAX_EMPTY + 1) + b"what is no gzip")
    with pytest.raises(BadReply, match="empty"):
        decoder.pull()


@settings(max_examples=300)
@given(st.sampled_from([b"gzip", b"deflate"]), st.binary(max_size=200), PLACES)
def test_any_bytes_raise_nothing_else_and_alike_in_any_cuts(coding: bytes, data: bytes, places: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> bytes | type[BadReply]:
        try:
            return decode(coding, pieces)
        except BadReply:
            return BadReply

    assert outcome(cut(data, places)) == outcome([data])


@given(st.sampled_from(sorted(CODERS)), st.binary(min_size=1, max_size=100), st.data())
def test_an_early_end_is_refused(coding: bytes, text: bytes, data: st.DataObject) -> None:
    coded = CODERS[coding](text)
    end = data.draw(st.integers(1, len(coded) - 1))
    with pytest.raises(BadReply):
        decode(coding, [coded[:end]])


@pytest.mark.parametrize("coding", sorted(CODERS))
@pytest.mark.parametrize("over", [0, 1, 2, 100, 250, 1000])
def test_what_zlib_still_holds_at_the_end_is_not_lost(coding: bytes, over: int) -> None:
    text = b"\0" * (PIECE + over)
    assert decode(coding, [CODERS[coding](text)]) == text


@pytest.mark.parametrize("coding", sorted(CODERS))
def test_a_coded_nothing_is_an_empty_body(coding: bytes) -> None:
    assert decode(coding, [CODERS[coding](b"")]) == b""


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_nothing_at_all_is_an_empty_body(coding: bytes) -> None:
    assert decode(coding, []) == b""


@pytest.mark.parametrize("coding", sorted(CODERS))
def test_bytes_after_the_end_are_refused(coding: bytes) -> None:
    with pytest.raises(BadReply):
        decode(coding, [CODERS[coding](b"hello") + b"rubbish"])


@pytest.mark.parametrize("coding", sorted(CODERS))
def test_a_bomb_is_refused_at_the_bound(coding: bytes) -> None:
    bomb = CODERS[coding](b"\0" * 2**20)
    assert decode(coding, [bomb], most=2**20) == b"\0" * 2**20
    with pytest.raises(BadReply, match="allowed"):
        decode(coding, [bomb], most=2**20 - 1)


def test_gzip_checks_its_sum() -> None:
    coded = bytearray(gzip.compress(b"hello"))
    coded[-6] ^= 1
    with pytest.raises(BadReply):
        decode(b"gzip", [bytes(coded)])


@pytest.mark.parametrize(
    ("encoding", "decodes"), [(b"", False), (b"identity", False), (b"gzip", True), (b"x-gzip", True), (b"deflate", True)]
)
def test_what_was_asked_for_is_taken(encoding: bytes, decodes: bool) -> None:
    assert (decoder_for(encoding) is not None) == decodes


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"compress", b"gzip, gzip", b"gzip,identity", b"*", b"gzip;q=1"])
def test_what_was_not_asked_for_is_refused(encoding: bytes) -> None:
    with pytest.raises(BadReply):
        decoder_for(encoding)


@pytest.mark.parametrize(("encoding", "named"), [(b"br", "br"), (b"zstd", "zstd"), (b"gzip, gzip", "a content coding"), (b"a" * 17, "a content coding")])
def test_it_is_said_what_it_was_and_what_it_may_be(encoding: bytes, named: str) -> None:
    with pytest.raises(BadReply, match=f"^the reply is in {named}, which was not asked for; gzip and deflate can be undone$"):
        decoder_for(encoding)
