"""Addresses in what a model says: those of other hosts than the policy names do not reach the caller, however they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
from browsers import chromium
from gateways import Gateway
from hypothesis import example, given
from hypothesis import strategies as st
from playwright.sync_api import Route
from upstreams import reply, upstream
from wires_support import CHAT, MESSAGES, STREAM

from detectors.values import Origin, Segment
from gateway.redaction.hosts import normalised
from gateway.redaction.links import MAX_HOST, REMOVED, Hosts, Links
from gateway.screening.inspection import without_links

HOSTS = Hosts(["docs.example", "*.Cdn.Example", "127.0.0.1", "[2001:db8::2]"])

KEPT = (
    "see https://docs.example/a?b=c#d for more", "![a](https://img.cdn.example/x.png)", "<a href='http://DOCS.example:80/'>x</a>",
    "postgres://app@db.other.example/x", "file:///etc/hosts", "x = y // z", "//TODO: later", "a//b.c", "/usr//lib/x.so", "**https://docs.example**",
    "(https://docs.example), and https://docs.example.", "https://user@docs.example/", "mailto:a@other.example", "[a](/b/c.html)",
    "in:\n/usr/lib/x.so", "//\nother.example()", "C:\\\\new\\\\other.example", "it ends.\\\\n\\\\nother.example(1)", "see\n\tfile:///a.b", "and/or c:/other.example",
    "version 1.2.3 of http", "int x; // see foo.bar", "at 10:30 and 10:30:05", "ratio 16:9", "std::vector<int> a; std::http::Client b;", "C:\\new\\http\\x.y",
    "x = 7 //2", "x //100", "http:8080", "ports: [http:80]", 'xpath("//div[@class=\'a\']/span")', 'split("//")', "http: other.example", "https:\n  other.example",
    "It is HTTPS:\nother.example is one", "http:, https: and `ftp:`", "node:http", "//TODO:a", "//#region", '"https:" + host', '"https://" + host', "//***",
    '{"a":"https://docs.example","b":"x.y"}', '{"a":"https://docs.example","e":"me@other.example"}', '{\\"a\\":\\"https://docs.example\\",\\"e\\":\\"me@other.example\\"}',
    '{"t":"https://docs.example is good, see a.b"}', '{"t":"https://docs.example\\n\\nSee more of a.b"}', "[文档](https://docs.example)。这是" + "好" * 400,
    "**https://docs.example**，更多", "`https://docs.example`，更多", "https://docs.example,https://img.cdn.example", "<https://docs.example>", "https://docs.example!",
    "[https://docs.example](https://docs.example/a)", "|https://docs.example|x.y|", "https://docs.example&amp;x", "HTTPS://DOCS.EXAMPLE./", "https://docs.example%2F",
    "https://ｄocs。example/", "http:docs.example/x", "http:/docs.example/x", '<a href="//docs.example/x">', "s3://bucket.name/x",
    '<img srcset="https://docs.example/a 1x, https://img.cdn.example/b 2x">', "/^https?:/", "log(http:ok)", "git@other.example:a/b.git", "&copy; &amp;//x", "a&&b//c",
    "\\n//comment", "AAAA//BBBB+//CC==", "/*x*///y", "日本語 //説明", "http::a.b()", "https://[2001:DB8:0:0::2]/", "http://2130706433/", "http://0x7f.1:8080/",
    "if (/\\d/.test(a.b)) {", "/\\d/.test(value)", "location ~ ^/\\d/foo.php { }", "=~ /\\d\\.\\.\\d/;", "a.b(/\\bother\\.example\\.x/)", "s.replace(/\\n/g,' ').trim()",
    "if ($a =~ /\\A\\w+\\.\\w+\\.z/) { $b.c }", "split /\\t/, $a.b", "rewrite ^/\\w+\\.html$ /index.php last;", "fetch(`https://${host}/x.y`)",
    "**https://docs.example**，更多。好", "请看https://docs.example，谢谢。好", "**https://docs.example**, and", "_https://docs.example_", "(see https://docs.example!)",
)  # fmt: skip
HTML = (
    '<img src="https://docs.example,.other.example/">', '<img src="https://docs.example\'.other.example/">', "<img src='https://docs.example\".other.example/'>",
    '<img src="https://docs.example().other.example/">', '<img src="https://docs.example`.other.example/">', "<img src=https://docs.example;.other.example/>",
    '<img src="https://docs.example .other.example/">', '<img src="https://docs.example&#46;other.example/">', '<img src="https://docs.example&period;other.example/">',
    '<img src="https://docs.example&#46other.example/">', '<img src="https://docs.example\n.other.example/">', '<img src="https://docs.example&Tab;.other.example/">',
    '<img src="https://docs.example\xad.other.example/">', '<img src="http:other.example/">',
    '<img src="http:\tother.example/">', '<img src="http:&#111;ther.example/">', '<img src="ht&#9tp:other.example/">', '<img src="ht&Tab;tps:/\nother.example/x">'.replace("\n", "/"),
    '<img src="/&Tab;/other.example/">', '<img src="https:/&NewLine;/other.example/">', '<img src="&#32//other.example/">', '<img src="https:&#47&#47other.example/">',
    '<img src="https:&#00000000000000047;/other.example/">', '<img src="https:&#' + "0" * 500 + '47;/other.example/">', '<img src="http&#' + "0" * 300 + '58;//other.example/">',
    '<img src="//other。example/">', '<img src="//other｡example/">', '<img src="//other．example/">', '<img src="//ｏther%E3%80%82example/">', '<img src="//other%2Eexample/">',
    '<img src="//oth\u200ber%2eexample/">', '<img src="//OTHER.example.:443/">', '<img src="\\\\other.example/">', '<img src="https:\\\\other.example">',
    '<img srcset="/a.png 9x, //other。example/ 1x">',
    '<img srcset="/a.png 9x, https://docs.example,.other.example/ 1x">', '<img srcset="/a.png 9x, https://docs.example).other.example/ 1x">',
    '<base href="http:other.example"><img src="x">', '<base href="//other。example/"><img src="x">', '<svg><image href="//other&#46;example/"/></svg>',
    '<style>@import "//other。example/";</style>', "<p style=\"background:url('//other%2eexample/')\">a</p>", '<p style="background:url(\\68 ttps://other.example/)">a</p>',
    '<p style="background:url(https:\\2f\\2fother.example/)">a</p>', '<p style="background:url(https://docs.example\\2e other.example/)">a</p>',
    '<p style="background:url(https://docs.example\\00002eother.example/)">a</p>', "<p style='background:url(\"https://docs.example\\\".other.example/\")'>a</p>",
    "<style>p{background:url('https://docs.example\\\n.other.example/')}</style><p>a", '<img src="https://third.example/ @other.example/">',
    "<style>p{background:url('https://third.example/ @other.example/')}</style><p>a",
    '<img src="/\\\nother.example/">', '<img src="/\\dother.example/">', '<img src="\\\\68ost.other.example/">', '<img src="/\\3axil.other.example/">', '<img src="/\\u0068ost.other.example/">',
    '<img src="\\\\u0068ost.other.example/">', '<img src="&#47;\\u0068ost.other.example/">', '<p style="background:url(&#92;68 ttps://other.example/)">a</p>',
    "<img src='&Tab;https://docs.example,.other.example'>", "<img src='&#10;https://docs.example\n.other.example/'>", "<img src='&#32;&#32;https://docs.example,.other.example'>",
    "<img src='\x01https://docs.example,.other.example'>", "<img src='" + "&#10;" * 30 + "https://docs.example\n.other.example/'>", "<img src='\x01http:localhost/'>",
    '<p style="background:u\\72l(\\2f\\2f other.example/)">a</p>', "<style>@import '\\68 ttps://other.example/';</style>",
    "<p style=\"background:image-set('a.png' 9x, '\\68 ttps://other.example/' 1x)\">a</p>",
)  # fmt: skip
"""What a browser asks another host for as soon as it shows it."""
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
    "http:other.example/", "HTTPS:OTHER.EXAMPLE", "http:user@other.example/", "![a](https\\:other.example/x)", "![a](https\\:/other.example/x)",
    "[a](https://docs.example\\.other.example/)", "[a](https://docs.example\\).other.example/)", "[a](https://docs.example().other.example/)",
    "[a](https://docs.example\\@other.example/)", "![a](<https://docs.example .other.example/x>)", "[r]: https://docs.example,.other.example/x",
    "[r]: //docs.example&#46;other.example/x", '{"u":"https://docs.example\\u002eother.example/"}', '{"u":"https://docs.example\\u0040other.example/"}',
    '{"u":"https://docs.example\\n.other.example/x"}', '{"h":"<img src=\\u0022//other.example/x\\u0022>"}', '{"h":"<img src\\u003d//other.example/x>"}',
    '{"h":"[r]:\\n//other.example/x"}', '{"h":"<img src=\\u0022https://docs.example,.other.example/x\\u0022>"}', "https://other.example\\@docs.example/",
    "https://docs.example,.other.example, and", "https://docs.example,.other.example! and", "https://docs.example,.other.example* and", "![a](https://docs.example,.other.example,/x)",
    "**https://docs.example,.other.example/?d=1**", "_https://docs.example,.other.example/?d=1_", "[https://docs.example,.other.example/?d=1]", "~https://docs.example$.other.example",
    "**https://docs.example，好.other.example**", "**https://docs.example" + ")" * 400 + "@other.example/**", "**https://docs.example," + "%61" * 100 + ".other.example/**",
    "<img src='\x01http:+other.example'>", '<img src="/\\:x@other.example/">', '{"h":"<img src=\\u0022\\\\\\\\u0068ost.other.example/x\\u0022>"}', '{"t": "a/\\u0068ttps://other.example"}', "[a](/\\bost\\.other\\.example/x)", "[r]: /\\bost\\.other\\.example/x",
    '<meta http-equiv="refresh" content="0; https://docs.example\n.other.example/">',
    '<meta http-equiv="refresh" content="0;url=http:other.example/">',
    '<img src="https://third.example\'@other.example/">',
    '<a href="https://docs.example&commat;other.example/">', '<a href="https://docs.example:80@other.example/">', '<a href="//docs.example:80@other.example/">',
    '<a href="https://' + "a@" * 400 + 'other.example/">', '<a href="https://docs.example' + ")" * 400 + '@other.example/">',
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
    assert Links(HOSTS).whole('<img src="https://docs.example\n.other.example/">') == f'<img src="https:{REMOVED}">'
    assert Links(HOSTS).whole("<img src=' https://docs.example\t.other.example/'>") == f"<img src=' https:{REMOVED}'>"
    assert Links(HOSTS).whole('<img src="//\t.other.example/">') == f'<img src="{REMOVED}">'


def test_a_browser_asks_no_other_host_for_what_is_shown() -> None:
    with chromium() as browser:
        for html in HTML:
            asked = []
            for shown in (html, Links(HOSTS).whole(html)):
                page = browser.new_page()
                names: list[str] = []
                page.route("**/*", partial(_answer, shown, names))
                page.goto("https://page.example/", wait_until="commit")
                page.wait_for_load_state("load")
                page.close()
                asked.append([name for name in names if name not in ("page.example", "docs.example")])
            assert asked[0], html
            assert not asked[1], html


def _answer(shown: str, names: list[str], route: Route) -> None:
    names.append(urlsplit(route.request.url).hostname or "")
    if route.request.url == "https://page.example/":
        route.fulfill(body=shown, content_type="text/html; charset=utf-8")
    else:
        route.abort()


@pytest.mark.parametrize("address", [
    "//localhost/x", "//2130706434/x", "//0x7f000002/x", "//017700000002/x", "//127.2/x", "http:2130706434/x", "http://2130706434/", "http://0x7f.2/",
    "https://faß.cdn.example@fass.other/", "https://cdn.example。/",
])  # fmt: skip
def test_machines_without_a_name_and_names_without_a_dot(address: str) -> None:
    assert (
        Links(HOSTS).whole(f"![a]({address})") == f"![a]({address.partition('//')[0] if '//' in address else 'http:'}{REMOVED})"
    )


@pytest.mark.parametrize("quote", ["\\u0022", '\\"', "'"])
def test_arguments_of_a_call_stay_json(quote: str) -> None:
    text = f'{{"html": "<img src={quote}https://other.example/x{quote}> so", "b": [1]}}'
    made = orjson.loads(Links(HOSTS).whole(text))
    assert REMOVED in made["html"]
    assert made["b"] == [1]


@pytest.mark.parametrize(("written", "name"), [
    ("ＥXample。com", "example.com"), ("ex\u00adample.com", "example.com"), ("bücher.example", "xn--bcher-kva.example"), ("faß.de", "xn--fa-hia.de"),
    ("0x7F.1", "127.0.0.1"), ("2130706433", "127.0.0.1"), ("017700000001", "127.0.0.1"), ("1.2.3.256", "1.2.3.256"), ("08.1", "08.1"), ("1.2.3.4.5", "1.2.3.4.5"),
    ("[2001:DB8:0:0::1]", "[2001:db8::1]"), ("[x", "[x"), ("a_b.example", "a_b.example"), ("1.2.3.example", "1.2.3.example"),
])  # fmt: skip
def test_one_name_for_all_ways_to_write_a_host(written: str, name: str) -> None:
    assert normalised(written) == name


@pytest.mark.parametrize("name", ["*.b\u00fccher.example", "*.B\u00dcCHER.example", "*.xn--bcher-kva.example"])
def test_all_below_a_domain_in_another_script_may_be_named_in_either_form(name: str) -> None:
    text = "see https://www.b\u00fccher.example/a and https://www.xn--bcher-kva.example/b"
    assert Links(Hosts([name])).whole(text) == text
    assert Links(Hosts([name])).whole("https://xn--bcher-kva.example/a").endswith(REMOVED), "below it, it is not"


_PIECES = (
    "https:", "http:", "/", "//", "\\", "docs.example", "other.example", "x.cdn.example", "@", "?q=secret", " ", '"', "'", "(", ")", "<", ">",
    "&#47;", "&", "#", "a", ":", "\\u002f", "\\u00", "2f", ".", "\n", "postgres:",
    "&#46;", "&period;", "。", "%2e", "\\2e ", "\\68 ", "&Tab;", "&#32", "\\:", "2130706433", "x" * 150, 'content="0;', "](", "src=", "\\\n", "&#00000000000", "47;", ",", "\\u0022",
    "ht", "tps:", "\t", "\\t", "\\", "/other.example", '="', "&#x74;tp:", "&colon;", "\t\r\n" * 3, "\\n",
    "\\3a", "\\68 ", "\\u0068", "\\\\u0068", "\\2f", "e", "url(", "/\\", "\\d", "/" * 330, "\\" * 45,
)  # fmt: skip


@example("docs.example@&#47;\\u002f&#47;other.example", [26])
@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join), st.lists(st.integers(0, 120), max_size=8))
def test_where_a_text_is_cut_changes_nothing(text: str, where: list[int]) -> None:
    marks = sorted({min(at, len(text)) for at in where})
    links = Links(HOSTS)
    pieces = [links.feed(text[a:b]) for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]
    assert "".join(pieces) + links.finish() == Links(HOSTS).whole(text)


@pytest.mark.parametrize("text", KEPT + TAKEN + HTML)
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
    segments = [
        Segment(text, "assistant", Origin.ASSISTANT, 0, (at,)) for at, text in enumerate((texts[0], "//other", texts[1]))
    ]
    edits: dict[Any, str] = {}
    without_links(segments, edits, HOSTS, [[0, 2]])
    assert [edits.get((at,), texts[at // 2]) for at in (0, 2)] == wanted
    for size in (1, 3):
        links = Links(HOSTS)
        said = [
            "".join(links.feed(text[at : at + size]) for at in range(0, len(text), size)) + links.finish() for text in texts
        ]
        assert said == wanted


@pytest.mark.parametrize(
    "mark", ["&", "&a", "&#", "\\", "\\u002", "/ ", "&amp;", "\\u", "http:a ", "\\2", "&#00", "\\\\a", "&Tab;", "("]
)
def test_a_long_run_of_what_may_begin_an_address_is_no_work(mark: str) -> None:
    # Were its ways of reading tried one after the other, they would be more than anybody can wait for.
    text = "x" + mark * 20_000
    assert Links(HOSTS).whole(text + " x") == text + " x"
    links = Links(HOSTS)
    assert (
        "".join([*(links.feed(text[at : at + 1000]) for at in range(0, len(text), 1000)), links.feed(" x"), links.finish()])
        == text + " x"
    )


@pytest.mark.parametrize("mark", ["\\", "/", "&#47;", "\\u002f", "\\2f ", "url(\\2f ", "&Tab;", '\\"', "\\n"])
@pytest.mark.parametrize("before", ["", "x", "http:", "//other.example/x"])
def test_a_long_run_of_slashes_is_decided_on_before_it_ends(before: str, mark: str) -> None:
    text = before + mark * (20_000 // len(mark))
    links = Links(HOSTS)
    out: list[str] = []
    for at in range(0, len(text), 7):
        out.append(links.feed(text[at : at + 7]))
        assert links.held <= 3 * MAX_HOST
    assert "".join(out) + links.finish() == Links(HOSTS).whole(text)


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
    body = {
        "object": "chat.completion",
        "created": 1,
        **names,
        "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
    }

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
