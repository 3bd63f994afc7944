"""What the commands share: configuration and output."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.cli.faults import Failed, Misused
from gateway.config.configuration import PREFIX, load
from gateway.config.settings import Settings, SettingsError

DEFAULT_CONFIG: Final = Path("portcullis.yaml")

MAX_DAYS: Final = 36_500
"""A hundred years: for ever is what is valid without a bound."""

MAX_SECONDS: Final = 86_400
"""A day, as with all that the configuration has waited for."""

COMPILING_SECONDS: Final = 3.0
"""After how long it is told that patterns are compiled; to load those that are takes less."""


def add_command(commands: Any, name: str, help_: str, example: str) -> argparse.ArgumentParser:
    """The parser of one command, or of one action of a command, with an example at the end of its help."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=help_, description=help_, epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """``--config`` and ``--json``, which most commands take."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE",
        help=f"configuration file (default: ${PREFIX}CONFIG, else {DEFAULT_CONFIG} where there is one)",
    )  # fmt: skip
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write JSON for machines")


def read_file(file: Path, most: int) -> bytes:
    """A file's bytes.

    Raises:
        Misused: it cannot be read. Failed: it has more than ``most`` bytes, or no end.
    """
    try:
        if (size := file.stat().st_size) <= most:
            with file.open("rb") as source:
                data = source.read(most + 1)
            size = len(data)
    except OSError as error:
        raise Misused(f"{file}: {error.strerror}") from None
    if size > most:
        raise Failed(f"{file}: {size} bytes; at most {most} are taken; split it")
    return data


def days(text: str) -> float:
    """How many days something is to be valid, for `argparse`."""
    return _within(text, MAX_DAYS, "days")


def seconds(text: str) -> float:
    """How many seconds to wait, for `argparse`."""
    return _within(text, MAX_SECONDS, "seconds")


def _within(text: str, most: int, what: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) <= most:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}: wanted a number of {what} above 0, at most {most:,}")


def new_file(text: str) -> Path:
    """A file to write, for `argparse`."""
    if not Path(text).name:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a file's name")
    return Path(text)


def positive(text: str) -> int:
    """A number from one on, for `argparse`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number from 1 on")
    return number


def config_path(arguments: argparse.Namespace) -> Path | None:
    """The configuration file that applies; None where there is none."""
    if arguments.config is not None:
        return Path(arguments.config)
    named = os.environ.get(PREFIX + "CONFIG")
    if named:
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def settings(arguments: argparse.Namespace) -> Settings:
    """The settings that apply.

    Raises:
        Misused: they cannot be used.
    """
    try:
        return load(config_path(arguments))
    except SettingsError as error:
        raise Misused(str(error)) from None


@contextlib.contextmanager
def compiling(what: str) -> Iterator[None]:
    """Tell a person who waits for what is done here why it takes so long, if it does."""
    said = f"compiling {what}: a minute or two"
    timer = threading.Timer(COMPILING_SECONDS, print, (said,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def write_json(value: Any) -> None:
    """One JSON document on a line of its own."""
    sys.stdout.buffer.write(orjson.dumps(value, default=_plain) + b"\n")
    sys.stdout.buffer.flush()


def write_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people."""
    cells = [[plain(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def plain(text: str) -> str:
    """``text`` without what would move the cursor or colour the terminal: names of sources and kinds come from files."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset | set | tuple):
        return sorted(value) if not isinstance(value, tuple) else list(value)
    raise TypeError(type(value).__name__)
