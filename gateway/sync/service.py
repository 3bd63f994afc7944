"""The sync service of a gateway: sockets, timers, the store and the node brought together. It decides nothing itself.

Of the workers on one machine, which share a store, one runs it: whoever holds the lock on a file. The others follow the
store, and one of them takes over when that worker ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, Final

from detectors.aside import yielded
from gateway.sync import certificates, frames
from gateway.sync.addresses import bound, joined, split
from gateway.sync.applier import APPLIERS, Applier
from gateway.sync.certificates import Credentials, Files
from gateway.sync.commands import Apply, Close, Command, Dial, Judge, Send, Told, Warn
from gateway.sync.desk import Desk, Hears
from gateway.sync.dialer import Dialer
from gateway.sync.faults import CertificateFault
from gateway.sync.frames import FrameError, Reader
from gateway.sync.ledger import Ledger
from gateway.sync.membership import Directory
from gateway.sync.node import TICK_SECONDS, Node
from gateway.sync.quic import QuicEndpoint
from gateway.sync.settings import SyncSettings
from gateway.sync.tcp import TcpEndpoint
from gateway.sync.turn import Turn
from gateway.sync.wire import MAX_UNSENT, Wire
from patterns.entries import Entry
from patterns.store import Store

DISCOVER_SECONDS: Final = 10.0
"""How often DNS is asked who there is."""

POLL_SECONDS: Final = 0.1
"""How often the store's file is looked at for what other processes wrote: another worker's promotion, the command line's."""

RENEWAL_SECONDS: Final = 5.0
"""How often certificates are looked at."""

STRANGER_SECONDS: Final = 1.0
"""How often a refused stranger is logged; all are counted."""

_log = logging.getLogger(__name__)

Answers = Callable[[frames.Question], Awaitable[frames.Answer]]
"""What a gateway says of a peer's question."""


class Counts:
    """What the service counts besides the node's own numbers. ``answered`` are questions of peers, by what was said."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.sent = {"quic": 0, "tcp": 0}
        self.received = {"quic": 0, "tcp": 0}
        self.strangers = 0


class _Asking:
    """A question that somebody waits for."""

    def __init__(self, hears: Hears) -> None:
        self.hears = hears
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def told(self, answers: dict[str, frames.Answer | str], waiting: tuple[str, ...]) -> None:
        if not self.over.done() and (self.hears(answers, waiting) or not waiting):
            self.over.set_result(None)


class _Peer:
    """A wire and what was read from it."""

    def __init__(self, key: int, wire: Wire) -> None:
        self.key = key
        self.wire = wire
        self.readers = (Reader(), Reader())


class SyncService:
    """See the module. Make it, `start` it, `close` it."""

    def __init__(self, settings: SyncSettings, store: Store, data_dir: Path, answers: Answers | None = None) -> None:
        """
        Args:
            answers: what this gateway says of a peer's question; None where there is no gateway to judge.

        Raises:
            CertificateFault: there are none, or they cannot be used.
        """
        assert settings.listen is not None
        self.settings = settings
        self.store = store
        self.name = settings.node or socket.gethostname()
        self.counts = Counts()
        self.node: Node | None = None
        self._files = _files(settings, self.name)
        self.certificate = self._files.certificate
        self.credentials: Credentials = certificates.read(self._files)
        self._files_at = self._files.changed_at()
        self.data_dir = data_dir
        self._turn = Turn(data_dir / "sync.lock")
        self._random = Random()
        self._quic = QuicEndpoint(self, self.credentials)
        self._tcp = TcpEndpoint(self, self.credentials)
        self.dialer = Dialer(settings.transport, self._quic, self._tcp)
        self._answers = answers
        self._asking: dict[int, _Asking] = {}
        self._asked = 0
        self._desk = Desk(data_dir, self._ask)
        self._peers: dict[int, _Peer] = {}
        self._keys: dict[Wire, int] = {}
        self._next_key = 0
        self._told_at = float("-inf")
        self._store_files = str(store.path), f"{store.path}-wal"
        self._store_at: object = None
        self._polling: asyncio.Task[None] | None = None
        self._closing = False
        self._applier: Applier
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def runs(self) -> bool:
        """Whether it is this worker that speaks with other replicas."""
        return self.node is not None

    async def start(self) -> None:
        """Run the service here, or wait for the turn to.

        Raises:
            OSError: the address cannot be listened on.
        """
        self._loop = asyncio.get_running_loop()
        if self._turn.take():
            await self._run()
        else:
            self._spawn(self._turn.await_and(self._run))

    def stand_back(self) -> None:
        """This process is to end: if another worker speaks with other replicas, it is not to be this one's turn any more."""
        self._turn.stand_back()

    async def close(self) -> None:
        """Say farewell and end."""
        self._closing = True
        await self._desk.close()
        if self.node is not None:
            self._do(self.node.leave(time.time()))
            await asyncio.sleep(0.1 if self._peers else 0)  # what was said leaves this machine
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._quic.close()
        await self._tcp.close()
        await asyncio.sleep(0.01)  # sockets are let go by the loop's next turns
        self._turn.leave()

    async def ask(self, question: frames.Question, count: int, hears: Hears) -> None:
        """Ask so many replicas, over the worker that speaks with them; returns when ``hears`` has enough, all have answered, or
        the question's time is over. ``hears`` is called at least once, unless that worker is not there.

        Raises:
            OSError: no worker speaks with other replicas at this moment.
        """
        if self.runs:
            await self._ask(question, count, hears)
        else:
            await self._desk.ask(question, count, hears)

    async def _ask(self, question: frames.Question, count: int, hears: Hears) -> None:
        assert self.node is not None
        self._asked += 1
        key = self._asked
        asking = self._asking[key] = _Asking(hears)
        try:
            self._do(self.node.ask(key, question, count, time.time()))
            await asyncio.wait([asking.over], timeout=question.left_ms / 1000)
        finally:
            self._do(self.node.give_up(key))
            del self._asking[key]

    async def _judge(self, link: int, question: frames.Question) -> None:
        assert self.node is not None
        try:
            answer = frames.Answer(question.number, "failed") if self._answers is None else await self._answers(question)
        except Exception:  # whatever a peer's words break, it is answered, and other questions are
            _log.error("pattern sync: a question could not be judged", exc_info=False)
            answer = frames.Answer(question.number, "failed")
        self.counts.answered[answer.said] += 1
        self._do(self.node.judged(link, answer))

    # Begin

    async def _run(self) -> None:
        settings = self.settings
        assert settings.listen is not None
        host, port = split(settings.listen)
        udp, tcp = bound(host, port)
        await self._quic.listen(udp)
        await self._tcp.listen(tcp)
        port = tcp.getsockname()[1]
        address = settings.advertise or (f":{port}" if host in ("0.0.0.0", "::") else settings.listen)
        directory = Directory(self.name, address, settings.peers, self._random)
        self._unsubscribe = self.store.subscribe(self._store_changed)
        ledger = Ledger(self.store.entries().values(), time.time(), self.name)
        self.node = Node(
            self.name, self._random.randbytes(16), directory, ledger,
            quorum=settings.quorum, allowed=frozenset(settings.allow) or None,
        )  # fmt: skip
        _log.info("pattern sync: %s listens on %s with %d entries", self.name, settings.listen, len(ledger))
        self._applier = Applier(self.store, self.node, self._do)
        for _ in range(APPLIERS):
            self._spawn(self._applier.run())
        try:
            await self._desk.open()
        except OSError as error:
            _log.error("pattern sync: other workers of this machine cannot ask replicas: %s", error.strerror or error)
        self._every(TICK_SECONDS, self._tick)
        self._every(POLL_SECONDS, self._poll)
        self._every(RENEWAL_SECONDS, self._look_at_certificates)
        if settings.discover is not None:
            self._every(DISCOVER_SECONDS, lambda: self._spawn(self._discover()))

    def _every(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something now and every so many seconds, by timers: cheaper for an idle replica than a task that sleeps."""
        if not self._closing:
            self._loop.call_later(seconds, self._every, seconds, work)
            work()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("pattern sync: a task failed", exc_info=error)

    # Periodic

    def _tick(self) -> None:
        assert self.node is not None
        self._do(self.node.tick(time.time()))
        over_tcp = {link.dialed for link in self.node.links.values() if link.transport == "tcp" and link.dialed}
        for address in self.dialer.due(over_tcp, time.monotonic()):
            self._spawn(self.dialer.upgrade(address))

    def _poll(self) -> None:
        changed = _changed_at(self._store_files)
        if changed != self._store_at and (self._polling is None or self._polling.done()):
            self._store_at = changed
            self._polling = self._spawn(asyncio.to_thread(yielded, self.store.poll))

    def _look_at_certificates(self) -> None:
        changed = self._files.changed_at()
        if not changed or changed == self._files_at:
            return
        try:
            credentials = certificates.read(self._files)
            self._tcp.renew(credentials)
            self._quic.renew(credentials)
        except (CertificateFault, OSError) as error:
            _log.error("pattern sync: the new certificate is refused and the old one serves on: %s", error)
        else:
            self.credentials = credentials
            _log.info("pattern sync: certificate renewed")
        self._files_at = changed

    async def _discover(self) -> None:
        assert self.node is not None
        assert self.settings.discover is not None
        host, port = split(self.settings.discover)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:  # the second where it is no name: a label is empty or too long
            _log.warning("pattern sync: DNS does not know %s: %s", host, getattr(error, "strerror", None) or error)
            return
        self.node.directory.found(joined(str(info[4][0]), port) for info in found)

    # Wires

    def wire_opened(self, wire: Wire, names: tuple[str, ...], dialed: str | None) -> None:
        assert self.node is not None
        self._next_key += 1
        key = self._keys[wire] = self._next_key
        self._peers[key] = _Peer(key, wire)
        self._do(self.node.opened(key, names, dialed, wire.transport, wire.host, time.time(), wire.version))

    def wire_received(self, wire: Wire, data: bytes, bulk: bool) -> None:
        key = self._keys.get(wire)
        peer = self._peers.get(key) if key is not None else None
        if peer is None or self.node is None:
            return
        self.counts.received[wire.transport] += len(data)
        got = peer.readers[bulk].feed(data)
        while peer.key in self._peers:  # of one whose connection ended at a frame the others are not looked at
            try:
                frame = next(got, None)
            except FrameError as error:
                self._do(self.node.broken(peer.key, str(error), time.time()))
                return
            if frame is None:
                return
            self._do(self.node.received(peer.key, frame, time.time()))

    def wire_closed(self, wire: Wire, reason: str) -> None:
        key = self._keys.pop(wire, None)
        if key is not None and self.node is not None:
            self._peers.pop(key, None)
            self._do(self.node.closed(key, time.time()))

    def wire_refused(self, reason: str, host: str) -> None:
        self.counts.strangers += 1
        if (now := time.monotonic()) >= self._told_at + STRANGER_SECONDS:
            _log.warning(
                "pattern sync: refused a connection from %s: %s (%d so far)", host, reason, self.counts.strangers
            )
            self._told_at = now

    # Commands

    def _do(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Send(link, frame):
                    peer = self._peers.get(link)
                    if peer is not None:
                        data = frames.encode(frame)
                        self.counts.sent[peer.wire.transport] += len(data)
                        peer.wire.send(data, command.bulk)
                        if peer.wire.unsent > MAX_UNSENT:
                            self._do(self.node.unread(link, time.time()) if self.node else ())
                case Close(link, reason):
                    peer = self._peers.pop(link, None)
                    if peer is not None:
                        peer.wire.close(reason)
                case Dial(address):
                    self._spawn(self._dial(address))
                case Judge(link, question):
                    self._spawn(self._judge(link, question))
                case Told(key, answers, waiting):
                    if (asking := self._asking.get(key)) is not None:
                        asking.told(answers, waiting)
                case Apply():
                    self._applier.add(command)
                case Warn(node, text):
                    _log.warning("pattern sync: %s: %s", node, text)

    async def _dial(self, address: str) -> None:
        assert self.node is not None
        try:
            await self.dialer.dial(address)
        except (OSError, UnicodeError) as error:  # the second where its host is no name
            _log.debug("pattern sync: %s cannot be reached: %s", address, error)
            self._do(self.node.unreachable(address, time.time()))

    # The store

    def _store_changed(self, _generation: int, entries: tuple[Entry, ...]) -> None:
        """Called on whichever thread noticed."""
        self._loop.call_soon_threadsafe(self._changed, entries)

    def _changed(self, entries: tuple[Entry, ...]) -> None:
        if self.node is not None:
            self._do(self.node.changed(entries, time.time()))


def _changed_at(files: Iterable[str]) -> list[tuple[int, int]]:
    """When files last changed, and their sizes."""
    found = []
    for file in files:
        try:
            stat = os.stat(file)
        except OSError:
            continue
        found.append((stat.st_mtime_ns, stat.st_size))
    return found


def _files(settings: SyncSettings, node: str) -> Files:
    if settings.development is not None:
        return certificates.development(settings.development, node)
    assert settings.ca
    assert settings.certificate
    assert settings.key
    return Files(settings.ca, settings.certificate, settings.key)
