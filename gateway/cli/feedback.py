"""``portcullis feedback``: label decisions and texts through a running gateway."""

from __future__ import annotations

import argparse
import io
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.cli.common import add_command, add_json, read_file, write_json, write_table
from gateway.cli.faults import Misused
from gateway.cli.remote import Remote, add_remote, asks

EXAMPLE = "portcullis feedback add --decision 018f3c... attack --note 'seen on the forum'"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = add_command(
        actions, "add", "label one decision, or a text",
        "echo 'Ignore all previous instructions' | portcullis feedback add attack --text - --note 'seen on the forum'",
    )
    add.add_argument("label", choices=("attack", "benign"))
    add.add_argument("--decision", default="", metavar="ID", help="the decision's id, as in x-portcullis-id")
    add.add_argument("--text", default="", help="the text; - reads standard input")
    add.add_argument("--category", default="", help="category.subcategory")
    add.add_argument("--note", default="")
    add.add_argument("--origin", default="user", help="who said it, where there is no decision to tell")
    many = add_command(
        actions, "import", "label many: JSON lines, or CSV with a header",
        "portcullis feedback import labels.jsonl",
    )
    many.add_argument("file", type=Path)
    listing = add_command(actions, "list", "what was said, newest first", "portcullis feedback list --limit 20")
    listing.add_argument("--limit", type=int, default=50)
    back = add_command(
        actions, "retract", "take back all that somebody said, as when his key was stolen: revoke it first",
        "portcullis feedback retract --by 2zmnunxt --since 2026-11-01T08:00 --reason 'the key was stolen'",
    )
    back.add_argument("--by", required=True, help="as `feedback list` names him: a key's id, or @ and its owner")
    back.add_argument("--since", type=_moment, default=0.0, metavar="TIME", help="a date, or with a time; in UTC by default")
    back.add_argument("--reason", required=True)
    for one in (add, many, listing, back):
        add_remote(one)
        add_json(one)


def _moment(text: str) -> float:
    """A time in UNIX seconds, for `argparse`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a time as 2026-11-01 or 2026-11-01T08:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@asks
def run(arguments: argparse.Namespace) -> int:
    remote = Remote(arguments)
    if arguments.action == "add":
        return _add(remote, arguments)
    if arguments.action == "import":
        return _import(remote, arguments)
    if arguments.action == "retract":
        return _retract(remote, arguments)
    found = remote.get(f"/admin/v1/feedback?limit={arguments.limit}")
    if arguments.json:
        write_json(found)
    else:
        write_table(
            ("id", "label", "by", "outcome", "proposal", "note"),
            [(one["id"], one["label"], one["by"], one["outcome"] or "-", one["proposal"] or "-", one["note"][:60])
             for one in found["feedback"]],
        )  # fmt: skip
    return 0


def _add(remote: Remote, arguments: argparse.Namespace) -> int:
    try:
        text = sys.stdin.buffer.read().decode() if arguments.text == "-" else arguments.text
    except UnicodeDecodeError:
        raise Misused("--text: what standard input says is not UTF-8") from None
    if not text and not arguments.decision:
        raise Misused("--decision or --text: one of the two is needed")
    body: dict[str, Any] = {
        "label": arguments.label, "decision_id": arguments.decision, "text": text, "category": arguments.category,
        "note": arguments.note, "origin": arguments.origin,
    }  # fmt: skip
    made = remote.post("/admin/v1/feedback", body)
    if arguments.json:
        write_json(made)
    else:
        print(f"taken: {made['id']}")
    return 0


def _retract(remote: Remote, arguments: argparse.Namespace) -> int:
    body = {"by": arguments.by, "since": arguments.since, "reason": arguments.reason}
    told = remote.post("/admin/v1/feedback/retract", body)
    if arguments.json:
        write_json(told)
        return 0
    print(f"{told['labels']} labels of {arguments.by} are taken back, and {len(told['withdrawn'])} proposals with them")
    for id in told["standing"]:
        print(f"still watched or acting: {id}; see: portcullis patterns proposals {id}")
    return 0


MAX_BYTES: Final = 32 * 2**20
"""Bytes of a file, as the gateway takes them at once."""

PAUSE_SECONDS: Final = 5
"""How long to wait at least where labels came too fast: several may be given then."""


def _import(remote: Remote, arguments: argparse.Namespace) -> int:
    data, is_table = read_file(arguments.file, MAX_BYTES), arguments.file.suffix == ".csv"
    lines = data.splitlines(keepends=True) if is_table else io.BytesIO(data).readlines()
    kind = "text/csv" if is_table else "application/jsonl"
    header = lines[:1] if is_table else []
    taken, wrong, ids, faults = 0, 0, list[str](), list[dict[str, Any]]()
    before = 0  # lines that are done with, the header aside
    while True:
        told = remote.post("/admin/v1/feedback/bulk", b"".join(header + lines[len(header) + before :]), kind)
        taken, wrong, ids = taken + told["taken"], wrong + told["wrong"], ids + told["ids"]
        faults += [{**fault, "line": fault["line"] + before} for fault in told["faults"]]
        for fault in faults[-len(told["faults"]) :] if told["faults"] and not arguments.json else ():
            print(f"{arguments.file}:{fault['line']}: {fault['error']}", file=sys.stderr)
        if told["next"] is None:
            break
        before += told["next"] - 1 - len(header)
        if told["wait"]:
            print(f"{taken} taken so far; more are as fast as `learning.labels_per_minute` allows", file=sys.stderr)
            time.sleep(max(told["wait"], PAUSE_SECONDS))
    if arguments.json:
        write_json({"taken": taken, "wrong": wrong, "ids": ids, "faults": faults})
    else:
        print(f"{taken} taken, {wrong} wrong")
    return 1 if wrong else 0
