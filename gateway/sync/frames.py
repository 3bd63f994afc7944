"""Frames: what replicas say to each other, and how it is written on a stream of bytes.

A frame is four bytes of length and flags, and a MessagePack array whose first element names the kind. Bulk is deflated.
Everything comes from a peer that may be hostile: lengths are checked before anything is stored, types and sizes while
decoding, and what does not fit is a `FrameError`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

PROTOCOLS: Final = ("portcullis-sync/2", "portcullis-sync/1")
"""ALPN names, by which peers agree on a version: the first of these that both know. 2 adds version vectors (`HelloSince`)."""


def version_of(protocol: str | None) -> int:
    """The version that an ALPN name stands for; 0 where it is none of ours."""
    return int(protocol.rpartition("/")[2]) if protocol in PROTOCOLS else 0


MAX_FRAME: Final = 2**20
"""Bytes of one frame, deflated or not. The largest is a batch of entries (`link.BATCH_BYTES` and one largest entry)."""

DEFLATE_FROM: Final = 2_048
"""Bytes from which a frame is deflated: a lone entry gains less than the microseconds that it costs."""

BUCKETS: Final = 256
BUCKET_DIGEST: Final = 8
"""Bytes of a bucket's digest in a `Tree`. Two different buckets agree by chance once in 2^64 comparisons, and the root,
which is longer, still tells."""

MAX_MARKS: Final = 1_024
"""Nodes in a version vector. Where more have entries standing, buckets are compared: a vector would weigh as much."""

_HEADER: Final = 4
_DEFLATED: Final = 1 << 31

Name = Annotated[str, Meta(min_length=1, max_length=253)]
Identity = Annotated[str, Meta(min_length=1, max_length=500)]
Address = Annotated[str, Meta(max_length=300)]
Digest = Annotated[bytes, Meta(min_length=16, max_length=16)]
Count = Annotated[int, Meta(ge=0, le=2**53)]


class FrameError(ValueError):
    """Bytes that are no frame. The message says what was wrong and never shows content."""


class _Frame(Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    """A frame. Fields are positional; the class's name is its tag."""


class Hello(_Frame, frozen=True, tag="hello"):
    """First on every connection, from both sides. Repeating it does no harm, so it may be early data (0-RTT)."""

    node: Name
    incarnation: Digest  # random at every start: two processes that use one name are told apart
    address: Address  # where this node can be dialled; ":port" means the host that it is seen from
    digest: Digest  # of all that it holds
    held: Count  # how many entries these are
    wall_ms: Count


class Mark(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Up to which of a node's changes somebody holds all: a stamp without repeating the node."""

    node: Identity
    wall_ms: Count
    counter: Count


class HelloSince(Hello, frozen=True, tag="hello since"):
    """`Hello` in version 2, with a version vector: the answer is what is later. Of nodes that are not in it nothing is held;
    None where buckets are to be compared instead (`Ledger.marks`)."""

    marks: Annotated[list[Mark], Meta(max_length=MAX_MARKS)] | None


class Ping(_Frame, frozen=True, tag="ping"):
    """Keeps the connection alive, and is the anti-entropy: a digest that differs when nothing is on its way is looked into."""

    number: Count
    digest: Digest
    held: Count
    pending: Count  # entries that the sender still has for the receiver
    wall_ms: Count


class Pong(_Frame, frozen=True, tag="pong"):
    """The answer to a `Ping`."""

    number: Count
    digest: Digest
    held: Count
    pending: Count


class Tree(_Frame, frozen=True, tag="tree"):
    """The digests of all buckets: where do we differ? Answered by `Listing` and `Entries`."""

    digests: Annotated[bytes, Meta(min_length=BUCKETS * BUCKET_DIGEST, max_length=BUCKETS * BUCKET_DIGEST)]


class Listed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One entry by name and revision."""

    id: Identity
    fingerprint: Digest
    wall_ms: Count
    counter: Count
    node: Identity


class Listing(_Frame, frozen=True, tag="listing"):
    """All that the sender holds in one bucket. ``left`` buckets follow."""

    bucket: Annotated[int, Meta(ge=0, lt=BUCKETS)]
    items: Annotated[list[Listed], Meta(max_length=4_096)]
    left: Annotated[int, Meta(ge=0, lt=BUCKETS)]


class Want(_Frame, frozen=True, tag="want"):
    """Please send the entries with these ids."""

    ids: Annotated[list[Identity], Meta(max_length=4_096)]


class Entries(_Frame, frozen=True, tag="entries"):
    """Entries as `patterns.entries.encode` writes them. ``fresh`` ones were just made and travel ahead of bulk."""

    batch: Count
    fresh: bool
    entries: Annotated[list[bytes], Meta(min_length=1, max_length=512)]


class Ack(_Frame, frozen=True, tag="ack"):
    """A batch was looked at and what could be taken of it is durable; ``refused`` are the fingerprints of the rest."""

    batch: Count
    refused: Annotated[list[Digest], Meta(max_length=512)]


class Holds(_Frame, frozen=True, tag="holds"):
    """These nodes hold the revision with this fingerprint; it travels back to where the revision was made."""

    fingerprint: Digest
    nodes: Annotated[list[Name], Meta(min_length=1, max_length=256)]


class Member(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a node says of itself. The latest ``seen_ms`` of a node stands; ``left`` is its farewell."""

    node: Name
    address: Address
    seen_ms: Count
    left: bool


class Members(_Frame, frozen=True, tag="members"):
    """Who there is, as far as the sender knows and the receiver may not."""

    members: Annotated[list[Member], Meta(min_length=1, max_length=256)]


MAX_QUESTION: Final = 512 * 2**10
"""Bytes of text in one `Question`. A longer request is not asked about, and its record says so."""

MAX_SEGMENTS: Final = 8_192
MAX_SEEN: Final = 2_048
"""Segments of a `Question`, and findings of an `Answer`: with their names these fit a frame."""

Word = Annotated[str, Meta(max_length=200)]
Text = Annotated[bytes, Meta(max_length=MAX_QUESTION)]


class Said(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One text of a request, and whose it is, as `detectors.values.Segment` has it. ``text`` is UTF-8, lone surrogates kept;
    ``run`` where it stands in a tool call."""

    text: Text
    run: bool
    origin: Word
    turn: Annotated[int, Meta(ge=-(2**31), lt=2**31)]
    glued: bool


class Question(_Frame, frozen=True, tag="question"):
    """What do you say of these texts? Asked of a peer that has named itself, so never as early data.

    Attributes:
        knowledge: of what the asker judges by; whoever judges by something else says so instead. scope: whose texts they are,
            so that nobody learns from how fast it is answered what another one sent. left_ms: how long an answer is of use.
    """

    number: Count
    knowledge: Digest
    scope: Identity
    left_ms: Annotated[int, Meta(ge=1, le=60_000)]
    segments: Annotated[list[Said], Meta(min_length=1, max_length=MAX_SEGMENTS)]

    @property
    def size(self) -> int:
        """Bytes of its texts."""
        return sum(len(one.text) for one in self.segments)


class Seen(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One finding, as `detectors.values.Finding` has it."""

    detector: Word
    pattern: Identity
    category: Word
    score: Annotated[float, Meta(ge=0, le=1)]
    segment: Annotated[int, Meta(ge=0, lt=MAX_SEGMENTS)]
    start: Annotated[int, Meta(ge=0, le=MAX_QUESTION)]
    end: Annotated[int, Meta(ge=0, le=MAX_QUESTION)]


class Answer(_Frame, frozen=True, tag="answer"):
    """The answer to a `Question`.

    Attributes:
        said: ``verdict``, or why there is none: ``knowledge`` (it judges by something else), ``busy``, ``failed``.
        missing: the stages that did not run, each with its reason.
    """

    number: Count
    said: Literal["verdict", "knowledge", "busy", "failed"]
    score: Annotated[float, Meta(ge=0, le=1)] = 0.0
    seen: Annotated[list[Seen], Meta(max_length=MAX_SEEN)] = msgspec.field(default_factory=list)
    missing: Annotated[list[tuple[Word, Word]], Meta(max_length=32)] = msgspec.field(default_factory=list)


class Bye(_Frame, frozen=True, tag="bye"):
    """The sender ends the connection, and why, in words."""

    reason: Annotated[str, Meta(max_length=200)]


Frame = (
    Hello | HelloSince | Ping | Pong | Tree | Listing | Want | Entries | Ack | Holds | Members | Question | Answer | Bye
)  # fmt: skip

_decoder: Final[msgspec.msgpack.Decoder[Frame]] = msgspec.msgpack.Decoder(Frame)
_encoder: Final = msgspec.msgpack.Encoder()


def encode(frame: Frame) -> bytes:
    """The frame with its header.

    Raises:
        FrameError: it is longer than any peer would take: a fault of ours.
    """
    body = _encoder.encode(frame)
    flag = 0
    if len(body) >= DEFLATE_FROM:
        body, flag = zlib.compress(body, 1), _DEFLATED
    if len(body) > MAX_FRAME:
        raise FrameError(f"a {type(frame).__name__} of {len(body)} bytes; at most {MAX_FRAME} are taken")
    return (len(body) | flag).to_bytes(_HEADER, "big") + body


def decode(body: bytes | memoryview, deflated: bool) -> Frame:
    """Read a frame's body.

    Raises:
        FrameError: it is none.
    """
    if deflated:
        inflate = zlib.decompressobj()
        try:
            body = inflate.decompress(body, MAX_FRAME)
        except zlib.error:
            raise FrameError("a deflated frame is broken") from None
        if inflate.unconsumed_tail or not inflate.eof or inflate.unused_data:
            raise FrameError(f"a deflated frame is larger than {MAX_FRAME} bytes, or not whole")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a frame: {str(error)[:200]}") from None


class Reader:
    """Cuts a stream of bytes into frames. It holds at most one frame that is not whole."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now, each unfolded when it is asked for: one read may hold a gigabyte of them.

        Raises:
            FrameError: what comes is none; the stream cannot be read on.
        """
        self._data += data
        while len(self._data) >= _HEADER:
            head = int.from_bytes(self._data[:_HEADER], "big")
            size = head & ~_DEFLATED
            if size > MAX_FRAME:
                raise FrameError(f"a frame of {size} bytes is announced; at most {MAX_FRAME} are taken")
            end = _HEADER + size
            if len(self._data) < end:
                break
            body = bytes(self._data[_HEADER:end])
            del self._data[:end]
            yield decode(body, bool(head & _DEFLATED))
