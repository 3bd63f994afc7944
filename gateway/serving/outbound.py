"""The upstream's headers on their way to the caller: programs have them in their hands, and OpenAI's client shows one."""

from __future__ import annotations

from typing import Final

from detectors.lexical import SCORES, Lexical
from detectors.values import ChannelKind, Origin
from gateway.exchange import Exchange
from gateway.screening.policy import Action, Direction, Policy
from gateway.serving.inbound import Headers, reply_headers

_ACTING: Final = frozenset({Action.REDACT, Action.BLOCK})


def screened_headers(exchange: Exchange, headers: Headers, changed: bool = True) -> Headers:
    """Those that go on, without any in which the policy finds what it would not let out of a reply.

    ``changed``: as for `reply_headers`.
    """
    told = reply_headers(headers, changed)
    policy, lexical = exchange.bound.policy, exchange.live.engine.cascade.lexical
    if not policy.acts or not _gives_away(told, lexical, policy):
        return told
    return [pair for pair in told if not _gives_away([pair], lexical, policy)]


def _gives_away(headers: Headers, lexical: Lexical, policy: Policy) -> bool:
    text = b"\n".join([part for pair in headers for part in pair]).decode(errors="replace")
    return any(
        policy.action(
            match.pattern.category,
            SCORES[match.pattern.severity],
            Origin.ASSISTANT,
            Direction.REPLY,
            channel=ChannelKind.TOOL_CALL,
        )
        in _ACTING
        for match in lexical.scan(text, Origin.ASSISTANT).matches
    )
