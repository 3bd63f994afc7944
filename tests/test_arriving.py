"""What is told of a body while it arrives is what it says, however it is cut."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.values import Origin
from gateway.streams.arriving import Arriving

TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)
ROLES = {"system": Origin.SYSTEM, "user": Origin.USER, "assistant": Origin.ASSISTANT, "tool": Origin.TOOL_RESULT}
MESSAGES = st.lists(st.tuples(st.sampled_from(sorted(ROLES)), TEXTS), min_size=1, max_size=5)


def _told(body: bytes, cuts: Sequence[int]) -> list[tuple[Origin, str]]:
    reader = Arriving()
    said: defaultdict[tuple[int, Origin], str] = defaultdict(str)
    marks = sorted({cut % (len(body) + 1) for cut in cuts})
    for a, b in zip([0, *marks], [*marks, len(body)], strict=True):
        for piece in reader.feed(body[a:b]):
            said[piece.number, piece.origin] += piece.text
    return [(origin, text) for (_, origin), text in said.items()]


@given(MESSAGES, st.booleans(), st.lists(st.integers(0, 5_000), max_size=40))
def test_every_text_is_told_with_who_says_it(messages: list[tuple[str, str]], escaped: bool, cuts: list[int]) -> None:
    doc = {"model": "m", "messages": [{"role": role, "content": text} for role, text in messages]}
    body = json.dumps(doc, ensure_ascii=escaped).encode()
    told = _told(body, cuts)
    for role, text in messages:
        if text:
            assert (ROLES[role], text) in told


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_bytes_that_are_no_json_do_no_harm(data: bytes, cuts: list[int]) -> None:
    _told(b'{"messages": [{"role": "user", "content": "' + data, cuts)


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_surrogates_and_half_characters_are_put_together(step: int) -> None:
    body = rb'{"content": "a\ud83d\ude00b\u00e4\\ \" ' + "ü漢😀".encode() + b'"}'
    assert _told(body, range(0, len(body), step))[-1] == (Origin.USER, orjson.loads(body)["content"])
