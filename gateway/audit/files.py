"""The audit log's folder: a folder for each chain, in it files named by the number of their first record.

A process that writes a chain holds the lock of its folder, so that anybody can tell a live chain from one whose process has
ended, however it ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.audit.chain import key_id
from gateway.audit.keys import private_key

MAX_LINE: Final = 2**20
"""Bytes of a line. A record of fifty findings is some ten kilobytes."""

_CHAIN: Final = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
_FILE: Final = re.compile(r"(\d{12})\.jsonl(\.gz)?")
_LOG_ID: Final = "log-id"


class Unreadable(OSError):  # noqa: N818 - reads as the condition that it is
    """A file of the log that cannot be read to its end."""


class Segment(NamedTuple):
    """One file of a chain; ``first`` is the number of its first record."""

    chain: str
    first: int
    path: Path

    @property
    def compressed(self) -> bool:
        return self.path.suffix == ".gz"


def new_chain(now: float) -> str:
    """A name for a chain; names sort by the time of their beginning."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + "-" + secrets.token_hex(4)


def chains(folder: Path) -> list[str]:
    """The names of all chains, oldest first."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if _CHAIN.fullmatch(entry.name) and entry.is_dir())
    except FileNotFoundError:
        return []


def segments(folder: Path, chain: str) -> list[Segment]:
    """The files of a chain in order. Where a file is there plain and compressed, the plain one is what was written."""
    found: dict[int, Segment] = {}
    for entry in sorted((folder / chain).iterdir()):
        if match := _FILE.fullmatch(entry.name):
            found.setdefault(int(match[1]), Segment(chain, int(match[1]), entry))
    return [found[first] for first in sorted(found)]


def path_of(folder: Path, chain: str, first: int) -> Path:
    return folder / chain / f"{first:012d}.jsonl"


def lines(segment: Segment) -> Iterator[bytes]:
    """The lines of a file, with their newlines; a last one may lack it.

    Raises:
        Unreadable: the file is gone, cut or damaged as a compressed file.
    """
    opener = gzip.open if segment.compressed else open
    try:
        with opener(segment.path, "rb") as file:
            while line := file.readline(MAX_LINE):
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"{segment.path}: {error}") from None


def last_line(segment: Segment) -> bytes | None:
    """The last whole line of a file; None where there is none."""
    last = None
    for line in lines(segment):
        if line.endswith(b"\n"):
            last = line
    return last


def compress(segment: Segment) -> Path:
    """Replace a file that is complete by its compressed form; its time stays."""
    target = segment.path.with_suffix(".jsonl.gz")
    part = target.with_suffix(".part")
    with segment.path.open("rb") as source, part.open("wb") as raw:
        os.chmod(part, 0o600)
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed:
            shutil.copyfileobj(source, packed, 2**18)
        raw.flush()
        os.fsync(raw.fileno())
    stat = segment.path.stat()
    os.utime(part, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    part.rename(target)
    segment.path.unlink()
    sync_folder(target.parent)
    return target


def sync_folder(folder: Path) -> None:
    """Make what was made, renamed or removed in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a file while the block runs; gives False where another process holds it."""
    descriptor = lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock(path: Path, wait: bool = False) -> int | None:
    """Take the lock of a file until the descriptor is closed or the process ends; None where another one holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def log_id(folder: Path) -> str:
    """The name of this log, by which the state remembers how far its chains had come; made where it is missing."""
    path = folder / _LOG_ID
    _make_once(path, secrets.token_hex(8).encode() + b"\n")
    return path.read_text(encoding="ascii").strip()


def known_log_id(folder: Path) -> str | None:
    """The name of this log, or None where none was ever written."""
    try:
        return (folder / _LOG_ID).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def own_key(folder: Path) -> Ed25519PrivateKey:
    """The signing key that is made where the configuration names none, and kept beside the log.

    Whoever can rewrite the log can read it, so it proves less than one that lies elsewhere; see docs/audit.md.
    """
    path = folder / "signing.key"
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        _make_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return private_key(path.read_bytes(), str(path))


def publish(folder: Path, key: Ed25519PrivateKey) -> None:
    """Put the public key beside the log, for whoever wants to take it along."""
    public = key.public_key()
    path = folder / f"{key_id(public)}.pub.pem"
    if not path.exists():
        path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _make_once(path: Path, content: bytes) -> None:
    """Make a private file with this content, whole, unless somebody else was first."""
    if path.exists():
        return
    scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    with contextlib.suppress(FileExistsError):
        os.link(scratch, path)
    scratch.unlink()
