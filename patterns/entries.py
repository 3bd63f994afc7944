"""Entries: what a pattern store is made of, what replicas exchange, and how two histories become one.

An entry is one pattern (or its removal, a *tombstone*) as one author left it, with the reason, the time and a signature. A
store is a map from pattern id to entry, and merging two stores keeps the later entry of each id. That is a last-writer-wins
map (Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types", 2011, section 3.2.2):
merging is commutative, associative and idempotent, so replicas that saw the same entries in any order agree.

Later is what took the pattern back more often (a rollback, a retirement, a demotion), and else what has the later time: what is
done on one side of a parted cluster does not undo what was taken back on the other meanwhile.

An entry is signed by whoever let it act, over all of its content (`signed_bytes`). A replica can relay an entry and cannot
forge one: `Trust.verify` names the signer or refuses it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from patterns.clock import MAX_COUNTER, Stamp
from patterns.schema import Pattern, PatternError, read_pattern

MAX_ENTRY: Final = 256 * 2**10
"""Bytes of an encoded entry: a pattern's body, hits and misses (`schema.MAX_WRITTEN`), and what is said of it."""

MAX_WORDS: Final = 500
"""Code points of an author's name or a reason."""

MAX_TIME: Final = 2**53
"""Milliseconds: what JSON numbers hold exactly. Some 285,000 years."""

ALONE: Final = 64
"""Signatures that one thread verifies by itself, in some five milliseconds: the library lets other threads run meanwhile."""

MAX_VERIFIERS: Final = 4
"""Threads that verify at once: a newcomer's ten thousand signatures take a core most of a second."""

_FIELDS: Final = frozenset({"id", "pattern", "stamp", "author", "reason", "parent", "signer", "signature"})
_WRITTEN: Final = tuple(field.name for field in fields(Pattern) if field.name != "reach")  # which is computed from the body
_CONTEXT: Final = b"portcullis entry v1\n"  # what is signed here can be replayed as nothing else


class EntryError(ValueError):
    """An entry that cannot be taken. The message names the entry, the field, what was wrong and what is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One revision of one pattern.

    Attributes:
        id: the pattern's id, also where it was removed.
        pattern: the pattern as of this revision; None is a tombstone.
        stamp: when and on which node it was made, and how often the pattern was taken back; the latest stamp of an id wins.
        author: who made it. reason: why, in words.
        parent: the digest of the entry that it replaces, empty for the first.
        signer: the id of the key that signed it, empty while it is unsigned. signature: 64 bytes of Ed25519.
    """

    id: str
    pattern: Pattern | None
    stamp: Stamp
    author: str
    reason: str
    parent: str = ""
    signer: str = ""
    signature: bytes = b""
    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)  # by `encode`, once; `replace` forgets it


def signed_bytes(entry: Entry) -> bytes:
    """What a signature covers: everything but the signature itself, in one canonical form."""
    # The encoded form without its member `signature`: a quote within a text is escaped, so this is found nowhere else.
    return _CONTEXT + encode(entry).replace(b'"signature":"%b",' % entry.signature.hex().encode(), b"", 1)


def digest(entry: Entry) -> str:
    """Names the entry's content: SHA-256 in hexadecimal. Two signatures over one content have one digest."""
    return hashlib.sha256(signed_bytes(entry)).hexdigest()


def encode(entry: Entry) -> bytes:
    """The entry as JSON, for the disk and the wire."""
    if not entry._encoded:
        object.__setattr__(entry, "_encoded", orjson.dumps(_plain(entry), option=orjson.OPT_SORT_KEYS))
    return entry._encoded


TOMBSTONE: Final = b"null"
"""What `written_pattern` gives for an entry that removes its pattern."""


def written_pattern(raw: bytes) -> bytes:
    """The pattern in what `encode` wrote, as it stands there: two are the same where their bytes are.

    A quote within a text is escaped, so the names of members are found nowhere else, and they are in order.
    """
    return raw[raw.index(b'"pattern":') + 10 : raw.rindex(b',"reason":')]


def decode(raw: bytes, where: str = "entry") -> Entry:
    """Read an encoded entry from anybody.

    Raises:
        EntryError: it is too large, not JSON, or a field is missing, unknown or wrong.
    """
    if len(raw) > MAX_ENTRY:
        raise EntryError(f"{where}: {len(raw)} bytes; at most {MAX_ENTRY} are taken")
    try:
        plain = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise EntryError(f"{where}: not JSON: {error}") from None
    if not isinstance(plain, dict) or plain.keys() != _FIELDS:
        raise EntryError(f"{where}: wanted a mapping with exactly {', '.join(sorted(_FIELDS))}")
    texts = {name: _text(plain, name, where) for name in ("id", "author", "reason", "parent", "signer")}
    try:
        pattern = None if plain["pattern"] is None else read_pattern(_mapping(plain, where), where)
    except PatternError as error:
        raise EntryError(str(error)) from None
    if pattern is not None and pattern.id != texts["id"]:
        raise EntryError(f"{where}: id: {texts['id']!r} is not the id of its pattern, {pattern.id!r}")
    try:
        signature = bytes.fromhex(plain["signature"])
    except (TypeError, ValueError):
        raise EntryError(f"{where}: signature: wanted hexadecimal digits") from None
    return Entry(pattern=pattern, stamp=_stamp(plain["stamp"], where), signature=signature, **texts)


def later(one: Entry, other: Entry) -> Entry:
    """The one of two entries of an id that stands.

    A later stamp wins; equal stamps come from one node and mean one entry, unless that node lies: then the digest decides,
    so that every replica decides alike.
    """
    if one.stamp != other.stamp:
        return max(one, other, key=lambda entry: entry.stamp)
    return max(one, other, key=lambda entry: (digest(entry), entry.signature))


def merge(store: Mapping[str, Entry], arrived: Iterable[Entry]) -> dict[str, Entry]:
    """The entries of ``arrived`` that change ``store``, by id; ``store`` itself is left as it is."""
    changes: dict[str, Entry] = {}
    for entry in arrived:
        known = changes.get(entry.id) or store.get(entry.id)
        if known is None or (later(known, entry) is entry and entry != known):
            changes[entry.id] = entry
    return changes


def store_digest(entries: Iterable[Entry]) -> str:
    """Names the content of a whole store, whatever the order of its entries: SHA-256 in hexadecimal."""
    return digest_of(named(entry.id, digest(entry)) for entry in entries)


def named(id: str, digest: str) -> str:
    """An entry as `digest_of` takes it."""
    return f"{id} {digest}"


def digest_of(names: Iterable[str]) -> str:
    """As `store_digest`, of entries that are `named`."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


class Signer:
    """Signs entries with one Ed25519 key, and names that key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.id = key_id(key.public_key())

    def sign(self, entry: Entry) -> Entry:
        """The same entry with this key's name and signature."""
        plain = {name: getattr(entry, name) for name in ("id", "pattern", "stamp", "author", "reason", "parent")}
        named = Entry(**plain, signer=self.id)
        return Entry(**plain, signer=self.id, signature=self._key.sign(signed_bytes(named)))


class Trust:
    """The public keys whose entries are taken.

    libsodium verifies, in less than half of the time that OpenSSL takes: that is what a newcomer spends most of its own on.
    """

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {key_id(key): VerifyKey(key.public_bytes_raw()) for key in keys}

    def verify(self, entry: Entry) -> None:
        """Return where a trusted key signed this very content.

        Raises:
            EntryError: it is unsigned, signed by a key that is not trusted, or not by the key that it names.
        """
        key = self._keys.get(entry.signer)
        if key is None:
            problem = f"signed by {entry.signer[:80]!r}, which is not trusted" if entry.signer else "unsigned"
            raise EntryError(f"{entry.id}: signer: {problem}")
        try:
            key.verify(signed_bytes(entry), entry.signature)
        except CryptoError:  # also where it has not 64 bytes
            raise EntryError(f"{entry.id}: signature: it is not of {entry.signer} over this content") from None

    def refusals(self, entries: Sequence[Entry]) -> list[str]:
        """Why `verify` refuses each entry; empty where it does not. Many are shared out among the cores."""
        parts = [entries[at : at + ALONE] for at in range(0, len(entries), ALONE)]
        if len(parts) <= 1:
            return self._refusals(entries)
        with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_VERIFIERS), "portcullis-verify") as pool:
            return [refusal for part in pool.map(self._refusals, parts) for refusal in part]

    def _refusals(self, entries: Iterable[Entry]) -> list[str]:
        found = []
        for entry in entries:
            try:
                self.verify(entry)
            except EntryError as error:
                found.append(str(error))
            else:
                found.append("")
        return found


def key_id(key: Ed25519PublicKey) -> str:
    """A public key's name: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:32]


def _plain(entry: Entry) -> dict[str, Any]:
    """The entry as JSON has it; ``read_pattern`` reads the pattern back."""
    pattern = None
    if entry.pattern is not None:
        standing = entry.pattern
        # Absent, as where it was read. Not `asdict`, which copies each value and takes ten times as long.
        pattern = {name: value for name in _WRITTEN if (value := getattr(standing, name)) not in (None, "")}
        pattern["origins"] = sorted(standing.origins)
    stamp = entry.stamp if entry.stamp.taken else entry.stamp[:3]
    return {
        "id": entry.id, "pattern": pattern, "stamp": list(stamp), "author": entry.author, "reason": entry.reason,
        "parent": entry.parent, "signer": entry.signer, "signature": entry.signature.hex(),
    }  # fmt: skip


def _mapping(plain: dict[str, Any], where: str) -> dict[str, Any]:
    pattern = plain["pattern"]
    if not isinstance(pattern, dict):
        raise EntryError(f"{where}: pattern: got {type(pattern).__name__}; wanted a mapping, or null for a tombstone")
    return pattern


def _text(plain: dict[str, Any], name: str, where: str) -> str:
    value = plain[name]
    if not isinstance(value, str) or len(value) > MAX_WORDS:
        raise EntryError(f"{where}: {name}: wanted a text of at most {MAX_WORDS} code points")
    return value


def _stamp(value: object, where: str) -> Stamp:
    if isinstance(value, list) and len(value) in (3, 4):
        wall_ms, counter, node, *more = value
        if (
            type(wall_ms) is type(counter) is int and 0 <= wall_ms < MAX_TIME and 0 <= counter <= MAX_COUNTER
            and isinstance(node, str) and 0 < len(node) <= MAX_WORDS
            and all(type(taken) is int and 0 < taken <= MAX_COUNTER for taken in more)
        ):  # fmt: skip
            return Stamp(wall_ms, counter, node, *more)
    raise EntryError(f"{where}: stamp: wanted [milliseconds, counter, node], and how often it was taken back, if it was")
