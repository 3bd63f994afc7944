"""``portcullis check``: is the configuration usable, and what would be screened under it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from gateway import live
from gateway.audit.keys import BadKey, private_key
from gateway.cli.common import add_config, compiling, config_path, settings, write_json, write_table
from gateway.cli.faults import Failed
from gateway.config.settings import Settings, SettingsError
from gateway.screening import coverage
from gateway.screening.policy import FailureMode, Policy
from gateway.sync.faults import CertificateFault
from patterns.schema import PatternError
from patterns.signing import KeyFault, read_private

EXAMPLE = "portcullis check --config portcullis.yaml"


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    chosen = settings(arguments)
    if why := "; ".join(_unusable(chosen)):
        raise Failed(why)
    try:
        with compiling("what data_dir/cache does not have yet"):
            built = live.build(chosen, 1, time.time())
            live.prepare_streams(built, built.presets)  # a key may name any
    except (PatternError, SettingsError) as error:
        raise Failed(str(error)) from None
    generation, policy = built.engine.generation, built.default.policy
    rows = coverage.matrix(chosen, built.default.late)
    if arguments.json:
        write_json(
            {
                "ok": True, "patterns": len(generation.patterns), "digest": generation.digest,
                "policy": policy.name, "failure": dict(policy.failure), "coverage": [row._asdict() for row in rows],
            }
        )  # fmt: skip
        return 0
    print(f"configuration: {config_path(arguments) or 'defaults'}: usable")
    print(f"policy: {policy.name} (version {policy.version})")
    print(f"failure: {_failure(policy)}")
    print(f"patterns: {len(generation.patterns)} ({generation.digest[:12]})")
    upstreams = ", ".join(f"{name} -> {one.base_url}" for name, one in chosen.upstreams.items())
    print(f"upstreams: {upstreams or 'none: the built-in echo model answers'}\n")
    for tenant, own in groupby(rows, key=lambda row: row.tenant):
        if tenant:
            print(f"\nunder the policy of tenant {tenant} (failure: {_failure(built.tenants[tenant].policy)}):")
        write_table(
            ("route", "origin", "direction", "streamed", "stages", "attacks", "values", "note"),
            [
                (row.route, row.origin, row.direction, "yes" if row.streaming else "no",
                 " ".join(row.stages) or "none", row.attacks, row.values, row.note)
                for row in own
            ],
        )  # fmt: skip
    return 0


def _failure(policy: Policy) -> str:
    """What it means that a stage did not run, by stage."""
    modes = dict(policy.failure)
    others = modes.pop("*", FailureMode.CLOSED)
    named = [f"{stage} {mode}" for stage, mode in sorted(modes.items())]
    return ", ".join([*named, f"{'others' if named else 'all'} {others}"])


def _unusable(chosen: Settings) -> Iterator[str]:
    """What keys, certificates and folders would keep a gateway from starting. Nothing is made: that is the gateway's to do, as
    the user who runs it."""
    folders = {"data_dir": chosen.data_dir}
    if chosen.state.startswith("sqlite:") and chosen.state != "sqlite::memory:":
        folders["state"] = Path(chosen.state.removeprefix("sqlite:")).parent
    if chosen.audit.enabled:
        folders["audit.directory"] = chosen.audit_directory
    for key, folder in folders.items():
        nearest = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            yield f"{key}: {folder} cannot be written to"
    try:
        kept = chosen.audit_directory / "signing.key"
        if chosen.audit.enabled and chosen.audit.signing_key is None and kept.is_file():
            private_key(kept.read_bytes(), str(kept))
    except (BadKey, OSError) as error:
        yield f"audit.signing_key: {error}"
    try:
        own = chosen.data_dir / "store.key"
        if chosen.learning.signing_key or own.is_file():
            read_private(chosen.learning.signing_key or own)
    except KeyFault as error:
        yield f"{'learning.signing_key' if chosen.learning.signing_key else 'data_dir'}: {error}"
    sync = chosen.sync
    if sync.listen is not None and sync.ca and sync.certificate and sync.key:
        from gateway.sync import certificates  # takes long to load, and few need it

        try:
            certificates.read(certificates.Files(sync.ca, sync.certificate, sync.key))
        except CertificateFault as error:
            yield f"sync: {error}"
