"""Who may use the control plane: a dependency for each route."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from gateway.admin.queries import check_query
from gateway.config.fields import is_loopback, named_host
from gateway.console.sessions import COOKIE, CSRF_HEADER, Session, right_token
from gateway.keys import EVERY_TENANT, LOCAL_OPERATOR, Keyring, Permission, Principal
from gateway.services import Services
from gateway.serving.credentials import AmbiguousCredential, gateway_key
from gateway.state.base import StateUnavailable

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def require(services: Services, permission: Permission) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that lets only those through who may do ``permission``, by a key or by the console's session, and who ask
    in the query for nothing that the call does not know."""

    async def check(request: Request) -> Principal:
        principal = await who(request)
        check_query(request)
        return principal

    async def who(request: Request) -> Principal:
        try:
            token = gateway_key(request.scope["headers"], request.scope["query_string"])
        except AmbiguousCredential as error:
            raise HTTPException(400, str(error)) from None
        ring = await keyring(services)
        if ring.open and token is None:
            if not services.live.settings.is_loopback:
                raise HTTPException(401, "the control plane is closed until a key was made: portcullis keys create")
            if not local_operator(request, services):
                raise HTTPException(421, "without keys the control plane answers only to a loopback address")
            check_origin(request)
            request.state.principal = LOCAL_OPERATOR
            return LOCAL_OPERATOR
        if ring.open:
            raise HTTPException(401, "the key is not known")
        principal = ring.find(token, time.time()) if token is not None else await _signed_in(request, services)
        if principal is None:
            raise HTTPException(
                401, "send a key (Authorization: Bearer pc_...) or sign in to the console", {"www-authenticate": "Bearer"}
            )
        request.state.principal = principal
        if not principal.may(permission):
            raise HTTPException(403, f"this key lacks the permission {permission.value}")
        return principal

    return check


def require_all(services: Services, permission: Permission) -> Callable[[Request], Awaitable[Principal]]:
    """As `require`, for what concerns the traffic of all tenants: a key of one tenant decides nothing about the others'."""
    check = require(services, permission)

    async def check_all(request: Request) -> Principal:
        principal = await check(request)
        if not principal.sees(EVERY_TENANT):
            raise HTTPException(403, "patterns act on all tenants, and this key is of one: ask for one of tenant '*'")
        return principal

    return check_all


async def keyring(services: Services) -> Keyring:
    """The keys as a worker knows them. While there are none it looks again: the first one, made anywhere, closes at once.

    Raises:
        StateUnavailable: there was no key, and whether there is one now cannot be told.
    """
    if services.keys.ring.open:
        await services.keys.refresh()
    return services.keys.ring


def known(request: Request, services: Services) -> bool:
    """Whether a request shows a key or session that is good for anything, or needs none."""
    ring = services.keys.ring
    try:
        token = gateway_key(request.scope["headers"], request.scope["query_string"])
    except AmbiguousCredential:
        return False
    if token is not None:
        return ring.find(token, time.time()) is not None
    return local_operator(request, services) if ring.open else session_of(request, services, time.time()) is not None


def local_operator(request: Request, services: Services) -> bool:
    """Whether a caller of a gateway without keys is on this machine: over loopback, and under a name of loopback's.

    `Services.host_is_ours` asks for less. A reverse proxy on this machine passes callers on from anywhere, under a name of
    ``allowed_hosts``, and under ``open`` a web page may come under any (DNS rebinding): for the data plane alone.
    """
    host = request.headers.get("host", "").encode("latin-1")
    return services.live.settings.is_loopback and is_loopback(named_host(host))


def session_of(request: Request, services: Services, now: float) -> Session | None:
    """The console's session that a request belongs to; somebody may have signed out of it."""
    cookie = request.cookies.get(COOKIE)
    return services.sessions.read(cookie, now) if cookie else None


async def open_session(request: Request, services: Services, now: float) -> Session | None:
    """The console's session that a request belongs to, unless somebody signed out of it: a copy of its cookie opens nothing
    then. While the state does not answer it is taken for open, as keys are that were revoked meanwhile."""
    session = session_of(request, services, now)
    if session is None:
        return None
    try:
        [ended] = await services.state.fleeting([session.ended], now)
    except StateUnavailable:
        return session
    return session if ended is None else None


def check_origin(request: Request) -> None:
    """Refuse what a page of another site sends on its visitor's behalf, where no key of its own is asked for.

    Browsers name the page's origin with every such request (Fetch standard, section 3.2), and no page can change that.

    Raises:
        HTTPException: the origin is not this gateway's.
    """
    origin = request.headers.get("origin")
    if request.method not in _SAFE and origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "this request comes from a page of another site")


async def _signed_in(request: Request, services: Services) -> Principal | None:
    now = time.time()
    session = await open_session(request, services, now)
    if session is None:
        return None
    check_origin(request)
    if request.method not in _SAFE and not right_token(session, request.headers.get(CSRF_HEADER, "")):
        raise HTTPException(403, f"the header {CSRF_HEADER} is missing or wrong: load the console anew")
    return services.keys.ring.bearer(session.key, now)
