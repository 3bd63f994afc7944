"""Ed25519 keys in files: a machine's own key, and the public keys that somebody trusts."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

PUBLIC_PREFIX: Final = "ed25519:"
"""A public key in text is this and its 32 bytes in base64: one line that fits a configuration file."""


class KeyFault(ValueError):  # noqa: N818 - reads as the condition that it is
    """A key that cannot be read. The message names the file or value and what is accepted; it shows no private key."""


def read_private(path: Path) -> Ed25519PrivateKey:
    """Read a private key (PEM, PKCS#8, not encrypted).

    Raises:
        KeyFault: the file cannot be read or holds no such key.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise KeyFault(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise KeyFault(f"{path}: not a private key; wanted PEM (PKCS#8) without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFault(f"{path}: not an Ed25519 key")
    return key


def own_key(path: Path) -> Ed25519PrivateKey:
    """This machine's key, made at the first call and readable by its owner alone. Processes that race agree on one.

    Raises:
        KeyFault: it cannot be read or written.
    """
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
            with os.fdopen(handle, "wb") as out:
                out.write(pem)
                out.flush()
                os.fsync(out.fileno())
            try:
                with contextlib.suppress(FileExistsError):
                    os.link(name, path)  # unlike a rename, it does not replace another process's key
            finally:
                os.unlink(name)
        except OSError as error:
            raise KeyFault(f"{path}: cannot be written: {error.strerror}") from None
    return read_private(path)


def public_text(key: Ed25519PublicKey) -> str:
    """A public key as one line of text."""
    return PUBLIC_PREFIX + base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def read_public(text: str) -> Ed25519PublicKey:
    """Read what `public_text` wrote.

    Raises:
        KeyFault: it is something else.
    """
    try:
        if not text.startswith(PUBLIC_PREFIX):
            raise ValueError
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(PUBLIC_PREFIX), validate=True))
    except ValueError:
        raise KeyFault(f"got {text[:80]!r}; wanted {PUBLIC_PREFIX} and the key's 32 bytes in base64") from None
