"""The configuration's sections ``traces`` and ``notify``: what the gateway tells of itself, and to whom."""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.headerregistry import Address as MailAddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.config.fields import Certificates, Model, Seconds, Secret, SecretUrl, Url, check_address


class Traces(Model):
    """OpenTelemetry traces. Left out, none are made, and nothing is loaded for them. Cannot change without a restart."""

    endpoint: Url = Field(
        description="Where OTLP over HTTP is taken, for example `http://collector:4318/v1/traces`."
    )
    headers: dict[str, Secret] = Field({}, description="Headers for the collector; values as for `api_key`.")
    ratio: float = Field(
        1.0, ge=0, le=1, description="The share of requests that are traced. A caller's own decision, sent along, goes first."
    )
    service: str = Field("portcullis", min_length=1, max_length=100, description="The service's name in traces.")


def _address(value: str) -> str:
    wanted = "wanted an address such as oncall@example.org"
    if not re.fullmatch(r"[!-~]{1,64}@[A-Za-z0-9.-]{1,255}", value):
        raise ValueError(wanted)
    try:
        MailAddress(addr_spec=value)
    except (ValueError, HeaderParseError):
        raise ValueError(wanted) from None
    return value


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("wanted a name in one line, of characters that can be seen")
    return value


def _ascii(value: str) -> str:
    if not value.isascii():
        raise ValueError("wanted ASCII: nothing else is told to mail servers in the same way by all")
    return value


def _login(value: SecretStr) -> SecretStr:
    _ascii(value.get_secret_value())
    return value


def _server(value: str) -> str:
    return check_address(value, "mail.example.org:587")


Address = Annotated[str, AfterValidator(_address)]


class NotifyWebhook(Model):
    """Our own JSON, signed."""

    url: SecretUrl = Field(description="Where it is posted; the URL itself, `env:NAME` or `file:PATH`.")
    secret: Secret | None = Field(None, description="Signs each notice (HMAC-SHA256): docs/notify.md shows how to check it.")


class NotifySlack(Model):
    """Slack's incoming webhooks, and what takes the same (Mattermost, Discord under `/slack`)."""

    url: SecretUrl = Field(description="The webhook's address; the URL itself, `env:NAME` or `file:PATH`.")


class NotifyPagerDuty(Model):
    """PagerDuty's Events API v2, and what takes the same."""

    routing_key: Secret = Field(description="The integration's key; the key itself, `env:NAME` or `file:PATH`.")
    url: SecretUrl = Field(SecretStr("https://events.pagerduty.com/v2/enqueue"), description="Where events are taken.")


class NotifyEmail(Model):
    """E-mail by SMTP."""

    server: Annotated[str, AfterValidator(_server)] = Field(description="`host:port` of the mail server.")
    sender: Address = Field(description="The sender's address.")
    to: tuple[Address, ...] = Field(min_length=1, description="Who gets it.")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="How the connection is protected.")
    username: Annotated[str, AfterValidator(_ascii)] | None = Field(None, description="For servers that ask who sends.")
    password: Annotated[Secret, AfterValidator(_login)] | None = Field(
        None, description="The password itself, `env:NAME` or `file:PATH`."
    )
    ca_file: Certificates | None = Field(None, description="Certificates to trust instead of the system's.")

    @model_validator(mode="after")
    def _whole(self) -> NotifyEmail:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.password is not None and self.security == "none":
            raise ValueError("a password needs starttls or tls")
        return self


class NotifySettings(Model):
    """Notifications without an Alertmanager. Left out, nobody is told. Cannot change without a restart."""

    webhook: NotifyWebhook | None = Field(None, description="See `notify.webhook` below.")
    slack: NotifySlack | None = Field(None, description="See `notify.slack` below.")
    pagerduty: NotifyPagerDuty | None = Field(None, description="See `notify.pagerduty` below.")
    email: NotifyEmail | None = Field(None, description="See `notify.email` below.")
    source: Annotated[str, AfterValidator(_one_line)] = Field(
        "", max_length=200, description="How this replica calls itself; left out, the pod's or host's name."
    )
    repeat_seconds: Seconds = Field(14_400.0, description="After how long what still goes on is told again.")
    per_minute: int = Field(6, ge=1, le=600, description="New and repeated notices in a minute, at most.")

    @model_validator(mode="after")
    def _somebody(self) -> NotifySettings:
        if not any((self.webhook, self.slack, self.pagerduty, self.email)):
            raise ValueError("wanted at least one of webhook, slack, pagerduty, email")
        return self
