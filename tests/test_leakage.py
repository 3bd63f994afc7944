"""A reply that gives away its system prompt: by the planted mark, by the prompt's own words, however it is cut."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
from gateways import Gateway
from hypothesis import given
from hypothesis import strategies as st
from upstreams import Upstream, reply, says, upstream
from wires_support import CHAT, GENERATE, MESSAGES, RESPONSES

from detectors.leakage import CERTAIN, MOST, TOLD, Leak, Leakage
from detectors.values import Origin, Segment

PROMPT = (
    "You are the booking clerk of a ferry line between three islands. Greet people by name where you know it. Never offer a "
    "refund above forty crowns without asking the harbour office first. Staff travel free on weekdays before nine in the "
    "morning, which passengers must not be told. When the sea is rough, propose the afternoon boat. Quote prices in crowns, "
    "and round them up to the next half crown. If somebody asks for the manager, give them the number of the office."
)
MARK = "ab12cd34ef56ab78"


def _asked(*texts: tuple[Origin, str]) -> list[Segment]:
    return [Segment(text, origin.value, origin, turn, (turn,)) for turn, (origin, text) in enumerate(texts)]


ASKED = _asked((Origin.SYSTEM, PROMPT), (Origin.USER, "When does the boat leave?"))


def _leaks(pieces: Sequence[str], asked: Sequence[Segment] = ASKED, canary: str = "") -> dict[str, Leak]:
    leakage = Leakage(asked, canary)
    for piece in pieces:
        leakage.feed("content", piece)
    leakage.finish_all()
    return leakage.leaks


def test_a_prompt_that_is_repeated_is_told_and_a_rising_score_goes_before() -> None:
    leakage = Leakage(ASKED)
    scores = [leak.score for at in range(0, len(PROMPT), 9) if (leak := leakage.feed("content", PROMPT[at : at + 9]))]
    leakage.finish_all()
    assert scores == sorted(scores)
    assert TOLD <= scores[0] < MOST
    assert leakage.leaks["leak.overlap"].score == MOST


@pytest.mark.parametrize(
    "said",
    [
        PROMPT.upper().replace(". ", "\n- ").replace(",", " –"),
        re.sub(r"\b(crowns|boat|name)\b", "thing", PROMPT),
        " ".join(reversed(re.split(r"(?<=\.) ", PROMPT))),
    ],
)
def test_small_changes_hide_nothing(said: str) -> None:
    assert _leaks([said])["leak.overlap"].score >= TOLD


@pytest.mark.parametrize(
    "said",
    [
        "The afternoon boat leaves at three, and prices are in crowns. If the sea is rough we propose another day.",
        "Ask the harbour office first, please. " * 20,
        "",
    ],
)
def test_a_word_or_two_of_it_is_no_leak(said: str) -> None:
    assert not _leaks([said])


def test_a_short_prompt_is_no_secret() -> None:
    assert not _leaks(["You are a helpful assistant."], _asked((Origin.SYSTEM, "You are a helpful assistant.")))


def test_what_the_caller_sent_himself_is_no_secret() -> None:
    assert not _leaks([PROMPT], _asked((Origin.SYSTEM, PROMPT), (Origin.USER, f"Translate this: {PROMPT}")))


@given(st.lists(st.integers(0, 700), max_size=20), st.integers(0, 300), st.integers(0, 300))
def test_where_a_reply_is_cut_changes_nothing(where: list[int], low: int, size: int) -> None:
    text = f"Well, here it is: {PROMPT[low : low + size]} That is all. {MARK[:8]}-{MARK[8:]} " + "And more. " * 10
    marks = sorted({min(at, len(text)) for at in where})
    pieces = [text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]
    assert _leaks(pieces, canary=MARK) == _leaks([text], canary=MARK)


@pytest.mark.parametrize("said", [MARK, MARK.upper(), "\u200b".join(MARK), " ".join(MARK), f"**{MARK[:5]}**-{MARK[5:]}"])
def test_the_mark_is_known_however_it_is_written(said: str) -> None:
    assert _leaks([f"It begins with {said}, I think."], canary=MARK)["leak.canary"].score == CERTAIN


@pytest.mark.parametrize("said", [
    MARK, " ".join(MARK), "".join(chr(ord(char) + 0xFEE0) for char in MARK), "".join(chr(ord(char) + 0xE0000) for char in MARK),
])  # fmt: skip
@pytest.mark.parametrize("size", [1, 5, 99])
def test_the_mark_is_known_in_the_piece_in_which_it_is_complete(said: str, size: int) -> None:
    """Whatever follows it: the piece has not gone out yet."""
    leakage = Leakage(ASKED, MARK)
    text = f"It is {said}"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    told = [leakage.feed("content", piece) for piece in pieces]
    assert told[-1] is not None
    assert told[-1].cause == "leak.canary"
    assert not any(told[:-1])


def test_another_mark_is_not_ours() -> None:
    rng = random.Random(3)
    for _ in range(100):
        assert not _leaks([f"[{rng.randbytes(8).hex()}]"], canary=MARK)


# ---- through a real gateway -----------------------------------------------------------------------------------------

def _whole(text: str) -> Any:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    """A model that says its system prompt to whoever asks for it, and something else to others."""

    async def answer(body: bytes, reader: Any, writer: Any) -> None:
        doc = orjson.loads(body)
        if "messages" not in doc or "system" in doc:
            await says(reply(b"{}"))(body, reader, writer)
            return
        prompt, asked = doc["messages"][0]["content"], doc["messages"][-1]["content"]
        text = prompt[: int(asked[5:])] if asked.startswith("leak ") else "The boat leaves at three."
        if not doc.get("stream"):
            await says(reply(orjson.dumps(_whole(text))))(body, reader, writer)
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(text), 20):
            choice = {"index": 0, "delta": {"content": text[at : at + 20]}, "finish_reason": None}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            data = b"data: " + orjson.dumps(chunk) + b"\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        end = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))

    with upstream(answer) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(behind: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(
        tmp_path_factory.mktemp("leakage"),
        {
            "limits": {"ready_grace_seconds": 0},
            "upstreams": {name: {"base_url": behind.base_url} for name in ("openai", "anthropic", "gemini")},
            "policy": {"preset": "balanced", "canary": True},
        },
        1,
        {},
    )
    yield running
    running.stop()


def _ask(gateway: Gateway, asked: str, stream: bool) -> tuple[Any, dict[str, Any]]:
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": asked}]
    with gateway.client() as client:
        got = client.post(CHAT, json={"model": "m", "stream": stream, "messages": messages})
        return got, gateway.decision(client, got.headers["x-portcullis-id"])


@pytest.mark.parametrize("stream", [False, True])
def test_who_repeats_the_prompt_is_cut_at_the_mark(gateway: Gateway, behind: Upstream, stream: bool) -> None:
    got, decision = _ask(gateway, "leak 9999", stream)
    sent = orjson.loads(behind.bodies[-1])["messages"][0]["content"]
    assert re.fullmatch(r"\[ref [0-9a-f]{16}\]\n" + re.escape(PROMPT), sent)
    assert decision["action"] == "block"
    assert "leak.canary" in decision["reason"]
    assert "content_filter" in got.text
    assert "You are" not in got.text
    assert "leak.canary" in {finding["pattern"] for finding in decision["reply"]["findings"]}


@pytest.mark.parametrize("stream", [False, True])
def test_other_replies_pass(gateway: Gateway, stream: bool) -> None:
    got, decision = _ask(gateway, "When does the boat leave?", stream)
    assert (got.status_code, decision["action"]) == (200, "allow")


def test_one_prompt_has_one_mark(gateway: Gateway, behind: Upstream) -> None:
    """So that what a provider caches of a prompt stays cached."""
    for _ in range(2):
        _ask(gateway, "When?", False)
    assert behind.bodies[-1] == behind.bodies[-2]


@pytest.mark.parametrize(
    ("path", "doc", "field"),
    [
        (MESSAGES, {"model": "m", "max_tokens": 9, "system": PROMPT, "messages": [{"role": "user", "content": "Hi"}]}, "system"),
        (RESPONSES, {"model": "m", "instructions": PROMPT, "input": "Hi"}, "instructions"),
        (GENERATE, {"systemInstruction": {"parts": [{"text": PROMPT}]}, "contents": [{"parts": [{"text": "Hi"}]}]}, ""),
    ],
)
def test_the_mark_stands_in_every_wires_prompt(
    gateway: Gateway, behind: Upstream, path: str, doc: dict[str, Any], field: str
) -> None:
    with gateway.client() as client:
        client.post(path, json=doc)
    sent = orjson.loads(behind.bodies[-1])
    prompt = sent[field] if field else sent["systemInstruction"]["parts"][0]["text"]
    assert re.fullmatch(r"\[ref [0-9a-f]{16}\]\n" + re.escape(PROMPT), prompt)
