"""The alert rules, judged by promtool: each fires on what it is for, and keeps still on what it is not for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from helm.generate.__main__ import ROOT, stale
from helm.generate.alerts import ALERTS

RULES: Final = ROOT / "helm/portcullis/files/rules.yaml"

Series = dict[str, str]


class Case(NamedTuple):
    """Two courses of the same series: on ``bad`` the alert fires at ``at``, on ``good`` it does not."""

    bad: Series
    good: Series
    at: str = "30m"
    interval: str = "1m"


def requests(action: str, status: str) -> str:
    return f'portcullis_requests_total{{job="p",wire="w",tenant="t",action="{action}",status="{status}"}}'


OK, BLOCKED, BROKEN = requests("allow", "200"), requests("block", "400"), requests("allow", "502")
SCREENED = 'portcullis_screening_seconds_count{job="p",stage="total"}'
QUICK = 'portcullis_screening_seconds_bucket{job="p",stage="total",le="0.025"}'
SLOW = 'portcullis_screening_seconds_bucket{job="p",stage="total",le="0.1"}'
ALL = 'portcullis_screening_seconds_bucket{job="p",stage="total",le="+Inf"}'
LATE, SOON = {"1.0": 90, "2.5": 100, "+Inf": 100}, {"1.0": 98, "2.5": 100, "+Inf": 100}
LIMITED = requests("none", "429")
SHARED, THREADS = 'portcullis_shared_verdicts_total{job="p",result="', 'portcullis_thread_values_total{job="p",result="'
FEEDBACK, EVENTS = '{job="p",stream="feedback"}', 'portcullis_learning_events_total{job="p",stream="feedback",result="'
OPENAI = '{job="p",upstream="openai"}'
ONE, OTHER = '{job="p",instance="a"}', '{job="p",instance="b"}'

CASES: Final = {
    "PortcullisAbsent": Case({}, {'portcullis_build_info{job="p",version="1",python="3"}': "1x60"}),
    "PortcullisErrorRate": Case({OK: "0+90x60", BROKEN: "0+10x60"}, {OK: "0+99x60", BROKEN: "0+1x60", BLOCKED: "0+50x60"}),
    "PortcullisScreeningSlow": Case(
        {QUICK: "0+90x60", SLOW: "0+100x60", ALL: "0+100x60"}, {QUICK: "0+100x60", SLOW: "0+100x60", ALL: "0+100x60"}
    ),
    "PortcullisStreamLag": Case(
        {f'portcullis_stream_lag_seconds_bucket{{job="p",le="{bound}"}}': f"0+{seen}x60" for bound, seen in LATE.items()},
        {f'portcullis_stream_lag_seconds_bucket{{job="p",le="{bound}"}}': f"0+{seen}x60" for bound, seen in SOON.items()},
    ),
    # One a second for a day, then ten; on the quiet course the second day is like the first.
    "PortcullisThreatSurge": Case(
        {BLOCKED: "0+300x300 90300+3000x20"}, {BLOCKED: "0+300x300 90300+300x20"}, "26h", "5m"
    ),
    "PortcullisIncompleteVerdicts": Case(
        {OK: "0+100x60", 'portcullis_incomplete_verdicts_total{job="p",stage="encoder",reason="queue"}': "0+5x60"},
        {OK: "0+1000x60", 'portcullis_incomplete_verdicts_total{job="p",stage="encoder",reason="queue"}': "0+5x60"},
    ),
    "PortcullisFailOpen": Case(
        {'portcullis_fail_open_total{job="p",stage="encoder"}': "0x24 1x36"},
        {'portcullis_fail_open_total{job="p",stage="encoder"}': "7x60"},
    ),
    "PortcullisConfigurationRefused": Case(
        {f"portcullis_config_broken{ONE}": "0x20 1x40"}, {f"portcullis_config_broken{ONE}": "0x26 1x2 0x30"}
    ),
    "PortcullisBreakerOpen": Case(
        {f"portcullis_breaker_open{OPENAI}": "0x20 1x40"}, {f"portcullis_breaker_open{OPENAI}": "0x29 1x1 0x30"}
    ),
    "PortcullisUpstreamErrors": Case(
        {f"portcullis_upstream_attempts_total{OPENAI}": "0+100x60",
         'portcullis_upstream_errors_total{job="p",upstream="openai",kind="status"}': "0+20x60"},
        {f"portcullis_upstream_attempts_total{OPENAI}": "0+100x60",
         'portcullis_upstream_errors_total{job="p",upstream="openai",kind="connect"}': "0+5x60",
         'portcullis_upstream_errors_total{job="p",upstream="openai",kind="busy"}': "0+50x60"},
    ),
    "PortcullisStateDown": Case({f"portcullis_state_up{ONE}": "1x20 0x40"}, {f"portcullis_state_up{ONE}": "1x29 0 1x30"}),
    "PortcullisDecisionsNotStored": Case(
        {f"portcullis_decision_write_errors_total{ONE}": "0x20 0+1x40"}, {f"portcullis_decision_write_errors_total{ONE}": "5x60"}
    ),
    "PortcullisDecisionsLost": Case(
        {f"portcullis_decisions_dropped_total{ONE}": "0x25 9x40"}, {f"portcullis_decisions_dropped_total{ONE}": "9x60"}
    ),
    "PortcullisSpoolFull": Case({f"portcullis_state_spool_full{ONE}": "0x20 1x40"}, {f"portcullis_state_spool_full{ONE}": "0x29 1 0x30"}),
    "PortcullisForged": Case(
        {f"{SHARED}forged\"}}": "0x20 2x40", f"{THREADS}forged\"}}": "0x60"}, {f"{SHARED}forged\"}}": "5x60", f"{THREADS}forged\"}}": "1x60"}
    ),
    "PortcullisLearningBehind": Case(
        {f"portcullis_learning_oldest_seconds{FEEDBACK}": "0+60x60"}, {f"portcullis_learning_oldest_seconds{FEEDBACK}": "0x20 400x4 1x40"}
    ),
    # One that was given up, and counts that had to go before anybody looked.
    "PortcullisLearningLost": Case(
        {f"{EVENTS}failed\"}}": "0x20 1x40", f"portcullis_learning_dropped{FEEDBACK}": "7x60"},
        {f"{EVENTS}failed\"}}": "1x60", f"{EVENTS}done\"}}": "0+9x60", f"portcullis_learning_dropped{FEEDBACK}": "7x60"},
    ),
    "PortcullisLimited": Case(
        {OK: "0+80x60", LIMITED: "0+20x60", 'portcullis_limited_total{job="p",tenant="t",limit="key_tokens"}': "0+20x60"},
        {OK: "0+99x60", LIMITED: "0+1x60", 'portcullis_limited_total{job="p",tenant="t",limit="key_tokens"}': "0+1x60"},
    ),
    "PortcullisRealtimeFull": Case(
        {f"portcullis_realtime_sessions{ONE}": "900x60", f"portcullis_realtime_sessions_limit{ONE}": "1000x60"},
        {f"portcullis_realtime_sessions{ONE}": "700x60", f"portcullis_realtime_sessions_limit{ONE}": "1000x60"},
    ),
    "PortcullisAuditNotWritable": Case(
        {f"portcullis_audit_writable{ONE}": "1x20 0x40"}, {f"portcullis_audit_writable{ONE}": "1x29 0 1x30"}
    ),
    "PortcullisGenerationsDiffer": Case(
        {'portcullis_generation_digest{job="p",instance="a",digest="x"}': "1x60",
         'portcullis_generation_digest{job="p",instance="b",digest="x"}': "1x5 stale",
         'portcullis_generation_digest{job="p",instance="b",digest="y"}': "_x6 1x60"},
        {'portcullis_generation_digest{job="p",instance="a",digest="x"}': "1x60",
         'portcullis_generation_digest{job="p",instance="b",digest="x"}': "1x20 stale",
         'portcullis_generation_digest{job="p",instance="b",digest="y"}': "_x21 1x60"},
    ),
    "PortcullisSyncDiffers": Case(
        {f"portcullis_sync_differing_seconds{ONE}": "0+60x60"}, {f"portcullis_sync_differing_seconds{ONE}": "0+2x60"}
    ),
    # Two replicas, of which one has no connection any more; then a replica that is alone.
    "PortcullisSyncCutOff": Case(
        {f"portcullis_sync_entries{ONE}": "3x60", f"portcullis_sync_entries{OTHER}": "3x60",
         'portcullis_sync_peers{job="p",instance="a",state="agrees",transport="quic"}': "1x60",
         'portcullis_sync_peers{job="p",instance="b",state="agrees",transport="quic"}': "1x5 stale"},
        {f"portcullis_sync_entries{ONE}": "3x60"},
    ),
    "PortcullisSyncLag": Case(
        {'portcullis_sync_lag_seconds{job="p",instance="a",peer="b"}': "0+60x60"},
        {'portcullis_sync_lag_seconds{job="p",instance="a",peer="b"}': "1x60"},
    ),
    # Time begins at nought in these tests: a certificate of six days, and one of eight.
    "PortcullisCertificateExpires": Case(
        {f"portcullis_sync_certificate_expires{ONE}": "518400x60"}, {f"portcullis_sync_certificate_expires{ONE}": "691200x60"}
    ),
    # One replica alone is at its limit; then both have room.
    "PortcullisSaturated": Case(
        {f"portcullis_in_flight{ONE}": "3900x60", f"portcullis_in_flight_limit{ONE}": "4096x60",
         f"portcullis_in_flight{OTHER}": "100x60", f"portcullis_in_flight_limit{OTHER}": "4096x60"},
        {f"portcullis_in_flight{ONE}": "2000x60", f"portcullis_in_flight_limit{ONE}": "4096x60",
         f"portcullis_in_flight{OTHER}": "2000x60", f"portcullis_in_flight_limit{OTHER}": "4096x60"},
    ),
    "PortcullisOpenFiles": Case(
        {f"portcullis_open_files{ONE}": "950x60", f"portcullis_open_files_limit{ONE}": "1024x60"},
        {f"portcullis_open_files{ONE}": "300x60", f"portcullis_open_files_limit{ONE}": "1024x60"},
    ),
    # 2 % of errors is twenty times what the budget allows; 0.05 % is half of it.
    "PortcullisAvailabilityBudgetBurnFast": Case(
        {OK: "0+9800x120", BROKEN: "0+200x120"}, {OK: "0+99950x120", BROKEN: "0+50x120"}, "90m"
    ),
    "PortcullisAvailabilityBudgetBurnSlow": Case(
        {OK: "0+99600x400", BROKEN: "0+400x400"}, {OK: "0+99950x400", BROKEN: "0+50x400"}, "26h", "5m"
    ),
    "PortcullisLatencyBudgetBurnFast": Case(
        {SCREENED: "0+100x120", QUICK: "0+80x120"}, {SCREENED: "0+1000x120", QUICK: "0+995x120"}, "90m"
    ),
    "PortcullisLatencyBudgetBurnSlow": Case(
        {SCREENED: "0+100x400", QUICK: "0+96x400"}, {SCREENED: "0+1000x400", QUICK: "0+995x400"}, "26h", "5m"
    ),
}  # fmt: skip


def _tests(name: str, case: Case) -> list[dict[str, Any]]:
    firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    return [
        {
            "name": f"{name} on {word}",
            "interval": case.interval,
            "input_series": [{"series": one, "values": values} for one, values in series.items()],
            "promql_expr_test": [
                {"expr": f"({firing}) > bool 0", "eval_time": case.at, "exp_samples": [{"labels": "{}", "value": fires}]}
            ],
        }
        for word, series, fires in (("bad", case.bad, 1), ("good", case.good, 0))
    ]


def _needed(name: str) -> dict[str, Any]:
    """Of the rules file an alert and what it is computed from: promtool evaluates all that it is given, at every minute."""
    rules = yaml.safe_load(RULES.read_text())
    wanted, found = {name}, set[str]()
    while wanted:
        found |= wanted
        uses = " ".join(rule["expr"] for group in rules["groups"] for rule in group["rules"] if _name(rule) in wanted)
        wanted = {_name(rule) for group in rules["groups"] for rule in group["rules"] if _name(rule) in uses} - found
    for group in rules["groups"]:
        group["rules"] = [rule for rule in group["rules"] if _name(rule) in found]
    return dict(rules)


def _name(rule: dict[str, str]) -> str:
    return rule.get("alert") or rule["record"]


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    assert set(CASES) == {alert.name for alert in ALERTS}
    files = []
    for name, case in CASES.items():
        (tmp_path / f"{name}.rules.yaml").write_text(yaml.safe_dump(_needed(name), width=1000))
        # Days evaluated minute by minute would take minutes here.
        file = {"rule_files": [f"{name}.rules.yaml"], "evaluation_interval": case.interval, "tests": _tests(name, case)}
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(file, width=1000))
    done = subprocess.run(["promtool", "test", "rules", *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", "--lint-fatal", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_files_are_current() -> None:
    assert stale() == [], "run python -m helm.generate"


def test_every_alert_has_a_runbook() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                page = ROOT / "docs/runbooks" / rule["annotations"]["runbook_url"].rpartition("/")[2]
                assert f"# {rule['alert']}" in page.read_text()
                assert "{{" not in page.read_text(), "Prometheus fills templates in, a page has nobody who does"
