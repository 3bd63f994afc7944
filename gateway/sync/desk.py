"""Where the workers of one machine hand in their questions: a socket of the worker that speaks with the other replicas.

One question is one connection: a question and how many are to be asked go in as a frame, and every state of the answers comes
back as one, until whoever asked has heard enough and hangs up. The socket lies in the folder that the workers share, which
nobody else may enter; what comes over it is read as strictly as what a peer sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.sync import frames

SOCKET: Final = "sync.sock"

CONNECT_SECONDS: Final = 0.5
"""How long the other worker may take to answer at all; what it says then has the question's own time."""

MAX_MESSAGE: Final = 2 * frames.MAX_FRAME
"""Bytes of one message: a question, or the answers of all that were asked."""

_HEADER: Final = 4

_log = logging.getLogger(__name__)

Hears = Callable[[dict[str, frames.Answer | str], tuple[str, ...]], bool]
"""Is given what peers said so far and who may still answer; true where that is enough."""



class _HandedIn(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A question, and how many replicas are to be asked."""

    question: frames.Question
    count: int


class _Stands(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What was said so far, and who may still answer."""

    answers: dict[str, frames.Answer | str]
    waiting: tuple[str, ...]


_encode: Final = msgspec.msgpack.Encoder().encode
_handed_in: Final = msgspec.msgpack.Decoder(_HandedIn)
_stands: Final = msgspec.msgpack.Decoder(_Stands)


class Desk:
    """See the module. ``ask`` puts a question to other replicas, as `SyncService.ask` says."""

    def __init__(self, folder: Path, ask: Callable[[frames.Question, int, Hears], Awaitable[None]]) -> None:
        self._folder = folder
        self._put = ask
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Take questions from the other workers."""
        with _reachable(self._folder) as path:
            path.unlink(missing_ok=True)  # of a worker that was killed
            self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_MESSAGE)
            path.chmod(0o600)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                (self._folder / SOCKET).unlink()

    async def ask(self, question: frames.Question, count: int, hears: Hears) -> None:
        """Hand a question in, and hear how it stands until that is enough.

        Raises:
            OSError: there is no worker who takes it, or it ends meanwhile.
        """
        with _reachable(self._folder) as path:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path, limit=MAX_MESSAGE)
        try:
            async with asyncio.timeout(CONNECT_SECONDS + question.left_ms / 1000):
                _write(writer, _HandedIn(question, count))
                await writer.drain()
                while True:
                    said = _stands.decode(await _read(reader))
                    if hears(said.answers, said.waiting) or not said.waiting:
                        return
        except (msgspec.DecodeError, asyncio.IncompleteReadError) as error:
            raise OSError(f"the worker that speaks with other replicas broke off: {error}") from None
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def hears(answers: dict[str, frames.Answer | str], waiting: tuple[str, ...]) -> bool:
            if not writer.is_closing():
                _write(writer, _Stands(answers, waiting))
            return writer.is_closing()

        try:
            handed = _handed_in.decode(await _read(reader))
            putting = asyncio.ensure_future(self._put(handed.question, handed.count, hears))
            leaving = asyncio.ensure_future(reader.read(1))  # whoever has heard enough hangs up
            await asyncio.wait([putting, leaving], return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            putting.cancel()
            await asyncio.gather(putting, leaving, return_exceptions=True)
            await writer.drain()
        except (msgspec.DecodeError, asyncio.IncompleteReadError, OSError) as error:
            _log.warning("pattern sync: a question of another worker could not be taken: %s", error)
        finally:
            writer.close()


def _write(writer: asyncio.StreamWriter, what: msgspec.Struct) -> None:
    body = _encode(what)
    writer.write(len(body).to_bytes(_HEADER, "big") + body)


async def _read(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(_HEADER), "big")
    if size > MAX_MESSAGE:
        raise OSError(f"a message of {size} bytes; at most {MAX_MESSAGE} are taken")
    return await reader.readexactly(size)


@contextlib.contextmanager
def _reachable(folder: Path) -> Iterator[Path]:
    """The socket's path, in the hundred bytes that the kernel takes of one, however deep the folder lies."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = Path(f"/proc/self/fd/{handle}")
        yield (short if short.exists() else folder) / SOCKET
    finally:
        os.close(handle)
