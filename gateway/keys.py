"""Gateway keys: who may call, for which tenant, and what each role may do.

Pure: randomness and time come in as arguments. A key is a *token* that its owner holds, shown once, and a
`StoredKey` that the state holds, from which the token cannot be had. ``gateway.state.keystore`` joins the two
with a store.

A token is ``pc_`` + key id (8) + ``_`` + secret (43): 32 random bytes. Such a secret cannot be guessed,
however fast the hash, so a slow password hash (bcrypt, argon2) would protect nothing and would hand every
caller a way to burn 100 ms of our time with a wrong key. What is stored is a salted, personalised BLAKE2b
(RFC 7693) of the secret, compared in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import orjson

PREFIX: Final = "pc_"
ID_LENGTH: Final = 8
SECRET_LENGTH: Final = 43
TOKEN_LENGTH: Final = len(PREFIX) + ID_LENGTH + 1 + SECRET_LENGTH

MAX_NOTE: Final = 200
"""Code points in a key's note: a line in a listing, not a document."""

EVERY_TENANT: Final = "*"
"""The tenant of a control-plane key that is not confined to one."""

DEFAULT_TENANT: Final = "default"

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_NAME_WANTED: Final = "1 to 63 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit"
_TOKEN: Final = re.compile(rb"pc_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")
_PERSON: Final = b"portcullis-key"  # BLAKE2's personalisation: the hash of a key is the hash of nothing else


class Permission(StrEnum):
    """One thing that a caller may be allowed to do."""

    DATA_PLANE = "data_plane"  # send requests through the gateway
    READ_DECISIONS = "read_decisions"  # see decisions, patterns, proposals and settings, without any text
    READ_TEXT = "read_text"  # see the texts that retention kept
    LABEL = "label"  # say that a decision was right or wrong
    PROPOSE = "propose"  # propose changes of patterns
    APPROVE = "approve"  # let a proposal act
    CONFIGURE = "configure"  # change settings, roll generations out and back
    MANAGE_KEYS = "manage_keys"  # create and revoke keys


class Role(StrEnum):
    """What a key is for; see `PERMISSIONS`."""

    APP = "app"
    VIEWER = "viewer"
    ANALYST = "analyst"
    APPROVER = "approver"
    OPERATOR = "operator"


_ANALYST: Final = frozenset(
    {Permission.READ_DECISIONS, Permission.READ_TEXT, Permission.LABEL, Permission.PROPOSE}
)

# An app's key leaks most easily, so it opens nothing but the data plane. Whoever runs the gateway neither
# reads prompts nor approves patterns, and whoever approves changes no settings: a change of what acts on
# traffic takes two people.
PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = MappingProxyType({
    Role.APP: frozenset({Permission.DATA_PLANE}),
    Role.VIEWER: frozenset({Permission.READ_DECISIONS}),
    Role.ANALYST: _ANALYST,
    Role.APPROVER: _ANALYST | {Permission.APPROVE},
    Role.OPERATOR: frozenset({Permission.READ_DECISIONS, Permission.CONFIGURE, Permission.MANAGE_KEYS}),
})


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant as the configuration names it. ``policy`` None means the gateway's own."""

    name: str
    policy: str | None = None

    def __post_init__(self) -> None:
        checked_name("tenant", self.name)
        if self.policy is not None:
            checked_name("policy", self.policy)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the verified bearer of a key, or the one that an open gateway takes everybody for.

    ``key`` is the key's id, empty without one, and ``owner`` whose it is, where that was said; ``expires_at`` is in UNIX
    seconds, infinite where nothing expires.
    """

    key: str
    tenant: str
    policy: str | None
    permissions: frozenset[Permission]
    expires_at: float = math.inf
    owner: str = ""

    @property
    def person(self) -> str:
        """Who speaks, whichever of his keys he uses: the owner as `owned` names him, else the key; empty without one."""
        return owned(self.owner) if self.owner else self.key

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def sees(self, tenant: str) -> bool:
        """True where this caller may look at what belongs to ``tenant``."""
        return self.tenant in (EVERY_TENANT, tenant)


def owned(owner: str) -> str:
    """An owner's name where ids of keys stand, too: no key has such an id."""
    return f"@{owner}"


def foreign(owner: str, keys: Iterable[StoredKey], principal: Principal) -> bool:
    """Whether ``owner`` is somebody with keys that ``principal`` does not see: who keeps the keys of one tenant must not speak
    in the name of those of others."""
    return any(key.owner == owner and not principal.sees(key.tenant) for key in keys if owner)


def role_of(principal: Principal) -> str:
    """The role whose permissions a caller has: what its word is trusted with."""
    return next((role.value for role in Role if PERMISSIONS[role] == principal.permissions), Role.OPERATOR.value)


ANYONE: Final = Principal("", DEFAULT_TENANT, None, frozenset({Permission.DATA_PLANE}))
"""Every caller of the data plane while no key was ever made."""

LOCAL_OPERATOR: Final = Principal("", EVERY_TENANT, None, frozenset(Permission))
"""Every caller of the control plane while no key was ever made and the gateway listens on loopback alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """What is stored of a key. Times are UNIX seconds; None means never."""

    id: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    role: Role
    tenant: str
    policy: str | None = None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    note: str = ""
    owner: str = ""

    @property
    def person(self) -> str:
        """As `Principal.person`."""
        return owned(self.owner) if self.owner else self.id

    @property
    def readable(self) -> bool:
        """False of one that stands for what could not be read (`read_key`)."""
        return bool(self.salt)

    def live(self, now: float) -> bool:
        """True while the key opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def shown(self) -> dict[str, Any]:
        """The key for people: nothing in it opens anything."""
        return {
            "id": self.id, "role": self.role.value, "tenant": self.tenant, "policy": self.policy,
            "created_at": self.created_at, "expires_at": self.expires_at, "revoked_at": self.revoked_at, "note": self.note,
            "owner": self.owner or None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. ``token`` goes to its owner, once; it is stored nowhere."""

    key: StoredKey
    token: str = field(repr=False)


def checked_name(what: str, name: str) -> str:
    """Return ``name`` if it may name a tenant or a policy (both become metric labels).

    Raises:
        ValueError: it may not; the message says what may.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what}: got {name[:80]!r}; wanted {_NAME_WANTED}")
    return name


def make_key(
    role: Role,
    tenant: str,
    now: float,
    *,
    policy: str | None = None,
    expires_at: float | None = None,
    note: str = "",
    owner: str = "",
    entropy: Callable[[int], bytes] = os.urandom,
) -> NewKey:
    """Make a key.

    Args:
        role: what the key is for.
        tenant: whose it is; `EVERY_TENANT` is for control-plane roles only.
        now: UNIX seconds.
        policy: overrides the tenant's policy.
        expires_at: UNIX seconds, later than ``now``.
        note: for people, shown in listings.
        owner: whose key it is: all keys of one owner have one voice among them. Left out, each has its own.
        entropy: gives that many bytes that nobody can guess.

    Raises:
        ValueError: an argument is out of range; the message names it and what is accepted.
    """
    if tenant != EVERY_TENANT:
        checked_name("tenant", tenant)
    elif role is Role.APP:
        raise ValueError("tenant: got '*'; wanted one tenant: what an app sends belongs to somebody")
    if policy is not None:
        checked_name("policy", policy)
    if owner:
        checked_name("owner", owner)
    if expires_at is not None and not now < expires_at < math.inf:
        raise ValueError(f"expires_at: got {expires_at}; wanted a time after now ({now})")
    if len(note) > MAX_NOTE or not note.isprintable():
        raise ValueError(f"note: wanted at most {MAX_NOTE} printable characters")
    key_id = base64.b32encode(entropy(5)).decode().lower()
    secret = base64.urlsafe_b64encode(entropy(32)).rstrip(b"=")
    salt = entropy(16)
    key = StoredKey(
        id=key_id, salt=salt, digest=_hash(secret, salt), role=role, tenant=tenant, policy=policy,
        created_at=now, expires_at=expires_at, note=note, owner=owner,
    )
    return NewKey(key, f"{PREFIX}{key_id}_{secret.decode()}")


def encode_key(key: StoredKey) -> bytes:
    """A stored key as JSON, without ``revoked_at``, which the stores keep beside it."""
    return orjson.dumps({
        "id": key.id, "salt": key.salt.hex(), "digest": key.digest.hex(), "role": key.role,
        "tenant": key.tenant, "policy": key.policy, "created_at": key.created_at,
        "expires_at": key.expires_at, "note": key.note, **({"owner": key.owner} if key.owner else {}),
    })


def decode_key(body: bytes, revoked_at: float | None) -> StoredKey:
    """Read what `encode_key` wrote.

    Raises:
        ValueError: it is something else.
    """
    try:
        doc: dict[str, Any] = orjson.loads(body)
        key = StoredKey(**{
            **doc, "salt": bytes.fromhex(doc["salt"]), "digest": bytes.fromhex(doc["digest"]),
            "role": Role(doc["role"]), "revoked_at": revoked_at,
        })
    except (LookupError, TypeError) as error:
        raise ValueError(f"no key: {error}") from None
    texts = (key.id, key.tenant, "" if key.policy is None else key.policy, key.note, key.owner)
    times = (key.created_at, 0.0 if key.expires_at is None else key.expires_at)
    if not (
        len(key.salt) == 16 and len(key.digest) == 32 and all(isinstance(one, str) for one in texts)
        and all(type(one) in (int, float) for one in times)  # True is an int, too
    ):  # fmt: skip
        raise ValueError("no key: a field is of another kind")
    return key


def read_key(key_id: str, body: bytes, revoked_at: float | bytes | None, owner: bytes | None = None) -> StoredKey:
    """A key as a state has it. One that cannot be read opens nothing and stands in the way of none: it is there, so that the
    gateway stays closed, as if it were revoked, and only who sees all tenants sees it.

    Args:
        key_id: where it stands. owner: what was said later of whose it is.
    """
    try:
        key = decode_key(body, None if revoked_at is None else float(revoked_at))
        if key.id != key_id:
            raise ValueError("no key of this id")
        return key if owner is None else replace(key, owner=owner.decode())
    except ValueError:
        return StoredKey(
            id=key_id, salt=b"", digest=b"", role=Role.APP, tenant=EVERY_TENANT, created_at=0.0, revoked_at=0.0,
            note="cannot be read",
        )  # fmt: skip


def _hash(secret: bytes, salt: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32, salt=salt, person=_PERSON).digest()


class Keyring:
    """The keys as they stood at one moment: tells at once who a token belongs to.

    A token that was verified is remembered by a digest keyed with bytes of this process, so that it costs one
    hash the next time, and so that the time of the look-up says nothing about tokens. Only right tokens are
    remembered, one per key: the memory is bounded by the keys. A token with an unknown id costs the same work
    as one with a wrong secret.

    Args:
        keys: every key of the store, revoked and expired ones too.
        tenants: the configuration's tenants by name; a key may name one that is not there, and then has no
            policy of its own.
        open_when_empty: take everybody for `ANYONE` where there is no key at all. Once a key was made the
            gateway is closed, even when it is revoked or expired.
    """

    __slots__ = ("_index", "_keys", "_seen", "_tenants", "open", "owners")

    def __init__(
        self,
        keys: Iterable[StoredKey],
        tenants: Mapping[str, Tenant] = MappingProxyType({}),
        *,
        open_when_empty: bool,
    ) -> None:
        every = {key.id.encode(): key for key in keys}
        self.open: Final = open_when_empty and not every
        self._keys = {name: key for name, key in every.items() if key.revoked_at is None}
        self.owners: Final = MappingProxyType({key.id: key.person for key in every.values() if key.owner})
        """Whose a key is, as `Principal.person` names him, by its id; of revoked ones, too: what was said with them stands."""
        self._tenants = tenants
        self._index = hashlib.blake2b(key=os.urandom(32), digest_size=16)
        self._seen: dict[bytes, Principal] = {}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)} keys{', open' if self.open else ''}>"

    @property
    def policies(self) -> frozenset[str]:
        """The presets that keys name."""
        return frozenset(key.policy for key in self._keys.values() if key.policy is not None)

    def find(self, token: bytes | None, now: float) -> Principal | None:
        """Who bears ``token`` at ``now`` (UNIX seconds); None where nobody may.

        An open ring asks for no token and looks at none: clients send whatever their library demands.
        """
        if self.open:
            return ANYONE
        if token is None or len(token) != TOKEN_LENGTH:
            return None
        index = self._index.copy()
        index.update(token)
        digest = index.digest()
        principal = self._seen.get(digest)
        if principal is None:
            principal = self._verify(token)
            if principal is None:
                return None
            self._seen[digest] = principal
        return principal if now < principal.expires_at else None

    def bearer(self, key_id: str, now: float) -> Principal | None:
        """Who bears the key with this id, for a caller who has shown the token before; None where it opens nothing."""
        key = self._keys.get(key_id.encode())
        if key is None:
            return None
        principal = self._principal(key)
        return principal if now < principal.expires_at else None

    def bearers(self, person: str, now: float) -> list[Principal]:
        """Who bears the keys of somebody, as `Principal.person` names him, that open something."""
        return [self._principal(key) for key in self._keys.values() if key.person == person and key.live(now)]

    def _verify(self, token: bytes) -> Principal | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        key = self._keys.get(match[1], _NOBODY)
        right = hmac.compare_digest(_hash(match[2], key.salt), key.digest)
        if not right or key is _NOBODY:
            return None
        return self._principal(key)

    def _principal(self, key: StoredKey) -> Principal:
        tenant = self._tenants.get(key.tenant)
        policy = key.policy if key.policy is not None else tenant.policy if tenant else None
        expires_at = math.inf if key.expires_at is None else key.expires_at
        return Principal(key.id, key.tenant, policy, PERMISSIONS[key.role], expires_at, key.owner)


_NOBODY: Final = StoredKey(
    id="", salt=bytes(16), digest=bytes(32), role=Role.APP, tenant=DEFAULT_TENANT, created_at=0, revoked_at=0
)
"""What a token with an unknown id is compared with."""
