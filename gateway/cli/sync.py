"""``portcullis sync``: the state of the replicas, and certificates for them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from gateway.cli.common import add_command, add_config, add_json, days, settings, write_json, write_table
from gateway.cli.faults import Failed
from gateway.sync import certificates, status
from gateway.sync.certificates import AUTHORITY_DAYS, NODE_DAYS
from gateway.sync.faults import CertificateFault

EXAMPLE = "portcullis sync init-ca ./ca && portcullis sync issue ./ca gateway-1.example.org --out ./certificates"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add_config(add_command(
        actions, "status", "who lags and why; exit code 1 where replicas differ or are not reached",
        "portcullis sync status --config portcullis.yaml",
    ))
    authority = add_command(
        actions, "init-ca", "make a certificate authority for the replicas of a cluster",
        "portcullis sync init-ca ./ca",
    )
    authority.add_argument("folder", type=Path, help="where ca.pem and ca.key are written")
    authority.add_argument("--days", type=days, default=AUTHORITY_DAYS,
                           help=f"how long it is valid (default: {AUTHORITY_DAYS})")  # fmt: skip
    add_json(authority)
    issue = add_command(
        actions, "issue", "make a replica's certificate and key; again to renew them",
        "portcullis sync issue ./ca gateway-1.example.org --out ./certificates",
    )
    issue.add_argument("folder", type=Path, help="where ca.pem and ca.key are")
    issue.add_argument("node", help="the replica's name: a DNS name, as in sync.node")
    issue.add_argument("--name", action="append", default=[], help="a further DNS name, such as '*.gateways.example.org'")
    issue.add_argument("--out", type=Path, default=Path(), help="where NODE.pem and NODE.key are written (default: here)")
    issue.add_argument("--days", type=days, default=NODE_DAYS, help=f"how long it is valid (default: {NODE_DAYS})")
    add_json(issue)


def run(arguments: argparse.Namespace) -> int:
    try:
        return {"status": _status, "init-ca": _init, "issue": _issue}[arguments.action](arguments)
    except CertificateFault as error:
        raise Failed(str(error)) from None


def _status(arguments: argparse.Namespace) -> int:
    chosen = settings(arguments)
    if chosen.sync.listen is None:
        raise Failed("pattern sync is off: sync.listen is not set")
    report = status.latest(chosen.data_dir)
    if report is None:
        raise Failed(f"no gateway that uses {chosen.data_dir} runs pattern sync")
    if (silent := time.time() - report["at"]) > status.STALE_SECONDS:
        raise Failed(f"the gateway that uses {chosen.data_dir} has written no report for {silent:.0f} s: it has ended, or "
                     "cannot write there (is the disk full?)")  # fmt: skip
    agree = bool(report["peers"]) and all(peer["agrees"] for peer in report["peers"]) and not report["unreached"]
    if arguments.json:
        write_json(report)
        return 0 if agree else 1
    print(report["summary"])
    print(f"node {report['node']}: {report['entries']} entries, digest {report['digest'][:12]}, "
          f"{len(report['members'])} other replicas known, quorum {report['quorum']}")  # fmt: skip
    until = time.strftime("%F", time.gmtime(report["certificate_expires_at"]))
    print(f"certificate {report['certificate']}, valid until {until}\n")
    write_table(
        ("peer", "transport", "round trip", "entries", "lag", "refused", "state"), [_row(peer) for peer in report["peers"]]
    )
    return 0 if agree else 1


def _row(peer: dict[str, Any]) -> tuple[object, ...]:
    trip = "-" if peer["round_trip_ms"] is None else f"{peer['round_trip_ms']} ms"
    lag = f"{peer['lag_revisions']} ({peer['lag_seconds']} s)"
    return peer["node"], peer["transport"], trip, peer["entries"], lag, peer["refused"], peer["in_words"]


def _init(arguments: argparse.Namespace) -> int:
    files = certificates.init_authority(arguments.folder, arguments.days)
    if arguments.json:
        write_json({"authority": str(files.authority), "key": str(files.key)})
    else:
        print(f"{files.authority}: give it to every replica (sync.ca)\n{files.key}: keep it where no gateway runs")
    return 0


def _issue(arguments: argparse.Namespace) -> int:
    files = certificates.issue(arguments.folder, arguments.node, arguments.out, arguments.name, arguments.days)
    if arguments.json:
        write_json({"certificate": str(files.certificate), "key": str(files.key), "node": arguments.node})
    else:
        print(f"sync:\n  node: {arguments.node}\n  ca: {files.authority}\n  certificate: {files.certificate}\n"
              f"  key: {files.key}")  # fmt: skip
    return 0
