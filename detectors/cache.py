"""Verdicts of texts judged before: a conversation sends its whole history each turn and pays for the new text only."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Generic, TypeVar

V = TypeVar("V")

LONG_KEY: Final = 128
"""Texts longer than this are kept as a 128-bit digest, so that the cache holds no prompt and its size is known."""

ENTRY_BYTES: Final = 400
"""What one entry costs, its verdict included, measured roughly; it turns a bound in bytes into one in entries."""


class VerdictCache(Generic[V]):
    """A bounded map from (scope, text) to a verdict, which forgets what was not asked for in a while.

    Two plain dictionaries, young and old: what is asked for moves to the young one, and when that is full it becomes the
    old one, whose rest is dropped. It forgets almost like least-recently-used at the price of one dictionary look-up.
    """

    __slots__ = ("_half", "_old", "_salt", "_young", "hits", "misses")

    def __init__(self, max_bytes: int, salt: bytes) -> None:
        """``salt`` (up to 64 bytes, random and secret) keeps a caller from making two texts share a digest."""
        self._young: dict[tuple[object, str | bytes], V] = {}
        self._old: dict[tuple[object, str | bytes], V] = {}
        self._half = max(1, max_bytes // ENTRY_BYTES // 2)
        self._salt = salt
        self.hits = 0
        self.misses = 0

    def key(self, scope: object, text: str) -> tuple[object, str | bytes]:
        if len(text) <= LONG_KEY:
            return (scope, text)
        data = text.encode("utf-8", "surrogatepass")
        return (scope, blake2b(data, digest_size=16, key=self._salt).digest())

    def get(self, key: tuple[object, str | bytes]) -> V | None:
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                self.misses += 1
                return None
            self.put(key, found)
        self.hits += 1
        return found

    @property
    def held(self) -> list[V]:
        """All that is remembered."""
        return [*self._young.values(), *self._old.values()]

    def put(self, key: tuple[object, str | bytes], verdict: V) -> None:
        if len(self._young) >= self._half:
            self._old = self._young
            self._young = {}
        self._young[key] = verdict
