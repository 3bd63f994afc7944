"""Signatures beside files of any format: ``NAME.sig`` says who vouches for exactly these bytes.

For feeds. Packs have a signature of their own, which knows their version (`patterns.signed`).
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from patterns.entries import key_id
from patterns.schema import PatternError

SUFFIX: Final = ".sig"
MAX_SIGNATURE: Final = 4096
"""Bytes of a signature's file; it has some 300."""

_CONTEXT: Final = b"portcullis feed v1\n"  # what is signed here can be replayed as nothing else
_FIELDS: Final = {"sha256", "signer", "signature"}


def sign(data: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of the signature's file."""
    digest = hashlib.sha256(data).hexdigest()
    said = {"sha256": digest, "signer": key_id(key.public_key()), "signature": key.sign(_CONTEXT + digest.encode()).hex()}
    return orjson.dumps(said, option=orjson.OPT_INDENT_2) + b"\n"


def verify(data: bytes, signature: bytes, key: Ed25519PublicKey, name: str) -> None:
    """Return where ``key`` signed exactly ``data``.

    Raises:
        PatternError: it did not; the message begins with ``name``.
    """
    try:
        raw: Any = orjson.loads(signature)
    except orjson.JSONDecodeError:
        raw = None
    if not isinstance(raw, dict) or raw.keys() != _FIELDS or not all(isinstance(one, str) for one in raw.values()):
        raise PatternError(f"{name}{SUFFIX}: wanted exactly {', '.join(sorted(_FIELDS))}, all texts")
    if raw["signer"] != key_id(key):
        raise PatternError(f"{name}: signed by {raw['signer'][:40]!r}, which is not trusted")
    if hashlib.sha256(data).hexdigest() != raw["sha256"]:
        raise PatternError(f"{name}: was changed after it was signed")
    try:
        key.verify(bytes.fromhex(raw["signature"]), _CONTEXT + raw["sha256"].encode())
    except (InvalidSignature, ValueError):
        raise PatternError(f"{name}: the signature is not of {raw['signer']} over these bytes") from None
