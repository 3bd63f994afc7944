"""The receivers that the configuration names. Each `send` blocks, runs in a thread, and raises `Undelivered`."""

from __future__ import annotations

import http.client
import smtplib
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Final, Protocol

from gateway.notify import messages
from gateway.notify.ledger import Notice
from gateway.telemetry.reporting import NotifyEmail, NotifyPagerDuty, NotifySettings, NotifySlack, NotifyWebhook

SEND_SECONDS: Final = 10.0
"""How long a receiver may take."""


class Undelivered(Exception):  # noqa: N818
    """A receiver did not take a notice. ``final`` where trying again would change nothing."""

    def __init__(self, why: str, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class Receiver(Protocol):
    """Where notices go."""

    name: str

    def send(self, notice: Notice, source: str, now: float) -> None:
        """Deliver one notice.

        Raises:
            Undelivered: it was not taken.
        """


def receivers(settings: NotifySettings) -> list[Receiver]:
    """Those that are configured."""
    found: list[Receiver] = []
    if settings.webhook:
        found.append(_Webhook(settings.webhook))
    if settings.slack:
        found.append(_Slack(settings.slack))
    if settings.pagerduty:
        found.append(_PagerDuty(settings.pagerduty))
    if settings.email:
        found.append(_Email(settings.email))
    return found


class _Webhook:
    name = "webhook"

    def __init__(self, settings: NotifyWebhook) -> None:
        self._settings = settings

    def send(self, notice: Notice, source: str, now: float) -> None:
        body = messages.webhook(notice, source)
        delivery = f"{notice.id}/{notice.state}/{notice.times}"
        # A replica's name may be of any letters, a header's value not.
        headers = {"x-portcullis-delivery": urllib.parse.quote(delivery, safe=_VISIBLE)}
        if self._settings.secret is not None:
            secret = self._settings.secret.get_secret_value().encode()
            headers["x-portcullis-signature"] = messages.signature(secret, now, body)
        _post(self._settings.url.get_secret_value(), body, headers)


class _Slack:
    name = "slack"

    def __init__(self, settings: NotifySlack) -> None:
        self._settings = settings

    def send(self, notice: Notice, source: str, now: float) -> None:
        _post(self._settings.url.get_secret_value(), messages.slack(notice, source), {})


class _PagerDuty:
    name = "pagerduty"

    def __init__(self, settings: NotifyPagerDuty) -> None:
        self._settings = settings

    def send(self, notice: Notice, source: str, now: float) -> None:
        key = self._settings.routing_key.get_secret_value()
        _post(self._settings.url.get_secret_value(), messages.pagerduty(notice, source, key), {})


class _Email:
    name = "email"

    def __init__(self, settings: NotifyEmail) -> None:
        self._settings = settings

    def send(self, notice: Notice, source: str, now: float) -> None:
        settings = self._settings
        host, _, port = settings.server.rpartition(":")
        host = host.strip("[]")
        message = messages.email(notice, source, settings.sender, settings.to, now)
        try:
            context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
            client = (
                smtplib.SMTP_SSL(host, int(port), timeout=SEND_SECONDS, context=context)
                if settings.security == "tls" else smtplib.SMTP(host, int(port), timeout=SEND_SECONDS)
            )  # fmt: skip
            with client:
                if settings.security == "starttls":
                    client.starttls(context=context)
                if settings.username is not None and settings.password is not None:
                    client.login(settings.username, settings.password.get_secret_value())
                refused = client.send_message(message)
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"the mail server answered {error.smtp_code}", final=error.smtp_code >= 500) from None
        except (smtplib.SMTPException, OSError) as error:
            raise Undelivered(f"{type(error).__name__} with the mail server") from None
        if refused:
            raise Undelivered(f"{len(refused)} recipients were refused", final=True)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A receiver that sends us elsewhere is not the one that was configured."""

    def redirect_request(self, *_: Any) -> None:
        return None


_VISIBLE: Final = "".join(map(chr, range(0x20, 0x7F)))

_opener: Final = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    headers = {"content-type": "application/json", "user-agent": "portcullis", **headers}
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with _opener.open(request, timeout=SEND_SECONDS) as reply:
            reply.read(1024)
    except urllib.error.HTTPError as error:
        # 408 and 429 ask for another try; the rest of 4xx says that this will never be taken, and so does a redirect.
        final = 300 <= error.code < 500 and error.code not in (408, 429)
        raise Undelivered(f"the receiver answered {error.code}", final) from None
    except http.client.HTTPException as error:
        raise Undelivered(f"not an answer in HTTP: {type(error).__name__}") from None
    except OSError as error:
        raise Undelivered(f"{type(getattr(error, 'reason', error)).__name__}") from None
