"""Probabilities of tokens tell a reply's text once more: where that is edited, or is another one, they go."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import orjson

from detectors.values import Path
from gateway.wires.jsonedit import ASCII_ESCAPE, clear_members

_NAMES: Final = frozenset({"logprobs", "logprobsResult", "logprobs_result", "avgLogprobs", "avg_logprobs"})
_OTHERS: Final = frozenset({"top_logprobs", "topCandidates", "top_candidates"})
"""Tokens that were not taken."""


def has_probabilities(body: bytes) -> bool:
    """Whether there may be any in a JSON body."""
    return b"ogprobs" in body or ASCII_ESCAPE in body


def is_probability(path: Path) -> bool:
    """Whether what stands at a path of a JSON body is about a token."""
    return not _NAMES.isdisjoint(path)


def without_probabilities(body: bytes) -> bytes:
    """The JSON body with none of them; every other byte as it was received."""
    return clear_members(body, _NAMES) if has_probabilities(body) else body


def tell_more(body: bytes, said: Collection[str]) -> bool:
    """Whether tokens in a JSON body are those of another text than what it says: some servers are ahead with them."""
    return any(not any(tokens in text for text in said) for tokens in _tokens(orjson.loads(body), False))


def _tokens(value: Any, inside: bool) -> Iterator[str]:
    """The text of each list of tokens; ``inside``: all that is found is about tokens."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in _OTHERS:
                yield from _tokens(one, inside or key in _NAMES)
    elif isinstance(value, list):
        if inside:
            yield "".join(one["token"] if isinstance(one, dict) else one for one in value if _is_token(one))
        for one in value:
            if isinstance(one, dict | list):
                yield from _tokens(one, inside)


def _is_token(one: Any) -> bool:
    return isinstance(one, str) or (isinstance(one, dict) and isinstance(one.get("token"), str))
