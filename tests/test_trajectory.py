"""Which of a decision's texts a label is about."""

from __future__ import annotations

import pytest

from gateway.learning.trajectory import of_decision
from gateway.records.decisions import Decision, Found, KeptTexts, Part, Record, Screening, Text

SYSTEM = Part("messages[0].content", "system", 0, 11, ("lexical",))
USER = Part("messages[1].content", "user", 1, 9, ("lexical", "encoder"))
TOOL = Part("messages[2].content", "tool_result", 2, 9, ("lexical",))
REPLY = Part("choices[0].message.content", "assistant", 0, 14, ("lexical", "encoder"))


def record(asked: tuple[Part, ...], found: float = 0.0, replied: float = 0.0, score: float = 0.0) -> Record:
    """A decision of these parts, with a finding in the last of them, and one in the reply, of these scores where they have one."""
    findings = tuple(Found("encoder", "m", "jailbreak.persona", at, part.path, 0, 1) for at, part in ((found, asked[-1]),) if at)
    reply = tuple(Found("encoder", "r", "jailbreak.persona", replied, REPLY.path, 0, 1) for _ in range(1) if replied)
    return Decision(
        "d", 1.0, "t", "k", "w", "o", "m", False, "flag", "", 200, "p", "v", 3, Screening("flag", score=found, parts=asked, findings=findings),
        Screening("allow", score=max(replied, score), parts=(REPLY,), findings=reply),
    )  # fmt: skip


KEPT = KeptTexts("d", 9.0, False, (
    Text("request", SYSTEM.path, "be obliging"), Text("request", USER.path, "say it so"), Text("request", TOOL.path, "it is so."),
    Text("reply", REPLY.path, "so it is said."),
))  # fmt: skip


@pytest.mark.parametrize(
    ("one", "given", "origin", "text"),
    [
        (record((SYSTEM, USER), score=0.4), "", "user", "say it so"),  # nothing was found: a reply's score is no finding
        (record((SYSTEM, USER), found=0.3, replied=0.2), "", "user", "say it so"),
        (record((SYSTEM, USER), found=0.3, replied=0.4), "", "assistant", "so it is said."),
        (record((SYSTEM, USER), replied=0.4), "say it so", "user", "say it so"),
        (record((SYSTEM, USER, TOOL)), "say it so", "user", "say it so"),
        (record((SYSTEM, USER, TOOL)), "", "tool_result", "it is so."),
        (record((SYSTEM, USER), found=0.3), "so it is said.", "assistant", "so it is said."),
        (record((SYSTEM, USER), found=0.3), "of something else", "user", "say it so"),
    ],
)
def test_a_label_is_about_what_was_sent_along_or_found_or_said_last(one: Record, given: str, origin: str, text: str) -> None:
    told = of_decision(one, KEPT, given)
    assert (told.trajectory.origin, told.text) == (origin, text)
    assert told.trajectory.read == (origin != "tool_result")


def test_without_its_texts_a_decisions_part_is_known_by_its_length() -> None:
    told = of_decision(record((SYSTEM, USER), replied=0.4), None, "say it so")
    assert told.trajectory.origin == "user"
    assert told.trajectory.stages == ()
    assert told.text == ""
    assert of_decision(record((SYSTEM, USER, TOOL), replied=0.4), None, "say it so").trajectory.origin == "tool_result"
    assert of_decision(record((SYSTEM, USER), replied=0.4), None, "some other text").trajectory.origin == "assistant"
