"""What the stories of a worker share: the live configuration, state, keys, recorder, providers, metrics."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from detectors.engine import Generation
from gateway import live as live_module
from gateway import vitals
from gateway.asking import Asking
from gateway.audit import records, witness
from gateway.audit.log import AuditLog, configuration
from gateway.audit.series import register as register_audit
from gateway.audit.writer import AuditUnavailable
from gateway.console.sessions import Sessions
from gateway.console.traffic import SAMPLE_SECONDS, Traffic
from gateway.keys import ANYONE, Principal, Tenant
from gateway.learning.feeds import Feeds
from gateway.learning.series import register as register_learning
from gateway.learning.service import PASS_SECONDS, Learning
from gateway.learning.storage import open_store
from gateway.learning.wording import Wording
from gateway.live import Live
from gateway.metrics import FLUSH_SECONDS, Exposition, Metrics
from gateway.notify.notifier import Notifier
from gateway.policy import Policy
from gateway.providers import Provider, Providers
from gateway.recorder import Recorder
from gateway.redaction import Vault
from gateway.requestlog import RequestLog
from gateway.semantics import Semantics
from gateway.settings import Settings, SettingsError
from gateway.settings import load as load_settings
from gateway.state.base import State, StateUnavailable
from gateway.state.keystore import KeyWatch
from gateway.state.opening import open_state
from gateway.state.resilient import ResilientState
from gateway.sync import status as sync_status
from patterns import cache as caching
from patterns.schema import PatternError
from patterns.store import Store, StoreError

if TYPE_CHECKING:
    from gateway.sync.service import SyncService
    from gateway.traces import Tracing

KEYS_SECONDS: Final = 1.0
"""How often a worker looks whether keys changed: a revoked key stops working within about this time."""

FILE_SECONDS: Final = 2.0
"""How often a worker looks whether its configuration file changed."""

LOG_SECONDS: Final = 0.25
"""How late a request's log line is at most."""

WITNESS_SECONDS: Final = 10.0
"""How often the state is told how far the audit log has come: what can be cut off its end without the state knowing."""

FEEDS_SECONDS: Final = 5.0
"""How often a worker looks whether a feed is due."""

WORDING_SECONDS: Final = 2.0
"""How often a worker looks whether a reflection waits to be worded."""

STORE_SECONDS: Final = 0.5
"""How often a worker looks whether the pattern store changed."""

EXPIRE_SECONDS: Final = 60.0
"""How often old decisions are removed."""

TIDY_SECONDS: Final = 1800.0
"""How often files that nobody uses leave the cache, and those that serve are told from them."""

SYNC_REPORT_SECONDS: Final = 1.0
"""How often the worker that runs pattern sync leaves its state for the others and for `portcullis sync status`."""

MAX_HOSTS: Final = 64
"""Host headers remembered as ours; a caller could otherwise fill memory with ports and addresses of loopback."""

_SECRET_NAME: Final = "stand-in-secret"

_log = logging.getLogger(__name__)


class Services:
    """Everything long-lived in a worker. Make it, `start` it, serve, `close` it."""

    def __init__(
        self, settings: Settings, config: Path | None, metrics_folder: Path | None, packs: Live | None = None
    ) -> None:
        """
        Args:
            packs: what was built of the settings before, without the pattern store; None to build it here.

        Raises:
            PatternError: the patterns cannot be compiled.
            CertificateFault: pattern sync has none that it could use.
        """
        self.config = config
        self.metrics = Metrics()
        self.store = open_store(settings)
        learnt, now = self.store.patterns(), time.time()
        self.live: Live = (
            live_module.build(settings, 1, now, learnt) if packs is None
            else live_module.renew(packs, 1, now, learnt) if learnt else packs
        )  # fmt: skip
        self.exposition = Exposition(self.metrics, metrics_folder)
        self.state: State = _state(settings)
        self.keys = KeyWatch(self.state, _tenants(settings), open_when_empty=is_loopback(settings) or settings.open)
        self.recorder = Recorder(self.state)
        self.audit = AuditLog(settings)
        self.providers = Providers(settings)
        self.request_log = RequestLog()
        self.semantics = Semantics(lambda: self.live.settings.detection)
        self.learning = Learning(self.state, self.store, lambda: self.live)
        stages = self.learning.stages
        self.feeds = Feeds(lambda: self.live.settings.learning.feeds, stages.propose_from_feed, stages.known)
        self.wording = Wording(self.learning.book, lambda: self.live, self.provider)
        self.asking = Asking(lambda: self.live, self.semantics, self.metrics)
        self.sync = self.asking.sync = _sync(settings, self.store, self.asking)
        self.nobody: Principal = ANYONE
        self.sessions = Sessions(secrets.token_bytes(32))
        self.traffic = Traffic(self.exposition)
        self.draining = False
        self.state_error = ""
        self.reload_error = ""
        self.store_error = ""
        self._secret = b""
        self._vault_keys: dict[str, bytes] = {}
        self._hosts_seen: set[bytes] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._reloading = asyncio.Lock()
        self._served = self.store.generation
        self._config_time = self._changed_at()
        self._register_gauges()
        register_learning(self.metrics, self.learning, self.wording)
        self.tracing = _tracing(settings, self.metrics)
        self.notifier = (
            Notifier(settings.notify, self.exposition, self.metrics, settings.data_dir) if settings.notify else None
        )
        vitals.register(self.metrics, lambda: self.live.settings.limits.in_flight)

    async def start(self) -> None:
        """Open the state and begin the periodic work.

        Raises:
            StateUnavailable: the state does not answer; a gateway does not start without it.
        """
        await self.state.ping()
        self._secret = await self._load_secret()
        self.learning.intake.begin(self._secret)
        self.sessions = Sessions(hmac.digest(self._secret, b"\nconsole", "sha256"))  # no tenant's name begins so
        await self.keys.refresh()
        await self.audit.start()
        await self.audit.event(records.CONFIGURATION, configuration(self.live, "start"))
        self.recorder.start()
        await self.providers.start()
        if self.sync is not None:
            await self.sync.start()
        self.exposition.flush()
        if self.notifier is not None:
            self.notifier.start()
        for seconds, work in (
            (KEYS_SECONDS, self._refresh_keys),
            (FLUSH_SECONDS, self._flush_metrics),
            (LOG_SECONDS, self._flush_log),
            (FILE_SECONDS, self._look_at_file),
            (EXPIRE_SECONDS, self._expire),
            (TIDY_SECONDS, self._tidy),
            (WITNESS_SECONDS, self._testify),
            (STORE_SECONDS, self._look_at_store),
            (PASS_SECONDS, self._learn),
            (SAMPLE_SECONDS, self._sample),
            (FEEDS_SECONDS, self._pull_feeds),
            (WORDING_SECONDS, self._word),
            (SYNC_REPORT_SECONDS, self._report_sync),
        ):
            self._tasks.append(asyncio.create_task(_every(seconds, work), name=work.__name__))

    async def close(self) -> None:
        """Stop the periodic work, write what is queued, close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.semantics.stop()
        if self.sync is not None:
            await self.sync.close()
        await self.recorder.close(5.0)
        await self.audit.close()
        await self._testify()
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
        text = host.decode("latin-1")
        name = (text if text.endswith("]") else text.rsplit(":", 1)[0]).strip("[]").lower()
        ours = settings.open or name == "localhost" or name in settings.allowed_hosts or _is_loopback_name(name)
        if ours and len(self._hosts_seen) < MAX_HOSTS:
            self._hosts_seen.add(host)
        return ours

    async def reload(self) -> bool:
        """Take the configuration file as it is now; False where it is broken and the old one serves on."""
        async with self._reloading:
            self._config_time = self._changed_at()
            try:
                settings = load_settings(self.config)
                self._check_fixed(settings)
                number = self.live.engine.generation.number + 1
                served, learnt = self.store.generation, self.store.patterns()
                fresh = await asyncio.to_thread(live_module.build, settings, number, time.time(), learnt)
                await self.providers.replace(settings)
            except (SettingsError, PatternError) as error:
                self.reload_error = str(error)
                self.metrics.reloads.add(("refused",))
                _log.error("the new configuration is refused and the old one serves on: %s", error)
                await self._note({"result": "refused", "error": str(error)})
                return False
            self.live, self._served = fresh, served
            self._hosts_seen.clear()
            self.reload_error = ""
            self.metrics.reloads.add(("taken",))
            _log.info("configuration taken: generation %d", number)
            await self._note(configuration(fresh, "taken"))
            return True

    async def _note(self, fields: dict[str, Any]) -> None:
        try:
            await self.audit.event(records.CONFIGURATION, fields)
        except AuditUnavailable as error:
            _log.error("a change of configuration is not in the audit log yet: %s", error)

    async def _testify(self) -> None:
        """Tell the state how far this worker's part of the audit log has come, so that its end cannot be cut off unseen."""
        try:
            await witness.testify(self.state, self.audit)
        except StateUnavailable as error:
            _log.warning("the state does not know how far the audit log has come: %s", error)

    async def renew(self) -> bool:
        """Let what the pattern store holds now act; False where it cannot, and what acted before serves on."""
        async with self._reloading:
            served, learnt = self.store.generation, self.store.patterns()
            number = self.live.engine.generation.number + 1
            try:
                fresh = await asyncio.to_thread(live_module.renew, self.live, number, time.time(), learnt)
            except PatternError as error:
                self._served = served  # trying again would fail again, until the store changes
                self.store_error = str(error)
                _log.error("generation %d of the pattern store cannot serve and the old one serves on: %s", served, error)
                return False
            self.live, self._served, self.store_error = fresh, served, ""
            _log.info("pattern store generation %d serves as generation %d", served, number)
            return True

    def _check_fixed(self, settings: Settings) -> None:
        for key in ("listen", "state", "data_dir", "secret", "open", "traces", "notify", "audit", "sync"):
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

    def _changed_at(self) -> float:
        try:
            return self.config.stat().st_mtime if self.config else 0.0
        except OSError:
            return 0.0

    @property
    def state_health(self) -> tuple[bool, str]:
        """Whether requests can be served as far as the state goes, and how it is, in words."""
        if isinstance(self.state, ResilientState):
            return True, self.state.health
        return not self.state_error, self.state_error or "answers"

    async def _refresh_keys(self) -> None:
        try:
            await self.keys.refresh()
            await self.state.ping()
        except StateUnavailable as error:
            if not self.state_error:
                _log.error("the state does not answer: %s", error)
            self.state_error = str(error)
        else:
            self.state_error = ""

    async def _flush_metrics(self) -> None:
        try:
            self.exposition.flush()
        except OSError as error:
            _log.error("metrics cannot be shared with the other workers: %s", error.strerror)

    async def _sample(self) -> None:
        self.traffic.sample(time.time())

    async def _flush_log(self) -> None:
        self.request_log.flush()

    async def _look_at_file(self) -> None:
        if self._changed_at() not in (0.0, self._config_time):
            await self.reload()

    async def _look_at_store(self) -> None:
        try:
            await asyncio.to_thread(self.store.poll)
        except StoreError as error:
            _log.error("the pattern store cannot be read: %s", error)
        if self.store.generation != self._served:
            await self.renew()

    async def _pull_feeds(self) -> None:
        try:
            if self.learning.leads:
                await self.feeds.run()
        except StateUnavailable as error:
            _log.warning("feeds wait: %s", error)

    async def _word(self) -> None:
        try:
            if self.learning.leads:
                await self.wording.run()
        except StateUnavailable as error:
            _log.warning("reflections wait: %s", error)

    async def _learn(self) -> None:
        now = time.time()
        try:
            await self.learning.flush(now)
            await self.learning.run(now)
        except StateUnavailable as error:
            _log.warning("the learning loop waits: %s", error)

    async def _expire(self) -> None:
        retention = self.live.settings.retention
        now = time.time()
        try:
            await self.state.expire(now, now - retention.decision_seconds, retention.decisions)
        except StateUnavailable as error:
            _log.warning("old decisions were not removed: %s", error)

    async def _tidy(self) -> None:
        live = self.live
        done = await asyncio.to_thread(caching.tidy, live.settings.data_dir / "cache", live.cached, time.time())
        if done.removed:
            _log.info(
                "%d files (%.1f MB) that nothing uses any more left the cache; %d (%.1f MB) stay",
                done.removed, done.removed_bytes / 1e6, done.left, done.left_bytes / 1e6,
            )  # fmt: skip

    async def _report_sync(self) -> None:
        if self.sync is not None and self.sync.runs:
            try:
                sync_status.write(self.sync, time.time())
            except OSError as error:
                _log.error("the state of pattern sync cannot be written: %s", error.strerror)

    def _register_gauges(self) -> None:
        metrics, recorder = self.metrics, self.recorder
        if self.sync is not None:
            sync_status.register(metrics, self.sync)
        if isinstance(state := self.state, ResilientState):
            state.register(metrics)

        def generation() -> Generation:
            return self.live.engine.generation

        metrics.gauge("portcullis_generation", "The generation that serves.", (), lambda: {(): generation().number}, "max")
        metrics.gauge(
            "portcullis_generation_age_seconds", "Seconds since the generation was loaded.", (),
            lambda: {(): time.time() - generation().loaded_at}, "max",
        )  # fmt: skip
        metrics.gauge(
            "portcullis_generation_digest", "1 for the digest of the patterns that serve.", ("digest",),
            lambda: {(generation().digest[:16],): 1.0}, "max",
        )  # fmt: skip
        metrics.gauge(
            "portcullis_patterns", "Patterns that act.", (), lambda: {(): len(generation().patterns)}, "max"
        )
        metrics.gauge("portcullis_state_up", "Whether the state answers.", (), lambda: {(): float(not self.state_error)}, "min")
        metrics.gauge("portcullis_draining", "Whether a worker is about to end.", (), lambda: {(): float(self.draining)}, "max")
        metrics.gauge(
            "portcullis_config_broken", "Whether the newest configuration was refused.", (),
            lambda: {(): float(bool(self.reload_error))}, "max",
        )  # fmt: skip
        metrics.gauge("portcullis_decisions_queued", "Decisions not yet stored.", (), lambda: {(): recorder.stats.queued})
        metrics.count("portcullis_decisions_stored", "Decisions stored.", (), lambda: {(): recorder.stats.written})
        metrics.count("portcullis_decisions_dropped", "Decisions lost.", (), lambda: {(): recorder.stats.dropped})
        metrics.count(
            "portcullis_log_lines_dropped", "Log lines lost.", (), lambda: {(): self.request_log.dropped}
        )
        metrics.count(
            "portcullis_decision_write_errors", "Failed writes of decisions.", (),
            lambda: {(): recorder.stats.write_errors},
        )  # fmt: skip
        metrics.count(
            "portcullis_cache", "Texts looked up in the verdict cache.", ("result",),
            lambda: {("hit",): self.live.engine.cache.hits, ("miss",): self.live.engine.cache.misses},
        )  # fmt: skip
        register_audit(metrics, self.audit)
        semantics = self.semantics
        metrics.gauge("portcullis_encoder_queued", "Windows that wait for the encoder.", (), lambda: {(): semantics.queued})
        metrics.count(
            "portcullis_encoder_windows", "Windows asked of the encoder, by what became of them.", ("result",),
            lambda: {
                ("read",): semantics.read, ("shared",): semantics.shared, ("late",): semantics.late,
                ("refused",): semantics.refused, ("failed",): semantics.failed,
            },
        )  # fmt: skip
        metrics.gauge(
            "portcullis_breaker_open", "Circuit breakers that are open.", ("upstream",), self.providers.breakers, "max"
        )
        metrics.gauge(
            "portcullis_upstream_connections", "Connections to upstreams.", ("upstream",), self.providers.connections
        )


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await work()


def _tracing(settings: Settings, metrics: Metrics) -> Tracing | None:
    if settings.traces is None:
        return None
    from gateway.traces import Tracing  # takes a tenth of a second and ten megabytes to load

    return Tracing(settings.traces, metrics)


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


def is_loopback(settings: Settings) -> bool:
    """Whether the gateway can be reached from this machine alone."""
    host = settings.listen.rpartition(":")[0].strip("[]")
    return host == "localhost" or _is_loopback_name(host)


def _is_loopback_name(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
