"""How long the interpreter is held while all patterns of a store are replaced: requests wait so long for it at most."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.swaps import made, opened
from detectors.aside import yielded
from gateway import live
from gateway.config.settings import Settings
from gateway.serving.server import GC_THRESHOLD

BEAT_SECONDS: Final = 0.001
"""How often another thread asks for the interpreter."""


def held_ms(data_dir: Path, count: int, times: int) -> list[float]:
    """Milliseconds for each time that ``count`` patterns are replaced, as a worker does it: read, compiled, let go.

    Counted is the CPU that this process spends between two beats of another thread, so that neighbours hardly count: only where
    they keep that thread from a core.
    """
    serving = live.build(Settings(data_dir=data_dir), 1, time.time())
    gc.collect()
    gc.freeze()  # as a worker that serves
    gc.set_threshold(GC_THRESHOLD)
    writer, reader = opened(data_dir), opened(data_dir)
    found = []
    for number in range(times):
        writer.revise(made(count, 5_000 + number), "bench", f"held {number}", time.time())
        gc.collect()  # a worker has not what another process wrote with
        gc.freeze()
        with _beats() as gaps:
            yielded(reader.poll)
            old = [serving]
            serving = yielded(live.renew, serving, number + 2, time.time(), reader.patterns())
            yielded(live.let_go, old)
        found.append(1000 * max(gaps, default=0.0))
    writer.close()
    reader.close()
    return found


@contextmanager
def _beats() -> Iterator[list[float]]:
    """Seconds of this process's CPU between two beats."""
    gaps: list[float] = []
    ended = threading.Event()

    def beat() -> None:
        last = time.process_time()
        while not ended.wait(BEAT_SECONDS):
            now = time.process_time()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield gaps
    finally:
        ended.set()
        thread.join()
