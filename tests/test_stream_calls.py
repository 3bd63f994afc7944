"""What a model gives to tools, in streams: JSON in pieces, code and other text in pieces, and all of it once more at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_relay import ACTING, KEY, SECRET, _chunk, _cut, _pattern, _refusal, _target, cuts
from wires_support import sse_events

from detectors.streamrules import Act, StreamRules
from detectors.values import ChannelKind
from gateway.redaction.vault import Vault
from gateway.streams.relay import Relay
from gateway.wires.events import sse

PLACE = {"item_id": "i", "output_index": 0}
CALLS: dict[str, tuple[dict[str, Any], str, str]] = {
    "function": ({"type": "function_call", "call_id": "c", "name": "f"}, "arguments", "response.function_call_arguments"),
    "mcp": ({"type": "mcp_call", "name": "f", "server_label": "s"}, "arguments", "response.mcp_call_arguments"),
    "custom": ({"type": "custom_tool_call", "call_id": "c", "name": "f"}, "input", "response.custom_tool_call_input"),
    "code": ({"type": "code_interpreter_call", "container_id": "c"}, "code", "response.code_interpreter_call_code"),
}
"""Items of Responses that are calls: without what is given, the field of that, and the events that bring it."""


def _response(name: str, pieces: Sequence[str]) -> bytes:
    call, field, event = CALLS[name]
    whole = {"id": "i", **call, field: "".join(pieces)}
    docs: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**whole, field: ""}},
        *({"type": f"{event}.delta", **PLACE, "delta": piece} for piece in pieces),
        {"type": f"{event}.done", **PLACE, field: "".join(pieces)},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": {"id": "r", "output": [whole]}},
    ]
    return b"".join(sse(orjson.dumps(doc), doc["type"].encode()) for doc in docs)


def _pieces(text: str, where: Sequence[int]) -> list[str]:
    marks = sorted({min(cut, len(text)) for cut in where})
    return [text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]


def _heard(name: str, out: bytes) -> list[str]:
    """What was given, as each of a response's four places says."""
    _, field, _ = CALLS[name]
    docs = list(sse_events(out))
    *_, again, item, last = docs
    return ["".join(doc.get("delta", "") for doc in docs), again[field], item["item"][field], last["response"]["output"][0][field]]


def _relayed(name: str, data: bytes, vault: Vault, where: Sequence[int] = ()) -> bytes:
    relay = Relay(_target(name), "m", ACTING, vault)
    return b"".join(relay.feed(chunk, _refusal) for chunk in _cut(data, where)) + relay.end(_refusal)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(CALLS)), st.text('ab "\\\n\t\u00e9/', max_size=6), st.sampled_from([SECRET, "4111 1111 1111 1111"]),
    st.text(' "\n', max_size=2), st.lists(st.integers(0, 60), max_size=6), st.lists(st.integers(0, 2_000), max_size=6),
)  # fmt: skip
def test_a_value_is_taken_out_wherever_a_call_says_it(
    name: str, before: str, value: str, behind: str, pieces: list[int], where: list[int]
) -> None:
    """Also behind a line's end, of which JSON makes a letter; and each place says the same."""
    text = f"{before}\n{value}{behind}"
    given = text if CALLS[name][1] != "arguments" else json.dumps({"text": text, "more": 1})
    out = _relayed("responses", _response(name, _pieces(given, pieces)), Vault(KEY))
    first, *others = _heard(name, out)
    assert value not in first
    assert value[5:] not in out.decode()
    for other in others:
        assert other == first or orjson.loads(other) == orjson.loads(first)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(CALLS)), st.text('ab"\\\n\u00e9', min_size=1, max_size=6), st.lists(st.integers(0, 60), max_size=6))
def test_a_value_comes_back_as_it_was_wherever_a_call_says_it(name: str, value: str, pieces: list[int]) -> None:
    """In JSON as JSON writes it, at whatever depth that is read, and in code as it is."""
    vault = Vault(KEY)
    held = vault.stand_in(f"pw {value}", "secret.password")
    given = f"send {held}" if CALLS[name][1] != "arguments" else json.dumps({"text": f"send {held}"})
    out = _relayed("responses", _response(name, _pieces(given, pieces)), vault)
    for heard in _heard(name, out):
        assert (heard if heard[:1] != "{" else orjson.loads(heard)["text"]) == f"send pw {value}"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["\n", "\t", "\r\n", " ", "\n\n", ">", '"', "\\n", "/", ""]), st.lists(st.integers(0, 90), max_size=8))
def test_an_address_ends_in_a_call_where_it_ends_in_a_text(between: str, pieces: list[int]) -> None:
    """What stands on the line below it comes back, what stands in it does not."""
    vault = Vault(KEY)
    held = vault.stand_in("4111 1111 1111 1111", "pii.payment")
    text = f"see https://x.example/a?q={held}{between}{held}"
    out = _relayed("responses", _response("function", _pieces(json.dumps({"text": text}), pieces)), vault)
    for heard in _heard("function", out):
        assert orjson.loads(heard)["text"] == vault.restore(text)


@pytest.mark.parametrize("name", ["tool_calls", "function_call"])
def test_a_call_that_comes_whole_beside_a_delta_stays_json(name: str) -> None:
    value, vault = '--- "q"\n","admin":true,"x":"\\2', Vault(KEY)
    function = {"name": "f", "arguments": json.dumps({"k": vault.stand_in(value, "secret.private_key")})}
    call: Any = function if name == "function_call" else [{"id": "x", "type": "function", "function": function}]
    choice = {"index": 0, "delta": {}, "message": {"role": "assistant", name: call}, "finish_reason": name}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    out = Relay(_target("chat"), "m", {}, vault).feed(sse(orjson.dumps({**head, "choices": [choice]})), _refusal)
    said = orjson.loads(out.removeprefix(b"data: "))["choices"][0]["message"][name]
    assert json.loads((said if name == "function_call" else said[0]["function"])["arguments"]) == {"k": value}


def test_what_a_custom_tool_of_chat_is_given_is_no_json() -> None:
    vault = Vault(KEY)
    held = vault.stand_in('a "quoted"\nvalue', "secret.password")
    calls = [{"index": 0, "type": "custom", "custom": {"input": piece}} for piece in ("say ", held[:9], held[9:], "!")]
    out = _relayed("chat", b"".join(_chunk({"tool_calls": [call]}) for call in calls), vault)
    said = [doc["choices"][0]["delta"]["tool_calls"][0]["custom"]["input"] for doc in sse_events(out)]
    assert "".join(said) == 'say a "quoted"\nvalue!'


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("size", [1, 4, 1_000])
def test_what_some_readers_end_a_line_at_stays_escaped(size: int, end: str) -> None:
    """httpx reads lines as Python does; a frame in which such a character comes bare is two to its users, and neither is JSON."""
    text = f"A line{end}and {SECRET[:9]} {end}{SECRET}{end} more"
    deltas = [_chunk({"content": text[at : at + size]}) for at in range(0, len(text), size)]
    escaped = [json.dumps(orjson.loads(delta[6:])) for delta in deltas]
    out = _relayed("chat", "".join(f"data: {one}\n\n" for one in escaped).encode(), Vault(KEY)).decode()
    said = [json.loads(line[6:])["choices"][0]["delta"]["content"] for line in out.splitlines() if line]
    assert "".join(said) == text.replace(SECRET, Vault(KEY).stand_in(SECRET, "secret.cloud_key"))


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_an_escape_before_a_value_in_code_that_is_shown_hides_nothing(size: int) -> None:
    text = f'Run print("key:\\n{SECRET}") and see.'
    deltas = [_chunk({"content": text[at : at + size]}) for at in range(0, len(text), size)]
    out = _relayed("chat", b"".join(deltas) + _chunk({}, finish_reason="stop"), Vault(KEY))
    said = "".join(doc["choices"][0]["delta"].get("content", "") for doc in sse_events(out))
    assert said == f'Run print("key:\\n{Vault(KEY).stand_in(SECRET, "secret.cloud_key")}") and see.'


MAIL = _pattern("mail", r"\b[a-z0-9]{1,30}@[a-z]{1,20}\.[a-z]{2,4}\b", "pii.contact_email")
MAILS = dict.fromkeys(ChannelKind, StreamRules([MAIL], lambda _: Act.REPLACE))


@given(
    st.text('ab \n\t\r\b\f"\\\\/\u00e9\u200b\U0001f600', max_size=4), st.sampled_from([*"\n\t\r\b\f\u00e9\u200b\U0001f600", "", '"', "\\"]),
    st.text('ab \n"\\\\', max_size=2), st.booleans(), st.booleans(), cuts,
)  # fmt: skip
def test_json_stays_json_where_a_value_follows_an_escape(
    before: str, mark: str, behind: str, nested: bool, plain: bool, where: list[int]
) -> None:
    """To who does not undo it, an escape's last letter is the first one of an address."""

    def given_to(text: str) -> str:
        inner = json.dumps({"text": text}, ensure_ascii=plain) if nested else text
        return json.dumps({"q": inner}, ensure_ascii=plain)

    arguments = given_to(f"{before} {mark}jane@example.com {behind}")
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    pieces = _pieces(arguments, [cut % (len(arguments) + 1) for cut in where])
    data = _chunk({"tool_calls": [call]}) + b"".join(
        _chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces
    )
    relay = Relay(_target("chat"), "m", MAILS, Vault(KEY))
    out = relay.feed(data, _refusal) + relay.end(_refusal)
    calls = [doc["choices"][0]["delta"]["tool_calls"][0] for doc in sse_events(out)]
    said = json.loads("".join(one["function"].get("arguments", "") for one in calls))["q"]
    said = json.loads(said)["text"] if nested else said
    assert re.fullmatch(re.escape(f"{before} {mark}") + r"\[PII_CONTACT_EMAIL_[0-9A-F]{10}\]" + re.escape(f" {behind}"), said)
