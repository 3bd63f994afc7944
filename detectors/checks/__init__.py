"""Checks: what decides whether a match of a `pii` pattern is a real value, and which part of it is the value.

A pattern names its check; `CHECKS` holds all of them. A check sees the whole text and the span of a match and gives the
span of the value, or None. It looks at most `CONTEXT` code points beyond the match, so it says the same of a text that
comes in pieces, and it takes a few microseconds.
"""

from __future__ import annotations

from typing import Final

from detectors.checks import (
    bank,
    cards,
    contact,
    credentials,
    dates,
    documents,
    keys,
    national_americas,
    national_asia,
    national_europe,
    network,
    persons,
    tokens,
)
from detectors.checks.base import CONTEXT, Check, Span

_MODULES: Final = (
    bank,
    cards,
    contact,
    credentials,
    dates,
    documents,
    keys,
    national_americas,
    national_asia,
    national_europe,
    network,
    persons,
    tokens,
)

CHECKS: Final[dict[str, Check]] = {name: check for module in _MODULES for name, check in module.CHECKS.items()}
"""Every check by the name that patterns give."""

__all__ = ["CHECKS", "CONTEXT", "Check", "Span"]

NEAR: Final = 8
"""Code points behind a match that a check may look at if it is not one of `FAR`: a separator and what follows it."""

FAR: Final = frozenset({"card_expiry", "member_number", "url_password"})
"""Checks that read what stands behind a match as far as `CONTEXT`: a stream has to wait for all of that."""


def ahead(check: str | None) -> int:
    """How many code points behind a match must be there before the check of that name is asked; 0 without a check."""
    if check is None:
        return 0
    return CONTEXT if check in FAR else NEAR
