"""A chain of records: each one's hash covers the one before, and signed Merkle roots cover them all. Pure.

A line is ``{"seq":17,…,"hash":"…"}`` and a newline. Its hash is SHA-256 over the hash of the line before it (32 bytes) and the
line's own bytes up to ``,"hash"``, so what was written is what is hashed, and nothing needs a canonical form. Merkle trees are
those of RFC 6962 section 2.1, over the hashes of the records since the root before; a root's record says which these are. Roots
are signed with Ed25519 (RFC 8032).
"""

from __future__ import annotations

import hashlib
import re
from binascii import hexlify
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit import records

FORMAT: Final = 1

_CONTEXT: Final = b"portcullis audit v1\n"  # what is signed or hashed here can be passed off as nothing else
_MARK: Final = b',"hash":"'
_HASH: Final = re.compile(rb"[0-9a-f]{64}")
_END: Final = b'"}\n'
_LEAF: Final = hashlib.sha256(b"\0")
_NODE: Final = hashlib.sha256(b"\1")
_EMPTY: Final = hashlib.sha256()
_SUFFIX: Final = len(_MARK) + 64 + len(_END)


class BadLine(ValueError):  # noqa: N818 - it is a line that is bad
    """A line that no chain wrote."""


class Line(NamedTuple):
    """A line taken apart: ``covered`` are the bytes that its hash covers, ``hash`` is what it claims."""

    covered: bytes
    hash: bytes


def first_hash(name: str) -> bytes:
    """What the first record of a chain is chained to: the chain's name."""
    return hashlib.sha256(_CONTEXT + name.encode()).digest()


def next_hash(before: bytes, covered: bytes) -> bytes:
    """The hash of a record: of the hash before it and its covered bytes."""
    return hashlib.sha256(before + covered).digest()


def split(line: bytes) -> Line:
    """Take a line apart.

    Raises:
        BadLine: it does not end as the lines of a chain do.
    """
    covered, tail = line[:-_SUFFIX], line[-_SUFFIX:]
    if not covered or not tail.startswith(_MARK) or not tail.endswith(_END):
        raise BadLine("it does not end with a hash")
    written = tail[len(_MARK) : -len(_END)]
    if not _HASH.fullmatch(written):  # a capital letter says the same, and was not written by us
        raise BadLine("its hash is not hexadecimal in small letters")
    return Line(covered, bytes.fromhex(written.decode("ascii")))


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962 section 2.1 over the hashes of records.

    The tree is built from below, a level at a time; an odd node at the end of a level rises as it is, which gives the RFC's
    tree.
    """
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = _digests(_LEAF, leaves)
    while len(level) > 1:
        pairs = _digests(_NODE, [one + other for one, other in zip(level[::2], level[1::2], strict=False)])
        level = pairs + level[-1:] if len(level) % 2 else pairs
    return level[0]


def _digests(begun: hashlib._Hash, each: Sequence[bytes]) -> list[bytes]:
    """SHA-256 of what ``begun`` was given and one of ``each`` after it. A copy costs half of what a new one does."""
    copy = begun.copy
    digests: list[bytes] = []
    for one in each:
        digest = copy()
        digest.update(one)
        digests.append(digest.digest())
    return digests


def key_id(key: Ed25519PublicKey) -> str:
    """A public key's name: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_bytes(key)).hexdigest()[:32]


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def signed_bytes(chain: str, first: int, last: int, head: bytes, root: bytes) -> bytes:
    """What the signature of a root covers: records ``first`` to ``last`` of ``chain``, the hash of the last, the root."""
    return _CONTEXT + f"{chain}\n{first}\n{last}\n{head.hex()}\n{root.hex()}".encode()


def signature_holds(key: Ed25519PublicKey, chain: str, record: dict[str, Any], head: bytes, root: bytes) -> bool:
    """Whether a root's record carries a signature of ``key`` over this chain, ``head`` and ``root``."""
    try:
        covered = signed_bytes(chain, int(record["first"]), int(record["last"]), head, root)
        key.verify(bytes.fromhex(record["signature"]), covered)
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return True


class Mark(NamedTuple):
    """A chain's end at one moment, to come back to: of ``leaves``, which grows on, the first ``unsigned``."""

    seq: int
    head: bytes
    leaves: list[bytes]
    unsigned: int


class Chain:
    """The end of a chain that grows."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name = name
        self.seq = 0  # of the next record
        self.head = first_hash(name)
        self._key = key
        self.key_id = key_id(key.public_key())
        self._leaves: list[bytes] = []  # hashes of the records since the last root

    @property
    def unsigned(self) -> int:
        """Records that no signed root covers yet."""
        return len(self._leaves)

    def add(self, bodies: Sequence[bytes]) -> bytes:
        """The lines of the next records; ``bodies`` as `records.body` makes them."""
        seq, head, leaf, copy = self.seq, self.head, self._leaves.append, _EMPTY.copy
        lines: list[bytes] = []
        for body in bodies:
            covered = b'{"seq":%d,%b' % (seq, body)
            digest = copy()
            digest.update(head + covered)
            head = digest.digest()
            leaf(head)
            lines += (covered, _MARK, hexlify(head), _END)
            seq += 1
        self.seq, self.head = seq, head
        return b"".join(lines)

    def root(self, now: float) -> bytes:
        """The line of a signed root over all records since the last one, which is itself the first that the next covers."""
        first, last = self.seq - len(self._leaves), self.seq - 1
        tree = merkle_root(self._leaves)
        signature = self._key.sign(signed_bytes(self.name, first, last, self.head, tree))
        self._leaves = []
        fields = {"first": first, "last": last, "root": tree.hex(), "signer": self.key_id, "signature": signature.hex()}
        return self.add([records.body(records.ROOT, now, fields)])

    def mark(self) -> Mark:
        return Mark(self.seq, self.head, self._leaves, len(self._leaves))

    def back_to(self, mark: Mark) -> None:
        """Be again as at ``mark``, because what was added since could not be written."""
        self.seq, self.head, self._leaves = mark.seq, mark.head, mark.leaves
        del self._leaves[mark.unsigned :]
