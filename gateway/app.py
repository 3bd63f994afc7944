"""What a worker serves: the proxy, whose requests the listener hands over, and the control plane behind ASGI."""

from __future__ import annotations

from typing import Any

from gateway.admin import control_plane
from gateway.inbound import Receive, Scope, Send
from gateway.proxy import Proxy
from gateway.services import Services


class App:
    """One worker's application: ``proxy`` is the data plane, the object itself the ASGI callable of all else."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.proxy = Proxy(services)
        self._control = control_plane(services)
        services.metrics.gauge(
            "portcullis_in_flight", "Requests in flight.", (), lambda: {(): float(self.proxy.in_flight)}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        control: Any = self._control
        await control(scope, receive, send)
