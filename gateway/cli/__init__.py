"""The command line: ``portcullis COMMAND``. Exit codes: 0 done, 1 found or failed, 2 misused."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from gateway.cli import audit, bundle, check, evaluate, feedback, health, keys, patterns, replay, scan, serve, sync
from gateway.cli.common import Failed, Misused

COMMANDS: Final = (serve, scan, evaluate, patterns, feedback, replay, keys, audit, sync, check, health, bundle)
"""Each module has NAME, HELP, EXAMPLE, `configure(parser)` and `run(arguments) -> exit code`."""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="portcullis", description="A security gateway for LLM traffic.",
        epilog="Each command has its own --help with an example.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"portcullis {version('portcullis')}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.NAME, help=command.HELP, description=command.HELP,
            epilog=f"example:\n  {command.EXAMPLE}", formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        command.configure(one)
        one.set_defaults(run=command.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parsed = parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except Misused as error:
        print(f"portcullis {parsed.command}: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"portcullis {parsed.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has seen enough (`| head`): that is its right and no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code
