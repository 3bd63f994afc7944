"""What the tests of the wire formats share: short ways to read, and JSON made by hypothesis."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import uvicorn
from hypothesis import strategies as st

from detectors.values import Path, show_path
from gateway.wires import routes
from gateway.wires.base import Parsed, StreamEvent, StreamReader, Target
from gateway.wires.frames import Frame, Splitter
from gateway.wires.jsonedit import apply_edits

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
GENERATE = "/v1beta/models/gemini-2:generateContent"
STREAM = "/v1beta/models/gemini-2:streamGenerateContent"
COUNT_GEMINI = "/v1beta/models/gemini-2:countTokens"
EMBED = "/v1beta/models/gemini-2:embedContent"
BATCH = "/v1beta/models/gemini-2:batchEmbedContents"
ALL_PATHS = (CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES, COUNT, GENERATE, STREAM, COUNT_GEMINI, EMBED, BATCH)

Listed = tuple[str, int, str, str]
"""Origin, turn, path and text; a text that is glued to the one before begins with ``+``."""


def target(path: str, query: bytes = b"", method: str = "POST", provider: str = "openai") -> Target:
    found = routes.find(method, path, query, provider)
    assert found is not None
    return found


def read(path: str, doc: Any) -> Parsed:
    where = target(path)
    return where.wire.read_request(doc, where)


def read_reply(path: str, doc: Any) -> Parsed:
    where = target(path)
    return where.wire.read_reply(doc, where)


def listed(parsed: Parsed) -> list[Listed]:
    return [(part.origin.value, part.turn, show_path(part.path), "+" * part.glued + part.text) for part in parsed.segments]


def unread(parsed: Parsed) -> list[tuple[str, str]]:
    return [(show_path(part.path), part.reason) for part in parsed.opaque]


def texts(parsed: Parsed) -> set[str]:
    return {part.text for part in parsed.segments}


def bracketed(body: bytes, parsed: Parsed) -> bytes:
    """The body with every listed text in brackets: shows where edits land and that nothing else moves."""
    return apply_edits(body, {part.path: f"<{part.text}>" for part in parsed.segments})


def frames_of(splitter: Splitter, chunks: Iterable[bytes]) -> list[Frame]:
    frames = [frame for chunk in chunks for frame in splitter.feed(chunk)]
    return frames + splitter.end()


def follow(where: Target, chunks: Iterable[bytes], model: str = "m") -> tuple[list[StreamEvent], StreamReader]:
    """The events of a stream that comes in such chunks, and the reader that saw them."""
    reader = where.wire.stream(where, model)
    frames = frames_of(where.wire.splitter(where), chunks)
    return [event for frame in frames for event in reader.read(frame)], reader


def spoken(events: Iterable[StreamEvent]) -> list[tuple[str, tuple[str | int, ...], str]]:
    """Kind, channel and text of the events that carry text."""
    return [(event.kind.value, event.channel, event.text) for event in events if event.text]


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def sse_events(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON documents of a stream of server-sent events, without end marks."""
    for line in data.splitlines():
        if line.startswith(b"data: {"):
            yield orjson.loads(line[6:])


def at(doc: Any, path: Path) -> Any:
    for step in path:
        doc = doc[step]
    return doc


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Some bytes, cut anywhere."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


class _Server(uvicorn.Server):
    """A server that says when it has begun."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """An ASGI application on a loopback port; yields its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    assert server.begun.wait(10)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
