"""Signed packs: a file beside each pack says who vouches for which version of it, and is checked before the pack is read.

``NAME.yaml.sig`` holds the pack's SHA-256, its version and an Ed25519 signature over both. A pack that was changed, signed by
nobody who is trusted, or older than one that was taken before (rollback) is refused by name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from patterns import yamls
from patterns.entries import key_id
from patterns.schema import PatternError, shown

SUFFIX: Final = ".sig"
_CONTEXT: Final = b"portcullis pack v1\n"
_VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")
_FIELDS: Final = {"pack", "version", "sha256", "signer", "signature"}


class PackSignature(NamedTuple):
    """What a signature file says. ``version`` is the pack's, compared as numbers between dots."""

    pack: str
    version: str
    sha256: str
    signer: str


def sign(path: Path, key: Ed25519PrivateKey) -> PackSignature:
    """Sign a pack: write its signature file.

    Raises:
        PatternError: it cannot be read, names no pack and version, or its version has no order.
    """
    data = _read(path)
    head = _head(data, path.name)
    made = PackSignature(str(head["pack"]), str(head["version"]), hashlib.sha256(data).hexdigest(), key_id(key.public_key()))
    signature = key.sign(_signed(made)).hex()
    path.with_name(path.name + SUFFIX).write_bytes(
        orjson.dumps({**made._asdict(), "signature": signature}, option=orjson.OPT_INDENT_2) + b"\n"
    )
    return made


def verify(path: Path, trusted: Iterable[Ed25519PublicKey], seen: Mapping[str, str] | None = None) -> PackSignature:
    """Check a pack against its signature file.

    Args:
        seen: the latest version of each pack that was taken before, by name; an earlier one is refused.

    Raises:
        PatternError: it is unsigned, was changed, is not signed by a trusted key, is older than one taken before, or its
            version has no order.
    """
    data = _read(path)
    file = path.with_name(path.name + SUFFIX)
    if not file.exists():
        raise PatternError(f"{path.name}: unsigned: there is no {file.name}; sign it with: portcullis patterns sign")
    try:
        raw: Any = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise PatternError(f"{file.name}: cannot be read as a signature") from None
    if not isinstance(raw, dict) or raw.keys() != _FIELDS or not all(isinstance(one, str) for one in raw.values()):
        raise PatternError(f"{file.name}: wanted exactly {', '.join(sorted(_FIELDS))}, all texts")
    said = PackSignature(raw["pack"], raw["version"], raw["sha256"], raw["signer"])
    keys = {key_id(key): key for key in trusted}
    key = keys.get(said.signer)
    if key is None:
        raise PatternError(f"{path.name}: signed by {said.signer[:40]!r}, which is not trusted")
    try:
        key.verify(bytes.fromhex(raw["signature"]), _signed(said))
    except (InvalidSignature, ValueError):
        raise PatternError(f"{path.name}: the signature is not of {said.signer} over this version") from None
    if hashlib.sha256(data).hexdigest() != said.sha256:
        raise PatternError(f"{path.name}: was changed after it was signed")
    head = _head(data, path.name)
    if (str(head["pack"]), str(head["version"])) != (said.pack, said.version):
        raise PatternError(f"{path.name}: the signature is for {said.pack} {said.version}")
    latest = (seen or {}).get(said.pack)
    if latest is not None and _number(said.version) < _number(latest):
        raise PatternError(f"{path.name}: version {said.version} is older than {latest}, which was taken before")
    return said


def _number(version: str) -> tuple[int, ...]:
    """Where a version stands in their order; one without a place, which earlier releases took, before all others."""
    return tuple(map(int, version.split("."))) if _VERSION.fullmatch(version) else ()


def _signed(said: PackSignature) -> bytes:
    return _CONTEXT + orjson.dumps(said._asdict(), option=orjson.OPT_SORT_KEYS)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PatternError(f"{path.name}: cannot be read: {error.strerror}") from None


def _head(data: bytes, name: str) -> dict[str, Any]:
    try:
        raw: Any = yamls.load(data.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError):
        raise PatternError(f"{name}: not YAML") from None
    if not isinstance(raw, dict) or "pack" not in raw or "version" not in raw:
        raise PatternError(f"{name}: pack and version: a signed pack needs both")
    version = raw["version"]
    if isinstance(version, bool) or not isinstance(version, str | int) or not _VERSION.fullmatch(str(version)):
        # YAML reads 1.10 without quotation marks as 1.1, which is older than 1.9.
        wanted = 'whole numbers joined by dots, of 9 digits at most, in quotation marks where there is a dot, as "1.10"'
        raise PatternError(f"{name}: version: got {shown(version)}; wanted {wanted}")
    return raw


