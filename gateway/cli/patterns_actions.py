"""The actions of ``portcullis patterns`` beyond looking at packs: signing them, and working with a running gateway's store."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import __version__
from gateway.cli.common import add_command, add_json, read_file, write_json, write_table
from gateway.cli.faults import Failed, Misused
from gateway.cli.remote import Refusal, Remote, add_remote, asks, part
from gateway.learning.values import Stage
from patterns import convert, detached, release, signed
from patterns.entries import key_id
from patterns.schema import PatternError
from patterns.signing import KeyFault, own_key, public_text, read_private, read_public


def configure(actions: Any) -> None:
    """Add the parsers."""
    sign = add_command(
        actions, "sign", "sign packs with a private key (made when missing); prints the public half",
        "portcullis patterns sign my-pack.yaml --key packs.pem",
    )
    sign.add_argument("packs", nargs="*", type=Path, metavar="PACK")
    sign.add_argument("--key", type=Path, required=True, help="PEM file of an Ed25519 private key; keep it out of repositories")
    sign.add_argument("--feed", action="store_true", help="files of any format, for `learning.feeds[].key`")
    verify = add_command(
        actions, "verify", "check packs against their signatures",
        "portcullis patterns verify my-pack.yaml --trust ed25519:...",
    )
    verify.add_argument("packs", nargs="*", type=Path, metavar="PACK")
    verify.add_argument("--trust", action="append", default=[], metavar="ed25519:...", help="a public key; may be repeated")
    for one in (sign, verify):
        one.add_argument("--shipped", action="store_true", help="the packs that ship, by patterns/release.pub")
    show = add_command(
        actions, "show", "one pattern of a running gateway, with its history and how it did",
        "portcullis patterns show injection.override.prior-instructions",
    )
    show.add_argument("id")
    add = add_command(
        actions, "add", "propose the patterns of a file to a running gateway",
        "portcullis patterns add my-pack.yaml --reason 'seen in tickets'",
    )
    imported = add_command(
        actions, "import", "the same from what other tools write",
        "portcullis patterns import rules.yar --dry-run",
    )
    for one in (add, imported):
        one.add_argument("file", type=Path)
        one.add_argument("--reason", default="", help="why, for whoever approves")
    imported.add_argument("--format", choices=sorted(convert.READERS), help="left out, its name and what stands in it tell")
    imported.add_argument("--dry-run", action="store_true", help="only say what would be proposed")
    diff = add_command(
        actions, "diff", "what leads from one generation of the store to another",
        "portcullis patterns diff 3 4",
    )
    diff.add_argument("a", type=int)
    diff.add_argument("b", type=int)
    effects = add_command(
        actions, "effects", "how the patterns that serve did: matches, and what labels said of them",
        "portcullis patterns effects",
    )
    export = add_command(
        actions, "export", "the patterns that serve, one a line in JSON",
        "portcullis patterns export > patterns.jsonl",
    )
    generations = add_command(
        actions, "generations", "the store's generations, latest first",
        "portcullis patterns generations",
    )
    proposals = add_command(
        actions, "proposals", "what is proposed, watched or was decided on; one with its evidence",
        "portcullis patterns proposals --state proposed",
    )
    proposals.add_argument("proposal", nargs="?", help="one with its trial, its votes and what it was made from")
    proposals.add_argument("--state", choices=[stage.value for stage in Stage], help="only those in this state")
    approve = add_command(
        actions, "approve", "vote for a proposal, of which somebody else is the author",
        "portcullis patterns approve 01a21ece6438f6d5ceb6afc861f5b1c2 --reason 'seen in tickets, too'",
    )
    reject = add_command(
        actions, "reject", "refuse a proposal; what is watched or acts by it already is taken back",
        "portcullis patterns reject 01a21ece6438f6d5ceb6afc861f5b1c2 --reason 'blocks invoices'",
    )
    promote = add_command(
        actions, "promote", "move a proposal that is watched one stage on, before its time",
        "portcullis patterns promote 01a21ece6438f6d5ceb6afc861f5b1c2 --reason 'no false alarms in a week'",
    )
    for one in (approve, reject, promote):
        one.add_argument("proposal")
    retire = add_command(
        actions, "retire", "propose that a pattern is retired",
        "portcullis patterns retire my.pattern --reason 'fires on invoices'",
    )
    retire.add_argument("id")
    rollback = add_command(
        actions, "rollback", "let an earlier generation of the store stand again",
        "portcullis patterns rollback 3 --reason 'generation 4 blocks invoices'",
    )
    rollback.add_argument("generation", type=int)
    voted = (approve, reject, promote, retire, rollback)
    for one in voted:
        one.add_argument("--reason", required=True)
    remote = (show, add, imported, diff, effects, export, generations, proposals, *voted)
    for one in remote:
        add_remote(one)
    for one in (sign, verify, *remote):
        add_json(one)


def _sign(arguments: argparse.Namespace) -> int:
    _one_of(arguments)
    if arguments.shipped:
        return _sign_shipped(arguments)
    try:
        key = own_key(arguments.key) if not arguments.key.exists() else read_private(arguments.key)
        made = [_sign_feed(path, key) if arguments.feed else signed.sign(path, key)._asdict() for path in arguments.packs]
    except (PatternError, KeyFault) as error:
        raise Failed(str(error)) from None
    public = public_text(key.public_key())
    if arguments.json:
        write_json({"signed": made, "public_key": public})
    else:
        for one in made:
            print(f"{one['file'] if arguments.feed else one['pack'] + ' ' + one['version']}: signed")
        print(f"public key, for {'learning.feeds[].key' if arguments.feed else 'learning.pack_keys'}: {public}")
    return 0


def _sign_feed(path: Path, key: Ed25519PrivateKey) -> dict[str, str]:
    try:
        made = detached.sign(path.read_bytes(), key)
        path.with_name(path.name + detached.SUFFIX).write_bytes(made)
    except OSError as error:
        raise PatternError(f"{path}: {error.strerror}") from None
    return {"file": path.name, "sha256": orjson.loads(made)["sha256"]}


def _one_of(arguments: argparse.Namespace) -> None:
    if arguments.shipped == bool(arguments.packs):
        raise Misused("wanted packs to look at, or --shipped")


def _sign_shipped(arguments: argparse.Namespace) -> int:
    try:
        key = read_private(arguments.key)
        if key_id(key.public_key()) != key_id(release.release_key()):
            raise Failed(f"{arguments.key}: its public half is not patterns/release.pub: {public_text(key.public_key())}")
        made = release.sign(key, __version__)
    except (PatternError, KeyFault) as error:
        raise Failed(str(error)) from None
    if arguments.json:
        write_json(made._asdict())
    else:
        print(f"{made.files} files signed as those of Portcullis {made.version}")
    return 0


def _verify_shipped(arguments: argparse.Namespace) -> int:
    fault, said = "", None
    try:
        said = release.verify(__version__)
    except PatternError as error:
        fault = str(error)
    signed_as = said._asdict() if said else None
    if arguments.json:
        write_json({"shipped": signed_as, "fault": fault})
    else:
        good = f"{said.files} files of Portcullis {said.version}: good" if said else "unsigned: a checkout, no release"
        print(fault or good)
    return 0 if said else 1


def _verify(arguments: argparse.Namespace) -> int:
    _one_of(arguments)
    if arguments.shipped:
        return _verify_shipped(arguments)
    if not arguments.trust:
        raise Misused("--trust: is missing; wanted a public key")
    try:
        keys = [read_public(text) for text in arguments.trust]
    except KeyFault as error:
        raise Misused(f"--trust: {error}") from None
    rows: list[dict[str, str]] = []
    for path in arguments.packs:
        try:
            said = signed.verify(path, keys)
            rows.append({"file": str(path), "pack": said.pack, "version": said.version, "fault": ""})
        except PatternError as error:
            rows.append({"file": str(path), "pack": "", "version": "", "fault": str(error)})
    if arguments.json:
        write_json({"packs": rows})
    else:
        for row in rows:
            print(row["fault"] or f"{row['file']}: {row['pack']} {row['version']}: good")
    return 1 if any(row["fault"] for row in rows) else 0


def _show(arguments: argparse.Namespace) -> int:
    found = Remote(arguments).get(f"/admin/v1/patterns/{part('id', arguments.id)}")
    if arguments.json:
        write_json(found)
        return 0
    for name in ("id", "kind", "category", "severity", "state", "body"):
        if found.get(name) is not None:
            print(f"{name}: {found[name]}")
    effect = found["effectiveness"]
    print(f"hits {effect['hits']}, confirmed {effect['confirmed']}, refuted {effect['refuted']}, "
          f"last seen {_date(effect['last_seen'])}")  # fmt: skip
    write_table(
        ("generation", "author", "state", "reason"),
        [(one["generation"], one["author"], one["pattern"]["state"] if one["pattern"] else "removed", one["reason"])
         for one in found["history"]],
    )  # fmt: skip
    return 0


def _propose(arguments: argparse.Namespace) -> int:
    form = getattr(arguments, "format", None)
    try:
        data = read_file(arguments.file, convert.MAX_BYTES)
        found = convert.convert(data, form or convert.guess(arguments.file.name, data), arguments.file.name)
    except convert.Unreadable as error:
        raise Failed(str(error)) from None
    for fault in found.faults:
        print(fault, file=sys.stderr)
    return asks(functools.partial(_offer, found))(arguments)


def _offer(found: convert.Import, arguments: argparse.Namespace) -> int:
    made: list[Any] = []
    wrong = found.wrong
    if not getattr(arguments, "dry_run", False):
        remote = Remote(arguments)
        for pattern in found.patterns:
            raw = {name: value for name, value in _plain(pattern).items() if value not in (None, "", [], ())}
            try:
                made.append(remote.post("/admin/v1/patterns", {"pattern": raw, "reason": arguments.reason}))
            except Refusal as error:  # those after it are proposed all the same
                wrong += 1
                print(error, file=sys.stderr)
    if arguments.json:
        write_json({"patterns": [_plain(one) for one in found.patterns], "proposals": made, "wrong": wrong})
    else:
        for one in made:
            twins = f"  (nearly the same as {', '.join(one['duplicates'])})" if one["duplicates"] else ""
            print(f"{one['id']}  {one['pattern']}  trial {_tried(one)}{twins}")
        print(f"{len(found.patterns)} read, {len(made)} proposed, {wrong} wrong")
    return 1 if wrong else 0


def _plain(pattern: Any) -> dict[str, Any]:
    names = ("id", "kind", "body", "category", "severity", "check", "closeness", "provenance")
    return {
        **{name: getattr(pattern, name) for name in names},
        "origins": sorted(pattern.origins), "hits": list(pattern.hits), "misses": list(pattern.misses),
    }


def _diff(arguments: argparse.Namespace) -> int:
    found = Remote(arguments).get(f"/admin/v1/generations/{arguments.a}/diff/{arguments.b}?limit=100000")
    if arguments.json:
        write_json(found)
        return 0
    for one in found["added"]:
        print(f"+ {one['id']} ({one['state']})")
    for one in found["removed"]:
        print(f"- {one['id']}")
    for id, changes in found["changed"].items():
        for one in changes:
            print(f"~ {id}.{one['field']}: {one['before']!r} -> {one['after']!r}")
    return 0


def _serving(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    remote, offset = Remote(arguments), 0
    while page := remote.get(f"/admin/v1/patterns?limit=1000&offset={offset}")["patterns"]:
        yield from page
        offset += len(page)


def _export(arguments: argparse.Namespace) -> int:
    for one in _serving(arguments):
        row = {name: value for name, value in one.items() if name not in ("reach", "effectiveness")}
        sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
    return 0


def _effects(arguments: argparse.Namespace) -> int:
    found = [{"id": one["id"], "state": one["state"], **one["effectiveness"]} for one in _serving(arguments)]
    found = sorted((one for one in found if one["hits"] or one["precision"] is not None), key=lambda one: -one["hits"])
    if arguments.json:
        write_json({"patterns": found})
    else:
        names = ("id", "state", "hits", "confirmed", "refuted")
        rows = [[*(one[name] for name in names), _date(one["last_seen"])] for one in found]
        write_table((*names, "last seen"), rows)
    return 0


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M") if at else "-"


def _generations(arguments: argparse.Namespace) -> int:
    found: dict[str, Any] = {"generations": []}
    for page in Remote(arguments).pages("/admin/v1/generations?limit=1000"):
        found = {**page, "generations": [*found["generations"], *page["generations"]]}
    if arguments.json:
        write_json(found)
    else:
        names = ("number", "changes", "author", "reason")
        write_table(names, [[one[name] for name in names] for one in found["generations"]])
    return 0


def _proposals(arguments: argparse.Namespace) -> int:
    if arguments.proposal:
        return _proposal(arguments)
    found: list[dict[str, Any]] = []
    wanted = f"&state={arguments.state}" if arguments.state else ""
    for page in Remote(arguments).pages(f"/admin/v1/proposals?limit=1000{wanted}"):
        found += page["proposals"]
    if arguments.json:
        write_json({"proposals": found})
    else:
        names = ("id", "state", "kind", "pattern", "approvals", "author")
        rows = [[*(one[name] for name in names), _tried(one), one["reason"] or "-"] for one in found]
        write_table((*names, "trial", "reason"), rows)
    return 0


def _proposal(arguments: argparse.Namespace) -> int:
    found = Remote(arguments).get(f"/admin/v1/proposals/{part('proposal', arguments.proposal)}")
    if arguments.json:
        write_json(found)
        return 0
    for name in ("id", "state", "kind", "author", "reason", "expected", "reflection"):
        print(f"{name}: {found[name]}")
    pattern = found["pattern"]
    print(f"pattern: {pattern['id']} ({pattern['category']}, {pattern['kind']}): {pattern['body']}")
    print(f"trial: {_tried(found)}")
    print(f"approvals: {found['approvals']} of {found['quorum']}; labels for it weigh {found['spoken_for']}, against it"
          f" {found['spoken_against']}")  # fmt: skip
    if found["state"] in ("shadow", "canary", "active"):
        waits = f"; {found['awaited']}" if found["awaited"] else ""
        print(f"watched: {found['alarms']} matches in {found['watched']} requests of this stage{waits}")
    for one in found["votes"]:
        print(f"vote: {one['by']} {'approves' if one['approves'] else 'rejects'}: {one['reason'] or '-'}")
    return 0


def _tried(one: dict[str, Any]) -> str:
    trial = one["trial"]
    return "not tried" if trial is None else "passed" if trial["passed"] else "failed: " + "; ".join(trial["against"])


def _voted(arguments: argparse.Namespace) -> int:
    path = f"/admin/v1/proposals/{part('proposal', arguments.proposal)}/{arguments.action}"
    return _told(arguments, path, {"reason": arguments.reason})


def _retire(arguments: argparse.Namespace) -> int:
    return _told(arguments, f"/admin/v1/patterns/{part('id', arguments.id)}/retire", {"reason": arguments.reason})


def _rollback(arguments: argparse.Namespace) -> int:
    return _told(arguments, "/admin/v1/rollback", {"generation": arguments.generation, "reason": arguments.reason})


def _told(arguments: argparse.Namespace, path: str, body: dict[str, Any]) -> int:
    told = Remote(arguments).post(path, body)
    if arguments.json:
        write_json(told)
    else:
        names = ("id", "pattern", "state", "generation", "changes")
        print(", ".join(f"{name}: {told[name]}" for name in names if name in told))
    return 0


ACTIONS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "sign": _sign, "verify": _verify, "add": _propose, "import": _propose,
    "show": asks(_show), "diff": asks(_diff), "effects": asks(_effects), "export": asks(_export),
    "generations": asks(_generations), "proposals": asks(_proposals), "approve": asks(_voted), "reject": asks(_voted),
    "promote": asks(_voted), "retire": asks(_retire), "rollback": asks(_rollback),
}  # fmt: skip
"""By the name on the command line."""
