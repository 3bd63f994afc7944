"""What a pattern is, and how one is read from a mapping (a YAML pack, a feed, an API call).

A pattern is one piece of knowledge about threats. Every pattern carries examples that it must find and near misses
that it must not, so a pattern is also its own test.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

import orjson

from patterns import taxonomy

MAX_ID: Final = 200
"""Code points of an id: it stands in records, logs and errors."""

MAX_BODY: Final = 4_000
"""Code points in a body. The longest hand-written pattern is about 600; a longer one is a mistake or an attack."""

MAX_EXAMPLE: Final = 8_000
"""Code points in one hit or miss."""

MAX_WRITTEN: Final = 240_000
"""Bytes of body, hits and misses together, as JSON: what `entries.MAX_ENTRY` has room for."""

MAX_REACH: Final = 4_096
"""The longest match, in code points, that a lexical pattern may have: it bounds what a stream can be made to hold."""

MAX_MOVE: Final = 3.0
"""How far, in log-odds, a threshold may move: further is to turn a category off or stop all of it, which policies are for."""

ORIGINS: Final = frozenset({"system", "user", "assistant", "tool_definition", "tool_result", "document"})

E = TypeVar("E", bound=StrEnum)

_MOVE = re.compile(r"[+-][0-9](\.[0-9]{1,4})?")
_ID = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON can name one, and nothing can store it


class Kind(StrEnum):
    """How a pattern recognises: by exact words, an expression, a value with its own shape, or by resemblance."""

    LITERAL = "literal"  # the body's very characters, without regard to case
    REGEX = "regex"  # an expression that Hyperscan takes, without regard to case
    PII = "pii"  # an expression for a value (a secret, an identifier), with regard to case, perhaps with a check
    SEMANTIC = "semantic"  # an exemplar of an attack: what lies near it in meaning resembles it
    BENIGN = "benign"  # an exemplar of harmless text that looks like an attack: it speaks against
    THRESHOLD = "threshold"  # no recogniser: moves the bar for what the model finds of a category; the body is log-odds
    HEAD = "head"  # a linear function of a text's embedding that is added to the model's log-odds; the body is its numbers

    @property
    def lexical(self) -> bool:
        return self in (Kind.LITERAL, Kind.REGEX, Kind.PII)

    @property
    def corrects(self) -> bool:
        """Whether it changes what the model says, rather than recognising anything itself."""
        return self in (Kind.THRESHOLD, Kind.HEAD)


class Severity(StrEnum):
    """How bad it is when it is real, and how sure a match alone makes us; see ``detectors.lexical.SCORES``."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class State(StrEnum):
    """Where a pattern stands on its way from an idea to acting on traffic."""

    PROPOSED = "proposed"
    SHADOW = "shadow"
    CANARY = "canary"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One pattern.

    Attributes:
        id: lower-case words joined by ``.``, ``-`` or ``_``; unique in a store.
        kind: how it recognises.
        body: the expression, literal or exemplar text; of a threshold, log-odds with their sign (``+0.75`` is harder to reach).
        category: ``category.subcategory`` of the taxonomy; of what corrects the model, a category of attacks as a whole.
        severity: see `Severity`.
        reach: the longest match in code points; None for exemplars, which have none.
        check: the name of a validator in ``detectors.checks`` that a match must pass, or None.
        origins: where it applies (``user``, ``document``, ...); empty means everywhere.
        closeness: of an exemplar that was learnt, how near a text must come to it, in 0..1; None where near-identity is asked.
        hits: texts that it must find. misses: near misses that it must not.
        state: where it stands; rollout: the share of traffic it acts on, in percent, while a canary.
        provenance: who wrote it and where it comes from. revision: counts its changes from 1.
    """

    id: str
    kind: Kind
    body: str
    category: str
    severity: Severity
    reach: int | None
    check: str | None = None
    origins: frozenset[str] = frozenset()
    closeness: float | None = None
    hits: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    state: State = State.ACTIVE
    rollout: int = 100
    provenance: str = ""
    revision: int = 1

    def shown(self) -> dict[str, Any]:
        """The pattern for people and programs."""
        return {
            "id": self.id, "kind": self.kind.value, "body": self.body, "category": self.category,
            "severity": self.severity.value, "reach": self.reach, "check": self.check,
            "origins": sorted(self.origins), "hits": self.hits, "misses": self.misses,
            "closeness": self.closeness, "state": self.state.value, "rollout": self.rollout,
            "provenance": self.provenance, "revision": self.revision,
        }  # fmt: skip


WATCHING: Final = frozenset({State.SHADOW, State.CANARY, State.ACTIVE})
"""The states in which a pattern is matched, whether or not it acts."""


def acts_on(pattern: Pattern, text: str) -> bool:
    """Whether a pattern in its state acts on this text; a canary acts on the same share of texts everywhere."""
    if pattern.state is State.ACTIVE:
        return True
    if pattern.state is not State.CANARY:
        return False
    mark = zlib.crc32(text.encode("utf-8", "surrogatepass"), zlib.crc32(pattern.id.encode()))
    return mark % 100 < pattern.rollout


_MEMBERS: Final[dict[Any, dict[str, Any]]] = {enum: {one.value: one for one in enum} for enum in (Kind, Severity, State)}


class PatternError(ValueError):
    """A pattern that cannot be taken. The message names the pattern, the field, what was wrong and what is accepted."""


_FIELDS: Final = frozenset(
    {"id", "kind", "body", "category", "severity", "check", "origins", "closeness", "hits", "misses", "state", "rollout",
     "provenance", "revision"}
)


def read_pattern(raw: Mapping[str, Any], where: str, provenance: str = "") -> Pattern:
    """Read one pattern from a mapping.

    Args:
        raw: the mapping, keys as in `Pattern` without ``reach``, which is computed.
        where: names the source in errors, for example ``packs/injection.yaml``.
        provenance: used where the mapping states none.

    Raises:
        PatternError: a field is missing, unknown, of the wrong type or out of range.
    """
    identity = raw.get("id")
    if not isinstance(identity, str) or len(identity) > MAX_ID or not _ID.fullmatch(identity):
        wanted = f"lower-case words joined by '.', '-' or '_', {MAX_ID} characters at most"
        raise PatternError(f"{where}: id: got {shown(identity)}; wanted {wanted}")
    where = f"{where}: {identity}"
    if not raw.keys() <= _FIELDS:
        unknown = min(map(str, raw.keys() - _FIELDS))
        raise PatternError(f"{where}: unknown field {unknown!r}; known: {', '.join(sorted(_FIELDS))}")
    kind = _choice(raw, "kind", Kind, where)
    category = _text(raw, "category", where, 100)
    try:
        (taxonomy.attack_category if kind.corrects else taxonomy.split)(category)
    except ValueError as error:
        raise PatternError(f"{where}: category: {error}") from None
    body = _text(raw, "body", where, MAX_BODY)
    if kind is Kind.THRESHOLD:
        threshold_move(body, where)
    hits, misses = _texts(raw, "hits", where), _texts(raw, "misses", where)
    # A body alone always fits.
    if (hits or misses) and (size := len(orjson.dumps((body, hits, misses)))) > MAX_WRITTEN:
        raise PatternError(f"{where}: hits and misses: {size} bytes with the body; at most {MAX_WRITTEN} are taken")
    if kind.lexical and not (hits and misses):
        raise PatternError(f"{where}: hits and misses: a lexical pattern needs at least one of each")
    origins = frozenset(_texts(raw, "origins", where))
    if not origins <= ORIGINS:
        raise PatternError(f"{where}: origins: unknown {min(origins - ORIGINS)!r}; known: {', '.join(sorted(ORIGINS))}")
    check = _text(raw, "check", where, MAX_ID) if raw.get("check") is not None else None
    closeness = raw.get("closeness")
    if closeness is not None:
        if kind.lexical or kind.corrects:
            raise PatternError(f"{where}: closeness: only semantic and benign patterns have one")
        if not isinstance(closeness, float | int) or isinstance(closeness, bool) or not 0 < closeness <= 1:
            raise PatternError(f"{where}: closeness: got {shown(closeness)}; wanted a number above 0 and up to 1")
    return Pattern(
        id=identity,
        kind=kind,
        body=body,
        category=category,
        severity=_choice(raw, "severity", Severity, where),
        reach=_reach(kind, body, where) if kind.lexical else None,
        check=check,
        origins=origins,
        closeness=None if closeness is None else float(closeness),
        hits=hits,
        misses=misses,
        state=_choice(raw, "state", State, where) if "state" in raw else State.ACTIVE,
        rollout=_whole(raw, "rollout", where, 0, 100, 100),
        provenance=_text(raw, "provenance", where, 500) if "provenance" in raw else provenance,
        revision=_whole(raw, "revision", where, 1, 2**31, 1),
    )


def threshold_move(body: str, where: str = "threshold") -> float:
    """How far a threshold's body moves the bar, in log-odds; above 0 is harder to reach.

    Raises:
        PatternError: it is no number with a sign, or too far from 0.
    """
    if _MOVE.fullmatch(body) and 0 < abs(float(body)) <= MAX_MOVE:
        return float(body)
    raise PatternError(f"{where}: body: got {shown(body)}; wanted log-odds with a sign, as +0.75, up to {MAX_MOVE} from 0")


def _reach(kind: Kind, body: str, where: str) -> int:
    if kind is Kind.LITERAL:
        return len(body)
    # Python's parser reads the same syntax as Hyperscan's for all that we allow, and knows the widths.
    try:
        low, high = re._parser.parse(body).getwidth()  # type: ignore[attr-defined]
    except (re.error, OverflowError, ValueError) as error:  # the last of flags that exclude each other
        raise PatternError(f"{where}: body: not an expression: {error}") from None
    except RecursionError:
        raise PatternError(f"{where}: body: its groups are nested too deeply") from None
    if low == 0:
        raise PatternError(f"{where}: body: it matches the empty text, and so everything")
    if high > MAX_REACH:
        raise PatternError(
            f"{where}: body: its longest match is {'unbounded' if high > 10**6 else high}; at most {MAX_REACH} code"
            " points are allowed, because a stream must hold back what may still match: write {0,n} for * and {1,n} for +"
        )
    return int(high)


def _text(raw: Mapping[str, Any], field: str, where: str, longest: int) -> str:
    value = raw.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= longest or _SURROGATE.search(value):
        raise PatternError(f"{where}: {field}: got {shown(value)}; wanted a text of 1 to {longest} code points")
    return value


def _texts(raw: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    value = raw.get(field, ())
    if not isinstance(value, list | tuple) or not all(
        isinstance(v, str) and 0 < len(v) <= MAX_EXAMPLE and not _SURROGATE.search(v) for v in value
    ):
        raise PatternError(f"{where}: {field}: wanted a list of texts of 1 to {MAX_EXAMPLE} code points")
    return tuple(value)


def _choice(raw: Mapping[str, Any], field: str, enum: type[E], where: str) -> E:
    value = raw.get(field)
    found: E | None = _MEMBERS[enum].get(value) if isinstance(value, str) else None
    if found is None:
        raise PatternError(f"{where}: {field}: got {shown(value)}; wanted one of {', '.join(enum)}")
    return found


def _whole(raw: Mapping[str, Any], field: str, where: str, low: int, high: int, default: int) -> int:
    value = raw.get(field, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise PatternError(f"{where}: {field}: got {shown(value)}; wanted a whole number from {low} to {high}")
    return value


def shown(value: object) -> str:
    """What was got, for an error: its beginning, as Python writes it."""
    try:
        text = repr(value)
    except RecursionError:  # JSON may be nested more deeply than Python writes
        return "what is nested too deeply"
    return text if len(text) <= 60 else text[:57] + "..."
