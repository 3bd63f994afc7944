"""Where a caller's gateway key stands in a request. Pure: headers and query in, the key out.

Providers' clients each have a place of their own for their key, and a gateway key may stand in any of them,
so that a client is pointed at the gateway by its base URL and key alone. Where an upstream takes the
*caller's own* provider key, those places are the provider's, and the gateway key stands in
``x-portcullis-key``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

EXPLICIT: Final = b"x-portcullis-key"

HEADERS: Final = frozenset({EXPLICIT, b"authorization", b"x-api-key", b"x-goog-api-key"})
"""The headers, lower-case, that carry a credential. None of them may be repeated."""

QUERY_FIELD: Final = b"key"

_BEARER: Final = b"bearer "


class AmbiguousCredential(ValueError):  # noqa: N818 - it is the caller's mistake, named as such
    """A request carries a credential twice, or two that differ.

    We and the upstream could each believe another one. The message names the places, never the values.
    """


def gateway_key(
    headers: Iterable[tuple[bytes, bytes]], query: bytes = b"", *, explicit: bool = False
) -> bytes | None:
    """The gateway key that a request presents, or None.

    All headers are looked at, whatever is found.

    Args:
        headers: as ASGI gives them: names in lower case.
        query: the raw query string without ``?``.
        explicit: only ``x-portcullis-key`` counts, since the other places hold the caller's own provider key.

    Raises:
        AmbiguousCredential: a header that carries a credential, or the query's ``key``, is repeated; or,
            unless ``explicit``, two places hold different values.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in HEADERS:
            if name in found:
                raise AmbiguousCredential(f"the header {name.decode()} is repeated; send it once")
            found[name] = value
    if query:
        _from_query(query, found)
    if explicit:
        return found.get(EXPLICIT, b"").strip() or None
    if b"authorization" in found:
        found[b"authorization"] = _bearer(found[b"authorization"])
    tokens = {token for value in found.values() if (token := value.strip())}
    if len(tokens) > 1:
        places = ", ".join(sorted(name.decode() for name, value in found.items() if value.strip()))
        raise AmbiguousCredential(f"different keys in {places}; send one")
    return tokens.pop() if tokens else None


def without_key(query: bytes) -> bytes:
    """The query string without its ``key`` fields, for an upstream that must not see the gateway's key."""
    return b"&".join(part for part in query.split(b"&") if not _is_key(part))


def _from_query(query: bytes, found: dict[bytes, bytes]) -> None:
    for part in query.split(b"&"):
        if _is_key(part):
            if b"?key=" in found:
                raise AmbiguousCredential("the query repeats 'key'; send it once")
            found[b"?key="] = unquote_to_bytes(part.partition(b"=")[2])


def _is_key(part: bytes) -> bool:
    # The name may itself be written in percent signs; whoever reads the query after us decodes it too.
    return unquote_to_bytes(part.partition(b"=")[0]) == QUERY_FIELD


def _bearer(value: bytes) -> bytes:
    """The token of an ``Authorization`` header (RFC 6750 §2.1); empty for another scheme."""
    return value[len(_BEARER):] if value[: len(_BEARER)].lower() == _BEARER else b""
