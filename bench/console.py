"""``python -m bench console``: how soon the console is seen, and how fast a list of very many decisions is turned.

A gateway with the echo model gets the wanted number of decisions straight into its state, a SQLite file or a Redis of its own.
Pages are asked for over one connection as the console asks for them: the first, each filter's first, one deep inside, and then
all of them in turn. Chromium opens the console with an empty cache, and the list of decisions after that; times are the
browser's own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml
from playwright.sync_api import Browser, sync_playwright

from bench import report
from bench.machine import machine, versions
from bench.processes import BenchError, Lab, free_port, get, wait_until_it_answers
from bench.report import Goal
from detectors.values import Finding, Origin, Segment
from gateway.records.decisions import AnyDecision, Decision, Screened, new_id
from gateway.state.opening import open_state

NAME: Final = "console"
HELP: Final = "how soon the console is seen, and how fast many decisions are listed"

CHROMIUM: Final = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PAGE: Final = 100
"""Decisions on a page of the console."""

BATCH: Final = 1_000
SPAN_SECONDS: Final = 86_400.0

CATEGORIES: Final = ("prompt_injection.instruction_override", "secret.cloud_key", "pii.payment", "jailbreak.persona")
ACTIONS: Final = (("allow", 90), ("flag", 4), ("redact", 4), ("block", 2))
"""What was done, by its share in a hundred."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--state", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--visits", type=int, default=5, help="of Chromium, each with an empty cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the last line to FILE too")


def run(arguments: argparse.Namespace) -> int:
    with Lab() as lab:
        state = f"sqlite:{lab.folder / 'state.db'}" if arguments.state == "sqlite" else _redis(lab)
        asyncio.run(_fill(state, arguments.decisions))
        port = free_port()
        config = lab.folder / "portcullis.yaml"
        config.write_text(yaml.safe_dump({
            "listen": f"127.0.0.1:{port}", "state": state, "audit": {"directory": str(lab.folder / "audit")},
            "retention": {"decisions": arguments.decisions + 1_000},
        }))  # fmt: skip
        child = lab.start("portcullis", [sys.executable, "-m", "gateway", "serve", "--config", config], lab.proxy_core, port)
        hello = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}).encode()
        wait_until_it_answers(child, "/v1/chat/completions", hello, {})
        pages, listed = _turn(port)
        if listed < arguments.decisions:
            raise BenchError(f"{listed} decisions were listed, of {arguments.decisions} stored")
        seen = _visit(port, arguments.visits)
    title = f"Pages of {PAGE} of {arguments.decisions:,} decisions in {arguments.state}, milliseconds"
    print(report.table(title, ("page", "ms"), pages.items()))
    print(report.table("Chromium, median of its visits, milliseconds", ("what", "ms"), seen.items()))
    figures = {"state": arguments.state, "page_ms": {name: round(ms, 2) for name, ms in pages.items()},
               "browser_ms": {name: round(ms) for name, ms in seen.items()}}  # fmt: skip
    goals = [Goal("first_paint_ms_at_most", seen["first contentful paint"], 1_000),
             Goal("slowest_page_ms_at_most", max(pages.values()), 100)]  # fmt: skip
    report.finish(NAME, machine(), versions(), figures, goals, arguments.json)
    return 0 if all(goal.met for goal in goals) else 1


def _redis(lab: Lab) -> str:
    """A Redis on its own core that keeps nothing on the disk."""
    port = free_port()
    lab.start("redis", ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"], lab.load_core, port)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
    return f"redis://127.0.0.1:{port}/0"


async def _fill(url: str, count: int) -> None:
    state = open_state(url)
    chance = random.Random(1)
    began = time.time() - SPAN_SECONDS
    for first in range(0, count, BATCH):
        times = [began + SPAN_SECONDS * number / count for number in range(first, min(first + BATCH, count))]
        await state.append([_decision(when, chance) for when in times])
    await state.close()


def _decision(now: float, chance: random.Random) -> AnyDecision:
    action = chance.choices([name for name, _ in ACTIONS], [share for _, share in ACTIONS])[0]
    segment = Segment("A question of ordinary length.", "user", Origin.USER, 0, ("messages", 0, "content"))
    findings = [] if action == "allow" else [Finding("lexical", "a.pattern", chance.choice(CATEGORIES), 0.9, 0, 2, 10)]
    request = Screened(action, "", 0.9 if findings else 0.0, [segment], [("lexical",)], findings=findings)
    return Decision(
        new_id(now), now, chance.choice(("default", "acme")), "", "openai.chat", "chat.completions", "m", False, action, "",
        400 if action == "block" else 200, "balanced", "1", 1, request, seconds=0.4,
    )


def _turn(port: int) -> tuple[dict[str, float], int]:
    """Milliseconds by page, the median of many where there are many, and how many decisions there were in all."""

    def page(**query: Any) -> tuple[float, Any]:
        began = time.perf_counter()
        found = json.loads(get(port, f"/admin/v1/decisions?{urlencode({**query, 'limit': PAGE})}"))
        return (time.perf_counter() - began) * 1e3, found

    times: dict[str, float] = {}
    filters: dict[str, dict[str, str]] = {
        "the first": {}, "blocked": {"action": "block"}, "of a category": {"category": CATEGORIES[0]},
        "of a tenant": {"tenant": "acme"}, "of a wire that is never met": {"wire": "gemini.generate"},
        "blocked, of a category and tenant": {"action": "block", "category": CATEGORIES[0], "tenant": "acme"},
    }  # fmt: skip
    for name, query in filters.items():
        times[name] = statistics.median(page(**query)[0] for _ in range(5))
    every: list[float] = []
    cursor, listed = None, 0
    while cursor is not None or not every:
        took, found = page(**({"cursor": cursor} if cursor else {}))
        every.append(took)
        listed += len(found["decisions"])
        cursor = found["next"]
    times["any of them, in turn"] = statistics.median(every)
    times["the last ten"] = statistics.median(every[-10:])
    return times, listed


def _visit(port: int, visits: int) -> dict[str, float]:
    """Milliseconds from a click to what is seen, the median of several visits with an empty cache."""
    seen: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(visits):
            for name, figure in _one_visit(browser, port).items():
                seen.setdefault(name, []).append(figure)
        browser.close()
    return {name: statistics.median(figures) for name, figures in seen.items()}


def _one_visit(browser: Browser, port: int) -> dict[str, float]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/console#/live")
    page.get_by_role("heading", level=1, name="Live").wait_for()
    page.locator(".plot-box canvas").nth(1).wait_for()
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    whole = page.evaluate("performance.now()")
    began = page.evaluate("performance.now()")
    page.evaluate("location.hash = '#/decisions'")
    page.locator("tbody tr").nth(PAGE - 1).wait_for()
    listed = page.evaluate("performance.now()") - began
    sizes = page.evaluate(
        "performance.getEntriesByType('resource').filter(one => one.name.includes('/console')).map(one => one.transferSize)"
    )
    context.close()
    return {"first contentful paint": painted, "live page with its plots": whole, "list of decisions, from the click": listed,
            "files of the console": len(sizes) + 1, "their kilobytes": sum(sizes) / 1e3}  # fmt: skip
