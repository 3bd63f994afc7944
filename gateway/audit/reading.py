"""From the audit log's folder to `verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit import files
from gateway.audit.files import Segment
from gateway.audit.verify import Head, Source, Verification, verify


def verify_folder(
    folder: Path,
    trusted: Sequence[Ed25519PublicKey] = (),
    witnessed: Mapping[str, Head] | None = None,
    see: Callable[[str, dict[str, Any]], None] | None = None,
) -> Verification:
    """Verify the log in a folder, also while it is written; see `verify`."""
    live = frozenset(live_chains(folder))
    sources: dict[str, Source] = {}
    for name in files.chains(folder):
        if segments := files.segments(folder, name):
            sources[name] = Source(segments[0].first, _lines_of(segments))
    return verify(sources, trusted, witnessed, live, see, files.known_log_id(folder))


def live_chains(folder: Path) -> Iterator[str]:
    """The chains that a process writes right now."""
    for name in files.chains(folder):
        if (folder / name / "lock").exists():
            with files.locked(folder / name / "lock") as ended:
                if not ended:
                    yield name


def records_of(folder: Path) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Every record that can be read, chain by chain: (chain, line, record). Lines that are none are left to `verify`."""
    for name in files.chains(folder):
        for line in _lines_of(files.segments(folder, name))():
            if line.endswith(b"\n"):
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                if isinstance(record, dict):
                    yield name, line, record


def _lines_of(segments: Sequence[Segment]) -> Callable[[], Iterator[bytes]]:
    def lines() -> Iterator[bytes]:
        for segment in segments:
            yield from files.lines(segment)

    return lines
