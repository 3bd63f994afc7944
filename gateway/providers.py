"""The providers as the configuration names them: where a request goes, with whose key, and where next when that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway import echo_server
from gateway.config.settings import Settings, SettingsError
from gateway.config.settings import Target as TargetSettings
from gateway.config.settings import Upstream as UpstreamSettings
from gateway.faults import Fault, OwnFault, UpstreamFault
from gateway.serving.credentials import without_key
from gateway.serving.inbound import Head, Headers, asked
from gateway.upstream.breaker import State as BreakerState
from gateway.upstream.client import TURNED_AWAY, Tally, Upstream
from gateway.upstream.connection import Asker, Timeouts
from gateway.upstream.dial import tls_context
from gateway.upstream.errors import BreakerOpen, Refused, RequestRefused, TimedOut, TooBusy, UpstreamError
from gateway.upstream.pool import PoolLimits
from gateway.upstream.reply import Reply
from gateway.upstream.retry import RetryPolicy
from gateway.wires.passthrough import Table

if TYPE_CHECKING:
    from gateway.websocket.asking import Opened

NAMES: Final = ("openai", "anthropic", "gemini")
ECHO: Final = "echo:"
CALLER: Final = "caller"

_KEY_HEADERS: Final = {"openai": b"authorization", "anthropic": b"x-api-key", "gemini": b"x-goog-api-key"}
_OPENAI_PREFIX: Final = b"/v1"


class Sent:
    """A reply, and how it was come by."""

    __slots__ = ("attempts", "reply", "upstream")

    def __init__(self, reply: Reply, upstream: str, attempts: int) -> None:
        self.reply = reply
        self.upstream = upstream
        self.attempts = attempts


class Provider:
    """One provider: its first address and its fallbacks."""

    def __init__(self, name: str, targets: Sequence[Upstream], callers_key: bool) -> None:
        """``callers_key``: the callers' own provider keys are passed through."""
        self.name = name
        self.callers_key = callers_key
        self.targets = targets

    async def send(
        self, method: bytes, path: bytes, query: bytes, head: Head, body: bytes, streaming: bool, asker: Asker | None = None
    ) -> Sent:
        """Send a request to the first address that takes it.

        The next address is tried where the one before could not be reached, was known to be down, or answered that it is
        unavailable or takes no more: in each case before any byte of a reply was passed on. ``asker`` is told
        while the request has no answer.

        Raises:
            UpstreamError: of the last address.
        """
        attempts = 0
        for number, upstream in enumerate(self.targets, 1):
            target, headers = self._asked(upstream, path, query, head)
            last = number == len(self.targets)
            try:
                reply = await upstream.send(method, target, headers, body, streaming=streaming, asker=asker)
            except (UpstreamError, RequestRefused) as error:
                attempts += error.attempts if isinstance(error, UpstreamError) else 0
                if last or not _may_move_on(error):
                    raise
                continue
            attempts += reply.attempts
            if reply.status in TURNED_AWAY and not last:
                reply.close()
                continue
            return Sent(reply, upstream.name, attempts)
        raise AssertionError("a provider has at least one address")

    async def connect(
        self, path: bytes, query: bytes, head: Head, protocols: list[str], message_bytes: int
    ) -> tuple[Opened, str]:
        """Open a WebSocket at the first address that takes it; gives that address's name, too.

        Raises:
            Refused: an address answered with something else. RequestRefused: as `send`.
            UpstreamError: of the last address.
        """
        for number, upstream in enumerate(self.targets, 1):
            target, headers = self._asked(upstream, path, query, head)
            try:
                return await upstream.connect(target, headers, protocols, message_bytes), upstream.name
            except (UpstreamError, RequestRefused) as error:
                unavailable = isinstance(error, Refused) and error.status in TURNED_AWAY
                if number == len(self.targets) or not (unavailable or _may_move_on(error)):
                    raise
        raise AssertionError("a provider has at least one address")

    def _asked(
        self, upstream: Upstream, path: bytes, query: bytes, head: Head
    ) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
        """The target below an address's path, and the caller's headers that go on; no key of his to an address with its own."""
        callers_key = self.callers_key and not upstream.has_key
        # OpenAI's base URLs contain the /v1 that the others' leave to the path.
        target = path.removeprefix(_OPENAI_PREFIX) if self.name == "openai" else path
        if query and not callers_key:
            query = without_key(query)
        if query and (query := asked(query)):
            target += b"?" + query
        return target, head.every if callers_key else head.forward

    def fault(self, error: UpstreamError) -> Fault:
        """What a caller is told of a failed exchange."""
        if isinstance(error, TimedOut):
            return UpstreamFault(504, "upstream_timeout", f"the upstream {self.name} did not answer in time: {error}")
        if isinstance(error, BreakerOpen):
            wait = b"%d" % max(1, round(error.retry_after))
            return UpstreamFault(
                503, "upstream_unavailable", f"the upstream {self.name} is down; it is tried again soon",
                ((b"retry-after", wait),),
            )  # fmt: skip
        if isinstance(error, TooBusy):
            return OwnFault(503, "overloaded", "too many requests wait for an upstream", ((b"retry-after", b"1"),))
        return UpstreamFault(502, "upstream_error", f"the upstream {self.name} failed: {error}")


class Providers:
    """All providers of a worker; with none configured, the echo model stands in for each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._echo: echo_server.EchoServer | None = None
        self._providers: dict[str, Provider] = {}
        self.tallies: dict[str, Tally] = {}
        """By upstream, since the start: another configuration begins no other count."""
        self.passthrough = Table({})

    async def start(self) -> None:
        """Make the providers; starts the echo model where an address names it."""
        await self.replace(self._settings)

    async def replace(self, settings: Settings) -> None:
        """Take other settings; requests under way finish with the old ones.

        Raises:
            SettingsError: an address, its certificates or its key cannot be used.
        """
        configured = dict(settings.upstreams) or {name: UpstreamSettings(base_url=ECHO) for name in NAMES}
        targets = [target for one in configured.values() for target in (one, *one.fallbacks)]
        if self._echo is None and any(target.base_url == ECHO for target in targets):
            self._echo = await echo_server.start()
        fresh: dict[str, Provider] = {name: self._make(name, one) for name, one in configured.items()}
        old, self._providers = self._providers, fresh
        self.passthrough = Table({name: one.passthrough for name, one in configured.items()})
        _close(old)

    def get(self, name: str) -> Provider | None:
        return self._providers.get(name)

    async def close(self) -> None:
        _close(self._providers)
        if self._echo is not None:
            await self._echo.close()

    def breakers(self) -> dict[tuple[str, ...], float]:
        """By upstream, 1 where its circuit breaker is not closed."""
        now = asyncio.get_running_loop().time()
        return {(one.name,): float(one.breaker.state(now) is not BreakerState.CLOSED) for one in self._upstreams()}

    def connections(self) -> dict[tuple[str, ...], float]:
        """By upstream, connections that stand or are being made."""
        return {(one.name,): float(one.pool.in_use + one.pool.idle) for one in self._upstreams()}

    def attempts(self) -> dict[tuple[str, ...], float]:
        """By upstream, attempts."""
        return {(name,): float(tally.attempts) for name, tally in self.tallies.items()}

    def retries(self) -> dict[tuple[str, ...], float]:
        """By upstream, attempts beyond the first."""
        return {(name,): float(tally.retries) for name, tally in self.tallies.items()}

    def errors(self) -> dict[tuple[str, ...], float]:
        """By upstream and kind, attempts that failed."""
        return {(name, kind): float(count) for name, tally in self.tallies.items() for kind, count in tally.errors.items()}

    def _upstreams(self) -> list[Upstream]:
        return [upstream for provider in self._providers.values() for upstream in provider.targets]

    def _make(self, name: str, settings: UpstreamSettings) -> Provider:
        try:
            targets = [
                self._target(name if not number else f"{name}-{number + 1}", name, settings, target)
                for number, target in enumerate((settings, *settings.fallbacks))
            ]
        except (OSError, ValueError, RequestRefused) as error:
            raise SettingsError(f"upstreams.{name}: {error}") from None
        return Provider(name, targets, _key(settings) == CALLER)

    def _target(self, label: str, name: str, settings: UpstreamSettings, target: TargetSettings) -> Upstream:
        base_url = target.base_url
        if base_url == ECHO:
            assert self._echo is not None
            base_url = self._echo.base_url(name)
        headers: Headers = []
        key = _key(target)
        if key and key != CALLER:
            value = f"Bearer {key}" if name == "openai" else key
            headers.append((_KEY_HEADERS[name], value.encode("latin-1")))
        seconds = settings.timeouts
        return Upstream(
            label,
            base_url,
            headers,
            timeouts=Timeouts(seconds.connect, seconds.first_byte, seconds.idle, seconds.total),
            tls=tls_context(settings.ca_file) if base_url.startswith("https:") else None,
            limits=PoolLimits(connections=settings.connections),
            retries=RetryPolicy(attempts=settings.attempts),
            tally=self.tallies.setdefault(label, Tally()),
        )


def _may_move_on(error: Exception) -> bool:
    """Whether another address may get the request: the one before cannot have acted on it."""
    if isinstance(error, BreakerOpen | TooBusy):
        return True
    return getattr(error, "kind", "") in ("connect", "timeout_connect", "timeout_queue")


def _key(target: TargetSettings) -> str:
    return target.api_key.get_secret_value() if target.api_key else ""


def _close(providers: dict[str, Provider]) -> None:
    for provider in providers.values():
        for upstream in provider.targets:
            upstream.close()
