"""The folder of what was worked out before: compiled patterns, packs that were checked, texts that the encoder read.

A file's name holds a digest of all that it was made from, so that it is right for ever and only goes out of use: when packs,
the model or the library change. Its time is that of its latest use, which `tidy` goes by. The folder may be shared by any
number of processes, and any file in it may be gone, replaced, damaged or not writable at any time: that costs time, and nothing
else. But large sets stand in memory as files (`detectors.mapped`): nobody may write into one, or shorten it, in its place.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

KEPT_SECONDS: Final = 30 * 86_400.0
"""How long a file that nobody used is kept: a release that is rolled back within a month starts at once."""

KEPT_BYTES: Final = 2**30
"""What all files may have together; what ships and ten thousand patterns besides take a fifth of it."""

FRESH_SECONDS: Final = 3600.0
"""What was used so lately stays, however much there is: a process beside this one may be about to read it."""

_KINDS: Final = ("hyperscan-", "python-", "probe-", "fits-", "beginnings-", "pack-", "corpus-", "tried-")
"""How names of the cache's files begin; everything else in the folder is somebody else's."""

_SCRATCH: Final = ".scratch-"

_uses: ContextVar[set[Path] | None] = ContextVar("uses", default=None)


class Tidied(NamedTuple):
    """What `tidy` removed, and what is left."""

    removed: int
    removed_bytes: int
    left: int
    left_bytes: int


def read(file: Path) -> bytes | None:
    """What a file of the cache holds; None where it is not there or cannot be read."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    used(file)
    return data


def writable(folder: Path) -> bool:
    """Whether files can be kept in a folder, which is made where it is not there."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK)


def write(file: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all; a read-only or full disk costs the next start some time."""
    write_with(file, lambda out: out.write(data))


def write_with(file: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """As `write`, by a function that fills the file."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=_SCRATCH)
        try:
            with os.fdopen(handle, "wb") as out:
                fill(out)
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise
    used(file)


@contextlib.contextmanager
def uses() -> Iterator[set[Path]]:
    """Note the files that are read and written within, on this thread."""
    found: set[Path] = set()
    token = _uses.set(found)
    try:
        yield found
    finally:
        _uses.reset(token)


def tidy(folder: Path, serving: Collection[Path], now: float) -> Tidied:
    """Remove what nobody used for long, and of what is left the longest unused where it is too much.

    Args:
        serving: files of what serves now: they count as used now. now: UNIX seconds.
    """
    for file in serving:
        with contextlib.suppress(OSError):
            os.utime(file, (now, now))
    kept: list[tuple[float, int, Path]] = []
    removed = removed_bytes = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process removed it first
                if entry.name.startswith((*_KINDS, _SCRATCH)) and entry.is_file(follow_symlinks=False):
                    told = entry.stat(follow_symlinks=False)
                    kept.append((told.st_mtime, told.st_size, Path(entry.path)))
    total = sum(size for _, size, _ in kept)
    for used, size, file in sorted(kept):
        scratch = file.name.startswith(_SCRATCH)
        old = now - used > (FRESH_SECONDS if scratch else KEPT_SECONDS)
        if old or (total - removed_bytes > KEPT_BYTES and now - used > FRESH_SECONDS):
            with contextlib.suppress(OSError):
                file.unlink()
                removed, removed_bytes = removed + 1, removed_bytes + size
    return Tidied(removed, removed_bytes, len(kept) - removed, total - removed_bytes)


def used(file: Path) -> None:
    """Note that a file of the cache is used now."""
    noted = _uses.get()
    if noted is not None:
        noted.add(file)
    with contextlib.suppress(OSError):
        os.utime(file)
