"""What an event says that begins a block, a part or an item: some clients join it with the pieces that follow, others never show it.

Neither sees a value. Some senders say it once more in the first piece, so that it stays where it was said.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import httpx
import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import TextBlock
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai import OpenAI
from test_relay import SECRET, _cut, _relay
from test_stream_blocks import END, PLACEHOLDER, START, VALUE, _begins, _ends, _says, words
from test_stream_pieces import PLACES, _docs, _sse, _strings

Doc = dict[str, Any]
BEGUN = {place: made for place, made in PLACES.items() if made[0] in ("messages", "responses") and place != "a delta nobody knows"}
HEADERS = {"content-type": "text/event-stream"}


def _told(name: str, out: bytes) -> tuple[str, str]:
    """What is said in the events that begin something, and what in those that go on with it."""
    texts = ["", ""]
    for doc in _docs(name, out):
        begins = doc["type"].endswith((".added", "_start"))
        texts[not begins] += "".join(_strings(doc))
    return texts[0], texts[1]


def _shows_none(*texts: str) -> None:
    for text in texts:
        assert not VALUE.search(PLACEHOLDER.sub("x", text)), text


@pytest.mark.parametrize("before", ["x", "AKI", "it is 4", "so_"])
@pytest.mark.parametrize("place", BEGUN)
def test_a_value_stands_bare_to_nobody(place: str, before: str) -> None:
    name, stream = BEGUN[place]
    out, relay = _relay(name, [stream([before, SECRET, " so"])])
    begun, pieces = _told(name, out)
    _shows_none(begun, pieces, begun + pieces)
    assert (begun + pieces).endswith(" so")
    assert not relay.held


@pytest.mark.parametrize("place", BEGUN)
@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=6), st.sets(st.integers(1, 60)), st.integers(0, 30), st.lists(st.integers(0, 10_000), max_size=4))
@example(["so", SECRET], {2}, 0, [])
@example([SECRET, "4111 1111 ", "1111 1111"], {20}, 0, [])
def test_neither_in_the_whole_nor_in_its_pieces_is_a_value(
    place: str, said: list[str], marks: set[int], more: int, where: list[int]
) -> None:
    name, stream = BEGUN[place]
    text = "".join(said) + "." * more
    edges = [0, *sorted(mark for mark in marks if mark < len(text)), len(text)]
    out, relay = _relay(name, _cut(stream([text[a:b] for a, b in pairwise(edges)]), where))
    begun, pieces = _told(name, out)
    _shows_none(begun, pieces, begun + pieces)
    assert not relay.held
    if not relay.seen:
        assert begun + pieces == text


@pytest.mark.parametrize("place", BEGUN)
def test_what_begins_with_a_text_in_which_nothing_is_found_passes_as_it_came(place: str) -> None:
    name, stream = BEGUN[place]
    for pieces in (["It is open. ", "So it is. ", "All of it."], ["", "It is open. ", "So."], ["Well", "Well, so it is."]):
        data = stream(pieces)
        assert _relay(name, [data])[0] == data


blocks = st.lists(st.tuples(words, st.lists(words, max_size=3)), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(blocks)
@example([("x", [SECRET])])
@example([("hello ", []), ("x", [SECRET, " so"])])
@example([("hello AKIA", []), ("", ["x"]), ("ABCDEF", ["GH12345678"])])
@example([("so", ["end."]), (SECRET, [SECRET])])
def test_blocks_that_begin_with_a_text_show_no_value_whoever_reads_them(said: list[tuple[str, list[str]]]) -> None:
    docs: list[Doc] = [START]
    for index, (first, more) in enumerate(said):
        docs += [_begins(index, first), *(_says(index, piece) for piece in more), _ends(index)]
    out, relay = _relay("messages", [_sse([*docs, *END])])
    printed, message = _read_message(out)
    own = ["".join(piece for at, piece in printed if at == index) for index in range(len(said))]
    _shows_none(*own, *message, "".join(message))
    assert not relay.held
    if not relay.seen:
        assert "".join(message) == "".join(first + "".join(more) for first, more in said)


def _read_message(out: bytes) -> tuple[list[tuple[int, str]], list[str]]:
    """The pieces that a program prints, with their blocks, and the texts that Anthropic's client makes of all."""
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=HEADERS, content=out))
    with Anthropic(api_key="k", http_client=httpx2.Client(transport=answer)) as client:
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream:
            printed = [(event.index, event.delta.text) for event in stream
                       if event.type == "content_block_delta" and event.delta.type == "text_delta"]  # fmt: skip
            message = stream.get_final_message()
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as again:
            assert "".join(again.text_stream) == "".join(text for _, text in printed)
    return printed, [block.text for block in message.content if isinstance(block, TextBlock)]


def _response(first: str, pieces: list[str], in_item: bool) -> bytes:
    """One message, whose part begins with a text: in the event of the item or in its own."""
    text = first + "".join(pieces)
    head = {"id": "r", "object": "response", "created_at": 0, "model": "m", "tools": [], "tool_choice": "auto", "metadata": {},
            "parallel_tool_calls": True}  # fmt: skip
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    begun = {**part, "text": first}
    added: Doc = {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": [begun] if in_item else []}}
    docs: list[Doc] = [{"type": "response.created", "response": {**head, "status": "in_progress", "output": []}}, added]
    docs += [] if in_item else [{"type": "response.content_part.added", **place, "part": begun}]
    docs += [{"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces]
    docs += [{"type": "response.output_text.done", **place, "text": text, "logprobs": []},
             {"type": "response.content_part.done", **place, "part": part},
             {"type": "response.output_item.done", "output_index": 0, "item": item},
             {"type": "response.completed", "response": {**head, "status": "completed", "output": [item]}}]  # fmt: skip
    return _sse([{**doc, "sequence_number": number} for number, doc in enumerate(docs)])


@pytest.mark.parametrize("in_item", [False, True])
@settings(max_examples=60, deadline=None)
@given(words, st.lists(words, min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=4))
@example("x", [SECRET], [])
@example("it is AKIAAB", ["CDEFGH12345678 so"], [])
@example("so", ["4111 1111 ", "1111 1111", "end."], [])
def test_every_client_of_responses_reads_one_text(in_item: bool, first: str, pieces: list[str], where: list[int]) -> None:
    out, relay = _relay("responses", _cut(_response(first, pieces, in_item), where))
    answer = httpx.MockTransport(lambda _: httpx.Response(200, headers=HEADERS, content=out))
    printed, snapshot, told = "", "", ""
    with OpenAI(api_key="k", http_client=httpx.Client(transport=answer)) as client, client.responses.stream(model="m", input="x") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                printed += event.delta
                snapshot = event.snapshot
            elif event.type == "response.output_text.done":
                told = event.text
        whole = stream.get_final_response().output_text
    assert snapshot.endswith(printed)
    assert snapshot == told == whole
    _shows_none(printed, whole)
    assert relay.cut is None
    if not relay.seen:
        assert whole == first + "".join(pieces)


def _twice(first: str) -> bytes:
    return _sse([START, _begins(0, first), _says(0, first + ", all is well."), _ends(0), *END])


def test_what_a_sender_says_once_more_in_the_first_piece_stays_where_it_was() -> None:
    """Who knows such senders leaves out what the block begins with: nothing of that may move behind it."""
    data = _twice("Well")
    assert _relay("messages", [data])[0] == data
    begun, pieces = _told("messages", _relay("messages", [_twice(f"{SECRET} it is")])[0])
    assert re.fullmatch(r"\[SECRET_CLOUD_KEY_\w{10}\] it is", begun)
    assert re.fullmatch(r"\[SECRET_CLOUD_KEY_\w{10}\] it is, all is well\.end_turn", pieces)
