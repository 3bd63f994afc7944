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
from gateway.cli.faults import Failed, Misused

COMMANDS: Final = {
    "serve": ("serve", "run the gateway"),
    "scan": ("scan", "judge a text, or one text a line, without a gateway"),
    "eval": ("evaluate", "measure detection on labelled texts: AUC, recall, accuracy at the shipped threshold, latency"),
    "patterns": ("patterns", "list, test and sign patterns; propose, compare, approve, promote, retire and roll back those of a"
                             " running gateway"),
    "feedback": ("feedback", "say that a decision or a text was an attack or harmless, one or many, and list what was said"),
    "replay": ("replay", "judge kept texts of past decisions anew, and list what would be decided differently"),
    "keys": ("keys", "make, list and revoke keys, and say whose they are"),
    "audit": ("audit", "verify the audit log, report on it, or write it out in another format"),
    "sync": ("sync", "the state of the replicas, and certificates for them"),
    "check": ("check", "validate the configuration and print which stages act on which part of which route"),
    "health": ("health", "ask the gateway on this machine whether it is ready"),
    "bundle": ("bundle", "make one signed archive of all that an installation needs, or check and unpack one"),
}  # fmt: skip
"""The commands: the module of each and what it is for. A module has EXAMPLE, `configure(parser)` and `run(arguments) -> exit
code`. Only that of the command that is asked for is loaded: neither a health check every ten seconds nor a list of commands
must load a whole gateway."""


class _Parser(argparse.ArgumentParser):
    """One that answers for its own arguments: what a command does not know is told with that command's usage."""

    module = ""
    """Of a command: what it takes is known when its arguments are to be read."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        self.learn()
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name, self._option_string_actions, 1) if name.startswith("-") else []
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean {near[0]}?" if near else ""))
        return found, unknown

    def learn(self) -> None:
        """Load the command's module, the first time."""
        module, self.module = self.module, ""
        if not module:
            return
        command = import_module(f"gateway.cli.{module}")
        self.epilog = f"example:\n  {command.EXAMPLE}"
        command.configure(self)
        self.set_defaults(run=command.run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = _Parser(
        prog="portcullis", description="A security gateway for LLM traffic.",
        epilog="Each command has its own --help with an example.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"portcullis {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, help_) in COMMANDS.items():
        one = commands.add_parser(
            name, help=help_, description=help_, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        one.module = module
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    _open_standard_streams()
    try:
        return _run(given)
    except KeyboardInterrupt:  # from the first import on, which takes the longest of most commands
        return 130


def _open_standard_streams() -> None:
    """Whoever starts a command may have closed one of its streams (`>&-`, some schedulers). The next file that is opened would
    take its number, and what is printed would go into that file."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives


def _run(given: Sequence[str]) -> int:
    if given[:1] == ["serve"]:
        gc.disable()  # all that is loaded and built stays, so there is nothing to find; a worker that serves turns it on
    try:
        parsed = parser().parse_args(given)
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
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        file = "" if error.filename is None else f"{error.filename}: "
        print(f"portcullis {parsed.command}: {file}{error.strerror}", file=sys.stderr)
        return 1
    except UnicodeEncodeError as error:
        if any("\ud800" <= char <= "\udfff" for one in given for char in one):  # they stand for bytes that are no text
            print(f"portcullis {parsed.command}: what was given is not UTF-8", file=sys.stderr)
            return 2
        if error.encoding == "utf-8":
            raise
        char = ascii(error.object[error.start])
        print(f"portcullis {parsed.command}: {char} cannot be written: the output is in {sys.stdout.encoding}, not in UTF-8"
              " (set PYTHONIOENCODING=utf-8)", file=sys.stderr)  # fmt: skip
        return 1
    finally:
        gc.enable()
    return code
