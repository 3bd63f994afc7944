"""Settings: what can be set, and what it may be; `gateway.config.configuration` reads it.

The models below are the configuration's documentation as well: ``docs/configuration.md`` is written from them.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from detectors.values import WINDOWS, ChannelKind, Origin
from gateway.audit.settings import AuditSettings
from gateway.config.fields import Certificates, Seconds, Secret, check_host, is_ipv6, is_loopback
from gateway.config.fields import Model as _Model
from gateway.keys import checked_name
from gateway.learning.settings import LearningSettings
from gateway.screening.policy import Action, Direction, FailureMode, Mode
from gateway.state.redis_url import SCHEMES, read_url
from gateway.sync.settings import SyncSettings
from gateway.telemetry.reporting import NotifySettings, Traces
from gateway.wires.passthrough import read_rule
from patterns import taxonomy


class SettingsError(ValueError):
    """A configuration that cannot be used. One line for each fault: the key, what was wrong, what is accepted."""


_LISTEN = re.compile(r"(?:([\w.-]+)|\[([0-9a-f:.]+(?:%[\w.-]+)?)\]):([0-9]{1,5})", re.IGNORECASE)


def _listen(value: str) -> str:
    match = _LISTEN.fullmatch(value)
    if match is None or int(match[3]) > 65_535 or not (match[1] or is_ipv6(match[2])):
        raise ValueError("wanted host:port, for example 127.0.0.1:8080 or [::]:8080")
    return value


def _hard_to_guess(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 16:
        raise ValueError("wanted at least 16 characters that nobody can guess, as `openssl rand -hex 32` prints them")
    return value


def _tenant(value: str) -> str:
    return checked_name("tenant", value)


_BASE_URL = re.compile(r"https?://([\w.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?(?:/[!-~]*)?", re.IGNORECASE)


def _base_url(value: str) -> str:
    if value == "echo:":
        return value
    match = _BASE_URL.fullmatch(value)
    if match is None or set("?#") & set(value) or int(match[2] or 0) > 65_535:
        raise ValueError("wanted http(s)://host[:port][/path] with no user, query or fragment, or echo: for the built-in model")
    check_host(match[1])
    return value.rstrip("/")


def _no_variable(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"\$\{?([A-Z_][A-Z0-9_]*)\}?", value, re.IGNORECASE | re.ASCII)):
        raise ValueError(f"no shell reads this; did you mean env:{match[1]}?")
    return value


def _api_key(value: SecretStr) -> SecretStr:
    if not re.fullmatch("[!-~]*", value.get_secret_value()):
        raise ValueError("wanted a key in visible ASCII, as a header can hold it")
    return value


def _threat(value: str) -> str:
    if value in taxonomy.CATEGORIES:
        return value
    taxonomy.split(value)
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]", value.lower()):
        raise ValueError("wanted a host's name, as example.com, or *.example.com for all below it")
    return value.lower()


def _own_host(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]", value.lower()):
        raise ValueError("wanted a host's name without a port, as gateway.example.com")
    return value.lower().strip("[]")


def _text_kept(value: object) -> object:
    return "off" if value is False else value  # what YAML makes of `off`


def _state_url(value: str) -> str:
    scheme, colon, rest = value.partition(":")
    if scheme in SCHEMES and colon:
        _tls_files(read_url(value).options)
    elif scheme != "sqlite" or not rest:
        raise ValueError("wanted sqlite:PATH, or a URL of Redis such as redis://host:6379/0 (docs/state.md)")
    return value


def _tls_files(options: Mapping[str, str]) -> None:
    """What is wrong with them Redis' client would tell as an address that cannot be reached."""
    authority, certificate, key = (options.get(name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    try:
        context = ssl.create_default_context(cafile=authority) if authority else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except OSError:
        raise ValueError("ssl_ca_certs: wanted a file of certificates (PEM) that can be read") from None
    if key and not certificate:
        raise ValueError("ssl_keyfile: the certificate is missing that it belongs to (ssl_certfile)")
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password="")  # or the terminal would be asked for one
        except OSError:
            raise ValueError("ssl_certfile, ssl_keyfile: wanted a certificate and its key that can be read (PEM, no password)"
                             ) from None  # fmt: skip


def _passthrough(value: str) -> str:
    read_rule(value)
    return value


Threat = Annotated[str, AfterValidator(_threat)]
Stage = Literal["canonical", "decode", "lexical", "fast", "encoder", "index", "stream", "consensus", "audit", "*"]


class Timeouts(_Model):
    """How long an upstream may take."""

    connect: Seconds = Field(5.0, description="Seconds until the connection stands, TLS included.")
    first_byte: Seconds = Field(
        600.0, description="Seconds until the reply's headers are there. Of a whole reply they come when all of it was thought "
        "of."
    )  # fmt: skip
    idle: Seconds = Field(
        600.0, description="Seconds between two pieces of the reply. Models that reason are silent meanwhile."
    )
    total: Seconds = Field(3600.0, description="Seconds for the whole exchange.")


class Target(_Model):
    """One address of a provider and the key for it."""

    base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        description="Where the provider's API begins, path included. `echo:` is the built-in echo model."
    )
    api_key: Annotated[Secret, BeforeValidator(_no_variable), AfterValidator(_api_key)] | None = Field(
        None,
        description="`env:NAME`, `file:PATH`, the key itself, or `caller` to pass the caller's own key through; the "
        "gateway's key then stands in `x-portcullis-key`.",
    )


class Upstream(Target):
    """A provider: its address, its key, and what to do when it fails."""

    fallbacks: tuple[Target, ...] = Field(
        (), description="Other addresses of the same API, tried in order where the one before cannot be reached, is known to "
        "be down, or answers 429, 502, 503, 504 or 529."
    )  # fmt: skip
    timeouts: Timeouts = Field(Timeouts(), description="see `upstreams.X.timeouts`.")
    attempts: int = Field(
        2, ge=1, le=10, description="How often one address is tried. Only what is safe to repeat is: see docs."
    )
    connections: int = Field(256, ge=1, le=65_536, description="Connections to one address, for each worker.")
    ca_file: Certificates | None = Field(None, description="Certificates to trust instead of the system's.")
    passthrough: tuple[Annotated[str, AfterValidator(_passthrough)], ...] = Field(
        (), description="Paths that go through without being screened: `/v1/files`, `/v1/files/*`, `GET /v1/batches/*`."
    )

    @model_validator(mode="after")
    def _callers_send_one(self) -> Upstream:
        keys = [one.api_key.get_secret_value() if one.api_key else "" for one in (self, *self.fallbacks)]
        if "caller" in keys[1:] and keys[0] != "caller":
            raise ValueError("a fallback's api_key may be caller where the upstream's own is")
        return self


class Override(_Model):
    """One row that overwrites the preset's table; the last row that matches a finding acts."""

    action: Action = Field(description="`allow`, `flag`, `redact` or `block`.")
    category: Threat | None = Field(None, description="A category or `category.subcategory`; all when left out.")
    origin: Origin | None = Field(
        None, description="`system`, `user`, `assistant`, `tool_definition`, `tool_result` or `document`."
    )
    direction: Direction | None = Field(None, description="`request` or `reply`.")
    channel: ChannelKind | None = Field(
        None, description="`tool_call` (what would be run) or `prose` (all other text); both when left out."
    )
    score: float = Field(0.0, ge=0, le=1, description="The least score on which the row acts.")


class ConsensusSettings(_Model):
    """That other replicas judge a request too, and the majority decides. See [sync.md](sync.md)."""

    replicas: int = Field(
        2, ge=1, le=9,
        description="How many others are asked. More than half of them and this one must agree; best is an even number.",
    )
    deadline_seconds: float = Field(
        0.5, gt=0, le=10, description="How long they are waited for. Then the stage `consensus` did not run; see `failure`."
    )


class PolicySettings(_Model):
    """A policy: a preset and what differs from it."""

    preset: Literal["strict", "balanced", "monitor"] = Field("balanced", description="What it starts from.")
    on_block: Literal["error", "refusal"] = Field(
        "error", description="A refused request is an error (status 400) or a filtered reply (status 200)."
    )
    earlier_texts: Literal["block", "remove"] = Field(
        "block",
        description="What becomes of a user's text, a document or a tool's result that would be blocked and is not what the "
        "request says last: the request is refused, or the text is taken out, all of it, and the request goes on. A client "
        "that sends a conversation again and again would otherwise be refused again and again.",
    )
    restore: bool = Field(True, description="Whether redacted values of the request come back in the reply.")
    redaction: dict[Threat, Mode] = Field(
        {},
        description="By category, what takes a redacted value's place: `placeholder` (where nothing is said), `mask`, `hash` "
        "(keyed, stable) or `format` (another value of the same shape). Placeholders and formats come back.",
    )
    failure: dict[Stage, FailureMode] = Field(
        {},
        description="By stage, `closed`, `flag` or `open`: what it means that the stage did not run. `*`: all others, "
        "whatever the preset says of them.",
    )
    links: tuple[Annotated[str, AfterValidator(_host)], ...] | None = Field(
        None,
        description="Hosts that links and images in replies may lead to, as `docs.example.com` or `*.example.com` (all below "
        "it); addresses of others are taken out. Left out: any host; `[]`: none.",
    )
    canary: bool = Field(
        False,
        description="Whether a mark (`[ref 7f3a…]`, one a tenant) is put before the system prompt; a reply that holds it is "
        "blocked.",
    )
    ahead: int | None = Field(
        None, ge=0,
        description="Characters of a streamed reply that may go out before the model has judged them; 0: each waits. "
        "Left out: 0 for `strict`, 1000 for `balanced`. Nothing waits where no finding of the model would block a reply.",
    )  # fmt: skip
    alarm: float | None = Field(
        None, gt=0, le=1,
        description="The score (probability of an attack, 0 to 1) at which a streamed reply is cut while it is still being "
        "written, and a long request refused while it is still being sent, whatever its category. Left out: the table "
        "alone decides.",
    )  # fmt: skip
    consensus: ConsensusSettings | None = Field(
        None, description="Whether other replicas judge each request too; see `policy.consensus`. Left out: this one alone."
    )
    rules: tuple[Override, ...] = Field((), description="Rows that overwrite the preset's table, in order.")
    shadow: Literal["strict", "balanced"] | None = Field(
        None, description="A preset judged beside this policy: reported in records and metrics, never acted on."
    )


class RateLimits(_Model):
    """How much may be done in a minute, counted over all workers and replicas; above it 429 with Retry-After."""

    requests_per_minute: int | None = Field(None, ge=1, le=10**9, description="Requests; left out: any number.")
    bytes_per_minute: int | None = Field(
        None, ge=1, le=10**15, description="Bytes of bodies, requests' and replies'; a request goes while there is any room."
    )
    tokens_per_minute: int | None = Field(
        None, ge=1, le=10**12, description="Tokens, requests' and replies', as the provider says; estimated until it does."
    )


class TenantSettings(_Model):
    """A tenant that differs from the rest."""

    policy: PolicySettings = Field(PolicySettings(), description="As the top-level `policy`.")
    rate_limits: RateLimits | None = Field(None, description="What all keys of the tenant may do together; see below.")
    key_rate_limits: RateLimits | None = Field(None, description="What each key of the tenant may do by itself; see below.")


class Limits(_Model):
    """Bounds on what a caller may send and hold."""

    body_bytes: int = Field(32 * 2**20, ge=1024, description="The largest request body; above it 413.")
    reply_bytes: int = Field(
        128 * 2**20, ge=1024, description="The largest whole (not streamed) reply that is read and screened."
    )
    in_flight: int = Field(4096, ge=1, description="Requests at once in one worker; above it 503 with Retry-After.")
    drain_seconds: Seconds = Field(30.0, description="After SIGTERM, how long requests in flight may take to finish.")
    ready_grace_seconds: float = Field(
        1.0, ge=0, le=600, description="After SIGTERM, how long /readyz fails before new connections are refused."
    )


class RealtimeSettings(_Model):
    """Bounds on realtime sessions. See docs/realtime.md."""

    sessions: int = Field(256, ge=1, description="Sessions at once in one worker; above it 503 with Retry-After.")
    message_bytes: int = Field(
        16 * 2**20, ge=1024, le=16 * 2**20, description="The largest message, of either side; above it the session ends (1009)."
    )
    idle_seconds: Seconds = Field(900.0, description="How long a session lasts in which nobody says anything.")
    total_seconds: Seconds = Field(3600.0, description="How long a session lasts.")


class Detection(_Model):
    """Which stages judge a text beside the patterns, and what they may cost. See docs/architecture.md."""

    decode: bool = Field(True, description="Whether encoded text (base64, ROT13, ...) is decoded and judged too.")
    model: bool = Field(True, description="Whether the model judges by meaning: its front stage, encoder and index.")
    encoder: bool = Field(True, description="Whether what the front stage cannot settle goes to encoder and index.")
    models: Path | None = Field(None, description="A folder with another model of the same files; none: the shipped one.")
    windows: int = Field(
        WINDOWS, ge=1, le=10_000,
        description="Windows (400 characters) of one text, or of one stream, that the encoder reads; more make the verdict "
        "incomplete.",
    )  # fmt: skip
    threads: int = Field(1, ge=1, le=64, description="Encoders at once in one worker; each keeps a core busy.")
    queue: int = Field(
        512, ge=1, le=100_000, description="Windows that wait for the encoder in one worker; above it verdicts are incomplete."
    )
    deadline_seconds: Seconds = Field(
        1.0, description="How long a message waits for the encoder; after it the verdict is incomplete."
    )
    share_seconds: int = Field(
        1800, ge=0, le=7 * 86_400,
        description="How long what the encoder said of a text is kept in the state for other workers; 0: not at all. "
        "`secret` must be set. See [state.md](state.md).",
    )  # fmt: skip


class Retention(_Model):
    """What is kept of the traffic, and how long."""

    text: Annotated[Literal["off", "redacted", "full"], BeforeValidator(_text_kept)] = Field(
        "off", description="Whether the text of flagged, redacted and blocked messages is kept."
    )
    text_seconds: int = Field(7 * 86_400, ge=60, description="How long kept text lives.")
    label_seconds: int = Field(
        400 * 86_400, ge=3600,
        description="How long what was labelled is kept after its latest label, as are proposals that came to nothing."
        " What an acting pattern was made of stays with it.",
    )  # fmt: skip
    values_seconds: int = Field(
        86_400, ge=0,
        description="How long values behind stand-ins are kept, sealed, for a conversation that the provider keeps "
        "(`previous_response_id`, Anthropic's `thread`); 0: not at all. `secret` must be set, and callers have keys. See "
        "[state.md](state.md).",
    )  # fmt: skip
    decisions: int = Field(200_000, ge=100, description="How many decisions are kept.")
    decision_seconds: int = Field(30 * 86_400, ge=60, description="How long a decision is kept.")


class Settings(_Model):
    """The whole configuration."""

    listen: Annotated[str, AfterValidator(_listen)] = Field("127.0.0.1:8080", description="Where the gateway listens.")
    state: Annotated[str, AfterValidator(_state_url)] = Field(
        "sqlite:./var/portcullis.db",
        description="`sqlite:PATH`, or `redis://host:6379/0` for several replicas; [state.md](state.md) has all kinds of URL.",
    )
    policy: PolicySettings = Field(
        PolicySettings(),
        description="`strict`, `balanced` or `monitor`, or a mapping with overrides. `strict` is refused where `detection`"
        " turns a stage off or the model's files are missing.",
    )
    upstreams: dict[Literal["openai", "anthropic", "gemini"], Upstream] = Field(
        {}, description="The providers. With none at all, the built-in echo model answers."
    )
    tenants: dict[Annotated[str, AfterValidator(_tenant)], TenantSettings] = Field(
        {}, description="Tenants with a policy of their own, by name."
    )
    patterns: tuple[Path, ...] = Field((), description="More packs of patterns: files, or folders of `*.yaml`.")
    data_dir: Path = Field(Path("var"), description="Where compiled patterns and spilled records are kept.")
    secret: Annotated[Secret, AfterValidator(_hard_to_guess)] | None = Field(
        None,
        description="Keys the stand-ins of redacted values and the console's sessions; 16 characters or more. Left out, one is "
        "made and kept in the state.",
    )
    open: bool = Field(
        False, description="Serve the data plane without keys although `listen` is not a loopback address."
    )
    allowed_hosts: tuple[Annotated[str, AfterValidator(_own_host)], ...] = Field(
        (), description="Names beside loopback's that the Host header may carry to the data plane while there are no keys."
    )
    detection: Detection = Field(Detection(), description="See `detection` below.")
    limits: Limits = Field(Limits(), description="See `limits` below.")
    realtime: RealtimeSettings = Field(RealtimeSettings(), description="See `realtime` below.")
    retention: Retention = Field(Retention(), description="See `retention` below.")
    sync: SyncSettings = Field(SyncSettings(), description="See `sync` below.")
    traces: Traces | None = Field(None, description="See `traces` below.")
    notify: NotifySettings | None = Field(None, description="See `notify` below and docs/notify.md.")
    audit: AuditSettings = Field(AuditSettings(), description="See `audit` below.")
    learning: LearningSettings = Field(LearningSettings(), description="See `learning` below.")

    @property
    def is_loopback(self) -> bool:
        """Whether the gateway can be reached from this machine alone."""
        return is_loopback(self.listen.rpartition(":")[0])

    @property
    def audit_directory(self) -> Path:
        return self.audit.directory or self.data_dir / "audit"
