"""Which stages act on which part of which route: what `portcullis check` prints and nobody should have to believe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from detectors import leakage
from detectors.stages import DEEP, STAGES
from detectors.values import ChannelKind, Origin
from gateway.config.settings import Detection, PolicySettings, Settings
from gateway.live import bind, load_model
from gateway.screening import consensus
from gateway.screening.policy import MODEL_STAGES, RANK, Action, Direction, Policy
from patterns import taxonomy

TOP_SCORE: Final = 0.99
LINKS: Final = "links"
"""The stage that takes addresses out of replies; see `gateway.redaction.links`."""

_NOTHING: Final = Action.ALLOW.value
_PASSED: Final = "passed through, not screened"
_UNREAD: Final = "not read; each record lists it"


class Row(NamedTuple):
    """One line of the matrix. ``attacks`` and ``values`` are the strictest that the policy does there; ``tenant`` is empty for
    all that have no policy of their own."""

    route: str
    origin: str
    direction: str
    streaming: bool
    stages: tuple[str, ...]
    attacks: str
    values: str
    note: str
    tenant: str = ""


class _Route(NamedTuple):
    """What can stand in a route's requests and replies, and what of either nobody reads."""

    path: str
    asked: tuple[Origin, ...]
    said: tuple[Origin, ...]
    streams: bool
    unread: str
    unread_reply: str
    sound: bool = False


_ALL: Final = tuple(Origin)
_REPLY: Final = (Origin.ASSISTANT, Origin.TOOL_RESULT, Origin.DOCUMENT)
_GENERATE: Final = "/v1beta/models/{model}:"
_MEDIA: Final = "images, audio, files that are no text"

ROUTES: Final = (
    _Route("/v1/chat/completions", _ALL, (Origin.ASSISTANT,), True, _MEDIA, "audio, token probabilities"),
    _Route("/v1/completions", (Origin.USER,), (Origin.ASSISTANT,), True, "token numbers", "token probabilities"),
    _Route("/v1/responses", _ALL, _ALL, True, f"{_MEDIA}, what the provider keeps, encrypted reasoning",
           "images, encrypted reasoning, token probabilities"),
    _Route("/v1/responses/compact", _ALL, _ALL, False, f"{_MEDIA}, what the provider keeps, encrypted reasoning",
           "images, encrypted reasoning, token probabilities"),
    _Route("/v1/responses/input_tokens", _ALL, (), False, f"{_MEDIA}, what the provider keeps, encrypted reasoning", ""),
    _Route("/v1/realtime", _ALL, (Origin.ASSISTANT,), True, "audio, images, what the provider keeps", "audio",
           sound=True),
    _Route("/v1/embeddings", (Origin.USER,), (), False, "token numbers", "vectors"),
    _Route("/v1/messages", _ALL, _REPLY, True, f"{_MEDIA}, encrypted results", "encrypted results"),
    _Route("/v1/messages/count_tokens", _ALL, (), False, f"{_MEDIA}, encrypted results", ""),
    _Route(_GENERATE + "generateContent", _ALL, _REPLY, False, f"{_MEDIA}, what the provider keeps",
           "images, token probabilities"),
    _Route(_GENERATE + "streamGenerateContent", _ALL, _REPLY, True, f"{_MEDIA}, what the provider keeps",
           "images, token probabilities"),
    _Route(_GENERATE + "countTokens", _ALL, (), False, f"{_MEDIA}, what the provider keeps", ""),
    _Route(_GENERATE + "embedContent", (Origin.USER, Origin.DOCUMENT), (), False, "images", "vectors"),
    _Route(_GENERATE + "batchEmbedContents", (Origin.USER, Origin.DOCUMENT), (), False, "images", "vectors"),
)  # fmt: skip
"""Every path that carries text to a model. ``/v1/models`` and the like carry none; what they answer is read as documents."""


def matrix(settings: Settings, late: Sequence[str] = ()) -> list[Row]:
    """The matrix: for all callers, and once more for each tenant with a policy of its own.

    ``late`` names patterns that a stream is not held for.
    """
    model, absent = load_model(settings.detection)
    thresholds = model.calibration.thresholds if model else {}
    whole = tuple(stage for stage in stages(settings.detection) if stage not in {skipped.stage for skipped in absent})
    gone = f"missing: {' '.join(sorted(skipped.stage for skipped in absent))}" if absent else ""

    def under(wanted: PolicySettings, tenant: str) -> Iterator[Row]:
        policy = bind(wanted, thresholds)[0]
        for row in _rows(policy, whole, late, model is not None):
            yield row._replace(tenant=tenant, note="; ".join(filter(None, (row.note, gone))) if row.stages else row.note)

    rows = list(under(settings.policy, ""))
    for upstream in settings.upstreams.values():
        for entry in upstream.passthrough:
            rows += [Row(entry, "all", direction.value, False, (), _NOTHING, _NOTHING, _PASSED) for direction in Direction]
    for tenant, own in settings.tenants.items():
        if own.policy != settings.policy:
            rows += under(own.policy, tenant)
    return rows


def _rows(policy: Policy, whole: tuple[str, ...], late: Sequence[str], model: bool) -> Iterator[Row]:
    streamed = tuple(stage for stage in whole if policy.ahead is not None or stage in STREAMED)
    for route in ROUTES:
        asked = (*whole, consensus.STAGE) if policy.consensus is not None else whole
        for origin in route.asked:
            yield _row(policy, asked, route.path, origin, Direction.REQUEST, False)
        if route.unread:
            yield Row(route.path, route.unread, Direction.REQUEST.value, False, (), _NOTHING, _NOTHING, _UNREAD)
        after: tuple[str, ...] = (leakage.DETECTOR,) if Origin.SYSTEM in route.asked else ()
        after += (LINKS,) if policy.acts and policy.links is not None else ()
        for origin in route.said:
            yield _row(policy, (*whole, *after), route.path, origin, Direction.REPLY, False)
        if route.streams:
            row = _row(policy, (*streamed, *after), route.path, Origin.ASSISTANT, Direction.REPLY, True)
            sound = _sound(policy) if route.sound else ""
            told = f"told only when the stream is over: {', '.join(late)}" if late else ""
            yield row._replace(note="; ".join(filter(None, (row.note, _pace(policy, model), sound, told))))
        if route.unread_reply:
            yield Row(route.path, route.unread_reply, Direction.REPLY.value, False, (), _NOTHING, _NOTHING, _UNREAD)


STREAMED: Final = ("canonical", "lexical")
"""Stages that act on any stream as it flows. The others do so where the policy lets it wait for them (``ahead``), and judge it
when it is over, for the record, where not."""


def _sound(policy: Policy) -> str:
    """What audio, which nobody reads, has to do with its transcript, which is read."""
    return "audio waits for its transcript" if policy.waits else "audio does not wait for its transcript"


def _pace(policy: Policy, model: bool) -> str:
    """How far a stream may be ahead of the model."""
    if policy.ahead is None:
        return "judged by the model when it is over" if model else ""
    pace = f"at most {policy.ahead} characters ahead of the model" if policy.ahead else "waits for the model"
    return f"{pace}; cut from a score of {policy.alarm} on" if policy.alarm is not None and policy.acts else pace


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
    note = "; ".join(filter(None, ("" if policy.acts else "reported only", _by_channel(policy, origin, direction))))
    return Row(route, origin.value, direction.value, streaming, stages, attacks, values, note)


def _strictest(policy: Policy, origin: Origin, direction: Direction, attack: bool) -> str:
    actions = [
        policy.action(threat, TOP_SCORE, origin, direction, channel=channel)
        for threat in _threats(attack) for channel in ChannelKind
    ]  # fmt: skip
    return max(actions, key=RANK.__getitem__).value


def _by_channel(policy: Policy, origin: Origin, direction: Direction) -> str:
    """What is treated otherwise in prose than in a tool call: how much of which categories, and how."""
    differ: Counter[tuple[str, str, str]] = Counter()
    for threat in _threats(True) + _threats(False):
        prose, call = (policy.action(threat, TOP_SCORE, origin, direction, channel=channel) for channel in ChannelKind)
        if prose is not call:
            differ[threat.partition(".")[0], prose.value, call.value] += 1
    return ", ".join(
        f"{count} of {category}: {prose} in prose, {call} in tool calls" for (category, prose, call), count in differ.items()
    )


def _threats(attack: bool) -> list[str]:
    return [
        f"{name}.{sub}" for name, category in taxonomy.CATEGORIES.items() if category.attack is attack
        for sub in category.subcategories
    ]  # fmt: skip
