"""The periodic work of a worker ends when it is stopped, whatever it is at."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from detectors.aside import YOUNG
from gateway.chores import Chores
from gateway.config.settings import Settings
from gateway.learning.storage import open_store
from gateway.serving.server import GC_THRESHOLD
from gateway.state.base import StateUnavailable


def test_work_that_loses_a_cancellation_ends_all_the_same() -> None:
    """As a call of Redis can that is cancelled in the moment in which it has sent."""

    async def story() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        chores = Chores(cast(Any, SimpleNamespace()))
        task = asyncio.create_task(chores.every(0.0, work, "it"))
        await begun.wait()
        await chores.stop()
        task.cancel()
        async with asyncio.timeout(20):
            await task

    asyncio.run(story())


@pytest.mark.parametrize(("fault", "traced"), [(ValueError("what is this"), True), (StateUnavailable("state", "gone"), False)])
def test_work_that_fails_is_tried_again_and_told_once(
    caplog: pytest.LogCaptureFixture, fault: Exception, traced: bool
) -> None:
    async def story() -> None:
        times = 0
        again = asyncio.Event()

        async def work() -> None:
            nonlocal times
            times += 1
            if times <= 5:
                raise fault
            if times == 7:
                again.set()

        chores = Chores(cast(Any, SimpleNamespace()))
        task = asyncio.create_task(chores.every(0.0, work, "it"))
        async with asyncio.timeout(20):
            await again.wait()
        await chores.stop()
        task.cancel()

    caplog.set_level(logging.INFO)
    asyncio.run(story())
    told = [record for record in caplog.records if record.name == "gateway.chores"]
    assert [record.getMessage() for record in told] == [
        f"it fails (1 in a row, every 0 s): {fault}", "it works again; it had failed 5 in a row",
    ], "twice a second it would fill the log for as long as the state is gone"  # fmt: skip
    assert bool(told[0].exc_info) == traced


def test_a_look_at_a_pattern_store_that_did_not_change_lets_no_collector_look(tmp_path: Path) -> None:
    """It came twice a second, and stopped all threads for as long as it takes to look through what they had made lately."""

    async def story() -> list[str]:
        store = open_store(Settings(data_dir=tmp_path))
        services = SimpleNamespace(store=store, served=store.generation)
        chores, looks = Chores(cast(Any, services)), list[str]()
        await chores._look_at_store()  # its thread is there from now on
        young = [[number] for number in range(3 * YOUNG)]
        gc.callbacks.append(note := lambda phase, _: looks.append(phase))
        try:
            await chores._look_at_store()
        finally:
            gc.callbacks.remove(note)
        assert young
        store.close()
        return looks

    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(GC_THRESHOLD)  # as a worker has it
    try:
        assert asyncio.run(story()) == []
    finally:
        gc.set_threshold(*before)
