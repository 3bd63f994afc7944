"""What the stories of a worker share: the live configuration, state, keys, recorder, providers, metrics."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from detectors.aside import yielded
from detectors.engine import Engine
from gateway import live as live_module
from gateway.audit import records, witness
from gateway.audit.log import AuditLog, configuration
from gateway.audit.writer import AuditUnavailable
from gateway.chores import Chores
from gateway.config.configuration import load as load_settings
from gateway.config.fields import is_loopback, named_host
from gateway.config.files import Watched
from gateway.config.settings import Settings, SettingsError
from gateway.console.sessions import Sessions
from gateway.console.traffic import Traffic
from gateway.errands import Errands
from gateway.keys import ANYONE, EVERY_TENANT, Permission, Principal, Tenant
from gateway.learning.feeds import Feeds
from gateway.learning.series import register as register_learning
from gateway.learning.service import Learning
from gateway.learning.storage import open_store, signing
from gateway.learning.wording import Wording
from gateway.limits.limiter import Limiter
from gateway.live import Live
from gateway.providers import Provider, Providers
from gateway.records.recorder import Recorder
from gateway.redaction.threads import Threads
from gateway.redaction.vault import Vault
from gateway.screening.asking import Asking
from gateway.screening.policy import Policy
from gateway.screening.semantics import Semantics
from gateway.screening.verdicts import SharedVerdicts
from gateway.state.base import State, StateUnavailable
from gateway.state.keystore import KeyWatch
from gateway.state.opening import open_state
from gateway.state.resilient import ResilientState
from gateway.telemetry import gauges, vitals
from gateway.telemetry.metrics import Exposition, Metrics, Place
from gateway.telemetry.requestlog import RequestLog
from patterns.schema import PatternError
from patterns.store import Store

if TYPE_CHECKING:
    from gateway.notify.notifier import Notifier
    from gateway.sync.service import SyncService
    from gateway.telemetry.traces import Tracing

MAX_HOSTS: Final = 64
"""Host headers remembered as ours; a caller could otherwise fill memory with ports and addresses of loopback."""

_SECRET_NAME: Final = "stand-in-secret"

_log = logging.getLogger(__name__)


FIXED: Final = ("listen", "state", "data_dir", "secret", "open", "traces", "notify", "audit", "sync")
"""What cannot change while a gateway runs; the chart makes new pods for it."""


class Services:
    """Everything long-lived in a worker. Make it, `start` it, serve, `close` it."""

    def __init__(
        self, settings: Settings, config: Path | None, place: Place | None, packs: Live | None = None,
        files: Watched | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            place: where this worker shows the others its metrics; None where it is the only one.
            packs: what was built of the settings before, without the pattern store; None to build it here.
            files: the settings' files as they were before that.

        Raises:
            PatternError: the patterns cannot be compiled.
            CertificateFault: pattern sync has none that it could use.
        """
        self.config = config
        self._files = files or Watched(config, settings, FIXED)
        self.metrics = Metrics()
        self.store = open_store(settings)
        learnt, now = self.store.patterns(), time.time()
        self.live: Live = (
            live_module.build(settings, 1, now, learnt) if packs is None
            else live_module.renew(packs, 1, now, learnt) if learnt else packs
        )  # fmt: skip
        self.exposition = Exposition(self.metrics, place)
        self.state: State = _state(settings)
        self._shared = place is not None or isinstance(self.state, ResilientState)
        """Whether there may be other workers over this state."""
        self.keys = KeyWatch(self.state, _tenants(settings), open_when_empty=settings.is_loopback or settings.open)
        self.recorder = Recorder(self.state)
        self.audit = AuditLog(settings)
        self.providers = Providers(settings)
        self.request_log = RequestLog()
        self.errands = Errands()
        self.semantics = Semantics(lambda: self.live.settings.detection)
        self.learning = Learning(self.state, self.store, lambda: self.live, self._may, lambda: self.keys.ring.owners)
        stages = self.learning.stages
        self.feeds = Feeds(lambda: self.live.settings.learning.feeds, stages.propose_from_feed, stages.known)
        self.wording = Wording(self.learning.book, lambda: self.live, self.provider)
        self.asking = Asking(lambda: self.live, self.semantics, self.metrics)
        self.sync = self.asking.sync = _sync(settings, self.store, self.asking)
        self.verdicts = SharedVerdicts(self.state, self.semantics, lambda: self.live, self.asking.knowledge)
        self.limiter = Limiter(self.state, lambda: self.live.settings)
        self.threads = Threads(self.state)
        self.nobody: Principal = ANYONE
        self.sessions = Sessions(secrets.token_bytes(32))
        self.traffic = Traffic(self.exposition)
        self.draining = False
        self.state_error = ""
        self.reload_error = ""
        self.reloading_since: float | None = None
        """Since when a new configuration is made ready (UNIX seconds), for as long as it is."""
        self.store_error = _left_out(self.live)
        self._secret = b""
        self._vault_keys: dict[str, bytes] = {}
        self._hosts_seen: set[bytes] = set()
        self._reloading = asyncio.Lock()
        self.served = self.store.generation
        """The pattern store's generation that serves, or that cannot."""
        self._streams_ready: tuple[Engine, frozenset[str]] | None = None
        gauges.register(self)
        register_learning(self.metrics, self.learning, self.wording)
        self.tracing = _tracing(settings, self.metrics)
        self.notifier = _notifier(settings, self.exposition, self.metrics)
        vitals.register(self.metrics, lambda: self.live.settings.limits.in_flight)
        self._chores = Chores(self)

    def _may(self, by: str, permission: Permission) -> bool:
        """Whether somebody has a key that may do so for all tenants; without keys, everybody may."""
        ring = self.keys.ring
        keys = ring.bearers(by, time.time())
        return ring.open or any(key.may(permission) and key.sees(EVERY_TENANT) for key in keys)

    async def start(self) -> None:
        """Open the state and begin the periodic work.

        Raises:
            StateUnavailable: the state does not answer; a gateway does not start without it.
            SettingsError: pattern sync cannot listen where it should.
        """
        await self.state.ping()
        self._secret = await self._load_secret()
        self.learning.begin(self._secret, seals=self.live.settings.secret is not None)
        self.sessions = Sessions(hmac.digest(self._secret, b"\nconsole", "sha256"))  # no tenant's name begins so
        if self.live.settings.secret is not None:  # one that the state holds itself seals nothing
            self.threads.begin(self._secret)
            if self._shared:
                self.verdicts.begin(self._secret)
        await self.keys.refresh()
        await self.audit.start()
        await self.audit.event(records.CONFIGURATION, configuration(self.live, "start"))
        self.recorder.start()
        await self.providers.start()
        if self.sync is not None:
            await asyncio.to_thread(self.asking.knowledge, self.live)  # before a peer asks: it reads files
            try:
                await self.sync.start()
            except OSError as error:
                why = str(error.strerror or error).partition(" (while ")[0]  # what follows says the address once more
                raise SettingsError(f"sync.listen: {self.live.settings.sync.listen}: {why}") from None
        self.exposition.flush()
        if self.notifier is not None:
            self.notifier.start()
        self._chores.start()

    async def close(self) -> None:
        """Stop the periodic work, write what is queued, close all connections."""
        await self._chores.stop()
        self.errands.close()
        await self.learning.stop()
        await self.semantics.stop()
        await self.verdicts.stop()
        await self.limiter.stop()
        await self.threads.stop()
        if self.sync is not None:
            await self.sync.close()
        await self.recorder.close(5.0)
        await self.audit.close()
        await self.testify()
        await self.providers.close()
        if self.notifier is not None:
            await self.notifier.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
        await self.state.close()
        self.store.close()
        self.exposition.flush()
        self.request_log.flush()

    def provider(self, name: str) -> Provider | None:
        return self.providers.get(name)

    def vault(self, tenant: str = "", policy: Policy | None = None) -> Vault:
        """An empty vault whose stand-ins nobody outside this tenant can make."""
        key = self._vault_keys.get(tenant)
        if key is None:
            key = self._vault_keys[tenant] = hmac.digest(self._secret, tenant.encode(), "sha256")
        return Vault(key) if policy is None else Vault(key, policy.redaction, policy.restore)

    def host_is_ours(self, host: bytes) -> bool:
        """Whether a Host header names this gateway.

        A gateway without keys trusts whoever can reach it. A web page can reach loopback through a browser, under a
        name of its own (DNS rebinding), but it cannot forge the Host header.
        """
        if host in self._hosts_seen:
            return True
        settings = self.live.settings
        name = named_host(host)
        ours = settings.open or name in settings.allowed_hosts or is_loopback(name)
        if ours and len(self._hosts_seen) < MAX_HOSTS:
            self._hosts_seen.add(host)
        return ours

    async def reload(self) -> bool:
        """Take the configuration file as it is now; False where it is broken and the old one serves on."""
        async with self._reloading:
            self.reloading_since = time.time()
            try:
                return await self._reload()
            finally:
                self.reloading_since = None

    async def _reload(self) -> bool:
        self._files.look()
        _log.info("a new configuration is made ready; the old one serves on meanwhile")
        try:
            settings = load_settings(self.config)
            self._files.named(settings)
            self._check_fixed(settings)
            trust, signer = signing(settings)
            number = self.live.engine.generation.number + 1
            served, learnt = self.store.generation, self.store.patterns()
            fresh = await asyncio.to_thread(yielded, live_module.build, settings, number, time.time(), learnt)
            await asyncio.to_thread(yielded, live_module.prepare_streams, fresh, self.keys.ring.policies)
            await self.providers.replace(settings)
        except (SettingsError, PatternError) as error:
            self.reload_error = str(error)
            self.metrics.reloads.add(("refused",))
            _log.error("the new configuration is refused and the old one serves on: %s", error)
            await self._note({"result": "refused", "error": str(error)})
            return False
        old = [self.live]
        self.live, self.served, self.store_error = fresh, served, _left_out(fresh)
        self.store.trust, self.store.signer = trust, signer
        await asyncio.to_thread(yielded, live_module.let_go, old)
        self._hosts_seen.clear()
        self.reload_error = ""
        self.metrics.reloads.add(("taken",))
        _log.info("configuration taken: generation %d", number)
        await self._note(configuration(fresh, "taken"))
        return True

    async def prepare_streams(self) -> None:
        """Make ready what streams need under the policies that the configuration and keys name, where it is not."""
        live, named = self.live, self.keys.ring.policies
        if self._streams_ready == (live.packs, named):
            return
        self._streams_ready = live.packs, named
        try:
            await asyncio.to_thread(yielded, live_module.prepare_streams, live, named)
        except PatternError as error:
            _log.error("streams under a preset that a key names cannot be followed: %s", error)

    async def _note(self, fields: dict[str, Any]) -> None:
        try:
            await self.audit.event(records.CONFIGURATION, fields)
        except AuditUnavailable as error:
            _log.error("a change of configuration is not in the audit log yet: %s", error)

    async def testify(self) -> None:
        """Tell the state how far this worker's part of the audit log has come, so that its end cannot be cut off unseen."""
        try:
            await witness.testify(self.state, self.audit)
        except StateUnavailable as error:
            _log.warning("the state does not know how far the audit log has come: %s", error)

    async def renew(self) -> bool:
        """Let what the pattern store holds now act; False where it cannot, and what acted before serves on."""
        async with self._reloading:
            served, number = self.store.generation, self.live.engine.generation.number + 1

            def renewed() -> live_module.Live:
                return live_module.renew(self.live, number, time.time(), self.store.patterns())

            try:
                fresh = await asyncio.to_thread(yielded, renewed)
            except PatternError as error:
                self.served = served  # trying again would fail again, until the store changes
                self.store_error = str(error)
                _log.error("generation %d of the pattern store cannot serve and the old one serves on: %s", served, error)
                return False
            old = [self.live]
            self.live, self.served, self.store_error = fresh, served, _left_out(fresh)
            await asyncio.to_thread(yielded, live_module.let_go, old)
            _log.info("pattern store generation %d serves as generation %d", served, number)
            return True

    def _check_fixed(self, settings: Settings) -> None:
        for key in FIXED:
            if getattr(settings, key) != getattr(self.live.settings, key):
                raise SettingsError(f"{key}: cannot change while the gateway runs; restart it for that")

    async def _load_secret(self) -> bytes:
        configured = self.live.settings.secret
        if configured is not None:
            return configured.get_secret_value().encode()
        kept = await self.state.get(_SECRET_NAME)
        if kept is None:
            await self.state.swap(_SECRET_NAME, secrets.token_bytes(32), 0)
            kept = await self.state.get(_SECRET_NAME)
        if kept is None:
            raise StateUnavailable("secret", "it was written and is not there")
        return kept.value

    @property
    def file_changed(self) -> bool:
        """Whether the configuration file, or one that it names, is another than the one that was read last."""
        return self._files.changed

    @property
    def state_health(self) -> tuple[bool, str]:
        """Whether requests can be served as far as the state goes, and how it is, in words."""
        if isinstance(self.state, ResilientState):
            return True, self.state.health
        return not self.state_error, self.state_error or "answers"


def _left_out(live: Live) -> str:
    return "; ".join(live.left_out.values())


def _tracing(settings: Settings, metrics: Metrics) -> Tracing | None:
    if settings.traces is None:
        return None
    from gateway.telemetry.traces import Tracing  # takes a tenth of a second and ten megabytes to load

    return Tracing(settings.traces, metrics)


def _notifier(settings: Settings, exposition: Exposition, metrics: Metrics) -> Notifier | None:
    if not settings.notify:
        return None
    from gateway.notify.notifier import Notifier  # it brings what reads and writes mail

    return Notifier(settings.notify, exposition, metrics, settings.data_dir)


def _state(settings: Settings) -> State:
    state = open_state(settings.state)
    return state if settings.state.startswith("sqlite:") else ResilientState(state, settings.data_dir / "spool")


def _sync(settings: Settings, store: Store, asking: Asking) -> SyncService | None:
    if settings.sync.listen is None:
        return None
    from gateway.sync.service import SyncService  # QUIC takes long to load, too

    return SyncService(settings.sync, store, settings.data_dir, asking.answer)


def _tenants(settings: Settings) -> dict[str, Tenant]:
    return {name: Tenant(name) for name in settings.tenants}
