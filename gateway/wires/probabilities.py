"""Probabilities of tokens tell a reply's text once more: where that is edited, they go."""

from __future__ import annotations

from typing import Final

from gateway.wires.jsonedit import ASCII_ESCAPE, clear_members

_NAMES: Final = frozenset({"logprobs", "logprobsResult", "avgLogprobs"})


def without_probabilities(body: bytes) -> bytes:
    """The JSON body with none of them; every other byte as it was received."""
    return clear_members(body, _NAMES) if b"ogprobs" in body or ASCII_ESCAPE in body else body
