"""Keys of the audit log, read from PEM. Pure."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

_MAKE = "openssl genpkey -algorithm ed25519 -out audit.key"


class BadKey(ValueError):  # noqa: N818 - it is a key that is bad
    """Not an Ed25519 key in PEM. The message shows nothing of it."""


def private_key(raw: bytes, where: str) -> Ed25519PrivateKey:
    """A private key from PEM (PKCS #8).

    Raises:
        BadKey: it is none; the message names ``where`` and how to make one.
    """
    try:
        key = load_pem_private_key(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey(f"{where}: not a private key in PEM; make one: {_MAKE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"{where}: a private key of another kind; wanted Ed25519: {_MAKE}")
    return key


def public_key(raw: bytes, where: str) -> Ed25519PublicKey:
    """A public key from PEM (SubjectPublicKeyInfo).

    Raises:
        BadKey: it is none.
    """
    try:
        key = load_pem_public_key(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey(f"{where}: not a public key in PEM; wanted what `openssl pkey -pubout` writes") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey(f"{where}: a public key of another kind; wanted Ed25519")
    return key
