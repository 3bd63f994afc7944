"""``portcullis keys``: make, list and revoke the gateway's keys."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
import time
from typing import Final

from gateway.audit import log as audit_log
from gateway.audit import records
from gateway.audit.keys import BadKey
from gateway.audit.writer import AuditUnavailable
from gateway.cli.common import add_command, add_config, days, settings, write_json, write_table
from gateway.cli.faults import Failed, Misused
from gateway.config.settings import Settings
from gateway.keys import Role
from gateway.state import keystore
from gateway.state.base import StateUnavailable

_PEOPLE: Final = (Role.ANALYST, Role.APPROVER)
EXAMPLE = "portcullis keys create --role app --tenant shop --note 'checkout service'"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = add_command(
        actions, "create", "make a key; it is shown once",
        "portcullis keys create --role analyst --tenant '*' --days 90 --owner ann",
    )
    add_config(create)
    create.add_argument("--role", choices=[role.value for role in Role], default=Role.APP.value)
    create.add_argument("--tenant", default="default", help="whose it is; '*' sees all (control plane only)")
    create.add_argument("--policy", choices=["strict", "balanced", "monitor"], help="instead of the tenant's policy")
    create.add_argument("--days", type=days, metavar="DAYS", help="how long it is valid (default: for ever)")
    create.add_argument("--note", default="", help="for people, shown in listings")
    create.add_argument("--owner", default="", help="whose it is: keys of one owner have one voice among labels and approvals")
    add_config(add_command(actions, "list", "list all keys, without what would open anything", "portcullis keys list"))
    own = add_command(
        actions, "own", "say whose a key is that was made without --owner; once, and with what was said with it before",
        "portcullis keys own 2zmnunxt --owner ann",
    )
    add_config(own)
    own.add_argument("id", help="the key's id, as `keys list` shows it")
    own.add_argument("--owner", required=True, help="keys of one owner have one voice among labels and approvals")
    revoke = add_command(
        actions, "revoke", "revoke a key; every worker follows within about a second",
        "portcullis keys revoke 2zmnunxt",
    )
    add_config(revoke)
    revoke.add_argument("id", help="the key's id, as `keys list` shows it")


def run(arguments: argparse.Namespace) -> int:
    chosen = settings(arguments)
    try:
        return {"create": _create, "list": _list, "own": _own, "revoke": _revoke}[arguments.action](arguments, chosen)
    except StateUnavailable as error:
        raise Failed(f"the state does not answer: {error}") from None


def _write_down(chosen: Settings, action: str, **fields: object) -> None:
    """Note the change in the audit log. The key is made or revoked already, so a log that cannot be written is a warning."""
    who = {"user": _user(), "method": "CLI", "path": f"keys {action}", "status": 0}
    try:
        audit_log.write_down(chosen, records.ADMIN, {**who, **fields})
    except (AuditUnavailable, BadKey) as error:
        print(f"portcullis keys: this is not in the audit log, which cannot be written: {error}", file=sys.stderr)


def _user() -> str:
    """Who calls, whatever the environment says; by number where that user has no name, as in a container that runs as any."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _create(arguments: argparse.Namespace, chosen: Settings) -> int:
    if arguments.policy is not None:
        from gateway.live import unenforced  # with the engine: not for the other actions

        if why := unenforced(arguments.policy, chosen.detection):
            raise Misused(f"--policy: {arguments.policy} cannot be enforced: {why}; turn it on, or take balanced")
    now = time.time()
    expires_at = None if arguments.days is None else now + arguments.days * 86_400
    try:
        made = keystore.create(
            chosen.state, Role(arguments.role), arguments.tenant, now, policy=arguments.policy, expires_at=expires_at,
            note=arguments.note, owner=arguments.owner,
        )  # fmt: skip
    except ValueError as error:
        raise Misused(str(error)) from None
    _write_down(chosen, "create", **records.of_new_key(made.key))
    if made.key.role in _PEOPLE and not made.key.owner:
        alone = "without --owner this key is a person of its own among those who label and approve; `keys own` says whose it is"
        print(f"portcullis keys: {alone}", file=sys.stderr)
    if arguments.json:
        write_json({**made.key.shown(), "token": made.token})
    else:
        print(f"{made.token}\n\nThis is the only time that it is shown. Key {made.key.id}: role {made.key.role.value}, "
              f"tenant {made.key.tenant}.")  # fmt: skip
    return 0


def _list(arguments: argparse.Namespace, chosen: Settings) -> int:
    keys = keystore.every(chosen.state)
    if arguments.json:
        write_json({"keys": [key.shown() for key in keys]})
        return 0
    now = time.time()
    write_table(
        ("id", "role", "tenant", "owner", "policy", "created", "state", "note"),
        [
            (key.id, key.role.value, key.tenant, key.owner or "-", key.policy or "-",
             time.strftime("%F %T", time.gmtime(key.created_at)),
             "live" if key.live(now) else "revoked" if key.revoked_at is not None else "expired", key.note)
            for key in keys
        ],
    )  # fmt: skip
    return 0


def _own(arguments: argparse.Namespace, chosen: Settings) -> int:
    try:
        key = keystore.own(chosen.state, arguments.id, arguments.owner)
    except ValueError as error:
        raise Misused(str(error)) from None
    if key is None:
        raise Failed(f"there is no key {arguments.id!r}; see: portcullis keys list")
    if not key.readable:
        raise Failed(f"key {key.id} cannot be read; revoke it, and make another one")
    if key.owner != arguments.owner:
        raise Failed(f"key {key.id} is {key.owner}'s already; revoke it, and make another one")
    _write_down(chosen, "own", owned=key.id, owner=key.owner)
    if arguments.json:
        write_json(key.shown())
    else:
        print(f"key {key.id} is {key.owner}'s")
    return 0


def _revoke(arguments: argparse.Namespace, chosen: Settings) -> int:
    if not keystore.revoke(chosen.state, arguments.id, time.time()):
        raise Failed(f"there is no key {arguments.id!r}; see: portcullis keys list")
    _write_down(chosen, "revoke", revoked=arguments.id)
    if arguments.json:
        write_json({"id": arguments.id, "revoked": True})
    else:
        print(f"key {arguments.id} is revoked")
    return 0
