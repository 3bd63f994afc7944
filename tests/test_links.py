"""Addresses in what a model says: those of other hosts than the policy names do not reach the caller, however they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from gateways import Gateway
from hypothesis import example, given
from hypothesis import strategies as st
from upstreams import reply, upstream
from wires_support import CHAT, MESSAGES, STREAM

from detectors.values import Origin, Segment
from gateway.redaction.links import REMOVED, Hosts, Links
from gateway.screening.inspection import without_links

HOSTS = Hosts(["docs.example", "*.Cdn.Example"])

KEPT = (
    "see https://docs.example/a?b=c#d for more", "![a](https://img.cdn.example/x.png)", "<a href='http://DOCS.example:80/'>x</a>",
    "postgres://app@db.other.example/x", "file:///etc/hosts", "x = y // z", "//TODO: later", "a//b.c", "/usr//lib/x.so", "**https://docs.example**",
    "(https://docs.example), and https://docs.example.", "https://user@docs.example/", "mailto:a@other.example", "[a](/b/c.html)",
    "in:\n/usr/lib/x.so", "//\nother.example()", "C:\\\\new\\\\other.example", "it ends.\\\\n\\\\nother.example(1)", "see\n\tfile:///a.b", "and/or c:/other.example",
)  # fmt: skip
TAKEN = (
    "https://other.example/?q=1", "![a](http://other.example/x)", "![a](//other.example/x)", '<img src="https:\\\\other.example/x y">',
    "https://docs.example@other.example/", "https://docs.example&x@other.example/", "https://docs.example.other.example/", "wss://other.example",
    "https://cdn.example/", "HTTPS://OTHER.EXAMPLE", "https:&#47;&#x2F;other.example/", '{"url": "https:\\/\\/other.example\\/x"}', "&#104;ttps://other.example/",
    "https:///other.example/x", "https://secret-words.other.example", "https://[2001:db8::1]/", "https://1.2.3.4/x",
    '{"url": "https:\\u002f\\u002Fother.example\\u002fx"}', '{"url": "https\\u003a//other.example/x"}', "https:\\u005c/other.example/",
    "https://docs.example)@other.example/", "https://" + "a" * 400 + ".other.example/",
    '<img src="ht\ttps://other.example/x">', '<img src="https:/\t/other.example/">', "https:/other.example/x", "https:\n//other.example/", "h\nttps:\\other.example",
    '{"html": "<img src=\\"h\\nttps:\\\\\\t/other.example/x\\">"}', '{"url": "\\u0068ttps:/other.example"}', "h&#116;t\tps:/other.example/",
    "https&colon;/other.example/", '<img src="/\t/other.example/">', "ht" + "\t" * 40 + "tps://other.example/",
    "https:" + "\n" * 40 + "/other.example/",
)  # fmt: skip


@pytest.mark.parametrize("text", KEPT)
def test_what_stays(text: str) -> None:
    links = Links(HOSTS)
    assert links.whole(text) == text
    assert links.removed == 0


@pytest.mark.parametrize("text", TAKEN)
def test_what_goes(text: str) -> None:
    links = Links(HOSTS)
    made = links.whole(f"before {text} after")
    assert REMOVED in made
    assert "other.example" not in made.lower().replace("docs.example", "")
    assert "2001:db8" not in made
    assert made.startswith("before ")
    assert made.endswith(" after")
    assert links.removed >= 1


def test_a_line_break_that_a_browser_reads_over_ends_no_host() -> None:
    assert Links(HOSTS).whole('<img src="https://docs.example\n.other.example/">').startswith(f'<img src="https:{REMOVED}\n')
    assert Links(HOSTS).whole("<img src=' https://docs.example\t.other.example/'>").startswith(f"<img src=' https:{REMOVED}\t")
    assert Links(HOSTS).whole('<img src="//\t.other.example/">').startswith(f'<img src="{REMOVED}\t')


_PIECES = (
    "https:", "http:", "/", "//", "\\", "docs.example", "other.example", "x.cdn.example", "@", "?q=secret", " ", '"', "'", "(", ")", "<", ">",
    "&#47;", "&", "#", "a", ":", "\\u002f", "\\u00", "2f", ".", "\n", "postgres:",
    "ht", "tps:", "\t", "\\t", "\\", "/other.example", '="', "&#x74;tp:", "&colon;", "\t\r\n" * 3, "\\n",
)  # fmt: skip


@example("docs.example@&#47;\\u002f&#47;other.example", [26])
@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join), st.lists(st.integers(0, 120), max_size=8))
def test_where_a_text_is_cut_changes_nothing(text: str, where: list[int]) -> None:
    marks = sorted({min(at, len(text)) for at in where})
    links = Links(HOSTS)
    pieces = [links.feed(text[a:b]) for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]
    assert "".join(pieces) + links.finish() == Links(HOSTS).whole(text)


@pytest.mark.parametrize("text", KEPT + TAKEN)
def test_each_place_to_cut_gives_the_same(text: str) -> None:
    whole = Links(HOSTS).whole(text)
    for at in range(len(text)):
        links = Links(HOSTS)
        assert links.feed(text[:at]) + links.feed(text[at:]) + links.finish() == whole


@pytest.mark.parametrize(("texts", "wanted"), [
    (["![a](https:", "//other.example/x)"], ["![a](https:", f"{REMOVED})"]), (["see https://other.example/", "x?y z"], [f"see https:{REMOVED}", " z"]),
    (["https://docs.example", ".other.example/x y"], ["https://docs.example", f"{REMOVED} y"]), (["https:/", "/other.example x"], [f"https:{REMOVED}", " x"]),
    (["See https://docs.example", ". Then"], ["See https://docs.example", ". Then"]), (["https://docs.example", "\n"], ["https://docs.example", "\n"]),
])  # fmt: skip
def test_an_address_over_two_texts_that_are_shown_as_one(texts: list[str], wanted: list[str]) -> None:
    segments = [Segment(text, "assistant", Origin.ASSISTANT, 0, (at,)) for at, text in enumerate((texts[0], "//other", texts[1]))]
    edits: dict[Any, str] = {}
    without_links(segments, edits, HOSTS, [[0, 2]])
    assert [edits.get((at,), texts[at // 2]) for at in (0, 2)] == wanted
    for size in (1, 3):
        links = Links(HOSTS)
        said = ["".join(links.feed(text[at : at + size]) for at in range(0, len(text), size)) + links.finish() for text in texts]
        assert said == wanted


@pytest.mark.parametrize("mark", ["&", "&a", "&#", "\\", "\\u002", "/ ", "&amp;", "\\u"])
def test_a_long_run_of_what_may_begin_an_address_is_no_work(mark: str) -> None:
    # Were its ways of reading tried one after the other, they would be more than anybody can wait for.
    text = "x" + mark * 20_000
    assert Links(HOSTS).whole(text + " x") == text + " x"
    links = Links(HOSTS)
    assert "".join([*(links.feed(text[at : at + 1000]) for at in range(0, len(text), 1000)), links.feed(" x"), links.finish()]) == text + " x"


def test_ordinary_text_waits_for_nothing() -> None:
    links = Links(HOSTS)
    for word in "The path and the hash, with https and such, are 1/2 of what there is".split():
        assert links.feed(word + " ") == word + " "


SETTINGS: dict[str, Any] = {
    "limits": {"ready_grace_seconds": 0}, "policy": {"preset": "balanced", "links": ["docs.example", "*.cdn.example"]},
    "detection": {"model": False},  # which blocks such a reply as a whole, now and then
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("links"), SETTINGS, 1, {})
    yield running
    running.stop()


SAID = "say:![a](https://img.cdn.example/a.png) and ![b](https://other.example/b.png?c=d), see https://docs.example/x"


def _ask(client: httpx.Client, path: str, stream: bool) -> httpx.Response:
    if path == STREAM:
        return client.post(path, json={"contents": [{"role": "user", "parts": [{"text": SAID}]}]}, params={"alt": "sse"})
    doc = {"model": "m", "max_tokens": 900, "stream": stream, "messages": [{"role": "user", "content": SAID}]}
    return client.post(path, json=doc)


@pytest.mark.parametrize(("path", "stream"), [(CHAT, False), (CHAT, True), (MESSAGES, True), (STREAM, True)])
def test_through_a_gateway(gateway: Gateway, path: str, stream: bool) -> None:
    with gateway.client() as client:
        got = _ask(client, path, stream)
        decision = gateway.decision(client, got.headers["x-portcullis-id"])
    assert got.status_code == 200
    assert "other.example" not in got.text
    assert got.text.count(REMOVED) == 1
    assert decision["action"] == "redact"
    assert decision["edits"] == {"data_exfiltration.link_with_data": 1}


def test_a_whole_reply_names_nothing_by_an_address_of_another_host(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "Well."}
    names = {"id": "https://other.example/x", "model": "https://docs.example/m", "system_fingerprint": "//other.example/x"}
    body = {"object": "chat.completion", "created": 1, **names, "choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}

    async def answer(_body: bytes, _reader: Any, writer: Any) -> None:
        writer.write(reply(orjson.dumps(body)))
        await writer.drain()

    with upstream(answer) as running:
        gateway = Gateway(tmp_path, {**SETTINGS, "upstreams": {"openai": {"base_url": running.base_url}}}, 1, {})
        with gateway.client() as client:
            got = client.post(CHAT, json={"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
        gateway.stop()
    assert got.headers["x-portcullis-action"] == "redact"
    assert got.json() == {**body, "id": f"https:{REMOVED}", "system_fingerprint": REMOVED}
