"""The caller's side of a connection: uvicorn's HTTP/1.1 protocol, with a short way for the data plane.

uvicorn serves: it owns the sockets and the drain. Requests under a provider's prefix do not take the way through ASGI, whose
messages, events and timers cost more than a screening: each becomes a `Call`, which goes straight to the proxy when its body
has come. Everything else goes on as ASGI.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.serving.call import Call
from gateway.serving.inbound import Head, Headers, read_head
from gateway.wires.routes import REALTIME, UPLOADS, meant

if TYPE_CHECKING:
    from gateway.serving.app import App
    from gateway.websocket.socket import WebSocket

PROVIDER_PREFIXES: Final = ("/v1/", "/v1beta/", "/v1alpha/", UPLOADS)
"""Under these every path is the proxy's to answer, and so is one that only wants another base URL, which its caller is told."""

OWN_PREFIXES: Final = ("/admin/", "/console/")
"""Under these no path is a provider's, whatever it ends in: a pattern may be called `models`."""

FEEDBACK: Final = "/v1/feedback"
"""Applications label with the key that they call with, so this one path beside the providers' is the control plane's."""

MAX_HEAD: Final = 65_536
"""Bytes of a request's head, and of what follows a body in chunks: path and query, and of each header `HEADER` beside its own.
What stands before a gateway takes 8 to 64 KB."""

HEADER: Final = 32
"""What a header counts beside its name and value, as in HTTP/2 (RFC 9113, 6.5.2): short ones cost more than they hold."""

KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection of a caller stays open; longer than the 60 s after which common load balancers reuse none."""

UNREAD_SECONDS: Final = 75
"""How long a caller may take nothing of what waits for him; then it is let go, and his place among the requests under way is
another's."""

MAX_WAITING: Final = 128
"""Requests of a connection that wait for those before them: what comes in one read may hold twelve thousand."""

BODY_SECONDS: Final = 900
"""How long the body of a provider's request may take to come, however steadily: as long as an exchange with a provider may."""

LENGTH_DIGITS: Final = 20
"""Digits of a length that say something: the parser takes none above 2**64, with any number of zeros before it."""

_log = logging.getLogger(__name__)


class _HeadTooLarge(Exception):  # noqa: N818 - reads as the condition that it is
    """A request's head has more than `MAX_HEAD` bytes."""


class _TooManyWaiting(Exception):  # noqa: N818 - likewise
    """More than `MAX_WAITING` requests wait for an answer on one connection."""


class Listener(HttpToolsProtocol):
    """One connection of a caller.

    Attributes:
        idle_since: loop time at which the last answer was out, the head began that is being read, or the last of a provider's
            body came that is not whole; infinite while a request is under way. Whoever serves closes connections that have been
            idle for too long: one look at all of them instead of a timer for each.
        body_since: loop time from which on the body of a provider's request is awaited; infinite while none is.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._app = cast("App", self.config.loaded_app)
        self._lengths: list[bytes] = []
        self._call: Call | None = None  # the one whose request is being read
        self._running: Call | None = None  # the one being answered
        self._head_size = 0
        self._head_read = False  # what comes by name and value now are trailers
        self._told = False  # the parser has told something of what it was fed last
        self._silent = 0  # bytes of a name or value that does not come to its end, which the parser keeps
        self._again = False  # the request being read asks for a protocol that it will not get, and has a body
        # A caller sends the same headers and path again and again: they are read once for a connection.
        self._known_headers: Headers = []
        self._known_head: Head | None = None
        self._known_url = b""
        self._split_url = ("", b"", b"")
        self._dated: object = None
        self._date_line = b""
        self.idle_since = self.loop.time()
        self.body_since = _NEVER
        self._unread, self._unread_since = 0, _NEVER  # bytes that the caller has not taken, and since when it is as many

    @property
    def date_line(self) -> bytes:
        """The date header, which the server renews every second."""
        headers = self.server_state.default_headers
        if headers is not self._dated:
            self._dated = headers
            self._date_line = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        return self._date_line

    @property
    def draining(self) -> bool:
        """Whether this worker is about to end: each answer is then the last of its connection, so that whoever holds it open, a
        load balancer above all, sends nothing more on it and loses nothing when it is closed."""
        return self._app.services.draining

    def data_received(self, data: bytes) -> None:
        self._told = False
        try:
            self.parser.feed_data(data)
            self._silent = 0 if self._told else self._silent + len(data)
            if self._silent > MAX_HEAD:
                self._refuse_head()
        except httptools.HttpParserUpgrade as asked:
            # Only a session can be upgraded to; any other request is answered as if it had not asked. What follows before
            # there is an agreement could be meant as a request, or as a frame: it is neither.
            if self._again:
                self._read_again(data[asked.args[0] :])
            elif self._call is not None:
                self._call.early = self._call.early or asked.args[0] < len(data)
        except httptools.HttpParserError as error:
            if self._call is not None:
                self._call.early = True
            cause = error.__context__
            if isinstance(cause, _HeadTooLarge):
                self._refuse_head()
                return
            if isinstance(cause, _TooManyWaiting):
                self.transport.close()
                return
            bad_url = isinstance(cause, httptools.HttpParserInvalidURLError)  # the caller's fault, and it may hold a key
            if isinstance(error, httptools.HttpParserCallbackError) and not bad_url:
                _log.error("a request could not be taken", exc_info=cause)
            if self._running is not None:  # what is wrong follows a request that is being answered: there is no place for it
                self.transport.close()
            else:
                self.send_400_response("Invalid HTTP request received.")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._running is not None:
            self._running.leave()
        if isinstance(self.cycle, Call):
            self.cycle = None
        self.pipeline.clear()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        if self.idle_since != _NEVER:  # the head has as long to come as the connection may be idle
            self.idle_since = self.loop.time()
        self.url = b""
        self._head_size, self._told, self._head_read = 0, True, False
        self.headers = []
        self._lengths = []
        self.expect_100_continue = False

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + HEADER)
        if self._head_read:
            return  # trailers must not be taken for headers (RFC 9110, 6.5.1), and none of them says anything to us
        name = name.lower()
        if name == b"content-length":
            self._lengths.append(value)
            return
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_read = True
        if len(self.pipeline) >= MAX_WAITING:
            raise _TooManyWaiting
        url = self._url()
        refused = self.parser.should_upgrade() and self._has_body()
        if refused and url[0] != REALTIME and self.parser.get_method() != b"CONNECT":
            self._again = True
            return
        path = url[0]
        if path == FEEDBACK or path.startswith(OWN_PREFIXES) or not (path.startswith(PROVIDER_PREFIXES) or meant(path)):
            self._call = None
            self.idle_since = _NEVER  # the control plane looks after the time itself
            self._begin_asgi()
            return
        length = int(self._lengths[0][-LENGTH_DIGITS:]) if self._lengths else None
        before = self.cycle
        self.body_since = self.loop.time()
        call = self._call = Call(self, self.parser.get_method().decode("ascii"), url, length)
        if refused:
            call.keep_alive = False  # its body stays unread, and is no request
        self.cycle = call  # type: ignore[assignment]
        if before is not None and not before.response_complete:
            call.queued = True
            self.flow.pause_reading()
            self.pipeline.appendleft((call, None))  # type: ignore[arg-type]
        elif call.ready:
            self._start(call)

    def on_body(self, body: bytes) -> None:
        self._told = True
        call = self._call
        if call is None:
            super().on_body(body)
            return
        if self.idle_since != _NEVER:
            self.idle_since = self.loop.time()
        call.feed(body)
        if call.task is None and not call.queued and call.ready:
            self._start(call)

    def on_message_complete(self) -> None:
        if self._again:
            return
        call = self._call
        if call is None:
            super().on_message_complete()
            return
        if not call.response_complete:
            self.idle_since = _NEVER
        self.body_since = _NEVER
        call.complete()
        if call.task is None and not call.queued:
            self._start(call)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._running = None
        if self.transport.is_closing():
            return
        if not self.pipeline:
            self.flow.resume_reading()
            self.idle_since = self.loop.time()
            return
        cycle, app = self.pipeline.pop()
        if not self.pipeline:  # else more is read than is answered
            self.flow.resume_reading()
        if isinstance(cycle, Call) and cycle.more_body:
            self.idle_since = self.body_since = self.loop.time()
        self._start_asgi_task(cycle, app)

    def unread(self, now: float) -> bool:
        """Whether the caller has taken nothing of what waits for him for `UNREAD_SECONDS` at ``now``, to be asked every few
        seconds; asked only while nothing is written, so that less waits where he takes some."""
        waits = self.transport.get_write_buffer_size() if self.flow.write_paused or self.transport.is_closing() else 0
        if not waits or waits != self._unread:
            self._unread, self._unread_since = waits, now
        return bool(waits) and self._unread_since <= now - UNREAD_SECONDS

    def hand_over(self, socket: WebSocket) -> None:
        """From now on the connection is ``socket``'s."""
        server = self.server_state
        server.total_requests += 1
        server.connections.discard(self)
        server.connections.add(socket)  # type: ignore[arg-type]  # it asks no more of it than `shutdown`
        socket.on_lost.append(lambda: server.connections.discard(socket))
        self._running = None
        socket.attach(self.transport)

    def _count(self, size: int) -> None:
        self._told = True
        self._head_size += size
        if self._head_size > MAX_HEAD:
            raise _HeadTooLarge

    def _refuse_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # or nothing else is being answered on this connection
            text = b"The request's head is too large."
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
                                 b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))
        self.transport.close()

    def _has_body(self) -> bool:
        declared = any(int(length[-LENGTH_DIGITS:]) for length in self._lengths)
        return declared or any(name == b"transfer-encoding" for name, _ in self.headers)

    def _read_again(self, rest: bytes) -> None:
        """Read a request as one that asks for no other protocol. Java's client asks for HTTP/2 with each; the parser would take
        the body for that protocol's, and what comes of it later for a request.

        Args:
            rest: what followed its head so far.
        """
        self._again = False
        head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        head += [b"content-length: " + value for value in self._lengths]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(item for item in value.split(b",") if item.strip().lower() != b"upgrade")
            if name != b"upgrade":
                head.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)  # the old one takes no more where the connection is to end
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join((*head, b"", rest)))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Call):
            cycle.queued = False
            if cycle.ready:
                self._start(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, call: Call) -> None:
        self._running = call
        call.task = task = self.loop.create_task(self._app.proxy(call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _begin_asgi(self) -> None:
        self.headers += [(b"content-length", value) for value in self._lengths]
        self.scope = {  # type: ignore[typeddict-item]  # the rest comes with the path
            "type": "http", "asgi": {"version": self.asgi_version, "spec_version": "2.3"}, "http_version": "1.1",
            "server": self.server, "client": self.client, "scheme": cast(Any, self.scheme), "root_path": self.root_path,
            "headers": self.headers, "state": self.app_state.copy(),
        }  # fmt: skip
        super().on_headers_complete()
        if self.draining:
            self.cycle.keep_alive = False

    def _url(self) -> tuple[str, bytes, bytes]:
        """The path, decoded and raw, and the query."""
        if self.url != self._known_url:
            parsed = httptools.parse_url(self.url)
            raw: bytes = parsed.path or b"/"
            path = raw.decode("latin-1")
            self._split_url = (unquote(path) if "%" in path else path, raw, parsed.query or b"")
            self._known_url = self.url
        return self._split_url

    def head(self, headers: Headers) -> Head:
        """What a request's headers say: read anew where they differ from the connection's last ones."""
        if self._known_head is None or headers != self._known_headers:
            self._known_head = read_head(headers)
            self._known_headers = headers
        return self._known_head


_NEVER: Final = float("inf")


def close_idle(connections: Any, now: float) -> None:
    """Close the connections that have, at ``now`` (loop time), been idle or brought a body for too long, but for those that
    nobody reads from; cut those whose caller takes nothing."""
    for connection in list(connections):
        if not isinstance(connection, Listener):
            continue
        if connection.unread(now):
            connection.transport.abort()
        elif connection.flow.read_paused:
            continue
        elif connection.idle_since < now - KEEP_ALIVE_SECONDS or connection.body_since < now - BODY_SECONDS:
            connection.transport.close()
