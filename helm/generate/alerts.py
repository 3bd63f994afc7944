"""Every alert: when it fires, what it means, where to look, what to do. Rules and runbooks are written from this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from helm.generate.objectives import FAST, LATENCY, OBJECTIVES, SLOW, WINDOWS, Burn, Objective, share

Severity = Literal["critical", "warning", "info"]


class Alert(NamedTuple):
    """One alert. ``hold`` is how long ``expr`` must be true; texts are for whoever is woken."""

    name: str
    severity: Severity
    expr: str
    hold: str
    summary: str
    meaning: str
    look: tuple[str, ...]
    act: tuple[str, ...]


THREATS: Final = "portcullis:threats:rate15m"
BASELINE: Final = "portcullis:threats:same_hour_median"
BASELINE_DAYS: Final = range(1, 8)
SURGE_FACTOR: Final = 3
SURGE_LEAST: Final = 0.2
"""Threats a second below which nothing is a surge: three attacks in a quarter of an hour are not."""


def recorded() -> Iterator[tuple[str, str]]:
    """The recording rules: (name, expression)."""
    for objective in OBJECTIVES:
        for window in WINDOWS:
            bad, total = (part.replace("WINDOW", window) for part in (objective.bad, objective.all))
            yield share(objective, window), f"({bad}) / ({total} > 0)"
    yield THREATS, 'sum by (job) (rate(portcullis_requests_total{action=~"block|flag"}[15m]))'
    days = " or ".join(f'label_replace({THREATS} offset {day}d, "day", "{day}", "", "")' for day in BASELINE_DAYS)
    yield BASELINE, f"quantile by (job) (0.5, {days})"


def _burns(objective: Objective, burns: tuple[Burn, ...]) -> str:
    return " or ".join(
        f"({share(objective, burn.long)} > {burn.factor * objective.budget:.6g}"
        f" and {share(objective, burn.short)} > {burn.factor * objective.budget:.6g})"
        for burn in burns
    )


def _budget(objective: Objective, speed: Literal["Fast", "Slow"]) -> Alert:
    fast = speed == "Fast"
    what = "errors" if objective is not LATENCY else "slow screening"
    return Alert(
        f"Portcullis{objective.key.capitalize()}BudgetBurn{speed}",
        "critical" if fast else "warning",
        _burns(objective, FAST if fast else SLOW),
        "2m" if fast else "15m",
        f"{objective.title}: the error budget is being spent {'within hours' if fast else 'faster than a month lasts'}",
        f"The objective is {objective.goal:.1%} over thirty days, so {objective.budget:.1%} may be bad. "
        + ("At this rate the whole month's budget is gone within two to five days, and it has been so for an hour or six."
           if fast else "At this rate the budget will not last the month. Nobody needs to get up for it."),
        (
            "Dashboard *Portcullis / SLO*: which objective, since when.",
            "Dashboard *Portcullis / Traffic*: which wire and status." if what == "errors"
            else "Dashboard *Portcullis / Traffic*, screening by stage: which stage got slow.",
        ),
        (
            "Where it began with a roll-out or a policy change, roll that back first and look for the cause afterwards.",
            "Errors: follow [PortcullisErrorRate](PortcullisErrorRate.md)." if what == "errors"
            else "Slow screening: follow [PortcullisScreeningSlow](PortcullisScreeningSlow.md).",
        ),
    )  # fmt: skip


ALERTS: Final = (
    Alert(
        "PortcullisAbsent", "critical", "absent(portcullis_build_info)", "5m",
        "No Portcullis is being scraped",
        "Prometheus sees no replica at all: either none runs, or scraping is broken. If none runs, applications get "
        "connection errors; nothing passes unscreened.",
        ("`kubectl get pods -l app.kubernetes.io/name=portcullis`: do pods run and are they ready?",
         "Prometheus, *Status → Targets*: is there a target, and what is its error?",
         "NetworkPolicy: may the monitoring namespace reach the port (`networkPolicy.monitoringNamespaces`)?"),
        ("Pods crash: `kubectl logs --previous`; a configuration or a state that cannot be used is named in the last line.",
         "Pods run and targets are missing: check `serviceMonitor.labels` against what your Prometheus selects."),
    ),
    Alert(
        "PortcullisErrorRate", "critical",
        'sum by (job) (rate(portcullis_requests_total{status=~"5.."}[5m])) / sum by (job) (rate(portcullis_requests_total[5m])) > 0.05',
        "5m",
        "{{ $value | humanizePercentage }} of requests end in a 5xx",
        "More than one request in twenty fails. A refusal by policy is no error: it has status 400 (or 200) and action `block`.",
        ("Dashboard *Portcullis / Traffic*: requests by status. 500, 502 and 504 come from the upstream; 503 is overload, an open "
         "breaker, or records that cannot be kept while the policy demands it.",
         "The request log, `status >= 500`: its `reason` says which fault it was (`kubectl logs … | grep '\"status\":50'`)."),
        ("500, 502, 504: follow [PortcullisUpstreamErrors](PortcullisUpstreamErrors.md).",
         "503 `overloaded`: follow [PortcullisSaturated](PortcullisSaturated.md).",
         "503 `audit_unavailable`: `/readyz` names what cannot be written; follow "
         "[PortcullisAuditNotWritable](PortcullisAuditNotWritable.md) or "
         "[PortcullisDecisionsNotStored](PortcullisDecisionsNotStored.md)."),
    ),
    Alert(
        "PortcullisScreeningSlow", "warning",
        'histogram_quantile(0.99, sum by (job, le) (rate(portcullis_screening_seconds_bucket{stage="total"}[5m]))) > 0.05',
        "10m",
        "One message in a hundred takes {{ $value | humanizeDuration }} to screen",
        "Screening adds noticeable time to requests. Usual causes: too little processor, very long prompts, a larger pattern pack.",
        ("Dashboard *Portcullis / Traffic*, screening by stage: which stage.",
         "Dashboard *Portcullis / Capacity*: processor and in-flight requests by replica; throttling by a CPU limit.",
         "Was a pack or a policy taken shortly before (*generation*)?"),
        ("More replicas: raise `autoscaling.maxReplicas`, or the CPU request.",
         "A pack brought it: roll it back."),
    ),
    Alert(
        "PortcullisStreamLag", "warning",
        "histogram_quantile(0.95, sum by (job, le) (rate(portcullis_stream_lag_seconds_bucket[5m]))) > 1", "10m",
        "One streamed word in twenty is judged {{ $value | humanizeDuration }} after it came, or later",
        "Streamed replies are judged by meaning while they are written, and judging does not keep up. Under `strict` callers wait "
        "for it; under `balanced` words run ahead as far as `policy.ahead` lets them. What is later than "
        "`detection.deadline_seconds` is not judged beside the stream: `strict` cuts it there, `balanced` goes on and says so.",
        ("Dashboard *Portcullis / Traffic*, streamed replies: since when, and how many are cut.",
         "Dashboard *Portcullis / Capacity*: processor by replica; judging shares it with everything else.",
         "Dashboard *Portcullis / Security*, incomplete verdicts: `encoder: late` is what was given up."),
        ("More replicas: raise `autoscaling.maxReplicas`, or the CPU request.",
         "Only callers who wait are the trouble: a larger `policy.ahead` asks for fewer judgements, and lets more out before them."),
    ),
    Alert(
        "PortcullisThreatSurge", "warning",
        f"{THREATS} > {SURGE_LEAST} and {THREATS} > {SURGE_FACTOR} * {BASELINE}",
        "5m",
        "{{ $value | humanize }} blocked or flagged requests a second, more than three times this hour's median of the past week",
        "Somebody attacks, an application began to send what looks like attacks, or a new pattern is too wide. It compares with "
        "the same time on each of the past seven days; with no past there is no surge.",
        ("Dashboard *Portcullis / Security*: which category, origin and pattern; does one tenant make up most of it?",
         "`GET /admin/v1/decisions?action=block` or the console: read some of them.",
         "Origin `document` or `tool_result`: somebody planted instructions in content that an agent reads."),
        ("One tenant's key: revoke it (`portcullis keys revoke`) or take its traffic off.",
         "A false alarm: label decisions as benign; roll the pack or pattern back if many people are affected."),
    ),
    Alert(
        "PortcullisIncompleteVerdicts", "warning",
        "sum by (job, stage, reason) (rate(portcullis_incomplete_verdicts_total[5m])) / on (job) group_left () "
        "sum by (job) (rate(portcullis_requests_total[5m])) > 0.01",
        "10m",
        "Stage {{ $labels.stage }} did not run ({{ $labels.reason }}) on more than one request in a hundred",
        "Messages are judged without one of the stages. The policy's `failure` says what happens to them: refused, flagged or passed.",
        ("The labels `stage` and `reason`: `budget` is too long a text, `unread` one whose script the encoder does not know, `late` and "
         "`overload` too much work for it, `missing` and `error` a stage that is broken.",
         "Dashboard *Portcullis / Security*, incomplete verdicts."),
        ("Overload: more replicas.", "A stage that did not load: the log of the start names the file.",
         "`unread`: patterns and the front stage judge what the encoder cannot read; nothing is broken.",
         "Until then, decide whether `policy.failure` for that stage should be stricter."),
    ),
    Alert(
        "PortcullisFailOpen", "critical", "sum by (job, stage) (increase(portcullis_fail_open_total[10m])) > 0", "0m",
        "Requests pass without stage {{ $labels.stage }}: fail-open is in force",
        "A stage does not run, and the policy lets messages pass unscreened by it. Whoever attacks now is not seen by that stage.",
        ("`portcullis_incomplete_verdicts_total` for that stage: the reason.",
         "`portcullis check`: which failure modes are configured.",
         "Stage `audit`: decisions are not being recorded; see [PortcullisDecisionsNotStored](PortcullisDecisionsNotStored.md)."),
        ("Mend the stage; if that takes long, set `policy.failure.<stage>: flag` or `closed` (taken within two seconds, no restart).",
         "Afterwards, search the decisions of that time and judge them again."),
    ),
    Alert(
        "PortcullisConfigurationRefused", "warning", "max by (job, instance) (portcullis_config_broken) == 1", "5m",
        "{{ $labels.instance }} refuses its newest configuration and serves with the old one",
        "The file was changed and cannot be used. Nothing is broken yet, but the replica will not start with it again.",
        ("Its log: `the new configuration is refused` names the key and what is accepted.",
         "`portcullis check --config FILE` says the same."),
        ("Correct the file, or roll it back; a good one is taken within two seconds.",),
    ),
    Alert(
        "PortcullisBreakerOpen", "warning", "max by (job, upstream) (portcullis_breaker_open) == 1", "2m",
        "The circuit breaker of upstream {{ $labels.upstream }} is open",
        "The upstream failed so often that it is not tried for a while. With a fallback configured, that one answers; otherwise "
        "callers get 503 with Retry-After.",
        ("Dashboard *Portcullis / Upstreams*: errors by kind.", "The provider's status page; DNS and egress from the pods.",
         "A changed key: 401 and 403 do not open a breaker, refused connections and timeouts do."),
        ("Configure `upstreams.X.fallbacks`.", "It closes by itself when a request that is let through as a trial succeeds. Where nobody asks, none is, and this stays on."),
    ),
    Alert(
        "PortcullisUpstreamErrors", "warning",
        'sum by (job, upstream) (rate(portcullis_upstream_errors_total{kind!~"breaker|busy|timeout_queue"}[5m])) / on (job, upstream) '
        "(sum by (job, upstream) (rate(portcullis_upstream_attempts_total[5m])) > 0) > 0.1",
        "10m",
        "{{ $value | humanizePercentage }} of attempts at {{ $labels.upstream }} fail",
        "The gateway is well; what is behind it is not, or cannot be reached.",
        ("Dashboard *Portcullis / Upstreams*, errors by kind: `connect` is network, DNS or TLS; `timeout_*` says which phase; "
         "`status` is a 5xx that it answered with; `bad_reply`, `bad_stream` and `truncated` are broken replies. A fallback is an "
         "upstream of its own: `openai-2`.",
         "NetworkPolicy: is the provider's address in `networkPolicy.egress`?"),
        ("Raise `upstreams.X.timeouts` only if the provider is slow rather than gone.", "Configure a fallback."),
    ),
    Alert(
        "PortcullisStateDown", "critical", "min by (job, instance) (portcullis_state_up) == 0", "2m",
        "{{ $labels.instance }} cannot reach its state",
        "SQLite's file or Redis does not answer. Traffic goes on; keys made or revoked meanwhile are not seen. With Redis decisions "
        "wait on each replica's disk, then in memory, and `/readyz` stays ready and says since when; with SQLite they wait in "
        "memory up to a bound, and `/readyz` fails.",
        ("`/readyz`: the error in words.", "Redis: `redis-cli -u URL ping`, its memory and its connections.",
         "SQLite: is the volume mounted, writable and not full?"),
        ("Bring the state back: replicas recover by themselves, and write what waited.",),
    ),
    Alert(
        "PortcullisDecisionsNotStored", "critical", "sum by (job, instance) (increase(portcullis_decision_write_errors_total[5m])) > 0",
        "2m",
        "{{ $labels.instance }} cannot store decisions",
        "Records are queued in memory. Whether requests go on meanwhile is the policy's `failure.audit`.",
        ("The log: `decisions cannot be stored` says why (disk full, permission, Redis gone).",
         "`portcullis_decisions_queued` and `portcullis_decisions_dropped_total`."),
        ("Make room or bring the store back. Nothing is lost while `decisions_dropped` stays still.",),
    ),
    Alert(
        "PortcullisDecisionsLost", "critical", "sum by (job, instance) (increase(portcullis_decisions_dropped_total[10m])) > 0", "0m",
        "{{ $labels.instance }} has lost {{ $value | humanize }} decision records",
        "The queue was full. These requests were screened and answered, but no record of them is left.",
        ("`portcullis_decision_write_errors_total`: does the store fail, or is it too slow?",),
        ("As for [PortcullisDecisionsNotStored](PortcullisDecisionsNotStored.md). Note the gap for the audit: from when to when, how many.",),
    ),
    Alert(
        "PortcullisSpoolFull", "critical", "max by (job, instance) (portcullis_state_spool_full) == 1", "1m",
        "{{ $labels.instance }} can queue no more decisions on its disk",
        "Redis is gone, and the queue on disk that stands in for it takes nothing: it holds 256 MiB, or the disk is full. Decisions wait "
        "in memory now, and the oldest are dropped when that is full, too.",
        ("`/readyz`: since when, how much waits, and what the disk says.", "Dashboard *Portcullis / State*: bytes that wait on disk."),
        ("Bring Redis back: what waits is stored, once, and the queue empties.",
         "Or make room under `data_dir/spool`; nothing in there may be deleted that is not stored yet."),
    ),
    Alert(
        "PortcullisForged", "critical",
        'sum by (job) (increase(portcullis_shared_verdicts_total{result="forged"}[15m]))'
        ' + sum by (job) (increase(portcullis_thread_values_total{result="forged"}[15m])) > 0',
        "0m",
        "{{ $value | humanize }} sealed values in the state did not open",
        "What replicas keep for each other in the state is sealed. Something there was altered, made up or moved, so somebody writes to "
        "the state who should not; or two replicas have different secrets under one name. Nothing of it was used.",
        ("Was `secret` changed, and not on all replicas at once? Then it is over when the older values have expired.",
         "`portcullis_shared_verdicts_total` and `portcullis_thread_values_total` by instance: one replica alone has another secret.",
         "Redis: `ACL LOG`, `CLIENT LIST`, and who holds its credentials."),
        ("Change the credentials of Redis, and restrict its user and network as docs/state.md says.",
         "Values of conversations are worth more than verdicts: consider `secret` disclosed only where the configuration was."),
    ),
    Alert(
        "PortcullisLearningBehind", "warning", "max by (job, stream) (portcullis_learning_oldest_seconds) > 300", "5m",
        "What the learning loop was told has waited for {{ $value | humanizeDuration }} (stream {{ $labels.stream }})",
        "Labels, or counts of what patterns matched, wait to be worked on. Nothing is lost yet; labels act later, and at 20,000 further "
        "ones are refused.",
        ("Dashboard *Portcullis / Learning*, what waits: waiting is what no worker took, pending what one took and did not settle.",
         "The log of every replica: `an event of the stream` says that its work fails, and what of.",
         "Dashboard *Portcullis / Capacity*: is there any processor left?"),
        ("Pending alone: the worker that held it was killed; another takes it within a minute.",
         "All of it: a replica with room, or a restart of those whose log says that the state does not answer."),
    ),
    Alert(
        "PortcullisLearningLost", "warning",
        'sum by (job, stream) (increase(portcullis_learning_events_total{result=~"failed|unreadable"}[15m]))'
        " + max by (job, stream) (delta(portcullis_learning_dropped[15m])) > 0",
        "0m",
        "{{ $value | humanize }} events of the stream {{ $labels.stream }} were given up",
        "The learning loop will not hear of these: they were tried five times and their work failed, they did not open, or there "
        "were too many and the oldest had to go.",
        ("`portcullis_learning_events_total` by result: `unreadable` did not open (another `secret`), `failed` broke its work.",
         "`portcullis_learning_dropped`: counts of matches that had to go, after some minutes without any worker that learns."),
        ("Unreadable: give all replicas one `secret`.", "Failed: the log names the fault. Labels can be given again."),
    ),
    Alert(
        "PortcullisLimited", "info",
        "sum by (job, tenant) (rate(portcullis_limited_total[15m])) / on (job, tenant) "
        "(sum by (job, tenant) (rate(portcullis_requests_total[15m])) > 0) > 0.1",
        "15m",
        "{{ $value | humanizePercentage }} of the requests of tenant {{ $labels.tenant }} are refused by its limits",
        "Callers get 429 with Retry-After. That is what limits are for; whether this one is right is for its owner to say.",
        ("Dashboard *Portcullis / State*, limits: which limit, of the tenant or of each key, and since when.",
         "One key with a loop that tries again at once looks like this, too: requests by key in the console."),
        ("`tenants.X.rate_limits` and `key_rate_limits`: taken within two seconds, no restart.",),
    ),
    Alert(
        "PortcullisAuditNotWritable", "critical", "min by (job, instance) (portcullis_audit_writable) == 0", "1m",
        "{{ $labels.instance }} cannot write its audit log",
        "Records wait in memory up to a bound. Whether requests go on meanwhile is the policy's `failure.audit`; where none do, "
        "the replica is not ready and gets none.",
        ("The log names the file and the error: a full disk, a volume that is not there, a missing permission.",
         "`portcullis_audit_waiting` and `portcullis_audit_dropped_total`: how many wait, and whether any were given up."),
        ("Make room or mend the volume; writing goes on by itself.",
         "Afterwards `portcullis audit verify` names any gap. Note from when to when for the auditor."),
    ),
    Alert(
        "PortcullisGenerationsDiffer", "warning",
        "count by (job) (count by (job, digest) (portcullis_generation_digest)) > 1", "15m",
        "Replicas have judged by {{ $value }} different sets of patterns for a quarter of an hour",
        "The same text may be stopped by one replica and passed by another. A roll-out is over sooner than this; what stays is a "
        "replica with an older image, configuration or pack, or one that does not hear what the others learnt.",
        ("Dashboard *Portcullis / Capacity*, patterns that serve, by digest: how many replicas have which; versions beside it.",
         "`portcullis_generation_digest` names the replicas; `GET /admin/v1/generation` on each: `digest`, `patterns` and "
         "`configuration_error`.",
         "Dashboard *Portcullis / Sync*: do their stores agree?"),
        ("An older image or configuration: restart the replica, or finish the roll-out.",
         "Stores that differ: as for [PortcullisSyncDiffers](PortcullisSyncDiffers.md)."),
    ),
    Alert(
        "PortcullisSyncDiffers", "warning", "max by (job, instance) (portcullis_sync_differing_seconds) > 300", "2m",
        "{{ $labels.instance }} has held other patterns than a replica beside it for {{ $value | humanizeDuration }}",
        "Replicas should agree within a second. Until they do, the same text may be judged differently by two of them.",
        ("Dashboard *Portcullis / Sync*: which digests, who lags.", "`portcullis sync status` says in words who lags and why."),
        ("A replica refuses entries: its `refused` reason names why; often an approver's key that it does not know.",
         "Network: UDP or TCP on the sync port between the pods (`networkPolicy`, `sync.port`)."),
    ),
    Alert(
        "PortcullisSyncCutOff", "warning",
        "sum by (job, instance) (portcullis_sync_entries) unless on (job, instance) portcullis_sync_peers"
        " and on (job) count by (job) (portcullis_sync_entries) > 1", "3m",
        "{{ $labels.instance }} is connected to no other replica",
        "Prometheus sees several replicas, and this one none of them. What is approved elsewhere does not act here, nor what is "
        "approved here elsewhere, and nobody can compare what they hold.",
        ("`portcullis sync status` on it: `is cut off`, or `knows of no other replica` when that has lasted ten minutes.",
         "Its log, and those of the others: who was refused, and why (a certificate, a name). Of a network that takes nothing "
         "they say nothing.",
         "Dashboard *Portcullis / Sync*, digests held: does it hold something else already?"),
        ("Network: UDP or TCP on the sync port between the pods (`networkPolicy`, `sync.port`).",
         "A certificate that expired: follow [PortcullisCertificateExpires](PortcullisCertificateExpires.md)."),
    ),
    Alert(
        "PortcullisSyncLag", "warning", "max by (job, instance, peer) (portcullis_sync_lag_seconds) > 60", "2m",
        "{{ $labels.peer }} has not acknowledged a revision of {{ $labels.instance }} for {{ $value | humanizeDuration }}",
        "What was approved does not act everywhere yet.",
        ("Dashboard *Portcullis / Sync*: lag by peer, round trip, transport.",),
        ("As for [PortcullisSyncDiffers](PortcullisSyncDiffers.md). A peer that is gone for good leaves by itself.",),
    ),
    Alert(
        "PortcullisCertificateExpires", "warning",
        "min by (job, instance) (portcullis_sync_certificate_expires > 0) - time() < 7 * 86400", "10m",
        "The certificate of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}",
        "Replicas accept each other by certificate. When it has expired, this one no longer learns what the others approve.",
        ("`kubectl get certificate`: does cert-manager try to renew, and what stops it?",
         "`portcullis sync status`: which file is in use, and until when it is valid."),
        ("With cert-manager: mend the issuer. Without: `portcullis sync issue` makes a new one.",
         "A renewed file is taken without a restart."),
    ),
    Alert(
        "PortcullisSaturated", "warning",
        "max by (job, instance) (portcullis_in_flight / portcullis_in_flight_limit) > 0.8", "5m",
        "{{ $labels.instance }} has {{ $value | humanizePercentage }} of the requests in flight that it allows",
        "Above its limit a replica answers new requests with 503 and Retry-After, whatever room the others have.",
        ("Dashboard *Portcullis / Capacity*: one replica or all of them? Has the autoscaler reached `maxReplicas`?",
         "Dashboard *Portcullis / Upstreams*: a slow upstream fills the gateway as surely as more traffic does."),
        ("Raise `autoscaling.maxReplicas`.",
         "One replica alone: connections that were opened long ago stay on it; have the load balancer balance requests, not connections.",
         "Slow upstream: lower `upstreams.X.timeouts`, add a fallback."),
    ),
    Alert(
        "PortcullisRealtimeFull", "warning",
        "max by (job, instance) (portcullis_realtime_sessions / portcullis_realtime_sessions_limit) > 0.8", "5m",
        "{{ $labels.instance }} holds {{ $value | humanizePercentage }} of the realtime sessions that it may",
        "Above its limit a replica refuses new sessions with 503, and one tenant may hold half of them. Sessions last for minutes, so "
        "this does not go by itself as quickly as it does with requests.",
        ("Dashboard *Portcullis / Traffic*, realtime sessions: one replica or all of them?",
         "Does one application open sessions and never close them? `realtime.idle_seconds` ends those in which nothing is said."),
        ("`realtime.sessions` may be raised while there is memory, or more replicas added.",
         "One replica alone: have the load balancer count connections."),
    ),
    Alert(
        "PortcullisOpenFiles", "warning",
        "max by (job, instance) (portcullis_open_files / portcullis_open_files_limit) > 0.8", "5m",
        "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its file descriptors",
        "Each connection takes one, callers' and upstreams'. At the limit new connections fail.",
        ("`portcullis_upstream_connections`, `portcullis_in_flight`, connections of callers that stay idle.",),
        ("Raise the container runtime's `nofile` limit, or run more replicas.",),
    ),
    *(_budget(objective, speed) for objective in OBJECTIVES for speed in ("Fast", "Slow")),
)  # fmt: skip
"""All alerts, the ones that wake people first."""
