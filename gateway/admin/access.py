"""Who may use the control plane: a dependency for each route."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request

from gateway.credentials import AmbiguousCredential, gateway_key
from gateway.keys import LOCAL_OPERATOR, Permission, Principal
from gateway.services import Services, is_loopback


def require(services: Services, permission: Permission) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that lets only those through who may do ``permission``."""

    async def check(request: Request) -> Principal:
        try:
            token = gateway_key(request.scope["headers"], request.scope["query_string"])
        except AmbiguousCredential as error:
            raise HTTPException(400, str(error)) from None
        ring = services.keys.ring
        if ring.open and token is None:
            settings = services.live.settings
            if not is_loopback(settings):
                raise HTTPException(401, "the control plane is closed until a key was made: portcullis keys create")
            host = request.headers.get("host", "").encode()
            if not services.host_is_ours(host):
                raise HTTPException(421, "without keys the control plane answers only to a loopback address")
            request.state.principal = LOCAL_OPERATOR
            return LOCAL_OPERATOR
        if ring.open:
            raise HTTPException(401, "the key is not known")
        principal = ring.find(token, time.time())
        if principal is None:
            raise HTTPException(401, "send a key: Authorization: Bearer pc_...", {"www-authenticate": "Bearer"})
        request.state.principal = principal
        if not principal.may(permission):
            raise HTTPException(403, f"this key lacks the permission {permission.value}")
        return principal

    return check
