"""The processes of a gateway: one or more workers on one port, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Final

import orjson
import uvicorn
import uvloop

from detectors import mapped
from gateway.audit.keys import BadKey
from gateway.audit.writer import AuditUnavailable
from gateway.config.files import Watched
from gateway.config.settings import Settings, SettingsError
from gateway.errands import ASIDE
from gateway.live import Live, build, prepare_streams
from gateway.services import FIXED, Services
from gateway.serving.app import LATER, App
from gateway.serving.listener import Listener, close_idle
from gateway.serving.port import address
from gateway.state.base import StateUnavailable
from gateway.sync.faults import CertificateFault
from gateway.telemetry.board import Board
from gateway.telemetry.metrics import Place
from gateway.telemetry.stderr import STANDARD_ERROR
from patterns.schema import PatternError

TICK_SECONDS: Final = 0.1
"""The time between two looks at what a server does now and then, as uvicorn has it."""

IDLE_TICKS: Final = 50
"""Ticks between two looks for connections that have been idle for too long."""

GC_THRESHOLD: Final = 10_000
"""New containers between two collections of the youngest generation. A request makes two hundred, nearly none in cycles."""

RESTART_SECONDS: Final = 1.0
"""The least time between two starts of one worker, so that one that cannot start does not keep a core busy."""

LOG_SECONDS: Final = 1.0
"""How long a process that ends waits for what is to be read in its log."""

LEAVE_SECONDS: Final = 1.0
"""How long a worker that has drained waits for threads that still work."""

UNFIT: Final = 78
"""What a worker ends with that cannot start (EX_CONFIG of sysexits.h): no other end of a process looks like it."""

PR_SET_PDEATHSIG: Final = 1
"""The kernel's number for it (prctl(2))."""

_CANNOT_START: Final = (PatternError, StateUnavailable, AuditUnavailable, BadKey, SettingsError, CertificateFault)

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """A uvicorn server that tells readiness first and stops accepting afterwards."""

    def __init__(self, config: uvicorn.Config, app: App, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config)
        self._app = app
        self._services = app.services
        self._loop = loop
        self._ending = asyncio.Event()

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._ending.wait()  # uvicorn's own would see it a tick later

    async def on_tick(self, counter: int) -> bool:
        if counter == 0:  # the socket answers
            self._app.load().add_done_callback(_keep_no_bytecode)
        if counter % IDLE_TICKS == 0:
            close_idle(self.server_state.connections, self._loop.time())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Called by the interpreter between two instructions of whatever runs. uvicorn's own would raise the signal again
        # when it has ended, and so end the process before the records in the queue are written.
        if self._services.draining:  # the second signal means now
            self.should_exit = self.force_exit = True
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ending.set)
            return
        self._services.draining = True
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        limits = self._services.live.settings.limits  # as they are now, not as they were at the start
        self.config.timeout_graceful_shutdown = math.ceil(limits.drain_seconds)
        self._loop.call_later(limits.ready_grace_seconds, self._end)
        if self._services.sync is not None:
            self._services.sync.stand_back()

    def _end(self) -> None:
        self.should_exit = True
        self._ending.set()


def _keep_no_bytecode(_: object) -> None:
    """What is loaded from now on is not kept compiled: on a full disk Python before 3.12.8 keeps the half that found room, and
    no process after could load it."""
    sys.dont_write_bytecode = True


class _JsonLines(logging.Formatter):
    """One JSON object a line. Messages hold no prompt text; that is the rule everywhere in the gateway."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _Handler(logging.Handler):
    """Hands lines to the thread that writes them."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            STANDARD_ERROR.write([self.format(record).encode()])
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        STANDARD_ERROR.drain(LOG_SECONDS)


def log_to_stderr() -> None:
    """JSON lines to standard error."""
    handler = _Handler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def serve(settings: Settings, config: Path | None, workers: int, listener: socket.socket) -> int:
    """Serve until a signal ends it; returns the exit code."""
    mapped.set_memory_apart()
    log_to_stderr()
    if workers == 1:
        return _work(settings, config, listener, None)
    files = Watched(config, settings, FIXED)
    try:
        packs = build(settings, 1, time.time())  # before there are workers, so that it is in memory once for all of them
        prepare_streams(packs)
        for module in LATER:
            import_module(module)
    except _CANNOT_START as error:
        _log.error("cannot start: %s", error)
        return 1
    _settle()
    return _supervise(settings, config, listener, workers, packs, files)


def _work(
    settings: Settings, config: Path | None, listener: socket.socket, place: Place | None,
    packs: Live | None = None, files: Watched | None = None, again: bool = False,
) -> int:  # fmt: skip
    """Be one worker.

    Args:
        packs: what the supervisor built of the settings for all workers. files: theirs, as they were before that.
        again: whether this one stands in for another.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run_worker(Services(settings, config, place, packs, files), listener, again))
    except _CANNOT_START as error:
        _log.error("cannot start: %s", error)
        return 1


async def _run_worker(services: Services, listener: socket.socket, again: bool) -> int:
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(thread_name_prefix=ASIDE)
    loop.set_default_executor(pool)
    await services.start()
    if again:
        await services.reload()  # the others may have taken a new configuration since this process knew it
    app = App(services)
    server = _Server(
        uvicorn.Config(
            app,
            http=Listener,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            h11_max_incomplete_event_size=None,
        ),
        app,
        loop,
    )
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = asyncio.ensure_future(services.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    _settle()
    gc.set_threshold(GC_THRESHOLD)
    gc.enable()
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn puts back what it finds: what the end writes down is written whole
        signal.signal(number, server.handle_exit)
    _announce(services, listener)
    try:
        await server.serve(sockets=[listener])
    finally:
        await services.close()
    await _leave(pool)
    return 0


async def _leave(pool: ThreadPoolExecutor) -> None:
    """Wait a moment for threads that still work (a compilation, a trial of what was learnt), and end without them: what they
    would bring is not wanted any more, and what they write is written whole or not at all."""
    pool.shutdown(wait=False, cancel_futures=True)
    until = time.monotonic() + LEAVE_SECONDS
    while any(thread.name.startswith(ASIDE) for thread in threading.enumerate()):
        if time.monotonic() > until:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)
        await asyncio.sleep(0.02)


def _settle() -> None:
    """What stands now stays: the collector need not look at patterns and modules at any turn, and the system gets back what
    building them took. A look before that finds a thousand small things to free, and takes a fifteenth of a start."""
    gc.freeze()
    mapped.let_go()


def _announce(services: Services, listener: socket.socket) -> None:
    generation = services.live.engine.generation
    _log.info(
        "serving",
        extra={"fields": {"address": address(listener), "pid": os.getpid(), "generation": generation.number,
                          "patterns": len(generation.patterns), "digest": generation.digest[:12]}},
    )  # fmt: skip


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM when the supervisor is killed outright: nobody else would end this worker or start it again,
    and it would keep the port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _supervise(
    settings: Settings, config: Path | None, listener: socket.socket, workers: int, packs: Live, files: Watched
) -> int:
    """Keep ``workers`` processes alive; pass signals on; end when they have ended. Where one of the first cannot start, none is
    to: nothing but a person mends that, and who calls would wait at a port behind which nobody is."""
    alive: dict[int, tuple[int, float, bool]] = {}
    board = Board(workers)
    ending = unfit = False

    def start(number: int, again: bool = False) -> None:
        pid = os.fork()
        if pid == 0:
            for taken in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(taken, signal.SIG_DFL)
            _end_with_parent()
            code = _work(settings, config, listener, Place(board, number), packs, files, again)
            logging.shutdown()
            os._exit(UNFIT if code else 0)
        alive[pid] = number, time.monotonic(), again

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal ending
        ending = ending or number != signal.SIGHUP
        if ending:  # or the kernel would go on taking connections for us when no worker does any more
            listener.close()
        for pid in list(alive):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    for place in range(workers):
        start(place)
    while alive:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        if pid not in alive:  # in a container this is process 1, to which all that lost its parent is given
            continue
        place, began, again = alive.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        if not ending and not again and code == UNFIT:
            unfit = True
            pass_on(signal.SIGTERM, None)
        if not ending:
            _log.error("a worker ended with %d and is started again", code)
            time.sleep(max(0.0, RESTART_SECONDS - (time.monotonic() - began)))
        if not ending:
            start(place, again=True)
    return 1 if unfit else 0
