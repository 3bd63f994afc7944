"""The same texts through a running gateway: what it answers, and how long it takes about it."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.processes import Lab, free_port, wait_until_it_answers
from bench.prompts import request_body
from bench.proxies import PATH
from detectors.values import Origin


class Answered(NamedTuple):
    """What the gateway did with a text, the microseconds that it says screening took, and those of the whole exchange."""

    action: str
    screening_us: int
    exchange_us: int


def answers(texts: Sequence[tuple[str, Origin]], cache: Path) -> list[Answered]:
    """Send each text as a request of its own, one after the other, to a gateway as shipped with the echo model behind it."""
    with Lab() as lab:
        port = free_port()
        file = lab.folder / "portcullis.yaml"
        settings = {"listen": f"127.0.0.1:{port}", "state": f"sqlite:{lab.folder / 'state.db'}", "data_dir": str(cache.parent),
                    "detection": {"deadline_seconds": 60}}  # fmt: skip
        file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        child = lab.start("portcullis", [sys.executable, "-m", "gateway", "serve", "--config", file], lab.proxy_core, port)
        wait_until_it_answers(child, PATH, request_body("whole", "Hello!"), {})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        return [_ask(connection, _body(text, origin)) for text, origin in texts]


def _ask(connection: http.client.HTTPConnection, body: bytes) -> Answered:
    began = time.perf_counter_ns()
    connection.request("POST", PATH, body, {"content-type": "application/json"})
    reply = connection.getresponse()
    reply.read()
    took = time.perf_counter_ns() - began
    return Answered(reply.getheader("x-portcullis-action", ""), int(reply.getheader("x-portcullis-us", "0")), took // 1000)


def _body(text: str, origin: Origin) -> bytes:
    # Lone surrogates cannot travel in JSON.
    spoken = text.encode("utf-8", "replace").decode()
    return json.dumps({"model": "whole", "messages": _messages(spoken, origin)}).encode()


def _messages(text: str, origin: Origin) -> list[dict[str, object]]:
    """A conversation in which ``text`` is spoken by its origin."""
    ask: dict[str, object] = {"role": "user", "content": "What does it say?"}
    if origin is Origin.SYSTEM:
        return [{"role": "system", "content": text}, ask]
    if origin in (Origin.TOOL_RESULT, Origin.DOCUMENT):
        call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
        return [ask, {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": text}]  # fmt: skip
    if origin is Origin.ASSISTANT:
        return [ask, {"role": "assistant", "content": text}, ask]
    return [{"role": "user", "content": text}]
