"""Policy: from findings to what is done, as the presets promise it."""

from __future__ import annotations

import itertools

import pytest

from detectors.values import ChannelKind, Finding, Origin, Segment, Skipped, Verdict
from gateway.screening.policy import PRESETS, Action, Direction, FailureMode, decide, evaluate, preset
from patterns import taxonomy

REQUEST, REPLY = Direction.REQUEST, Direction.REPLY


def _verdict(*findings: tuple[str, float], skipped: tuple[Skipped, ...] = ()) -> Verdict:
    found = tuple(Finding("lexical", "p", category, score, 0, 2, 5) for category, score in findings)
    return Verdict(found, max((score for _, score in findings), default=0.0), skipped, 1)


def _segments(origin: Origin) -> list[Segment]:
    return [Segment("a text with things in it", "user", origin, 0, ("x",))]


@pytest.mark.parametrize(
    ("name", "threat", "score", "origin", "direction", "action"),
    [
        ("balanced", "prompt_injection.task_hijack", 0.95, Origin.USER, REQUEST, Action.BLOCK),
        ("balanced", "prompt_injection.task_hijack", 0.95, Origin.DOCUMENT, REQUEST, Action.BLOCK),
        ("balanced", "prompt_injection.task_hijack", 0.95, Origin.TOOL_RESULT, REQUEST, Action.BLOCK),
        ("balanced", "prompt_injection.task_hijack", 0.6, Origin.USER, REQUEST, Action.FLAG),
        ("balanced", "prompt_injection.task_hijack", 0.3, Origin.USER, REQUEST, Action.ALLOW),
        ("balanced", "prompt_injection.task_hijack", 0.95, Origin.SYSTEM, REQUEST, Action.FLAG),
        ("balanced", "prompt_injection.task_hijack", 0.99, Origin.SYSTEM, REQUEST, Action.BLOCK),
        ("balanced", "prompt_injection.task_hijack", 0.99, Origin.ASSISTANT, REPLY, Action.FLAG),
        ("balanced", "data_exfiltration.markdown_image", 0.95, Origin.ASSISTANT, REPLY, Action.BLOCK),
        ("balanced", "secret.cloud_key", 0.95, Origin.USER, REQUEST, Action.REDACT),
        ("balanced", "secret.cloud_key", 0.95, Origin.ASSISTANT, REPLY, Action.REDACT),
        ("balanced", "pii.payment", 0.95, Origin.USER, REQUEST, Action.REDACT),
        ("balanced", "pii.national", 0.6, Origin.ASSISTANT, REPLY, Action.REDACT),
        ("balanced", "pii.health", 0.25, Origin.USER, REQUEST, Action.ALLOW),
        ("balanced", "pii.contact_email", 0.95, Origin.USER, REQUEST, Action.FLAG),
        ("strict", "pii.contact_email", 0.95, Origin.USER, REQUEST, Action.REDACT),
        ("balanced", "pii.biometric", 0.99, Origin.USER, REQUEST, Action.REDACT),
        ("balanced", "pii.insurance", 0.6, Origin.ASSISTANT, REPLY, Action.REDACT),
        ("balanced", "pii.birth_date", 0.6, Origin.USER, REQUEST, Action.FLAG),
        ("balanced", "pii.network", 0.95, Origin.USER, REQUEST, Action.FLAG),
        ("strict", "pii.birth_date", 0.6, Origin.USER, REQUEST, Action.REDACT),
        ("strict", "pii.employment", 0.6, Origin.USER, REQUEST, Action.REDACT),
        ("strict", "pii.education", 0.6, Origin.USER, REQUEST, Action.REDACT),
        ("strict", "pii.network", 0.6, Origin.USER, REQUEST, Action.REDACT),
        ("strict", "pii.network", 0.25, Origin.USER, REQUEST, Action.FLAG),
        ("strict", "pii.vehicle", 0.6, Origin.USER, REQUEST, Action.REDACT),
        ("strict", "pii.location", 0.6, Origin.USER, REQUEST, Action.REDACT),
        ("strict", "pii.location", 0.25, Origin.USER, REQUEST, Action.FLAG),
        ("strict", "pii.name", 0.25, Origin.USER, REQUEST, Action.FLAG),
        ("strict", "prompt_injection.task_hijack", 0.6, Origin.USER, REQUEST, Action.BLOCK),
    ],
)
def test_presets(
    name: str, threat: str, score: float, origin: Origin, direction: Direction, action: Action
) -> None:
    assert preset(name).action(threat, score, origin, direction) is action


def test_the_model_alone_blocks_no_tool_definition_but_strictly() -> None:
    bars = dict.fromkeys(Origin, 0.9)
    thresholds = {"balanced": bars, "strict": dict.fromkeys(Origin, 0.8)}
    asked = {
        (name, model): preset(name, thresholds).action("agent_abuse.tool_poisoning", 0.99, Origin.TOOL_DEFINITION, REQUEST, model)
        for name in ("balanced", "strict") for model in (True, False)
    }  # fmt: skip
    assert asked == {
        ("balanced", True): Action.FLAG, ("balanced", False): Action.BLOCK,
        ("strict", True): Action.BLOCK, ("strict", False): Action.BLOCK,
    }  # fmt: skip


def test_the_strictest_finding_decides_and_gives_the_reason() -> None:
    verdict = _verdict(("pii.payment", 0.95), ("jailbreak.persona", 0.99))
    ruling = decide(preset("balanced"), verdict, _segments(Origin.USER), REQUEST)
    assert ruling.action is Action.BLOCK
    assert "jailbreak.persona" in ruling.reason
    assert ruling.actions == (Action.REDACT, Action.BLOCK)


def test_monitor_acts_on_nothing_and_says_what_it_would_have_done() -> None:
    segments = _segments(Origin.USER)
    for found in (("pii.payment", 0.95), ("jailbreak.persona", 0.99)):
        ruling = decide(preset("monitor"), _verdict(found), segments, REQUEST)
        would = evaluate(preset("balanced"), _verdict(found), segments, REQUEST)
        assert ruling.action is Action.FLAG
        assert ruling.edits == ()
        assert would.action in (Action.REDACT, Action.BLOCK)
        assert f"would {would.action}" in ruling.reason


@pytest.mark.parametrize(
    ("name", "stage", "action"),
    [
        ("balanced", "lexical", Action.BLOCK),
        ("balanced", "encoder", Action.FLAG),
        ("strict", "encoder", Action.BLOCK),
        ("monitor", "lexical", Action.FLAG),
    ],
)
def test_a_stage_that_did_not_run_means_what_the_policy_says(name: str, stage: str, action: Action) -> None:
    verdict = _verdict(skipped=(Skipped(stage, "missing"),))
    ruling = decide(preset(name), verdict, _segments(Origin.USER), REQUEST)
    assert ruling.action is action
    assert stage in ruling.reason


def test_every_threat_of_the_taxonomy_is_covered_by_every_preset() -> None:
    for name in PRESETS:
        for category, entry in taxonomy.CATEGORIES.items():
            for sub in entry.subcategories:
                assert preset(name).action(f"{category}.{sub}", 0.99, Origin.USER, REQUEST) is not Action.ALLOW


def test_strict_is_never_milder_than_balanced() -> None:
    order = list(Action)
    presets = preset("balanced"), preset("strict")
    for category, entry in taxonomy.CATEGORIES.items():
        for sub in entry.subcategories:
            for origin in Origin:
                for direction in Direction:
                    for score, channel in itertools.product((0.1, 0.3, 0.6, 0.95, 0.99), ChannelKind):
                        asked = [one.action(f"{category}.{sub}", score, origin, direction, channel=channel) for one in presets]
                        assert order.index(asked[1]) >= order.index(asked[0]), (category, sub, origin, direction, score)


def test_failure_modes_by_stage() -> None:
    assert preset("balanced").failure_mode("lexical") is FailureMode.CLOSED
    assert preset("balanced").failure_mode("index") is FailureMode.FLAG
    assert preset("strict").failure_mode("index") is FailureMode.CLOSED
