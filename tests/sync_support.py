"""What the tests of pattern sync share: patterns to promote, keys that sign, and clusters to simulate."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from patterns.clock import Clock, Stamp
from patterns.entries import Entry, Signer, Trust
from patterns.schema import Kind, Pattern, Severity

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
APPROVER = Signer(KEY)
TRUST = Trust([KEY.public_key()])
STRANGER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))


def pattern(identity: str, body: str = "raise the portcullis") -> Pattern:
    return Pattern(
        id=identity, kind=Kind.SEMANTIC, body=body, category="prompt_injection.instruction_override",
        severity=Severity.HIGH, reach=None,
    )  # fmt: skip


@lru_cache(100_000)
def entry(identity: str, stamp: Stamp, body: str | None = "raise the portcullis", signer: Signer = APPROVER) -> Entry:
    """A signed entry; a body of None removes."""
    made = Entry(
        id=identity, pattern=None if body is None else pattern(identity, body), stamp=stamp, author="ada", reason="seen"
    )
    return signer.sign(made)


def promotion(identity: str, body: str | None = "raise the portcullis") -> Callable[[Clock, float], Entry]:
    """What `Cluster.make` takes: an approver's promotion at a replica's own time."""
    return lambda clock, now: entry(identity, clock.tick(now), body)
