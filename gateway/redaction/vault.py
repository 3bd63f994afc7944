"""Redaction: values leave a text and stand-ins take their place; and the way back for the caller alone.

A stand-in looks like ``[PII_PAYMENT_7F3A9C2B]``: its kind, so that a model can still reason about it, and a keyed digest of
the value. The same value gets the same stand-in, in one request and in the next turn (so prompt caches keep working), and
nobody without the key can write a stand-in that turns into someone's value: not the author of a document, not the model.
A policy may want something else in its place, by category: see `Mode`.

A value does not come back inside an address, unless the request had it in that very one: an address in a reply may be an
image's, which is fetched as soon as it is shown.
"""

from __future__ import annotations

import hmac
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import orjson

from detectors.values import Key, Origin, Path, Segment
from gateway.redaction.addresses import MAX_ADDRESS, Addresses, Shown, remembered
from gateway.redaction.fpe import JOINTS, Formats
from gateway.redaction.nesting import Nesting
from gateway.screening.policy import Edit, Mode, joined

DIGEST_CHARS: Final = 10
"""Hex digits of the keyed digest: 40 bits, so a million distinct values of one tenant share none by chance, mostly."""

HASH_CHARS: Final = 24
"""Hex digits of a hash that stands for a value in logs and joins: 96 bits, so no two values ever share one."""

_HASHED: Final = re.compile(rf"[a-z][a-z_]{{2,40}}~[0-9a-f]{{{HASH_CHARS}}}")
"""What stands for a hashed value. A colon would make its digits a value by themselves: ``secret_cloud_key: 3f9a...``."""

STAND_IN: Final = re.compile(rf"\[[A-Z][A-Z_]{{2,40}}_[0-9A-F]{{{DIGEST_CHARS}}}\]")

# The end of a text that may be the beginning of a stand-in.
_BEGUN: Final = re.compile(rf"\[(?:[A-Z][A-Z_0-9]{{0,{41 + DIGEST_CHARS}}})?\Z")


MAX_SHAPED: Final = 1_000
"""Values of one request that may keep their format: to find them again in a reply, all are looked for at once."""


class Vault:
    """The values taken out of one request. It lives as long as the request and is never shared."""

    __slots__ = ("_addresses", "_begun", "_key", "_modes", "_names", "_restores", "_shapes", "_values")

    def __init__(self, key: bytes, modes: Mapping[str, Mode] = MappingProxyType({}), restores: bool = True) -> None:
        """
        Args:
            key: belongs to one tenant and is secret.
            modes: by category or ``category.subcategory``, what takes a value's place; a placeholder where nothing is said.
            restores: whether values come back at all.
        """
        self._key = key
        self._modes = modes
        self._restores = restores
        self._values: dict[str, str] = {}
        self._addresses: set[tuple[str, str]] = set()  # stand-ins that stood in an address, and what of it was before them
        self._names: Mapping[str, str] = MappingProxyType({})  # stand-ins of another vault, which stay as they are
        self._begun: dict[str, None] = {}  # what stand-ins with the shape of a value begin with
        self._shapes: re.Pattern[str] | None = None  # those and placeholders, once any of them is known

    def __repr__(self) -> str:
        return f"Vault({len(self._values)} values)"

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> Mapping[str, str]:
        """The values that can come back, by their stand-ins."""
        return self._values if self._restores else MappingProxyType({})

    def learn(self, values: Mapping[str, str]) -> None:
        """Take values that earlier requests of the same caller had taken out; none of them comes back inside an address."""
        for name, value in values.items():
            placeholder = STAND_IN.fullmatch(name) is not None
            if (placeholder or len(self._values) < MAX_SHAPED) and self._remember(name, value) and not placeholder:
                self._begin(name)

    @property
    def canary(self) -> str:
        """A mark for the system prompts of this vault's tenant, the same in every request: 16 hex digits."""
        return hmac.digest(self._key, b"canary", "sha256").hex()[:16]

    def sealed(self) -> Vault:
        """A vault with the same key for what a reply itself says: its stand-ins are the same, and nobody restores them.

        Stand-ins of this vault stay as they are in it: one with the format of a card is a card for those who look for cards.
        """
        vault = Vault(self._key, self._modes)
        vault._names = self._values
        return vault

    def stand_in(self, value: str, category: str, address: str = "") -> str:
        """What takes the place of ``value``; it can be restored from now on if its mode allows that.

        ``address``: what stands before the value of the address that it is part of.
        """
        if value in self._names or _HASHED.fullmatch(value):  # of an earlier turn, or said by the model
            return value
        made = self._stand_in(value, category)
        if address and len(address) <= MAX_ADDRESS and made in self._values:
            self._addresses.add((made, address))
        return made

    def stand_in_json(self, value: str, category: str) -> str:
        """As `stand_in`, for a value as it stands in a JSON string."""
        try:
            plain: str = orjson.loads(f'"{value}"')
        except orjson.JSONDecodeError:  # it reaches beyond its string
            return self.stand_in(value, category)
        return orjson.dumps(self.stand_in(plain, category)).decode()[1:-1]

    def _stand_in(self, value: str, category: str) -> str:
        mode = self._modes.get(category) or self._modes.get(category.partition(".")[0], Mode.PLACEHOLDER)
        if mode is Mode.MASK:
            return "".join(char if char in JOINTS else "*" for char in value)
        kind = category.upper().replace(".", "_")
        mac = hmac.digest(self._key, f"{category}\0{value}".encode("utf-8", "surrogatepass"), "sha256").hex()
        if mode is Mode.HASH:
            return f"{kind.lower()}~{mac[:HASH_CHARS]}"
        if mode is Mode.FORMAT and (shaped := self._shaped(value, category)) is not None:
            return shaped
        name = f"[{kind}_{mac[:DIGEST_CHARS].upper()}]"
        # Two values of one request with one stand-in would come back mixed up: the second stays hidden for good.
        return name if self._remember(name, value) else f"[{kind}]"

    def restore(self, text: str, nesting: Nesting | None = None, at: int = 0) -> str:
        """Put the values back. Stand-ins that this vault did not make stay as they are.

        Args:
            nesting: the text is JSON, and this has followed it up to ``at``: a value is written as it stands in a JSON string.
            at: where the text to be given begins; what stands before was given already, and tells in which address it is.
        """
        if not self._values or (not self._begun and text.find("[", at) < 0):
            if nesting is not None:
                nesting.feed(text[at:])
            return text[at:]
        shown = Shown(text, nesting is not None)
        addresses = Addresses(shown.text)
        parts: list[str] = []
        followed = at
        for found in self._expression().finditer(text, at):
            known = self._values.get(found.group())
            if known is None:
                continue
            place = shown.place(found.start())
            begin = addresses.open_at(place)
            if begin is not None and (found.group(), shown.text[begin:place]) not in self._addresses:
                continue
            if nesting is not None:
                nesting.feed(text[followed : found.start()])
                followed = found.start()
                for _ in range(max(1, nesting.depth)):
                    known = orjson.dumps(known).decode()[1:-1]
            parts += (text[at : found.start()], known)
            at = found.end()
        parts.append(text[at:])
        if nesting is not None:
            nesting.feed(text[followed:])
        return "".join(parts)

    def begun(self, text: str) -> int:
        """Where the end of ``text`` may be the beginning of a stand-in; its length if nowhere."""
        found = _BEGUN.search(text)
        cut = found.start() if found else len(text)
        if self._begun:
            whole = max((match.end() for match in self._expression().finditer(text)), default=0)
            longest = min(len(text) - whole, max(map(len, self._begun)))
            size = next((size for size in range(longest, 0, -1) if text[-size:] in self._begun), 0)
            cut = min(cut, len(text) - size)
        return cut

    def _shaped(self, value: str, category: str) -> str | None:
        """Another value of the same shape, or None where that hides too little or cannot be told from others."""
        key = hmac.digest(self._key, b"format", "sha256")
        made = Formats(key).encrypt(value, category.encode())
        if made is None or len(self._values) >= MAX_SHAPED or not self._remember(made, value):
            return None
        self._begin(made)
        return made

    def _begin(self, shaped: str) -> None:
        """A reply may hold this, which cannot be told from other text by its looks."""
        if self._restores:
            self._begun.update(dict.fromkeys(shaped[:size] for size in range(1, len(shaped))))
            self._shapes = None

    def _remember(self, name: str, value: str) -> bool:
        """Keep a value for the way back; False where the name already stands for another one."""
        return not self._restores or self._values.setdefault(name, value) == value

    def _expression(self) -> re.Pattern[str]:
        if not self._begun:
            return STAND_IN
        if self._shapes is None:
            names = sorted((name for name in self._values if not name.startswith("[")), key=len, reverse=True)
            self._shapes = re.compile("|".join((STAND_IN.pattern, *map(re.escape, names))))
        return self._shapes


class Restorer:
    """Puts the values of a vault back into a text that comes in pieces, also where a stand-in is cut in two."""

    __slots__ = ("_before", "_held", "_nesting", "_vault")

    def __init__(self, vault: Vault, in_json: bool) -> None:
        """``in_json``: the text is JSON (a tool call's arguments), so a value is written as it stands in a JSON string."""
        self._vault = vault
        self._nesting = Nesting() if in_json else None
        self._held = ""
        self._before = ""  # the address that is open, or the end of the text, in which one may begin

    @property
    def held(self) -> int:
        """Code points that may be the beginning of a stand-in."""
        return len(self._held)

    def feed(self, piece: str) -> str:
        """Take a piece of the text; return what can go out."""
        text = self._held + piece
        cut = self._vault.begun(text)
        self._held = text[cut:]
        seen = self._before + text[:cut]
        restored = self._vault.restore(seen, self._nesting, len(self._before))
        self._before = remembered(seen, self._nesting is not None)
        return restored

    def finish(self) -> str:
        """The text is over; what is fed after that is shown behind it."""
        rest, self._held = self._held, ""
        if rest:
            self._before = remembered(self._before + rest, self._nesting is not None)
        return rest


def marked(segments: Sequence[Segment], edits: dict[Path, str], vault: Vault) -> dict[Path, str]:
    """``edits`` and the vault's canary at the beginning of the request's system prompt: of the longest text of the system's."""
    prompts = [one for one in segments if one.origin is Origin.SYSTEM and not (one.path and isinstance(one.path[-1], Key))]
    if not prompts:
        return edits
    longest = max(prompts, key=lambda one: len(one.text))
    return {**edits, longest.path: f"[ref {vault.canary}]\n{edits.get(longest.path, longest.text)}"}


def redact(segments: Sequence[Segment], edits: Sequence[Edit], vault: Vault) -> dict[Path, str]:
    """The new text of every segment that holds something to redact.

    Overlapping spans are joined, and the join is named after the one that begins first and reaches furthest.
    """
    by_segment: defaultdict[int, list[Edit]] = defaultdict(list)
    for edit in joined(edits):
        by_segment[edit.segment].append(edit)
    return {
        segments[number].path: _replace(segments[number].text, spans, vault) for number, spans in by_segment.items()
    }


def _replace(text: str, spans: list[Edit], vault: Vault) -> str:
    parts: list[str] = []
    at = 0
    addresses = Addresses(text)
    address, begun = "", None
    for _, start, end, category in spans:
        begin = addresses.open_at(start)
        address = "" if begin is None else address + text[at:start] if begin == begun else text[begin:start]
        made = vault.stand_in(text[start:end], category, address)
        address, begun = address + made, begin
        parts += (text[at:start], made)
        at = end
    parts.append(text[at:])
    return "".join(parts)


def restorations(
    segments: Sequence[Segment], vault: Vault, together: Sequence[Sequence[int]] = ()
) -> Mapping[Path, str]:
    """The new text of every segment of a reply in which a stand-in of this vault occurs. ``together``: numbers of segments that
    are shown as one text, in which an address may begin in one and go on in the next."""
    changed: dict[Path, str] = {}
    shared: dict[int, Restorer] = {}
    for numbers in together:
        shared.update(dict.fromkeys(numbers, Restorer(vault, False)))
    for number, segment in enumerate(segments):
        restorer = shared.get(number)
        restored = vault.restore(segment.text) if restorer is None else restorer.feed(segment.text) + restorer.finish()
        if restored != segment.text:
            changed[segment.path] = restored
    return changed
