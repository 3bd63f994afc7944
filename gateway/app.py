"""The ASGI callable: proxied paths go straight to the proxy, all others to the control plane's FastAPI application."""

from __future__ import annotations

from typing import Any

from gateway.admin import control_plane
from gateway.inbound import Receive, Scope, Send
from gateway.proxy import Proxy
from gateway.services import Services

FEEDBACK = "/v1/feedback"
"""Applications label with the key that they call with, so this one path beside the providers' is ours."""

PROVIDER_PREFIXES = ("/v1/", "/v1beta/", "/v1alpha/")


class App:
    """One worker's application. It serves between `startup` and `shutdown`."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.proxy = Proxy(services)
        self._control = control_plane(services)
        services.metrics.gauge(
            "portcullis_in_flight", "Requests in flight.", (), lambda: {(): float(self.proxy.in_flight)}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
        elif scope["path"].startswith(PROVIDER_PREFIXES) and scope["path"] != FEEDBACK:
            await self.proxy(scope, receive, send)
        else:
            control: Any = self._control
            await control(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Websockets are not served yet and are refused in their own terms."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "websockets are not served"})
