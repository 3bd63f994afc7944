"""The reply parser and the request writer: tables of bytes, each read whole, byte by byte and cut at random."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream import http1
from gateway.upstream.errors import BadReply, RequestRefused, Truncated, UpstreamError
from gateway.upstream.http1 import DONE, MAX_HEAD_BYTES, MAX_HEADERS, OURS, ReplyParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
Outcome = tuple[object, ...]


def read(pieces: list[bytes], method: bytes = b"POST", eof: bool = True) -> Outcome:
    """What a reply comes to: (status, headers, body, reusable), or the error and what was read before it."""
    parser = ReplyParser(method)
    body = b""
    try:
        for piece in pieces:
            if parser.phase is DONE:
                return (parser.status, parser.headers, body, False)  # more bytes: the connection is dropped
            parser.feed(piece)
            body += parser.take()
        if eof:
            parser.eof()
    except UpstreamError as error:
        return (type(error), parser.status, body + parser.take())
    return (parser.status, parser.headers, body, parser.reusable and parser.phase is DONE)


def every_way(data: bytes, method: bytes = b"POST") -> Outcome:
    """Whole, byte by byte, and in two at every place: all the same."""
    whole = read([data], method)
    assert read([data[i : i + 1] for i in range(len(data))], method) == whole
    for cut in range(1, min(len(data), 400)):
        assert read([data[:cut], data[cut:]], method) == whole, cut
    return whole


GOOD = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", (200, [], b"hello", True)),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", (200, [], b"", True)),
    "chunks": (CHUNKED + b"5\r\nhello\r\n06\r\n world\r\n0\r\n\r\n", (200, [], b"hello world", True)),
    "chunk extensions are dropped": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n', (200, [], b"hello", True)),
    "trailers are dropped": (CHUNKED + b"5\r\nhello\r\n0\r\nX-T: 1\r\nTrailer: x\r\n\r\n", (200, [], b"hello", True)),
    "the coding in capitals": (
        OK + b"TRANSFER-ENCODING: Chunked \r\n\r\n1\r\nx\r\n0\r\n\r\n", (200, [], b"x", True)),
    "until close": (OK + b"A: b\r\n\r\nhello", (200, [(b"a", b"b")], b"hello", False)),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", None),
    "an empty reason phrase": (b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", (200, [], b"x", True)),
    "connection: close": (OK + b"Connection: Close\r\nContent-Length: 1\r\n\r\nx", (200, [], b"x", False)),
    "close among others": (OK + b"Connection: x, close\r\nX: 1\r\nContent-Length: 1\r\n\r\nx", (200, [], b"x", False)),
    "HTTP/1.0 is not reused": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", (200, [], b"x", False)),
    "HTTP/1.0 until close": (b"HTTP/1.0 200 OK\r\n\r\nhello", (200, [], b"hello", False)),
    "interim replies": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\nConnection: close\r\n\r\n" + OK
        + b"Content-Length: 1\r\n\r\nx", (200, [], b"x", True)),
    "an interim reply with a length": (
        b"HTTP/1.1 102 P\r\nContent-Length: 9\r\n\r\n" + CHUNKED + b"1\r\nx\r\n0\r\n\r\n", (200, [], b"x", True)),
    "204 has no body": (b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", (204, [], b"", True)),
    "304 has no body": (b"HTTP/1.1 304 No\r\nContent-Length: 5\r\nEtag: x\r\n\r\n", (304, [(b"etag", b"x")], b"", True)),
    "a redirect is a reply": (
        b"HTTP/1.1 302 F\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", (302, [(b"location", b"http://x/")], b"", True)),
    "blanks around a value": (OK + b"A: \t b c \t\r\nB:\r\nContent-Length:  1 \r\n\r\nx",
                              (200, [(b"a", b"b c"), (b"b", b"")], b"x", True)),
    "repeated and obs-text headers": (OK + b"Set-Cookie: a\r\nset-cookie: \xe9\r\nContent-Length: 0\r\n\r\n",
                                      (200, [(b"set-cookie", b"a"), (b"set-cookie", b"\xe9")], b"", True)),
    "hop-by-hop headers go": (
        OK + b"Connection: keep-alive, X-Drop\r\nX-Drop: 1\r\nx-drop: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n"
        b"Upgrade: h2c\r\nTE: x\r\nTrailer: y\r\nProxy-Authenticate: z\r\nX-Keep: 3\r\nContent-Length: 0\r\n\r\n",
        (200, [(b"x-keep", b"3")], b"", True)),
    "bytes after a length": (OK + b"Content-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n", (200, [], b"x", False)),
    "a blank line after a length": (OK + b"Content-Length: 1\r\n\r\nx\r\n", (200, [], b"x", False)),
    "bytes after chunks": (CHUNKED + b"1\r\nx\r\n0\r\n\r\nrubbish", (200, [], b"x", False)),
    "a blank line after chunks": (CHUNKED + b"1\r\nx\r\n0\r\n\r\n\r\n", (200, [], b"x", False)),
    "a second reply after chunks": (CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\nbad",
                                    (200, [], b"x", False)),
    "a body after 204": (b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\nabc", (204, [], b"", False)),
    "a large head": (OK + b"A: " + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n", None),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_reads(name: str) -> None:
    data, wanted = GOOD[name]
    got = read([data]) if len(data) > 1000 else every_way(data)
    assert got[0] == 200 if wanted is None else got == wanted


BAD = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "a line break first": b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "two line breaks first": b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "short status": b"HTTP/1.1 20 OK\r\n\r\n",
    "long status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status 0": b"HTTP/1.1 000 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 099 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    "two blanks": b"HTTP/1.1  200 OK\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 OK\x0b\r\nContent-Length: 0\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
    "an upgrade to nothing": b"HTTP/1.1 101 Switching\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "bare LF after a header": OK + b"A: b\nContent-Length: 0\r\n\r\n",
    "bare CR in a value": OK + b"A: b\rContent-Length: 0\r\n\r\n",
    "CR CR LF": OK + b"A: b\r\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": OK + b"A: b\x00c\r\n\r\n",
    "control character in a value": OK + b"A: b\x01c\r\n\r\n",
    "DEL in a value": OK + b"A: b\x7fc\r\n\r\n",
    "a blank before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a blank before the name": OK + b" Content-Length: 5\r\n\r\nhello",
    "a folded line": OK + b"A: b\r\n c\r\n\r\n",
    "no name": OK + b": b\r\n\r\n",
    "no colon": OK + b"Content-Length\r\n\r\n",
    "a name that is no token": OK + b"A(: b\r\n\r\n",
    "obs-text in a name": OK + b"A\xe9: b\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": OK + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "a hexadecimal length": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "an underscore in the length": OK + b"Content-Length: 1_0\r\n\r\nhello12345",
    "an empty length": OK + b"Content-Length:\r\n\r\nhello",
    "a length beyond 64 bits": OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "a coding that ends so": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked first": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an empty coding": OK + b"Transfer-Encoding:\r\n\r\nhello",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no chunk size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk size with a blank": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a signed chunk size": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk size that overflows": CHUNKED + b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than said": CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n",
    "a chunk size ended by LF": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "a chunk ended by LF": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "LF in an extension": CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a length among the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    "a broken trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "too many headers": OK + b"A: b\r\n" * (MAX_HEADERS + 1) + b"Content-Length: 0\r\n\r\n",
    "too large a head": OK + b"A: " + b"x" * MAX_HEAD_BYTES + b"\r\nContent-Length: 0\r\n\r\n",
    "a head without end": OK + b"A: " + b"x" * MAX_HEAD_BYTES,
    "interim replies without end": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 25 + 1) + OK + b"\r\n",
    "chunk extensions without end": CHUNKED + b"1;" + b"x" * (2 * MAX_HEAD_BYTES),
    "trailers without end": CHUNKED + b"0\r\n" + b"A: b\r\n" * (MAX_HEAD_BYTES // 2),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refuses(name: str) -> None:
    data = BAD[name]
    got = every_way(data) if len(data) < 1000 else read([data])
    assert got[0] is BadReply


@pytest.mark.parametrize("name", [name for name in BAD if len(BAD[name]) >= 1000])
def test_refuses_bombs_in_pieces(name: str) -> None:
    data = BAD[name]
    assert read([data[i : i + 997] for i in range(0, len(data), 997)])[0] is BadReply


TRUNCATED = {
    "nothing": (b"", b""),
    "in the status line": (b"HTTP/1.1 2", b""),
    "in a header": (OK + b"Content-Le", b""),
    "before the blank line": (OK + b"Content-Length: 5\r\n\r", b""),
    "after an interim reply": (b"HTTP/1.1 100 Continue\r\n\r\n", b""),
    "in the body": (OK + b"Content-Length: 5\r\n\r\nhell", b"hell"),
    "before the body": (OK + b"Content-Length: 5\r\n\r\n", b""),
    "in a chunk size": (CHUNKED + b"5\r\nhello\r\n1", b"hello"),
    "in a chunk": (CHUNKED + b"5\r\nhel", b"hel"),
    "before the last chunk": (CHUNKED + b"5\r\nhello\r\n", b"hello"),
    "in the last chunk": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"hello"),
    "in a trailer": (CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\n", b"hello"),
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_an_early_end_is_truncated(name: str) -> None:
    data, body = TRUNCATED[name]
    got = every_way(data)
    assert (got[0], got[2]) == (Truncated, body)


def test_a_truncation_says_how_much_came() -> None:
    parser = ReplyParser(b"POST")
    parser.feed(OK)
    with pytest.raises(Truncated) as caught:
        parser.eof()
    assert caught.value.received == len(OK)


def test_head_has_no_body() -> None:
    data = OK + b"Content-Length: 5\r\n\r\n"
    assert every_way(data, b"HEAD") == (200, [], b"", True)
    assert read([CHUNKED], b"HEAD", eof=False) == (200, [], b"", True)
    assert every_way(data + b"hello", b"HEAD") == (200, [], b"", False)


def test_the_length_and_the_coding_are_told_apart_from_the_headers() -> None:
    parser = ReplyParser(b"POST")
    parser.feed(OK + b"Content-Encoding: GZip\r\nKeep-Alive: max=3, timeout=7\r\nContent-Length: 5\r\n\r\nhe")
    assert (parser.length, parser.encoding, parser.keep_alive, parser.buffered) == (5, b"gzip", 7, 2)


@settings(max_examples=400)
@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", CHUNKED, CHUNKED + b"5\r\n"]), st.data())
def test_any_bytes_in_any_cuts_raise_nothing_else(rest: bytes, start: bytes, data: st.DataObject) -> None:
    whole = start + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True) if a < b]
    assert read(pieces) == read([whole] if whole else [])


@settings(max_examples=400)
@given(st.sampled_from([data for data, _ in GOOD.values() if len(data) < 1000]), st.data())
def test_one_changed_byte_is_read_alike_in_all_cuts(reply: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(reply) - 1))
    changed = reply[:place] + bytes([data.draw(st.integers(0, 255))]) + reply[place + 1 :]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=6)))
    pieces = [changed[a:b] for a, b in zip([0, *cuts], [*cuts, len(changed)], strict=True) if a < b]
    assert read(pieces) == read([changed])


def test_header_lines_are_written() -> None:
    headers = [(b"Content-Type", b"a/b"), (b"X-Empty", b""), (b"x-tab", b"a\tb"), (b"x-bytes", b"\xe9")]
    assert http1.header_lines(headers, OURS) == (b"content-type: a/b\r\nx-empty: \r\nx-tab: a\tb\r\nx-bytes: \xe9\r\n")


@pytest.mark.parametrize("name", sorted(OURS))
def test_headers_of_the_connection_are_dropped_in_any_case(name: bytes) -> None:
    assert http1.header_lines([(name.title(), b"x"), (b"a", b"b")], OURS) == b"a: b\r\n"


def test_headers_that_connection_names_are_dropped() -> None:
    headers = [(b"x-one", b"1"), (b"Connection", b"close, X-One"), (b"x-two", b"2"), (b"connection", b"x-two,"), (b"x", b"3")]
    assert http1.header_lines(headers, OURS) == b"x: 3\r\n"


@pytest.mark.parametrize("value", [
    b"a\r\nb: c", b"a\nb: c", b"a\r", b"a\n", b"\x00", b"\x1f", b"\x7f", b"\r\n\r\nGET / HTTP/1.1"])  # fmt: skip
def test_a_value_with_control_characters_is_refused(value: bytes) -> None:
    with pytest.raises(RequestRefused):
        http1.header_lines([(b"a", value)], OURS)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\n", b"\xe9", b"a\x00", b"(a)", b" a", b"a "])
def test_a_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(RequestRefused):
        http1.header_lines([(name, b"x")], OURS)


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=6))
def test_whatever_is_written_is_as_many_lines_as_headers(headers: list[tuple[bytes, bytes]]) -> None:
    with contextlib.suppress(RequestRefused):
        block = http1.header_lines(headers, frozenset())
        lines = block.split(b"\r\n")
        assert lines.pop() == b""
        assert [tuple(line.split(b": ", 1)) for line in lines] == [(name.lower(), value) for name, value in headers]


@pytest.mark.parametrize("method", [b"", b"GET ", b"GE T", b"GET\r\n", b"CONNECT", b"G\xe9T"])
def test_a_method_that_cannot_be_forwarded_is_refused(method: bytes) -> None:
    with pytest.raises(RequestRefused):
        http1.check_method(method)


@pytest.mark.parametrize("target", [
    b"/", b"/chat/completions", b"/models/a:generateContent?alt=sse&key=x", b"/a.b/..c", b"/a%20b", b"/x?y=/../z",
    b"/v1/"])  # fmt: skip
def test_targets_that_are_plain_paths_pass(target: bytes) -> None:
    http1.check_target(target)


@pytest.mark.parametrize("target", [
    b"", b"chat", b"http://evil/", b"//evil/", b"/a//b", b"/..", b"/../admin", b"/a/./b", b"/a/..?x", b"/%2e%2E/x", b"/a/%2e",
    b"/.%2e/", b"/a%2f..%2fb", b"/a/%252e%252e/b", b"/a/%25252e./b", b"/a/..;/b", b"/a/..%3bx/b", b"/a/%c0%ae%c0%ae/b",
    b"/a\\b", b"/a%5cb", b"/a b", b"/a\r\nx: y", b"/a\x00", b"/a#b", b"/a?b#c", b"/a?b c", b"/\xe9",
    b"*", b"/a?b\nc"])  # fmt: skip
def test_targets_that_could_leave_the_base_are_refused(target: bytes) -> None:
    with pytest.raises(RequestRefused):
        http1.check_target(target)
