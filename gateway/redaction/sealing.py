"""What a store keeps for us and must neither read nor change: names that say nothing, and values that are sealed.

Both come of one key, made of the configuration's ``secret``; where that is not set, the secret lies in the state itself, and
nothing is sealed with it. A name is a keyed digest of what it stands for, so that who holds the store cannot test a guess.
A value is sealed by AES-256-GCM (NIST SP 800-38D) under a key of its own, made of the name, with the name as associated data:
one that was altered, made up or moved to another name does not open. Sizes are rounded up, since a long verdict is one that
found something.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

STEP: Final = 256
"""Bytes to whose next multiple a value is filled up: nearly all verdicts fit into one."""

_NONCE: Final = 12


def answered(names: Sequence[str], answers: object) -> list[tuple[str, bytes | None]]:
    """What a store gave for ``names``, each with its name; None where it has nothing. What is no answer (another type, or
    another number of them) is empty, which does not open."""
    given = answers if isinstance(answers, list) and len(answers) == len(names) else [b""] * len(names)
    return [(name, each if each is None or isinstance(each, bytes) else b"") for name, each in zip(names, given, strict=True)]


class Sealer:
    """Names and seals what is kept for one purpose."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        key = hmac.digest(secret, f"\nsealed {purpose}".encode(), "sha256")  # no tenant's name begins so
        self._names = hmac.digest(key, b"names", "sha256")
        self._values = hmac.digest(key, b"values", "sha256")
        self._purpose = purpose

    def name(self, *parts: str | bytes) -> str:
        """The name of what ``parts`` tell, in their order."""
        state = blake2b(key=self._names, digest_size=24)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            state.update(len(data).to_bytes(8, "big"))
            state.update(data)
        return f"{self._purpose}:{state.hexdigest()}"

    def seal(self, name: str, value: bytes) -> bytes:
        """``value`` for the store, under this name alone."""
        filled = value + b"\1"
        filled += bytes(-len(filled) % STEP)
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher(name).encrypt(nonce, filled, name.encode())

    def open(self, name: str, sealed: bytes) -> bytes | None:
        """What was sealed under this name; None where this is not what `seal` gave."""
        try:
            filled = self._cipher(name).decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        except (InvalidTag, ValueError):
            return None
        return filled.rstrip(b"\0")[:-1]

    def _cipher(self, name: str) -> AESGCM:
        return AESGCM(hmac.digest(self._values, name.encode(), "sha256"))
