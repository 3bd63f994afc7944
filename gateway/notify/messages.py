"""What each receiver is sent: bytes and headers for HTTP, a message for e-mail. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final

import orjson

from gateway.notify.ledger import Notice

RUNBOOKS: Final = "https://github.com/portcullis-gateway/portcullis/blob/main/docs/runbooks"
PAGERDUTY_SUMMARY: Final = 1_024
"""Characters of a summary that PagerDuty takes."""


def webhook(notice: Notice, source: str) -> bytes:
    """Our own JSON: one object a notice."""
    condition = notice.condition
    return orjson.dumps({
        "id": notice.id, "state": notice.state, "name": condition.name, "key": condition.key, "severity": condition.severity,
        "text": condition.text, "source": source, "since": notice.since, "times": notice.times, "held_back": notice.held_back,
        "runbook": _runbook(notice),
    })  # fmt: skip


def signature(secret: bytes, now: float, body: bytes) -> str:
    """``t=UNIX seconds,v1=hex``: HMAC-SHA256 over ``t``, a dot and the body, so that a recording cannot be played later."""
    stamp = str(int(now))
    return f"t={stamp},v1={hmac.new(secret, stamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def slack(notice: Notice, source: str) -> bytes:
    """What Slack's incoming webhooks take, and what Mattermost and Discord (``/slack``) take after them."""
    title = f"{_mark(notice)} *{notice.condition.name}* on {_slack_text(source)}"
    body = f"{_slack_text(_sentence(notice))}\n<{_runbook(notice)}|Runbook>"
    return orjson.dumps({"text": f"{title}\n{body}"})


def pagerduty(notice: Notice, source: str, routing_key: str) -> bytes:
    """An event of PagerDuty's Events API v2; the same ``dedup_key`` from first to last."""
    event: dict[str, object] = {
        "routing_key": routing_key, "dedup_key": notice.id[:255],
        "event_action": "trigger" if notice.state == "firing" else "resolve",
    }  # fmt: skip
    if notice.state == "firing":
        event["payload"] = {
            "summary": f"{notice.condition.name}: {notice.condition.text}"[:PAGERDUTY_SUMMARY], "source": source,
            "severity": notice.condition.severity, "timestamp": _time(notice.since), "component": "portcullis",
            "class": notice.condition.name,
        }  # fmt: skip
        event["links"] = [{"href": _runbook(notice), "text": "Runbook"}]
    return orjson.dumps(event)


def email(notice: Notice, source: str, sender: str, to: Sequence[str], now: float) -> EmailMessage:
    """A plain text message; those of one outbreak are one thread."""
    host = Address(addr_spec=sender).domain or "localhost"
    thread = hashlib.sha256(notice.id.encode()).hexdigest()[:32]
    message = EmailMessage()
    message["From"], message["To"] = sender, ", ".join(to)
    message["Subject"] = f"[{notice.state} {notice.condition.severity}] {notice.condition.name} on {source}"
    message["Date"] = datetime.fromtimestamp(now, UTC)
    message["Message-ID"] = f"<{thread}.{notice.state}.{notice.times}@{host}>"
    message["References"] = f"<{thread}.firing.1@{host}>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [_sentence(notice), "", f"Since {_time(notice.since)}.", f"Runbook: {_runbook(notice)}", ""]
    message.set_content("\n".join(lines))
    return message


def _sentence(notice: Notice) -> str:
    text = notice.condition.text
    if notice.state == "resolved":
        return f"Over: {text}."
    more = f" ({notice.held_back} other notices were held back.)" if notice.held_back else ""
    return f"{text[:1].upper()}{text[1:]}.{more}"


def _mark(notice: Notice) -> str:
    if notice.state == "resolved":
        return ":white_check_mark:"
    return ":rotating_light:" if notice.condition.severity == "critical" else ":warning:"


def _slack_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _runbook(notice: Notice) -> str:
    return f"{RUNBOOKS}/{notice.condition.name}.md"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
