"""The rules file that Prometheus reads, and one runbook page for each alert."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from helm.generate.alerts import ALERTS, Alert, recorded

RUNBOOKS: Final = "https://github.com/portcullis-gateway/portcullis/blob/main/docs/runbooks"

_HEAD: Final = "# Written by `python -m helm.generate`; change helm/generate/alerts.py instead.\n"

_TEMPLATE: Final = re.compile(r"(?:expires in )?\{\{ (?:\$labels\.(\w+)|[^}]*) \}\}")
_WORDS: Final = {
    "{{ $value | humanizePercentage }}": "a share", "{{ $value | humanizeDuration }}": "too long",
    "{{ $value | humanize }}": "some", "{{ $value }}": "several", "expires in {{ $value | humanizeDuration }}": "expires soon",
}  # fmt: skip
"""What stands on a page for a value that only an alert has."""


def rules_file() -> str:
    """Recording and alerting rules, in Prometheus' own format."""
    groups: list[dict[str, Any]] = [
        {"name": "portcullis.recorded", "rules": [{"record": name, "expr": expr} for name, expr in recorded()]},
        {"name": "portcullis.alerts", "rules": [_rule(alert) for alert in ALERTS]},
    ]
    return _HEAD + yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000, allow_unicode=True)


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook_url": f"{RUNBOOKS}/{alert.name}.md"},
    }


def runbooks() -> dict[str, str]:
    """File names and pages, with one page that lists them all."""
    pages = {f"{alert.name}.md": _page(alert) for alert in ALERTS}
    rows = [f"| [{alert.name}]({alert.name}.md) | {alert.severity} | {_plain(alert.summary)} |" for alert in ALERTS]
    pages["README.md"] = "\n".join(
        ["# Runbooks", "", "One page for each alert. They and the rules are written from `helm/generate/alerts.py`.", "",
         "| alert | severity | says |", "|---|---|---|", *rows, ""]
    )  # fmt: skip
    return pages


def _page(alert: Alert) -> str:
    return "\n".join(
        [f"# {alert.name}", "", f"*{alert.severity}*: {_plain(alert.summary)}.", "",
         alert.meaning, "", "## Look", "", *(f"{number}. {step}" for number, step in enumerate(alert.look, 1)), "",
         "## Do", "", *(f"{number}. {step}" for number, step in enumerate(alert.act, 1)), "",
         "## Fires when", "", f"for {alert.hold}:", "", "```promql", alert.expr, "```", ""]
    )  # fmt: skip


def _plain(summary: str) -> str:
    """A summary without Prometheus' templating.

    Raises:
        KeyError: it has a template that there are no words for.
    """
    return _TEMPLATE.sub(lambda found: f"<{found[1]}>" if found[1] else _WORDS[found[0]], summary)
