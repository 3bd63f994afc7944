"""``portcullis check``: is the configuration usable, and what would be screened under it."""

from __future__ import annotations

import argparse
import time
from itertools import groupby

from gateway import coverage, live
from gateway.cli.common import Failed, add_config, config_path, settings, write_json, write_table
from gateway.settings import SettingsError
from patterns.schema import PatternError

HELP = "validate the configuration and print which stages act on which part of which route"
EXAMPLE = "portcullis check --config portcullis.yaml"


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    chosen = settings(arguments)
    try:
        built = live.build(chosen, 1, time.time())
        live.prepare_streams(built, built.presets)  # a key may name any
    except (PatternError, SettingsError) as error:
        raise Failed(str(error)) from None
    generation = built.engine.generation
    rows = coverage.matrix(chosen, built.default.late)
    if arguments.json:
        write_json(
            {
                "ok": True, "patterns": len(generation.patterns), "digest": generation.digest,
                "policy": built.default.policy.name, "coverage": [row._asdict() for row in rows],
            }
        )  # fmt: skip
        return 0
    print(f"configuration: {config_path(arguments) or 'defaults'}: usable")
    print(f"policy: {built.default.policy.name} (version {built.default.policy.version})")
    print(f"patterns: {len(generation.patterns)} ({generation.digest[:12]})")
    upstreams = ", ".join(f"{name} -> {one.base_url}" for name, one in chosen.upstreams.items())
    print(f"upstreams: {upstreams or 'none: the built-in echo model answers'}\n")
    for tenant, own in groupby(rows, key=lambda row: row.tenant):
        if tenant:
            print(f"\nunder the policy of tenant {tenant}:")
        write_table(
            ("route", "origin", "direction", "streamed", "stages", "attacks", "values", "note"),
            [
                (row.route, row.origin, row.direction, "yes" if row.streaming else "no",
                 " ".join(row.stages) or "none", row.attacks, row.values, row.note)
                for row in own
            ],
        )  # fmt: skip
    return 0
