"""What a session knows between its events: cut responses leave no trace, what was taken back is not answered, and no more than
may be is remembered."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from detectors.passages import THREAD
from detectors.values import Origin, Segment
from gateway.realtime.conversation import MAX_SYSTEM, MAX_TRACES, Conversation, Told, read_told
from gateway.wires.base import Parsed

MARK = "0123456789abcdef"


def told(conversation: Conversation, kind: str, **fields: Any) -> Told:
    message = orjson.dumps({"type": kind, **fields})
    return conversation.told(*read_told(message))


def begin(conversation: Conversation, id: str = "r", item: str = "i") -> None:
    assert not told(conversation, "response.created", response={"id": id}).over
    assert not told(conversation, "response.output_item.added", response_id=id, item={"id": item}).over


def said(origin: Origin, text: str, *path: str) -> Parsed:
    return Parsed(None, True, [Segment(text, origin.value, origin, 0, path or ("item",))], [])


def test_a_turn_lasts_while_a_response_is_under_way() -> None:
    conversation = Conversation(MARK)
    assert told(conversation, "session.created").over
    begin(conversation)
    begin(conversation, "s", "j")
    assert not told(conversation, "rate_limits.updated").over
    assert not told(conversation, "response.done", response={"id": "r"}).over
    assert told(conversation, "response.done", response={"id": "s"}).over


def test_what_belongs_to_a_cut_response_is_dropped_and_nothing_else() -> None:
    conversation = Conversation(MARK)
    begin(conversation)
    assert [(one["type"], one["response_id"]) for one in conversation.cut()] == [("response.cancel", "r")]
    for kind, fields in (
        ("response.output_text.delta", {"response_id": "r", "item_id": "i", "delta": "x"}),
        ("response.output_audio.delta", {"response_id": "r", "item_id": "i", "delta": "x"}),
        ("response.output_item.added", {"response_id": "r", "item": {"id": "k"}}),
        ("conversation.item.done", {"item": {"id": "i"}}),
        ("conversation.item.retrieved", {"item": {"id": "k"}}),
        ("response.done", {"response": {"id": "r"}}),
    ):
        assert told(conversation, kind, **fields).message is None, kind
    assert told(conversation, "conversation.item.done", item={"id": "other"}).message is not None
    begin(conversation, "s", "j")
    assert told(conversation, "response.output_text.delta", response_id="s", item_id="j", delta="x").message is not None


def test_a_response_to_what_was_taken_back_is_cancelled_until_the_server_confirms() -> None:
    conversation = Conversation(MARK)
    deletes = [one for one in conversation.take_back("u") if one["type"] == "conversation.item.delete"]
    assert [one["item_id"] for one in deletes] == ["u"]
    early = told(conversation, "response.created", response={"id": "r"})
    assert (early.message, [one["type"] for one in early.asks]) == (None, ["response.cancel"])
    assert told(conversation, "response.output_text.delta", response_id="r", delta="x").message is None
    assert told(conversation, "conversation.item.deleted", item_id="u").message is not None
    assert told(conversation, "response.created", response={"id": "s"}).message is not None


def test_answers_to_the_gateways_own_events_are_dropped_and_nobody_elses() -> None:
    conversation = Conversation(MARK)
    mine = conversation.take_back("u")[0]["event_id"]
    assert told(conversation, "error", error={"event_id": "portcullis_delete_u"}).message is not None
    assert told(conversation, "response.created", response={"id": "r"}).message is None, "a guess confirms nothing"
    assert told(conversation, "error", error={"event_id": mine}).message is None
    assert told(conversation, "response.created", response={"id": "s"}).message is not None


@given(st.lists(st.text(min_size=1, max_size=1_500), max_size=12))
def test_the_users_last_words_are_remembered_up_to_what_is_judged_together(texts: list[str]) -> None:
    conversation = Conversation(MARK)
    for text in texts:
        conversation.said("conversation.item.create", said(Origin.USER, text))
    thread = conversation.thread
    assert "".join(part.text for part in thread) == "".join(texts)[-THREAD:]
    assert [part.text for part in thread[1:]] == texts[len(texts) - len(thread) + 1 :]
    assert all(part.turn < 0 for part in thread)
    assert len({part.turn for part in thread}) == len(thread)


def test_the_prompt_is_the_instructions_the_responses_and_the_last_system_messages() -> None:
    conversation = Conversation(MARK)
    conversation.said("session.update", said(Origin.SYSTEM, "first", "session", "instructions"))
    conversation.said("session.update", said(Origin.SYSTEM, "second", "session", "instructions"))
    conversation.said("session.update", Parsed(None, True, [], []))
    conversation.said("response.create", said(Origin.SYSTEM, "once"))
    for number in range(MAX_SYSTEM + 1):
        conversation.said("conversation.item.create", said(Origin.SYSTEM, f"s{number}"))
    texts = [part.text for part in conversation.prompt]
    assert texts == ["second", "once", *(f"s{number}" for number in range(1, MAX_SYSTEM + 1))]
    conversation.said("response.create", Parsed(None, True, [], []))
    assert "once" not in [part.text for part in conversation.prompt]


def test_traces_are_bounded() -> None:
    conversation = Conversation(MARK)
    for number in range(MAX_TRACES + 10):
        begin(conversation, f"r{number}", f"i{number}")
        conversation.cut()
    assert told(conversation, "conversation.item.done", item={"id": f"i{MAX_TRACES}"}).message is None
    assert told(conversation, "conversation.item.done", item={"id": "i0"}).message is not None, "it is judged like any"


def test_items_that_were_taken_back_are_bounded() -> None:
    conversation = Conversation(MARK)
    for number in range(MAX_TRACES + 10):
        conversation.take_back(f"u{number}")
    for number in range(10, MAX_TRACES + 10):
        assert told(conversation, "response.created", response={"id": "r"}).message is None
        told(conversation, "conversation.item.deleted", item_id=f"u{number}")
    assert told(conversation, "response.created", response={"id": "s"}).message is not None


def test_of_ids_that_are_no_ids_little_is_remembered() -> None:
    conversation = Conversation(MARK)
    tracemalloc.start()
    try:
        for number in range(20):
            long = f"{number}" + "x" * 200_000
            told(conversation, "response.created", response={"id": long})
            told(conversation, "response.output_item.added", response_id="r", item={"id": long})
            conversation.cut()
            told(conversation, "response.output_item.added", response_id="r", item={"id": f"more{long}"})
            conversation.take_back(f"u{number}")
            told(conversation, "response.created", response={"id": f"late{long}"})
            told(conversation, "conversation.item.deleted", item_id=f"u{number}")
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
