"""The command line: ``portcullis COMMAND``. Exit codes: 0 done, 1 found or failed, 2 misused."""

from __future__ import annotations

import argparse
import difflib
import errno
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from gateway import __version__

COMMANDS: Final = {
    "serve": "serve", "scan": "scan", "eval": "evaluate", "patterns": "patterns", "feedback": "feedback", "replay": "replay",
    "keys": "keys", "audit": "audit", "sync": "sync", "check": "check", "health": "health", "bundle": "bundle",
}  # fmt: skip
"""The commands, and the module of each: it has HELP, EXAMPLE, `configure(parser)` and `run(arguments) -> exit code`.
Only the module of the command that is asked for is loaded: a health check every ten seconds must not load a whole gateway."""


class _Parser(argparse.ArgumentParser):
    """One that answers for its own arguments: what a command does not know is told with that command's usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name, self._option_string_actions, 1) if name.startswith("-") else []
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean {near[0]}?" if near else ""))
        return found, unknown


def parser(names: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The command line, with these commands."""
    from gateway.cli.common import add_command

    top = _Parser(
        prog="portcullis", description="A security gateway for LLM traffic.",
        epilog="Each command has its own --help with an example.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"portcullis {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        command = import_module(f"gateway.cli.{COMMANDS[name]}")
        one = add_command(commands, name, command.HELP, command.EXAMPLE)
        command.configure(one)
        one.set_defaults(run=command.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(given)
    except KeyboardInterrupt:  # from the first import on, which takes the longest of most commands
        return 130


def _run(given: Sequence[str]) -> int:
    from gateway.cli.common import Failed, Misused

    if given[:1] == ["serve"]:
        gc.disable()  # all that is loaded and built stays, so there is nothing to find; a worker that serves turns it on
    try:
        parsed = parser(given[:1] if given and given[0] in COMMANDS else tuple(COMMANDS)).parse_args(given)
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
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        print(f"portcullis {parsed.command}: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        gc.enable()
    return code
