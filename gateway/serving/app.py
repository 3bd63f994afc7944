"""What a worker serves: the proxy, whose requests the listener hands over, and behind ASGI probes and the control plane.

The control plane takes half a second to load and build. It comes when the socket answers already, or with the first call of it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from importlib import import_module
from typing import Any, Final

from gateway.proxy import Proxy
from gateway.services import Services
from gateway.serving import health
from gateway.serving.inbound import Receive, Scope, Send

LATER: Final = ("gateway.admin", "gateway.realtime.session", "gateway.websocket.asking",
                "gateway.telemetry.prometheus")  # fmt: skip
"""What serving can begin without, and is loaded beside it: the control plane, realtime sessions, what writes metrics down."""

_log = logging.getLogger(__name__)


class App:
    """One worker's application: ``proxy`` is the data plane, the object itself the ASGI callable of all else."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.proxy = Proxy(services)
        self._control: asyncio.Future[Any] | None = None
        services.metrics.gauge(
            "portcullis_in_flight", "Requests in flight.", (), lambda: {(): float(self.proxy.in_flight)}
        )

    def load(self) -> asyncio.Future[Any]:
        """The control plane, which is loaded in a thread, once; again where that failed, for want of files or memory."""
        if self._control is None or (self._control.done() and (self._control.cancelled() or self._control.exception())):
            self._control = asyncio.ensure_future(asyncio.to_thread(_control_plane, self.services))
            self._control.add_done_callback(_loaded)
        return self._control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = health.PATHS.get(scope["path"]) if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else None
        if answer is not None:
            await health.send(answer(self.services), send)
            return
        control = await asyncio.shield(self.load())
        await control(scope, receive, send)


def _control_plane(services: Services) -> Any:
    for module in LATER:
        import_module(module)
    return import_module("gateway.admin").control_plane(services)


def _loaded(control: asyncio.Future[Any]) -> None:
    if control.cancelled():
        return
    if (error := control.exception()) is not None:
        _log.error("the control plane cannot be loaded", exc_info=error)
    gc.freeze()  # it stays, as all that was loaded before
