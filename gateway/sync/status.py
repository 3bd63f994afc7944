"""What pattern sync has to say for itself: to operators in words, to programs in JSON, to Prometheus in numbers.

The worker that runs the service writes its report to a file beside the lock, so that whichever worker is asked can answer.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway.sync.link import Link
from gateway.sync.membership import FEW, LOST_SECONDS
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from gateway.sync.service import SyncService

STALE_SECONDS: Final = 10.0
"""A report older than this is of a worker that is gone."""

LAGS_SECONDS: Final = 3.0
"""A peer that differs for longer than this lags; a revision on its way makes it differ for milliseconds."""


def report(service: SyncService, now: float) -> dict[str, Any]:
    """The state of sync, for people and programs. Needs a service that runs in this worker."""
    node = service.node
    assert node is not None
    peers = [_peer(link, now) for link in node.links.values() if link.node]
    connected = {peer["node"] for peer in peers}
    members: list[dict[str, Any]] = [
        {"node": member.node, "address": member.address, "connected": member.node in connected,
         "heard_seconds": round(max(0.0, now - member.seen_ms / 1000), 1)}
        for member in sorted(node.directory.members, key=lambda member: member.node)
    ]  # fmt: skip
    few = len(members) <= FEW  # each is connected with each; of many, each says once a minute that it is there
    unreached = [one for one in members if not one["connected"] and (few or one["heard_seconds"] > LOST_SECONDS)]
    revisions = [
        {"fingerprint": fingerprint.hex(), "held_by": sorted({*track.nodes, node.name}), "quorum": node.quorum,
         "reached": track.reached_at is not None,
         "seconds": None if track.reached_at is None else round(track.reached_at - track.at, 4)}
        for fingerprint, track in list(node.receipts.made_here().items())[-MAX_REVISIONS:]
    ]  # fmt: skip
    return {
        "at": now, "node": node.name, "digest": node.ledger.root.hex(), "entries": len(node.ledger),
        "certificate": str(service.certificate), "certificate_expires_at": service.credentials.not_after,
        "quorum": node.quorum, "peers": peers, "members": members,
        "refused": dict(node.refused), "summary": _summary(node.name, peers, len(members), unreached),
        "unreached": [one["node"] for one in unreached], "revisions": revisions,
    }  # fmt: skip


MAX_REVISIONS: Final = 100
"""Revisions made here lately that a report tells the spread of."""


def write(service: SyncService, now: float) -> None:
    """Leave a report for the other workers."""
    file = report_file(service.data_dir)
    scratch = file.with_suffix(".new")
    scratch.write_bytes(orjson.dumps(report(service, now)))
    scratch.replace(file)


def read(data_dir: Path, now: float) -> dict[str, Any] | None:
    """The latest report of whichever worker runs the service; None where there is none of late."""
    found = latest(data_dir)
    return found if found is not None and now - found["at"] <= STALE_SECONDS else None


def latest(data_dir: Path) -> dict[str, Any] | None:
    """The latest report, however old (``at``); None where there is none."""
    try:
        found = orjson.loads(report_file(data_dir).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) and "at" in found else None


def report_file(data_dir: Path) -> Path:
    return data_dir / "sync.json"


def _peer(link: Link, now: float) -> dict[str, Any]:
    differs = None if link.differs_since is None else round(now - link.differs_since, 3)
    return {
        "node": link.node, "address": link.address, "transport": link.transport,
        "dialed_by": "us" if link.dialed is not None else "them", "connected_seconds": round(now - link.since, 1),
        "round_trip_ms": None if link.round_trip is None else round(link.round_trip * 1000, 2),
        "clock_skew_ms": link.skew_ms, "entries": link.held, "digest": link.digest.hex(),
        "agrees": link.differs_since is None, "differs_seconds": differs,
        "lag_revisions": link.outstanding, "lag_seconds": round(link.oldest(now), 3), "behind_us_by": link.pending,
        "sent": link.sent, "received": link.received, "refused": link.refused, "in_words": _in_words(link, now),
    }  # fmt: skip


def _in_words(link: Link, now: float) -> str:
    if link.differs_since is None:
        return "agrees"
    if link.outstanding:
        return f"lags: {_count(link.outstanding, 'revision')} on the way to it, the oldest for {link.oldest(now):.1f} s"
    if link.pending:
        return f"is ahead: it has {_count(link.pending, 'revision')} for us"
    if link.refused_by_peer or link.refused_from_peer:
        refused = len(link.refused_by_peer) + len(link.refused_from_peer)
        return f"differs: entries are refused ({refused}); do both trust the same signers, and are their clocks right?"
    if now - link.differs_since < LAGS_SECONDS:
        return "is being compared"
    return f"differs for {now - link.differs_since:.0f} s, and the comparison has not found why yet"


def _summary(name: str, peers: list[dict[str, Any]], members: int, unreached: list[dict[str, Any]]) -> str:
    if not members and not peers:
        return f"{name} knows of no other replica"
    if not peers:
        return f"{name} is cut off: it knows {_count(members, 'other replica')} and reaches none"
    told = [f"{peer['node']} {peer['in_words']}" for peer in peers if not peer["agrees"]]
    told = told or [f"{name} agrees with {_count(len(peers), 'connected replica')}"]
    told += [f"{one['node']} is not reached, last heard of {one['heard_seconds']:.0f} s ago" for one in unreached]
    return "; ".join(told)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def register(metrics: Metrics, service: SyncService) -> None:
    """Count and measure it. A worker that does not run the service has no series."""
    def links() -> list[Link]:
        return [link for link in service.node.links.values() if link.node] if service.node else []

    def per_peer(value: Any) -> dict[tuple[str, ...], float]:
        return {(link.node,): value(link) for link in links()}

    def peers() -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for link in links():
            key = ("agrees" if link.differs_since is None else "differs", link.transport)
            found[key] = found.get(key, 0) + 1
        return found

    def differing() -> dict[tuple[str, ...], float]:
        since = [link.differs_since for link in links() if link.differs_since is not None]
        return {(): time.time() - min(since) if since else 0.0} if service.node else {}

    def digest() -> dict[tuple[str, ...], float]:
        return {(service.node.ledger.root.hex()[:16],): 1.0} if service.node else {}

    def of_node(value: Any) -> dict[tuple[str, ...], float]:
        return {(): float(value(service.node))} if service.node else {}

    counts = service.counts
    metrics.gauge("portcullis_sync_peers", "Replicas connected.", ("state", "transport"), peers)
    metrics.gauge("portcullis_sync_members", "Other replicas known.", (), lambda: of_node(lambda n: len(n.directory)))
    metrics.gauge("portcullis_sync_entries", "Entries held.", (), lambda: of_node(lambda n: len(n.ledger)))
    metrics.gauge("portcullis_sync_digest", "1 for the digest of all entries held.", ("digest",), digest)
    metrics.gauge("portcullis_sync_differing_seconds", "How long a connected replica's digest has differed.", (), differing)
    metrics.gauge(
        "portcullis_sync_round_trip_seconds", "Round trip to a replica.", ("peer",),
        lambda: per_peer(lambda link: link.round_trip or 0.0),
    )  # fmt: skip
    metrics.gauge(
        "portcullis_sync_lag_revisions", "Revisions that a replica has not acknowledged.", ("peer",),
        lambda: per_peer(lambda link: link.outstanding),
    )  # fmt: skip
    metrics.gauge(
        "portcullis_sync_lag_seconds", "Age of the oldest revision that a replica has not acknowledged.", ("peer",),
        lambda: per_peer(lambda link: link.oldest(time.time())),
    )  # fmt: skip
    metrics.gauge(
        "portcullis_sync_certificate_expires", "When this replica's certificate expires, in UNIX seconds.", (),
        lambda: {(): service.credentials.not_after} if service.node else {}, "max",
    )  # fmt: skip
    metrics.count(
        "portcullis_sync_bytes", "Bytes of frames.", ("direction", "transport"),
        lambda: {
            **{("sent", transport): float(size) for transport, size in counts.sent.items()},
            **{("received", transport): float(size) for transport, size in counts.received.items()},
        },
    )  # fmt: skip
    metrics.count(
        "portcullis_sync_entries_moved", "Entries sent and received.", ("direction",),
        lambda: {
            ("sent",): float(service.node.entries_sent), ("received",): float(service.node.entries_received),
        } if service.node else {},
    )  # fmt: skip
    metrics.count(
        "portcullis_sync_refused", "Entries, frames, names and connections refused.", ("reason",),
        lambda: {
            ("stranger",): float(counts.strangers),
            **({(reason,): float(number) for reason, number in service.node.refused.items()} if service.node else {}),
        },
    )  # fmt: skip
    metrics.count(
        "portcullis_sync_questions", "Questions of replicas about a request, by what was said.", ("said",),
        lambda: {(said,): float(number) for said, number in counts.answered.items()},
    )  # fmt: skip
    metrics.count(
        "portcullis_sync_conflicts", "Revisions that replaced another one.", (), lambda: of_node(lambda n: n.conflicts)
    )
    metrics.count(
        "portcullis_sync_fallbacks", "Connections that fell back from QUIC to TCP.", (),
        lambda: {(): float(service.dialer.fallbacks)},
    )
