"""The periodic work of a worker ends when it is stopped, whatever it is at."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

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
