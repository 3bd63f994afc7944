"""``portcullis feedback``: label decisions and texts through a running gateway."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gateway.cli.common import Misused, add_command, add_json, write_json, write_table
from gateway.cli.remote import Remote, add_remote

HELP = "say that a decision or a text was an attack or harmless, one or many, and list what was said"
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
    for one in (add, many, listing):
        add_remote(one)
        add_json(one)


def run(arguments: argparse.Namespace) -> int:
    remote = Remote(arguments)
    if arguments.action == "add":
        return _add(remote, arguments)
    if arguments.action == "import":
        return _import(remote, arguments)
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
    text = sys.stdin.read() if arguments.text == "-" else arguments.text
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


def _import(remote: Remote, arguments: argparse.Namespace) -> int:
    try:
        data = arguments.file.read_bytes()
    except OSError as error:
        raise Misused(f"{arguments.file}: {error.strerror}") from None
    kind = "text/csv" if arguments.file.suffix == ".csv" else "application/jsonl"
    told = remote.post("/admin/v1/feedback/bulk", data, kind)
    if arguments.json:
        write_json(told)
    else:
        for fault in told["faults"]:
            print(f"{arguments.file}:{fault['line']}: {fault['error']}", file=sys.stderr)
        print(f"{told['taken']} taken, {told['wrong']} wrong")
    return 1 if told["wrong"] else 0
