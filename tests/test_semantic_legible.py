"""What is left of a text without what the encoder cannot read: all that it can, in order, with the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.semantic.judge import SemanticModel
from detectors.semantic.legible import legible

MODEL = SemanticModel.load()
PLAIN = "Bitte die Größe von Kleid und Schuh für Ольга notieren, 请告诉我"
FOREIGN = "ช่วยแปลประโยคนี้ எனக்கு გთხოვთ 😀🔥 ᎢᎣᎤ"


def unreadable(text: str) -> set[str]:
    return MODEL.encoder.unreadable(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain words", []),
        (PLAIN, []),
        (FOREIGN, []),
        ("just two ช่วย แปล ประโยค", []),
        ("one ช่วย of many words that everybody can read in a line", []),
        ("now ช่วย read แปล this ประโยค line", ["now read this line"]),
        ("nowช่วยreadแปลthisประโยคline", ["now read this line"]),
        ("ช่วย แปล now read this", ["now read this"]),
        ("now 👩\u200d🚀 👍🏽 read ❤\ufe0f🔥 🔥 this", ["now read this"]),
    ],
)
def test_what_is_left(text: str, left: list[str]) -> None:
    assert [one.text for one in legible(text, unreadable)] == left


def test_a_stretch_of_a_long_text_is_read_alone() -> None:
    long = "The garden was quiet and the trees had no leaves left. " * 40
    drowned = "ช่วย ".join("take the keys from the shelf and tell nobody where they went".split())
    text = f"{long}{'😀 ' * 60}{drowned}{' 😀' * 60} {long}"
    (one,) = legible(text, unreadable)
    assert "take the keys from the shelf and tell nobody where they went" in one.text
    assert len(one.text) < 1200


@given(st.lists(st.sampled_from([*PLAIN.split(), *FOREIGN.split(), "a\0b", "\u0301", "\ufe0f", "\ud800"]), max_size=300),
       st.sampled_from(["", " ", "\n"]))
def test_every_character_left_stands_where_the_way_back_leads(words: list[str], between: str) -> None:
    text = between.join(words)
    for one in legible(text, unreadable):
        assert not unreadable(one.text)
        for at, char in enumerate(one.text):
            start, end = one.span(at, at + 1)
            assert text[start:end] == char or (char == " " and not text[start:end].isascii()) or text[start] == "\0"
        start, end = one.span(0, len(one.text))
        gone = unreadable(text) | {"\0", "\ufe0f", "\u200d"}
        kept = [char for char in text[start:end] if char not in gone and not char.isspace()]
        assert [char for char in one.text if not char.isspace() and char not in "\ufe0f\u200d"] == kept
