"""Which stages act on which part of which route: what `portcullis check` prints and nobody should have to believe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from detectors.cascade import DEEP, STAGES
from detectors.values import Origin
from gateway.live import bind, load_model
from gateway.policy import MODEL_STAGES, Action, Direction, Policy
from gateway.settings import Detection, Settings
from patterns import taxonomy

REQUEST_ORIGINS: Final = tuple(Origin)
TOP_SCORE: Final = 0.99
_NOTHING: Final = Action.ALLOW.value
_PASSED: Final = "passed through, not screened"


class Row(NamedTuple):
    """One line of the matrix. ``attacks`` and ``values`` are the strictest that the policy does there."""

    route: str
    origin: str
    direction: str
    streaming: bool
    stages: tuple[str, ...]
    attacks: str
    values: str
    note: str


_ROUTES: Final = (
    # route, origins of its requests, whether its replies can stream, whether its replies hold text
    ("/v1/chat/completions", REQUEST_ORIGINS, True, True),
    ("/v1/completions", (Origin.USER,), True, True),
    ("/v1/responses", REQUEST_ORIGINS, True, True),
    ("/v1/embeddings", (Origin.USER,), False, False),
    ("/v1/messages", REQUEST_ORIGINS, True, True),
    ("/v1/messages/count_tokens", REQUEST_ORIGINS, False, False),
    ("/v1beta/models/{model}:generateContent", REQUEST_ORIGINS, False, True),
    ("/v1beta/models/{model}:streamGenerateContent", REQUEST_ORIGINS, True, True),
    ("/v1beta/models/{model}:embedContent", (Origin.USER, Origin.DOCUMENT), False, False),
)


def matrix(settings: Settings, late: Sequence[str] = ()) -> list[Row]:
    """The matrix for the default policy; ``late`` names patterns that a stream is not held for."""
    model, _ = load_model(settings.detection)
    policy = bind(settings.policy, model.calibration.thresholds if model else {})[0]
    whole = stages(settings.detection)
    streamed = tuple(stage for stage in whole if policy.ahead is not None or stage in STREAMED)
    rows: list[Row] = []
    for route, origins, streams, speaks in _ROUTES:
        rows += [_row(policy, whole, route, origin, Direction.REQUEST, False) for origin in origins]
        if speaks:
            rows.append(_row(policy, whole, route, Origin.ASSISTANT, Direction.REPLY, False))
        if streams:
            row = _row(policy, streamed, route, Origin.ASSISTANT, Direction.REPLY, True)
            told = f"told only when the stream is over: {', '.join(late)}" if late else ""
            rows.append(row._replace(note="; ".join(filter(None, (row.note, _pace(policy, model is not None), told)))))
    for upstream in settings.upstreams.values():
        for entry in upstream.passthrough:
            rows += [Row(entry, "all", direction.value, False, (), _NOTHING, _NOTHING, _PASSED) for direction in Direction]
    return rows


STREAMED: Final = ("canonical", "lexical")
"""Stages that act on any stream as it flows. The others do so where the policy lets it wait for them (``ahead``), and judge it
when it is over, for the record, where not."""


def _pace(policy: Policy, model: bool) -> str:
    """How far a stream may be ahead of the model."""
    if policy.ahead is None:
        return "judged by the model when it is over" if model else ""
    return f"at most {policy.ahead} characters ahead of the model" if policy.ahead else "waits for the model"


def stages(chosen: Detection) -> tuple[str, ...]:
    """The stages that are turned on, in order."""
    off = {"decode"} if not chosen.decode else set()
    if not chosen.model:
        off |= MODEL_STAGES
    elif not chosen.encoder:
        off |= set(DEEP)
    return tuple(stage for stage in STAGES if stage not in off)


def _row(
    policy: Policy, stages: tuple[str, ...], route: str, origin: Origin, direction: Direction, streaming: bool
) -> Row:
    attacks = _strictest(policy, origin, direction, attack=True)
    values = _strictest(policy, origin, direction, attack=False)
    note = "" if policy.acts else "reported only"
    return Row(route, origin.value, direction.value, streaming, stages, attacks, values, note)


def _strictest(policy: Policy, origin: Origin, direction: Direction, attack: bool) -> str:
    actions = [
        policy.action(f"{name}.{sub}", TOP_SCORE, origin, direction)
        for name, category in taxonomy.CATEGORIES.items()
        if category.attack is attack
        for sub in category.subcategories
    ]
    for action in (Action.BLOCK, Action.REDACT, Action.FLAG):
        if action in actions:
            return action.value
    return Action.ALLOW.value
