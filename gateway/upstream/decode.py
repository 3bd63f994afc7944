"""Content codings of replies, undone as the bytes come. Pure.

Only what the standard library can undo is ever asked for or taken: gzip, and deflate in both its readings. A
reply in another coding is refused, since what cannot be read cannot be screened.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from gateway.upstream.errors import BadReply

MAX_DECODED: Final = 256 * 2**20
"""Decoded bytes of one reply. Deflate grows a thousandfold at most, so a bomb would fill this from 256 KiB; the
longest compressed reply of a provider, a batch of embeddings, stays under 32 MiB."""

PIECE: Final = 64 * 1024
"""Decoded bytes handed out at once: what a bomb can make us hold."""

MAX_EMPTY: Final = 16
"""Gzip members of one reply that decode to nothing. A server writes one for an empty body. Each costs a copy of what comes
after it, and adds nothing to what is counted as decoded: thousands fit what comes at once, and would hold up the event loop."""

_NAME: Final = re.compile(rb"[a-z0-9-]{1,16}")  # who runs the upstream must find what sets it; a longer one is no coding's

_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class Decoder:
    """Undoes one coding: `push` coded bytes, `pull` until nothing comes, and at the end `finish`."""

    __slots__ = ("_began", "_buffer", "_empty", "_full", "_gzip", "_inflate", "_most", "_total")

    def __init__(self, gzip: bool, most: int = MAX_DECODED) -> None:
        """Args:
        gzip: whether the coding is gzip; else it is deflate.
        most: decoded bytes above which the reply is refused.
        """
        self._gzip = gzip
        self._most = most
        self._buffer = b""
        self._total = 0
        self._began = 0  # the total at which the member at hand began
        self._empty = 0
        self._full = False  # the last piece was as long as it may be, so zlib may hold more
        self._inflate: zlib._Decompress | None = None

    @property
    def pending(self) -> bool:
        """Whether `pull` may give something without another `push`."""
        return bool(self._buffer) or self._full

    def push(self, data: bytes) -> None:
        """Add coded bytes."""
        self._buffer += data

    def pull(self) -> bytes:
        """At most `PIECE` decoded bytes; empty when more coded ones are needed.

        Raises:
            BadReply: the bytes are not of the coding, or decode to more than is allowed, or too many members to nothing.
        """
        while self.pending:
            inflate = self._inflate
            if inflate is None:
                if len(self._buffer) < 2 and not self._gzip:
                    break
                inflate = self._inflate = zlib.decompressobj(_GZIP if self._gzip else self._deflate_bits())
            if inflate.eof:
                raise BadReply("bytes after the end of the coded body")
            try:
                piece = inflate.decompress(self._buffer, PIECE)
            except zlib.error:
                raise BadReply("the body is not in the content coding that it declares") from None
            self._full = len(piece) == PIECE and not inflate.eof
            self._buffer = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            self._total += len(piece)
            if self._total > self._most:
                raise BadReply("the body decodes to more than is allowed")
            if inflate.eof and self._gzip:
                self._inflate = None  # members may follow one another (RFC 1952 §2.2); deflate ends once
                self._empty += self._total == self._began
                self._began = self._total
                if self._empty > MAX_EMPTY:
                    raise BadReply("too many members of the coded body are empty")
            if piece:
                return piece
        return b""

    def finish(self) -> None:
        """The coded bytes have ended. None at all are a whole body too: servers declare a coding for empty ones.

        Raises:
            BadReply: in the middle.
        """
        if self._buffer or (self._inflate is not None and not self._inflate.eof):
            raise BadReply("the coded body ends in its middle")

    def _deflate_bits(self) -> int:
        # "deflate" means zlib's wrapping, but some servers send the bare stream (RFC 9110 §8.4.1.2 and its note).
        first, second = self._buffer[0], self._buffer[1]
        return zlib.MAX_WBITS if first & 15 == 8 and (first << 8 | second) % 31 == 0 else _RAW


def decoder_for(encoding: bytes) -> Decoder | None:
    """The decoder for the value of ``content-encoding``, lower-case; None where there is nothing to undo.

    Raises:
        BadReply: a coding that was not asked for, or several on top of one another.
    """
    if encoding in (b"", b"identity"):
        return None
    if encoding in (b"gzip", b"x-gzip"):
        return Decoder(gzip=True)
    if encoding == b"deflate":
        return Decoder(gzip=False)
    named = encoding.decode() if _NAME.fullmatch(encoding) else "a content coding"
    raise BadReply(f"the reply is in {named}, which was not asked for; gzip and deflate can be undone")
