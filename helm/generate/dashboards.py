"""The dashboards: what a person on call, an analyst and a planner want to see, one page a question."""

from __future__ import annotations

from typing import Final

from helm.generate.alerts import BASELINE, THREATS
from helm.generate.objectives import FAST, OBJECTIVES, SCREENING_BOUND, Objective, share
from helm.generate.panels import Dashboard, Panel, Row

_QUANTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def rate(series: str, by: str = "", where: str = "") -> str:
    """A counter's increase a second, summed over everything but the labels ``by``."""
    return f"{_sum(by)} (rate({series}{{{_only(where)}}}[$__rate_interval]))"


def gauge(series: str, by: str = "", where: str = "", how: str = "sum") -> str:
    return f"{_sum(by, how)} ({series}{{{_only(where)}}})"


def quantile(series: str, share: float, by: str = "", where: str = "") -> str:
    """A quantile of a histogram, from its buckets."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({series}_bucket{{{_only(where)}}}[$__rate_interval])))"


def _part(series: str, where: str) -> str:
    """The share of a counter's increase that ``where`` selects; nought, and no gap, where it selects nothing."""
    return f"({rate(series, where=where)} or vector(0)) / {rate(series)}"


def _increase(series: str, by: str, where: str = "", over: str = "$__rate_interval") -> str:
    return f"sum by ({by}) (increase({series}{{{_only(where)}}}[{over}]))"


def _top(series: str, by: str, where: str = "") -> str:
    return f"topk(15, {_increase(series, by, where, '1h')})"


def _only(where: str) -> str:
    return f'job=~"$job"{"," if where else ""}{where}'


def _sum(by: str, how: str = "sum") -> str:
    return f"{how} by ({by})" if by else how


def _latency(title: str, series: str, about: str, by: str = "", where: str = "", width: int = 12) -> Panel:
    legend = f"{{{{{by}}}}} " if by else ""
    queries = tuple((quantile(series, at, by, where), f"{legend}{name}") for name, at in _QUANTILES)
    return Panel(title, "s", queries, about, width=width)


def _number(title: str, unit: str, expr: str, about: str = "", limit: float | None = None) -> Panel:
    return Panel(title, unit, ((expr, ""),), about, "stat", width=4, height=4, limit=limit)


_TRAFFIC: Final = Dashboard(
    "traffic", "Traffic", "What passes through, how fast, and how long screening takes with all guards on.",
    (
        Row("Now", (
            _number("Requests", "reqps", rate("portcullis_requests_total")),
            _number("Refused by policy", "percentunit",
                    _part("portcullis_requests_total", 'action="block"')),
            _number("Faults (5xx)", "percentunit",
                    _part("portcullis_requests_total", 'status=~"5.."'),
                    limit=0.05),
            _number("Screening p99", "s", quantile("portcullis_screening_seconds", 0.99, where='stage="total"'),
                    limit=SCREENING_BOUND),
            _number("In flight", "short", gauge("portcullis_in_flight")),
            _number("Replicas", "short", gauge("portcullis_build_info", how="count")),
        )),
        Row("Requests", (
            Panel("Requests by wire", "reqps", ((rate("portcullis_requests_total", "wire"), "{{wire}}"),), stacked=True),
            Panel("Requests by status", "reqps", ((rate("portcullis_requests_total", "status"), "{{status}}"),), stacked=True),
            Panel("Requests by tenant", "reqps", (("topk(10, " + rate("portcullis_requests_total", "tenant") + ")", "{{tenant}}"),),
                  stacked=True),
            Panel("Callers that left early", "reqps", ((rate("portcullis_clients_gone_total", "wire"), "{{wire}}"),),
                  "Clients that closed the connection before their reply ended."),
        )),
        Row("Latency with all guards on", (
            _latency("Screening, all stages", "portcullis_screening_seconds", "Time that the gateway adds to judge a message.",
                     where='stage="total"'),
            _latency("Screening by stage", "portcullis_screening_seconds", "Where that time goes.", "stage", 'stage!="total"'),
            _latency("Whole request", "portcullis_request_seconds",
                     "From the request's last byte to the reply's last: mostly the model's own time.", "wire"),
            Panel("Screening, all of it", "s",
                  ((_increase("portcullis_screening_seconds_bucket", "le", 'stage="total"'),
                    "{{le}}"),), kind="heatmap"),
            Panel("Verdict cache", "percentunit",
                  ((_part("portcullis_cache_total", 'result="hit"'), "hits"),),
                  "Share of texts that were judged before under the same generation."),
        )),
        Row("Streamed replies", (
            Panel("Bytes", "Bps", ((rate("portcullis_stream_bytes_total", "wire"), "{{wire}}"),), width=8),
            _latency("From a streamed word to its judgement", "portcullis_stream_lag_seconds",
                     "By meaning, beside the stream. `strict` lets nothing out before it, `balanced` runs some way ahead.", width=8),
            Panel("Cut, by the stage that saw why", "cps",
                  ((rate("portcullis_stream_cuts_total", "wire, stage"), "{{wire}} {{stage}}"),), width=8),
        )),
        Row("Realtime sessions", (
            Panel("Open", "short",
                  ((gauge("portcullis_realtime_sessions", "instance"), "{{instance}}"),
                   (gauge("portcullis_realtime_sessions_limit", how="min"), "what each may hold")), width=8),
            Panel("Events", "cps",
                  ((rate("portcullis_realtime_events_total", "sender, action"), "{{sender}} {{action}}"),),
                  "By who sent them and what was done with them.", width=8),
            Panel("Refused, cut or redacted", "percentunit",
                  ((_part("portcullis_realtime_events_total", 'action=~"block|cut|redact|limit"'), "of all events"),),
                  "How late words are judged is told under *Streamed replies*: a response is a stream.", width=8),
        )),
    ),
)  # fmt: skip

_SECURITY: Final = Dashboard(
    "security", "Security", "What was found, where it came from, and what was done.",
    (
        Row("Now", (
            Panel("Threats against this hour's median of the past week", "reqps",
                  ((f'sum({THREATS}{{job=~"$job"}})', "now"), (f'sum({BASELINE}{{job=~"$job"}})', "median of seven days")),
                  "Blocked or flagged requests a second over fifteen minutes. The median has no data in a deployment's first day.",
                  width=16),
            Panel("Actions, last hour", "short",
                  ((_increase("portcullis_requests_total", "action", over="1h"), "{{action}}"),), kind="bargauge",
                  width=8),
        )),
        Row("Findings", (
            Panel("By category", "cps", ((rate("portcullis_findings_total", "category"), "{{category}}"),), stacked=True),
            Panel("By origin", "cps", ((rate("portcullis_findings_total", "origin"), "{{origin}}"),), stacked=True,
                  about="`document` and `tool_result` are indirect: planted where an agent reads."),
            Panel("By stage", "cps", ((rate("portcullis_findings_total", "stage"), "{{stage}}"),), stacked=True),
            Panel("By direction and action", "cps",
                  ((rate("portcullis_findings_total", "direction, action"), "{{direction}} {{action}}"),), stacked=True),
            Panel("Top patterns, last hour", "short",
                  ((_top("portcullis_pattern_findings_total", "pattern"), "{{pattern}}"),),
                  kind="bargauge", height=12),
            Panel("Top tenants by refusals, last hour", "short",
                  ((_top("portcullis_requests_total", "tenant", 'action="block"'),
                    "{{tenant}}"),), kind="bargauge", height=12),
        )),
        Row("Trust in the verdicts", (
            Panel("Incomplete verdicts", "cps",
                  ((rate("portcullis_incomplete_verdicts_total", "stage, reason"), "{{stage}}: {{reason}}"),),
                  "Messages that were judged without a stage."),
            Panel("Passed without a stage (fail-open)", "cps", ((rate("portcullis_fail_open_total", "stage"), "{{stage}}"),),
                  "Should be nought."),
            Panel("Shadow policy: live → shadow", "cps",
                  ((rate("portcullis_shadow_decisions_total", "live, shadow"), "{{live}} → {{shadow}}"),),
                  "What the shadow policy would have done instead. Pairs that differ are what a switch would change."),
        )),
    ),
)  # fmt: skip

_UPSTREAMS: Final = Dashboard(
    "upstreams", "Upstreams", "The providers behind the gateway.",
    (
        Row("Providers", (
            _latency("Time to first byte", "portcullis_upstream_seconds", "", "upstream"),
            Panel("Attempts", "reqps", ((rate("portcullis_upstream_attempts_total", "upstream"), "{{upstream}}"),), stacked=True),
            Panel("Errors by kind", "cps",
                  ((rate("portcullis_upstream_errors_total", "upstream, kind"), "{{upstream}} {{kind}}"),),
                  "status: it answered with a 5xx. breaker, busy, timeout_queue: nothing was sent."),
            Panel("Retries", "cps", ((rate("portcullis_upstream_retries_total", "upstream"), "{{upstream}}"),)),
            Panel("Circuit breakers", "bool", ((gauge("portcullis_breaker_open", "upstream", how="max"), "{{upstream}}"),),
                  "1 is open: the upstream is not tried.", limit=1),
            Panel("Connections", "short", ((gauge("portcullis_upstream_connections", "upstream"), "{{upstream}}"),)),
        )),
    ),
)  # fmt: skip

_CAPACITY: Final = Dashboard(
    "capacity", "Capacity", "What the replicas use, and how much room is left.",
    (
        Row("Load", (
            Panel("In flight, of what is allowed", "percentunit",
                  ((gauge("portcullis_in_flight", "instance") + " / " + gauge("portcullis_in_flight_limit", "instance"),
                    "{{instance}}"),), limit=0.8),
            Panel("Requests by replica", "reqps", ((rate("portcullis_requests_total", "instance"), "{{instance}}"),), stacked=True),
            Panel("Processor", "short", ((rate("portcullis_cpu_seconds_total", "instance"), "{{instance}}"),), "Cores in use."),
            Panel("Processor a request", "s",
                  ((rate("portcullis_cpu_seconds_total") + " / " + rate("portcullis_requests_total"), "all replicas"),),
                  "What one more request costs."),
            Panel("Memory", "bytes", ((gauge("portcullis_resident_bytes", "instance"), "{{instance}}"),),
                  "All workers of a replica; pages that they share are counted for each."),
            Panel("Open files, of what is allowed", "percentunit",
                  ((gauge("portcullis_open_files", "instance") + " / (" + gauge("portcullis_open_files_limit", "instance", how="min")
                    + " * " + gauge("portcullis_workers", "instance") + ")", "{{instance}}"),), limit=0.8),
        )),
        Row("Audit log", (
            Panel("Records", "cps", ((rate("portcullis_audit_records_total"), "written"), (rate("portcullis_audit_dropped_total"), "given up"),
                                     (rate("portcullis_audit_errors_total"), "failed writes"))),
            Panel("Records not on the disk yet", "short", ((gauge("portcullis_audit_waiting", "instance"), "{{instance}}"),)),
            Panel("Writable", "bool", ((gauge("portcullis_audit_writable", "instance", how="min"), "{{instance}}"),)),
        )),
        Row("Records and configuration", (
            Panel("Decisions", "cps",
                  ((rate("portcullis_decisions_stored_total"), "stored"), (rate("portcullis_decisions_dropped_total"), "lost"),
                   (rate("portcullis_decision_write_errors_total"), "failed writes"))),
            Panel("Decisions that wait", "short", ((gauge("portcullis_decisions_queued", "instance"), "{{instance}}"),)),
            Panel("Log lines lost", "cps", ((rate("portcullis_log_lines_dropped_total", "instance"), "{{instance}}"),)),
            Panel("State answers", "bool", ((gauge("portcullis_state_up", "instance", how="min"), "{{instance}}"),)),
            Panel("Draining", "bool", ((gauge("portcullis_draining", "instance", how="max"), "{{instance}}"),)),
            Panel("Configuration refused", "bool", ((gauge("portcullis_config_broken", "instance", how="max"), "{{instance}}"),)),
            Panel("Configurations", "short",
                  ((_increase("portcullis_config_reloads_total", "result"), "{{result}}"),)),
            Panel("Generation", "short", ((gauge("portcullis_generation", "instance", how="max"), "{{instance}}"),)),
            Panel("Patterns that serve, by digest", "short",
                  ((gauge("portcullis_generation_digest", "digest", how="count"), "{{digest}}"),),
                  "Replicas by what they judge by. More than one for long: a pack or a learnt pattern that not all have.", stacked=True),
            Panel("Generation's age", "s", ((gauge("portcullis_generation_age_seconds", "instance", how="max"), "{{instance}}"),)),
            Panel("Patterns that act", "short", ((gauge("portcullis_patterns", "instance", how="max"), "{{instance}}"),)),
            Panel("Patterns of the store left out", "short",
                  ((gauge("portcullis_patterns_left_out", "instance", how="max"), "{{instance}}"),),
                  "What cannot be read or compiled there: GET /admin/v1/generations says why."),
            Panel("Versions", "short", ((gauge("portcullis_build_info", "version, python", how="count"), "{{version}} ({{python}})"),),
                  kind="bargauge"),
        )),
    ),
)  # fmt: skip


_FORGED: Final = 'result="forged"'

_STATE: Final = Dashboard(
    "state", "State", "What replicas share: whether it answers, verdicts from each other, limits, values of conversations.",
    (
        Row("Now", (
            _number("Answers", "bool", gauge("portcullis_state_up", how="min")),
            _number("Answered without it", "bool", gauge("portcullis_state_breaker_open", how="max"),
                    "1: the circuit breaker of a replica is open.", limit=1),
            _number("Waits on disk", "bytes", gauge("portcullis_state_spool_bytes"), "Decisions, until Redis is back.", limit=1),
            _number("Disk queue full", "bool", gauge("portcullis_state_spool_full", how="max"), limit=1),
            _number("Refused by limits", "percentunit",
                    f"({rate('portcullis_limited_total')} or vector(0)) / {rate('portcullis_requests_total')}"),
            _number("Values that did not open", "cps",
                    f"{rate('portcullis_shared_verdicts_total', where=_FORGED)} + {rate('portcullis_thread_values_total', where=_FORGED)}",
                    "Should be nought: somebody writes to the state, or replicas have different secrets.", limit=0.001),
        )),
        Row("While Redis is gone", (
            Panel("Done without it", "cps", ((rate("portcullis_state_without_total", "what"), "{{what}}"),),
                  "Decisions to disk and back, values served from memory, calls refused at once."),
            Panel("Decisions that wait in memory", "short", ((gauge("portcullis_decisions_queued", "instance"), "{{instance}}"),)),
        )),
        Row("Verdicts from each other", (
            Panel("Found, of those that were looked up in time", "percentunit",
                  ((rate("portcullis_shared_verdicts_total", where='result="hit"') + " / "
                    + rate("portcullis_shared_verdicts_total", where='result=~"hit|miss"'), "hits"),), width=8),
            Panel("By what came of it", "cps", ((rate("portcullis_shared_verdicts_total", "result"), "{{result}}"),),
                  "`late` and `skipped`: the state is further away than a verdict is worth.", width=8),
            Panel("Windows for the encoder", "cps", ((rate("portcullis_encoder_windows_total", "result"), "{{result}}"),),
                  "`shared` are those that another replica had read.", width=8),
        )),
        Row("Limits", (
            Panel("Refused, by tenant and limit", "reqps",
                  ((rate("portcullis_limited_total", "tenant, limit"), "{{tenant}} {{limit}}"),), stacked=True),
            Panel("Decided by", "reqps", ((rate("portcullis_limits_decided_total", "by"), "{{by}}"),),
                  "`share`: the state did not answer, and each worker kept to its part of the limit.", stacked=True),
        )),
        Row("Values of conversations that the provider keeps", (
            Panel("Asked for", "cps",
                  ((rate("portcullis_thread_values_total", "result", 'result=~"found|missing|late|forged|unavailable"'), "{{result}}"),)),
            Panel("Kept", "cps", ((rate("portcullis_thread_values_total", "result", 'result=~"kept|cut|lost"'), "{{result}}"),)),
        )),
    ),
)  # fmt: skip


def _objective_row(objective: Objective) -> Row:
    long = FAST[0]
    burn = f'{share(objective, long.long)}{{job=~"$job"}} / {objective.budget}'
    return Row(f"{objective.title}: {objective.goal:.1%}", (
        Panel("Error budget that is left of thirty days", "percentunit",
              ((f'1 - avg_over_time({share(objective, "1h")}{{job=~"$job"}}[30d]) / {objective.budget}', "{{job}}"),),
              kind="stat", width=6),
        Panel("Share of bad events", "percentunit",
              tuple((f'{share(objective, window)}{{job=~"$job"}}', f"{window} {{{{job}}}}") for window in ("5m", "1h", "6h")),
              width=9, limit=objective.budget),
        Panel("Burn rate", "short", ((burn, "1h {{job}}"),),
              f"1 spends the budget in exactly thirty days; {long.factor} over an hour wakes somebody.", width=9, limit=long.factor),
    ))  # fmt: skip


_SLO: Final = Dashboard(
    "slo", "SLO", "What is promised, and how much of the error budget is left.", tuple(map(_objective_row, OBJECTIVES))
)

_CONFIRMED, _REFUTED = (
    gauge("portcullis_pattern_labelled", "pattern", f'verdict="{verdict}"', "max") for verdict in ("confirmed", "refuted")
)
_PRECISION: Final = f"bottomk(15, {_CONFIRMED} / ({_CONFIRMED} + {_REFUTED}))"

_LEARNING: Final = Dashboard(
    "learning", "Learning", "What people label, what is proposed from it, and what the pattern store holds.",
    (
        Row("Feedback", (
            Panel("Labels", "short", ((_increase("portcullis_labels_total", "label", over="1h"), "{{label}}"),), "By hour."),
            Panel("Proposals, by the stage that they entered", "short",
                  ((_increase("portcullis_proposal_moves_total", "stage", over="1h"), "{{stage}}"),), "By hour."),
        )),
        Row("What waits", (
            Panel("Events that no worker took yet, and that one took", "short",
                  ((gauge("portcullis_learning_waiting", "stream", how="max"), "{{stream}} waiting"),
                   (gauge("portcullis_learning_pending", "stream", how="max"), "{{stream}} pending"))),
            Panel("Age of the oldest", "s", ((gauge("portcullis_learning_oldest_seconds", "stream", how="max"), "{{stream}}"),),
                  "Since it was told, whoever holds it.", limit=300),
            Panel("Worked on, by replica", "cps",
                  ((rate("portcullis_learning_events_total", "instance, stream", 'result="done"'), "{{instance}} {{stream}}"),),
                  "Whoever has room takes some.", stacked=True),
            Panel("Given up", "cps",
                  ((rate("portcullis_learning_events_total", "stream, result", 'result=~"failed|unreadable"'), "{{stream}} {{result}}"),
                   (f"sum by (stream) (deriv(portcullis_learning_dropped{{{_only('')}}}[5m]))", "{{stream}} had to go")),
                  "Should be nought."),
        )),
        Row("How patterns did", (
            Panel("Precision by pattern, the lowest", "percentunit", ((_PRECISION, "{{pattern}}"),),
                  "The share of a pattern's labelled matches that labels confirm. Low is a pattern that finds what it should not.",
                  kind="bargauge", height=12),
            Panel("Labelled matches", "short",
                  ((f"topk(15, {gauge('portcullis_pattern_labelled', 'pattern, verdict', how='max')})", "{{pattern}} {{verdict}}"),),
                  "How much that precision rests on.", kind="bargauge", height=12),
        )),
        Row("Store", (
            Panel("Patterns by state", "short", ((gauge("portcullis_store_patterns", "state", how="max"), "{{state}}"),)),
            Panel("Generation", "short", ((gauge("portcullis_store_generation", "instance", how="max"), "{{instance}}"),),
                  "Replicas that differ for long do not hear of each other: dashboard *Sync*."),
        )),
    ),
)  # fmt: skip

_SYNC: Final = Dashboard(
    "sync", "Sync", "Whether the replicas agree on what the pattern store holds.",
    (
        Row("Agreement", (
            Panel("Digests held", "short", ((gauge("portcullis_sync_digest", "digest", how="count"), "{{digest}}"),),
                  "Replicas by what they hold. More than one digest for long is a replica that does not follow.", stacked=True),
            Panel("Differing for", "s", ((gauge("portcullis_sync_differing_seconds", "instance", how="max"), "{{instance}}"),), limit=300),
            Panel("Peers", "short", ((gauge("portcullis_sync_peers", "state, transport"), "{{state}} {{transport}}"),),
                  "By transport: `tcp` is the fallback where UDP is blocked."),
            Panel("Lag", "s", ((gauge("portcullis_sync_lag_seconds", "instance, peer", how="max"), "{{instance}} → {{peer}}"),), limit=60),
        )),
        Row("Traffic", (
            Panel("Round trip", "s", ((gauge("portcullis_sync_round_trip_seconds", "peer", how="max"), "{{peer}}"),)),
            Panel("Bytes", "Bps", ((rate("portcullis_sync_bytes_total", "direction, transport"), "{{direction}} {{transport}}"),)),
            Panel("Entries", "cps", ((rate("portcullis_sync_entries_moved_total", "direction"), "{{direction}}"),)),
            Panel("Refused", "cps", ((rate("portcullis_sync_refused_total", "reason"), "{{reason}}"),), "Should be nought."),
            Panel("Fallbacks to TCP", "cps", ((rate("portcullis_sync_fallbacks_total", "instance"), "{{instance}}"),)),
        )),
    ),
)  # fmt: skip

DASHBOARDS: Final = (_TRAFFIC, _SECURITY, _LEARNING, _SYNC, _STATE, _UPSTREAMS, _CAPACITY, _SLO)
