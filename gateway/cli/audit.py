"""``portcullis audit``: verify the audit log, report on it, write it out in another format."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit import files, witness
from gateway.audit.formats import FORMATS
from gateway.audit.keys import BadKey, public_key
from gateway.audit.reading import records_of, verify_folder
from gateway.audit.report import Evidence, as_html
from gateway.audit.verify import Head, Verification
from gateway.cli.common import add_command, add_config, new_file, settings, write_json, write_table
from gateway.cli.faults import Failed, Misused
from gateway.config.settings import Settings
from gateway.state.base import StateUnavailable
from gateway.state.opening import open_state

EXAMPLE = "portcullis audit report --from 2026-11-01 --to 2026-12-01 --output november"

_FOR_EVER: Final = 1e12


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verifying = add_command(
        actions, "verify", "find and name whatever was removed, changed, reordered or cut off",
        "portcullis audit verify --key audit.pub.pem",
    )
    reporting = add_command(
        actions, "report", "write evidence for an auditor: NAME.html and NAME.json",
        "portcullis audit report --from 2026-11-01 --to 2026-12-01 --output november",
    )
    exporting = add_command(
        actions, "export", "write the records of a span of time to standard output",
        "portcullis audit export --from 2026-11-01 --to 2026-11-02 --format ocsf > records.jsonl",
    )
    for one in (verifying, reporting, exporting):
        add_config(one)
        one.add_argument("--directory", type=Path, metavar="DIR", help="the log's folder (default: the configuration's)")
    for one in (verifying, reporting):
        one.add_argument(
            "--key", type=Path, action="append", default=[], metavar="FILE",
            help="a public key in PEM whose signatures count (default: those that the log names, which proves less)",
        )  # fmt: skip
        one.add_argument("--no-state", action="store_true", help="do not ask the state how far the log had come")
    for one in (reporting, exporting):
        one.add_argument("--from", dest="since", type=_moment, default=0.0, metavar="TIME",
                         help="2026-11-01, 2026-11-01T12:00, or UNIX seconds; UTC")  # fmt: skip
        one.add_argument("--to", dest="until", type=_moment, default=_FOR_EVER, metavar="TIME", help="where it ends")
    reporting.add_argument("--output", type=new_file, default=Path("audit-report"), metavar="NAME", help="without an ending")
    exporting.add_argument("--format", choices=sorted(FORMATS), default="json")


def run(arguments: argparse.Namespace) -> int:
    asks_state = arguments.action != "export" and not arguments.no_state
    # A copy is read by auditors, too, who have neither the configuration nor what it names.
    chosen = settings(arguments) if asks_state or arguments.config or not arguments.directory else Settings()
    folder: Path = arguments.directory or chosen.audit_directory
    trusted = [] if arguments.action == "export" else _keys(arguments.key)
    try:
        if not files.chains(folder):
            raise Failed(f"{folder}: there is no audit log")
        return _read(chosen, folder, trusted, arguments)
    except files.Unreadable as error:
        raise Failed(str(error)) from None


def _read(chosen: Settings, folder: Path, trusted: Sequence[Ed25519PublicKey], arguments: argparse.Namespace) -> int:
    if arguments.action == "export":
        return _export(folder, arguments)
    heads, people, unasked = _ask_state(chosen, folder, arguments.no_state)
    if arguments.action == "verify":
        return _verify(verify_folder(folder, trusted, heads), bool(trusted), unasked, arguments.json)
    return _report(folder, trusted, heads, people, arguments)


def _verify(result: Verification, pinned: bool, unasked: str, as_json: bool) -> int:
    if as_json:
        write_json({
            "intact": result.intact, "records": result.records, "state": unasked or "asked", "keys_given": pinned,
            "problems": [one._asdict() for one in result.problems], "notes": [one._asdict() for one in result.notes],
            "chains": [{"name": c.name, "first": c.first, "last": c.last, "signed_to": c.signed_to, "closed": c.closed,
                        "signers": sorted(c.signers), "head": c.head} for c in result.chains],
        })  # fmt: skip
        return 0 if result.intact else 1
    write_table(
        ("chain", "records", "signed up to", "roots", "end"),
        [(c.name, f"{c.first}-{c.last}" if c.records else "none", c.signed_to, c.roots, "closed" if c.closed else "open")
         for c in result.chains],
    )
    for note in result.notes:
        print(f"note: {note.chain}: {note.kind}: {note.what}")
    if unasked:
        print(f"note: the state was not asked how far the log had come: {unasked}")
    if not pinned:
        print("note: no --key was given: signatures were checked against the keys that the log itself names")
    for problem in result.problems:
        print(f"PROBLEM: {problem.chain}: {problem.kind}: {problem.what}")
    verdict = "intact" if result.intact else f"NOT intact: {len(result.problems)} problems"
    print(f"{result.records} records in {len(result.chains)} chains: {verdict}")
    return 0 if result.intact else 1


def _report(
    folder: Path, trusted: Sequence[Ed25519PublicKey], heads: dict[str, Head], people: dict[str, str],
    arguments: argparse.Namespace,
) -> int:  # fmt: skip
    if arguments.until <= arguments.since:
        raise Misused("--to: wanted a time after --from")
    now = time.time()
    evidence = Evidence(arguments.since, min(arguments.until, now))
    result = verify_folder(folder, trusted, heads, evidence.see)
    document = evidence.document(result, people, now)
    page, data = (arguments.output.with_name(arguments.output.name + ending) for ending in (".html", ".json"))
    try:
        page.write_text(as_html(document), encoding="utf-8")
        data.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from None
    if arguments.json:
        write_json({"html": str(page), "json": str(data), "intact": result.intact, "requests": evidence.requests})
    else:
        print(f"{page} and {data}: {evidence.requests} requests, {len(evidence.changes)} changes, "
              f"the log is {'intact' if result.intact else 'NOT intact'}")  # fmt: skip
    return 0 if result.intact else 1


def _export(folder: Path, arguments: argparse.Namespace) -> int:
    into = FORMATS[arguments.format]
    out = sys.stdout.buffer
    for chain, line, record in records_of(folder):
        at = record.get("time")
        if isinstance(at, int | float) and arguments.since <= at < arguments.until:
            out.write(into(chain, line, record) + b"\n")
    out.flush()
    return 0


def _ask_state(chosen: Settings, folder: Path, leave_out: bool) -> tuple[dict[str, Head], dict[str, str], str]:
    """How far the log had come, whose keys there are, and why the state was not asked, if it was not."""
    log_id = files.known_log_id(folder)
    if leave_out:
        return {}, {}, "as wanted"
    if log_id is None:
        return {}, {}, f"{folder}/log-id is missing"
    if chosen.state.startswith("sqlite:") and not Path(chosen.state.removeprefix("sqlite:")).exists():
        return {}, {}, f"{chosen.state} is not there"  # asking would make it
    try:
        heads, people = asyncio.run(_asked(chosen.state, log_id))
    except StateUnavailable as error:
        return {}, {}, str(error)
    return heads, people, ""


async def _asked(url: str, log_id: str) -> tuple[dict[str, Head], dict[str, str]]:
    state = open_state(url)
    try:
        people = {key.id: key.note or f"{key.role.value} of {key.tenant}" for key in await state.keys()}
        return await witness.heads(state, log_id), people
    finally:
        await state.close()


def _keys(paths: Sequence[Path]) -> list[Ed25519PublicKey]:
    try:
        return [public_key(path.read_bytes(), str(path)) for path in paths]
    except OSError as error:
        raise Misused(f"--key: {error.filename}: {error.strerror}") from None
    except BadKey as error:
        raise Misused(f"--key: {error}") from None


def _moment(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if isfinite(seconds):
            return seconds
    try:
        moment: Any = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted 2026-11-01, 2026-11-01T12:00 or UNIX seconds") from None
    return float((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
