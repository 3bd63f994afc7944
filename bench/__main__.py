"""``python -m bench NAME``: run one benchmark."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType
from typing import Final

from bench import (
    agreement,
    audit,
    authors,
    capacity,
    console,
    drowned,
    failover,
    gateway,
    index,
    languages,
    learning,
    memory,
    packages,
    patterns,
    profile,
    quality,
    realtime,
    replies,
    results,
    scan,
    stream,
    sync,
    sync_scale,
    tails,
    verdicts,
)
from bench.processes import BenchError

BENCHES: Final = (
    gateway, profile, audit, console, quality, authors, languages, drowned, replies, results, packages, stream, realtime,
    learning, patterns, capacity, memory, scan, index, sync, sync_scale, agreement, failover, verdicts, tails,
)  # fmt: skip


def main() -> int:
    """Exit code 0: all goals met; 1: one missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    choices = parser.add_subparsers(required=True, metavar="NAME")
    for bench in BENCHES:
        one = choices.add_parser(bench.NAME, help=bench.HELP, description=bench.__doc__)
        bench.configure(one)
        one.set_defaults(run=bench.run)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        code: int = arguments.run(arguments)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def _stop(number: int, frame: FrameType | None) -> None:
    # As Ctrl-C: leave by an exception, so that the processes of the benchmark are ended.
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
