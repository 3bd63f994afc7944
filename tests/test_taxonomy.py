"""The names of threats: ten times twenty, each with a severity and a meaning, and documented as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.patterns_taxonomy import markdown
from patterns.schema import Severity
from patterns.taxonomy import CATEGORIES, attack_category, is_attack, split

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def test_there_are_ten_categories_of_twenty_distinct_threats() -> None:
    assert len(CATEGORIES) == 10
    meanings = [threat.meaning for category in CATEGORIES.values() for threat in category.threats]
    assert len(set(meanings)) == 200
    for name, category in CATEGORIES.items():
        assert len(set(category.subcategories)) == 20, name
        for threat in category.threats:
            assert NAME.fullmatch(threat.name)
            assert threat.severity in set(Severity)
            assert 10 < len(threat.meaning) < 110
            assert split(f"{name}.{threat.name}") == (name, threat.name)
            assert is_attack(f"{name}.{threat.name}") == category.attack


def test_what_the_encoder_was_trained_to_tell_apart_keeps_its_order() -> None:
    """A model's outputs are numbered by this order: another one would give every finding another category."""
    assert [name for name, category in CATEGORIES.items() if category.attack] == [
        "prompt_injection", "jailbreak", "prompt_extraction", "agent_abuse", "data_exfiltration", "obfuscation", "harmful_code",
        "resource_abuse",
    ]  # fmt: skip
    assert {name: category.subcategories[0] for name, category in CATEGORIES.items() if category.attack} == {
        "prompt_injection": "instruction_override", "jailbreak": "persona", "prompt_extraction": "direct_request",
        "agent_abuse": "unauthorised_action", "data_exfiltration": "markdown_image", "obfuscation": "invisible_text",
        "harmful_code": "reverse_shell", "resource_abuse": "endless_output",
    }  # fmt: skip


@pytest.mark.parametrize("wrong", ["weather.rain", "jailbreak.rain", "jailbreak", ""])
def test_an_unknown_threat_is_named_with_those_that_are_known(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"unknown (sub)?category .*; known: "):
        split(wrong)
    with pytest.raises(ValueError, match="no category of attacks; known: prompt_injection, "):
        attack_category("pii")


def test_the_document_is_what_the_command_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert (Path(__file__).parent.parent / "docs" / "taxonomy.md").read_text() == markdown(), (
        "portcullis patterns taxonomy --markdown > docs/taxonomy.md"
    )
    assert main(["patterns", "taxonomy", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["threats"]
    assert len(told) == 200
    assert told[0]["patterns"] > 10
    assert [one["threat"] for one in told if not one["patterns"] + one["exemplars"]] == []
