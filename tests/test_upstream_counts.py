"""What is told of upstreams in numbers: each attempt where it was made, over fallbacks, retries and other configurations."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
from conftest import StartGateway
from gateways import until
from upstreams import reply, upstream
from wires_support import CHAT

from bench.processes import free_port

HELLO = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]}'


def _asked(client: httpx.Client, text: str) -> httpx.Response:
    return client.post(CHAT, json={"model": "m", "messages": [{"role": "user", "content": text}]})


def _counts(client: httpx.Client, name: str) -> dict[tuple[str, ...], float]:
    rows = re.findall(rf"^portcullis_upstream_{name}_total{{(.*)}} (.*)$", client.get("/metrics").text, re.MULTILINE)
    return {tuple(re.findall(r'"([^"]*)"', labels)): float(value) for labels, value in rows}


async def _five(body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if b"page" in body:
        writer.write(reply(b"<html>", kind=b"text/html"))
    else:
        writer.write(reply(b'{"error": {}}', b"500 Internal Server Error") if b"five" in body else reply(HELLO))


def test_each_address_has_its_own_failures_and_a_reload_forgets_none(start_gateway: StartGateway) -> None:
    with upstream(_five) as answering:
        first = {"base_url": f"http://127.0.0.1:{free_port()}/v1", "attempts": 1}
        upstreams = {"openai": {**first, "fallbacks": [{"base_url": answering.base_url}]}}
        gateway = start_gateway(upstreams=upstreams)
        with gateway.client() as client:
            assert [_asked(client, text).status_code for text in ("hello", "give me five", "a page")] == [200, 500, 502]
            wanted = {("connect", "openai"): 3.0, ("status", "openai-2"): 1.0, ("bad_reply", "openai-2"): 1.0}
            assert _counts(client, "errors") == wanted
            assert _counts(client, "attempts") == {("openai",): 3.0, ("openai-2",): 3.0}
            assert _counts(client, "retries") == {("openai",): 0.0, ("openai-2",): 0.0}
            gateway.signal_with({**gateway.settings, "policy": "strict"})
            until(lambda: 'portcullis_config_reloads_total{result="taken"} 1.0' in client.get("/metrics").text)
            assert _counts(client, "errors") == wanted
            assert _asked(client, "hello again").status_code == 200
            assert _counts(client, "attempts") == {("openai",): 4.0, ("openai-2",): 4.0}
            said = [line["reason"] for line in gateway.wait_for(lambda line: line.get("status") == 502)]
            assert said == ["the upstream's reply cannot be screened: not valid JSON"]


def test_retries_of_requests_at_once_are_counted_once(start_gateway: StartGateway) -> None:
    """Each is refused once, all of them before any is tried again."""
    requests = 12
    seen: Counter[bytes] = Counter()

    async def refusing(body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen[body] += 1
        while len(seen) < requests:
            await asyncio.sleep(0.01)
        busy = reply(b"{}", b"429 Too Many Requests", b"retry-after: 0")
        writer.write(busy if seen[body] == 1 else reply(HELLO))

    with upstream(refusing) as provider:
        gateway = start_gateway(upstreams={"openai": {"base_url": provider.base_url}})
        with gateway.client() as client, ThreadPoolExecutor(requests) as pool:
            answers = list(pool.map(lambda number: _asked(client, f"number {number}"), range(requests)))
            assert {answer.status_code for answer in answers} == {200}
            assert _counts(client, "retries") == {("openai",): float(requests)}
            assert _counts(client, "attempts") == {("openai",): 2.0 * requests}
            made = [gateway.decision(client, answer.headers["x-portcullis-id"]) for answer in answers]
            assert {one["upstream"]["retries"] for one in made} == {1}
