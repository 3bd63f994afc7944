"""A streamed reply on its way to the caller: frames in, bytes out. Pure; the proxy moves the bytes."""

from __future__ import annotations

from gateway.wires.base import Target


class Relay:
    """Follows one stream and passes it on frame by frame."""

    def __init__(self, target: Target, model: str | None) -> None:
        self._reader = target.wire.stream(target, model)
        self._splitter = target.wire.splitter(target)

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes of the upstream; return what goes on now."""
        out = bytearray()
        for frame in self._splitter.feed(chunk):
            self._reader.read(frame)
            out += frame.raw
        return bytes(out)

    def end(self) -> bytes:
        """The upstream's stream is over."""
        return b"".join(frame.raw for frame in self._splitter.end())

    def fail(self, message: str) -> bytes:
        """The upstream broke off: what tells the caller so."""
        return self._reader.fail(message)
