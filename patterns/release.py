"""The shipped packs as one signed release: which files belong to which version of Portcullis, vouched for by the release key.

``SIGNED.json`` lies beside the packs of a release and is made by whoever holds the private key (``make sign-packs``). It is not
in the repository: a checkout in which packs are edited is unsigned, and says so. Where the file is there, every shipped pack
and exemplar must be what was signed, none missing and none besides, and all of it for this very version: older packs, though
signed, do not pass in a newer release, and an older release as a whole brings its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from patterns.entries import key_id
from patterns.schema import PatternError
from patterns.signing import KeyFault, read_public

HERE: Final = Path(__file__).parent
MANIFEST: Final = "SIGNED.json"
KEY_FILE: Final = "release.pub"
"""The public half of the release key, as `signing.public_text` writes it."""

_CONTEXT: Final = b"portcullis release v1\n"
_FIELDS: Final = {"version", "files", "signer", "signature"}


class Release(NamedTuple):
    """What was signed: the version it belongs to, how many files, and the id of the key."""

    version: str
    files: int
    signer: str


def sign(key: Ed25519PrivateKey, version: str, folder: Path = HERE) -> Release:
    """Sign the packs and exemplars under ``folder`` as those of a version.

    Raises:
        PatternError: a file cannot be read, or the manifest not be written.
    """
    said = {"version": version, "files": digests(folder), "signer": key_id(key.public_key())}
    signature = key.sign(_signed(said)).hex()
    try:
        written = orjson.dumps({**said, "signature": signature}, option=orjson.OPT_INDENT_2)
        (folder / "packs" / MANIFEST).write_bytes(written + b"\n")
    except OSError as error:
        raise PatternError(f"{MANIFEST}: cannot be written: {error.strerror}") from None
    return Release(version, len(said["files"]), str(said["signer"]))


def verify(version: str, folder: Path = HERE, found: Mapping[str, str] | None = None) -> Release | None:
    """Check what lies under ``folder``; None where it is unsigned.

    Args:
        version: the one that is installed. found: its `digests`, where they are known.

    Raises:
        PatternError: it was changed, is not of the release key, or of another version; names the file.
    """
    file = folder / "packs" / MANIFEST
    if not file.exists():
        return None
    try:
        raw: Any = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise PatternError(f"{MANIFEST}: cannot be read as a signature of the shipped packs") from None
    if not isinstance(raw, dict) or raw.keys() != _FIELDS or not isinstance(raw["files"], dict):
        raise PatternError(f"{MANIFEST}: wanted exactly {', '.join(sorted(_FIELDS))}")
    key = release_key(folder)
    signature = raw.pop("signature")
    try:
        key.verify(bytes.fromhex(signature), _signed(raw))
    except (InvalidSignature, ValueError, TypeError):
        raise PatternError(f"{MANIFEST}: not signed by the release key {key_id(key)}") from None
    if raw["version"] != version:
        raise PatternError(f"{MANIFEST}: signed for Portcullis {raw['version']}, and {version} is installed")
    found = digests(folder) if found is None else found
    for name in sorted(raw["files"].keys() | found.keys()):
        if name not in found:
            raise PatternError(f"{name}: a shipped pack is missing")
        if name not in raw["files"]:
            raise PatternError(f"{name}: is among the shipped packs and was not signed with them")
        if found[name] != raw["files"][name]:
            raise PatternError(f"{name}: a shipped pack was changed after it was signed")
    return Release(version, len(found), raw["signer"])


def release_key(folder: Path = HERE) -> Ed25519PublicKey:
    """The public key that releases are signed with.

    Raises:
        PatternError: its file is missing or holds no key.
    """
    try:
        return read_public((folder / KEY_FILE).read_text().strip())
    except (OSError, KeyFault) as error:
        raise PatternError(f"{KEY_FILE}: the release key cannot be read: {error}") from None


def digests(folder: Path = HERE) -> dict[str, str]:
    """The SHA-256 of every pack and file of exemplars, by its path under ``folder``.

    Raises:
        PatternError: one cannot be read.
    """
    found = {}
    for file in sorted([*folder.glob("packs/*.yaml"), *folder.glob("exemplars/*.jsonl")]):
        try:
            found[file.relative_to(folder).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise PatternError(f"{file.name}: cannot be read: {error.strerror}") from None
    return found


def _signed(said: dict[str, Any]) -> bytes:
    return _CONTEXT + orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
