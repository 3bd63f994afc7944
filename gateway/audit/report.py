"""Evidence for an auditor: what happened in a span of time, who changed what, and whether the log is whole. Pure."""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.audit import records
from gateway.audit.formats import summary
from gateway.audit.verify import Verification

MAX_CHANGES: Final = 10_000
"""Changes that are listed one by one; a report is read by people."""

_HOUSEKEEPING: Final = frozenset({records.OPEN, records.SEGMENT, records.ROOT, records.CLOSE})
_SIDES: Final = ("request", "reply")


@dataclass(slots=True)
class Evidence:
    """Takes the records of a log one by one (`see`) and sums up those from ``since`` (inclusive) to ``until`` (exclusive),
    both in UNIX seconds."""

    since: float
    until: float
    requests: int = 0
    first: float = 0.0
    last: float = 0.0
    by: dict[str, Counter[str]] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    changes_unlisted: int = 0
    lost: list[dict[str, Any]] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)
    hours: Counter[int] = field(default_factory=Counter)

    def see(self, chain: str, record: dict[str, Any]) -> None:
        """Take one record; those of other times are passed over."""
        at = record.get("time")
        if not isinstance(at, int | float) or not self.since <= at < self.until:
            return
        kind = record.get("kind")
        if kind == records.DECISION:
            self._decision(at, record)
        elif kind == records.LOST:
            self.lost.append({"chain": chain, **_picked(record, "time", "records", "since", "until")})
        elif kind == records.REMOVED:
            self.removed.append(_picked(record, "time", "chain", "first", "last"))
        elif kind not in _HOUSEKEEPING:
            if len(self.changes) < MAX_CHANGES:
                fields = {name: value for name, value in record.items() if name != "hash"}
                self.changes.append({"chain": chain, "summary": summary(record), **fields})
            else:
                self.changes_unlisted += 1

    def _decision(self, at: float, record: dict[str, Any]) -> None:
        self.requests += 1
        self.first = min(self.first or at, at)
        self.last = max(self.last, at)
        self.hours[int(at // 3600)] += 1
        self._count("action", record.get("action"))
        self._count("tenant", record.get("tenant"))
        self._count("wire", record.get("wire"))
        self._count("status", record.get("status"))
        self._count("policy", f"{record.get('policy')} {record.get('version')}")
        self._count("generation", record.get("generation"))
        for side in _SIDES:
            screened = record.get(side)
            if isinstance(screened, dict):
                self._side(screened)
        shadow = record.get("shadow")
        if isinstance(shadow, dict):
            self._count("shadow", f"{record.get('action')} → {shadow.get('action')}")
        for category, count in (record.get("edits") or {}).items():
            self._count("redacted", category, int(count))

    def _side(self, screened: dict[str, Any]) -> None:
        for finding in screened.get("findings", ()):
            self._count("category", finding.get("category"))
            self._count("pattern", finding.get("pattern"))
        for skipped in screened.get("not_run", ()):
            self._count("not_run", skipped)
        for reason, count in screened.get("not_screened", {}).items():
            self._count("not_screened", reason, int(count))

    def _count(self, what: str, value: Any, count: int = 1) -> None:
        self.by.setdefault(what, Counter())[str(value)] += count

    def document(self, verification: Verification, people: Mapping[str, str], now: float) -> dict[str, Any]:
        """The whole report as JSON values. ``people`` tells by key id whose it is."""
        changes = sorted(self.changes, key=lambda one: float(one.get("time", 0)))
        for change in changes:
            change["who"] = who(change, people)
        return {
            "report": "portcullis audit", "made_at": now, "from": self.since, "to": self.until,
            "requests": self.requests, "first_request": self.first or None, "last_request": self.last or None,
            "by": {what: dict(counts.most_common()) for what, counts in sorted(self.by.items())},
            "changes": changes, "changes_unlisted": self.changes_unlisted,
            "gaps": {
                "lost": self.lost, "removed_by_retention": self.removed,
                "silent_hours": self._silent_hours(),
                "notes": [note._asdict() for note in verification.notes],
            },
            "verification": {
                "intact": verification.intact, "records": verification.records,
                "problems": [problem._asdict() for problem in verification.problems],
                "chains": [
                    {"name": one.name, "host": one.host, "pid": one.pid, "first": one.first, "last": one.last,
                     "records": one.records, "roots": one.roots, "signed_to": one.signed_to, "signers": sorted(one.signers),
                     "began": one.began, "ended": one.ended, "closed": one.closed, "head": one.head}
                    for one in verification.chains
                ],
            },
        }  # fmt: skip

    def _silent_hours(self) -> list[float]:
        """Hours between the first and the last request in which there was none: nobody asked, or nobody wrote it down."""
        if not self.hours:
            return []
        return [float(hour * 3600) for hour in range(min(self.hours), max(self.hours)) if hour not in self.hours]


def who(record: Mapping[str, Any], people: Mapping[str, str]) -> str:
    """Who did what a record tells of."""
    if record.get("kind") == records.CONFIGURATION:
        return "the configuration file"
    if "user" in record:
        return f"{record['user']} on the command line"
    key = str(record.get("key") or "")
    if not key:
        return "the local operator (no key was made yet)" if record.get("kind") == records.ADMIN else "unknown"
    return f"{people[key]} (key {key})" if people.get(key) else f"key {key}"


def _picked(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: record.get(name) for name in names}


_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ccd2d9; }
table { border-collapse: collapse; margin: .5rem 0; }
td, th { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #ccd2d9; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: #116329; } .bad { color: #b3261e; font-weight: 600; } code { font-size: .85em; overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; } }
"""

_TITLES: Final = {
    "action": "Actions", "tenant": "Tenants", "wire": "Wires", "status": "Statuses", "policy": "Policies",
    "generation": "Generations", "category": "Categories found", "pattern": "Patterns that found something",
    "not_run": "Stages that did not run", "not_screened": "Parts that no stage reads", "redacted": "Values redacted",
    "shadow": "Live action → what the shadow policy would have done",
}  # fmt: skip

MAX_ROWS: Final = 25
"""Rows of a table of counts; the JSON has all."""


def as_html(report: Mapping[str, Any]) -> str:
    """The report as one page without scripts or anything from elsewhere."""
    check = report["verification"]
    verdict = (
        f'<p class="good">The log is intact: {check["records"]} records in {len(check["chains"])} chains.</p>'
        if check["intact"]
        else f'<p class="bad">The log is not intact: {len(check["problems"])} problems in {check["records"]} records.</p>'
    )
    gaps = report["gaps"]
    parts = [
        f"<h1>Audit report</h1><p>{_time(report['from'])} to {_time(report['to'])}, made {_time(report['made_at'])}.</p>",
        "<h2>Is the log whole?</h2>", verdict,
        _table(("chain", "kind", "records", "what"),
               [(p["chain"], p["kind"], f"{p['first']}–{p['last']}", p["what"]) for p in check["problems"]]),
        "<h2>Gaps</h2>",
        _gaps(gaps),
        f"<h2>Traffic</h2><p>{report['requests']} requests; the first {_time(report['first_request'])}, "
        f"the last {_time(report['last_request'])}.</p>",
        *[_counts(_TITLES.get(what, what), counts) for what, counts in report["by"].items()],
        "<h2>Changes, and who made or approved them</h2>",
        _table(("time", "who", "what", "details"),
               [(_time(c["time"]), c["who"], c["summary"], _details(c)) for c in report["changes"]])
        or "<p>None.</p>",
        f"<p>{report['changes_unlisted']} more are not listed.</p>" if report["changes_unlisted"] else "",
        "<h2>Chains</h2>",
        _table(("chain", "host", "records", "signed up to", "from", "to", "end"),
               [(c["name"], f"{c['host']} ({c['pid']})", f"{c['first']}–{c['last']}", c["signed_to"], _time(c["began"]),
                 _time(c["ended"]), "closed" if c["closed"] else "open or killed") for c in check["chains"]]),
    ]  # fmt: skip
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Portcullis audit report</title><style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _gaps(gaps: Mapping[str, Any]) -> str:
    rows: list[tuple[object, ...]] = [
        ("given up", one["chain"], f"{one['records']} records, {_time(one['since'])} to {_time(one['until'])}")
        for one in gaps["lost"]
    ]
    rows += [
        ("removed by retention", one["chain"], f"records {one['first']}–{one['last']}") for one in gaps["removed_by_retention"]
    ]
    rows += [(note["kind"], note["chain"], note["what"]) for note in gaps["notes"]]
    rows += [("no request in this hour", "", _time(hour)) for hour in gaps["silent_hours"]]
    return _table(("gap", "chain", "what"), rows) or "<p>None.</p>"


def _counts(title: str, counts: Mapping[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{count}</td></tr>' for name, count in list(counts.items())[:MAX_ROWS]
    )
    more = f"<p>and {len(counts) - MAX_ROWS} more</p>" if len(counts) > MAX_ROWS else ""
    return f"<h3>{html.escape(title)}</h3><table>{rows}</table>{more}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _details(change: Mapping[str, Any]) -> str:
    known = {"chain", "summary", "who", "seq", "time", "kind", "key", "user", "tenant", "method", "path", "status", "result"}
    return ", ".join(f"{name}: {value}" for name, value in change.items() if name not in known)


def _time(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "–"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(float(seconds), 0), 253_402_300_799)))
