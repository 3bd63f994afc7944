"""The periodic work of a worker ends when it is stopped, whatever it is at."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.chores import Chores


def test_work_that_loses_a_cancellation_ends_all_the_same() -> None:
    """As a call of Redis can that is cancelled in the moment in which it has sent."""

    async def story() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        chores = Chores(cast(Any, SimpleNamespace()))
        task = asyncio.create_task(chores.every(0.0, work))
        await begun.wait()
        await chores.stop()
        task.cancel()
        async with asyncio.timeout(20):
            await task

    asyncio.run(story())


def test_work_that_fails_is_tried_again_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        times = 0
        again = asyncio.Event()

        async def work() -> None:
            nonlocal times
            times += 1
            if times == 1:
                raise ValueError("it was the first time")
            again.set()

        chores = Chores(cast(Any, SimpleNamespace()))
        task = asyncio.create_task(chores.every(0.0, work))
        async with asyncio.timeout(20):
            await again.wait()
        await chores.stop()
        task.cancel()

    asyncio.run(story())
    assert "work failed" in caplog.text
