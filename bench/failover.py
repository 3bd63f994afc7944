"""``python -m bench failover``: three gateways behind haproxy under load; one is killed, one restarted with other settings.

A request that fails is held against the gateways unless haproxy's log says that it was given to the one that was killed, before
that was gone: until the kernel has closed a dying process's socket, that still takes connections. haproxy repeats what never
reached a server (a connection that is refused), and nothing else: a request that may have been answered is not sent twice. So
that it can tell the one from the other it opens a connection for each request: one that it had kept may have been closed under
it, and then nobody knows whether the request arrived.

The load is a small part of what the gateways could take, and the one that starts anew does so at a lower priority: where each
has a machine of its own, its start takes nothing from the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from bench import report
from bench.machine import machine, versions
from bench.processes import BenchError, Child, Lab, free_port, wait_until_it_answers
from bench.proxies import share_compiled
from bench.report import Goal

NAME: Final = "failover"
HELP: Final = "three gateways behind haproxy: one is killed and one restarted under load, and what fails is counted"

GATEWAYS: Final = 3
CALLERS: Final = 4
PAUSE_SECONDS: Final = 0.05
"""What a caller waits between requests: the question is what fails, not how much one machine can carry."""

PHASE_SECONDS: Final = 15.0

_HAPROXY: Final = """\
global
  maxconn 1000
  log stdout format raw local0
defaults
  mode http
  log global
  log-format "call %[capture.req.hdr(0)] %s"
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  option http-server-close
  option redispatch 1
  retries 3
  retry-on conn-failure
frontend front
  bind 127.0.0.1:{port}
  declare capture request len 16
  http-request capture req.hdr(x-call) id 0
  default_backend gateways
backend gateways
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 200ms fall 1 rise 1
{servers}
"""

_PATH: Final = "/v1/chat/completions"
_BODY: Final = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "how far is it to the coast"}]}).encode()
_JSON: Final = {"content-type": "application/json"}


class Asked(NamedTuple):
    """One request: its number, when it began and ended (monotonic seconds), and what was wrong with its answer, if anything."""

    number: int
    began: float
    ended: float
    fault: str


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=PHASE_SECONDS, help=f"of each phase (default: {PHASE_SECONDS:.0f})")
    parser.add_argument("--out", type=Path, help="write the result as JSON too")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0: all goals met; 1: one missed."""
    with Lab() as lab:
        figures = asyncio.run(_Failover(lab).run(arguments.seconds))
    print(report.table("Three gateways behind haproxy", ("figure", "value"), list(figures.items())))
    goals = [
        Goal("failures_that_nothing_excuses_at_most", figures["failed_otherwise"], 0.0),
        Goal("p99_after_over_before_at_most", figures["p99_ratio"], 1.2),
    ]
    report.finish(NAME, machine(), versions(), figures, goals, arguments.out)
    return 0 if all(goal.met for goal in goals) else 1


class _Failover:
    """The gateways, the balancer before them, and their callers."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._ports = [free_port() for _ in range(GATEWAYS)]
        self._asked: list[Asked] = []
        self._begun = 0
        self._over = asyncio.Event()

    async def run(self, seconds: float) -> dict[str, Any]:
        lab = self._lab
        gateways = []
        for number in range(GATEWAYS):  # one after the other: what the first one compiles the others find
            gateways.append(self._gateway(number))
            await asyncio.to_thread(wait_until_it_answers, gateways[-1], _PATH, _BODY, {})
        front = self._haproxy()
        await asyncio.to_thread(wait_until_it_answers, front, _PATH, _BODY, {})
        callers = [asyncio.create_task(self._call(front.port)) for _ in range(CALLERS)]
        began = time.monotonic()
        await asyncio.sleep(seconds)
        killed_at = time.monotonic()
        gateways[0].signal(signal.SIGKILL)
        await asyncio.to_thread(gateways[0].wait)
        dead_at = time.monotonic()
        await asyncio.sleep(seconds)
        restarted_at = time.monotonic()
        gateways[1].signal(signal.SIGTERM)
        await asyncio.to_thread(gateways[1].wait)
        lab.discard(gateways[1])
        again = self._gateway(1, policy="strict")
        again.yield_to_others(True)
        await asyncio.to_thread(wait_until_it_answers, again, _PATH, _BODY, {})
        again.yield_to_others(False)
        back_at = time.monotonic()
        await asyncio.sleep(seconds)
        self._over.set()
        await asyncio.gather(*callers)
        lab.discard(front)  # its log is whole now
        return self._figures(_servers(front.said()), began, killed_at, dead_at, restarted_at, back_at)

    def _figures(
        self, servers: dict[int, str], began: float, killed_at: float, dead_at: float, restarted_at: float, back_at: float
    ) -> dict[str, Any]:
        failed = [one for one in self._asked if one.fault]
        excused = [
            one for one in failed
            if servers.get(one.number) == "gateway-0" and one.began <= dead_at and one.ended >= killed_at
        ]
        before = _p99(self._asked, began, killed_at)
        after = _p99(self._asked, killed_at, back_at)
        for one in failed:
            if one not in excused:
                where = servers.get(one.number, "nobody")
                print(f"bench: failed at {where} {one.began - began:.2f} s after the beginning: {one.fault}", file=sys.stderr)
        return {
            "requests": len(self._asked), "failed_in_flight_on_the_killed_one": len(excused),
            "failed_otherwise": float(len(failed) - len(excused)), "restart_seconds": back_at - restarted_at,
            "p50_ms_before": statistics.median(one.ended - one.began for one in self._asked if one.ended < killed_at) * 1000,
            "p99_ms_before": before, "p99_ms_after": after, "p99_ratio": after / before,
        }  # fmt: skip

    async def _call(self, port: int) -> None:
        # On a caller's second request and later ones haproxy says nothing of a server that ends without an answer: it closes
        # the caller's connection, and its log is silent. So each request has one of its own.
        once = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False, limits=once) as client:
            while not self._over.is_set():
                began = time.monotonic()
                self._begun += 1
                number = self._begun
                try:
                    answer = await client.post(_PATH, content=_BODY, headers={**_JSON, "x-call": str(number)})
                    fault = "" if answer.status_code == 200 and answer.json().get("choices") else f"HTTP {answer.status_code}"
                except (httpx.HTTPError, ValueError) as error:
                    fault = repr(error)
                self._asked.append(Asked(number, began, time.monotonic(), fault))
                await asyncio.sleep(PAUSE_SECONDS)

    def _gateway(self, number: int, **settings: Any) -> Child:
        folder = self._lab.folder / f"gateway-{number}"
        folder.mkdir(exist_ok=True)
        share_compiled(folder)
        port = self._ports[number]
        config = {"listen": f"127.0.0.1:{port}", "state": f"sqlite:{folder / 'state.db'}", "data_dir": str(folder), **settings}
        file = folder / "portcullis.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        argv: list[str | Path] = [sys.executable, "-m", "gateway", "serve", "--config", file]
        return self._lab.start(f"gateway-{number}", argv, self._lab.proxy_core, port)

    def _haproxy(self) -> Child:
        program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            raise BenchError("haproxy is not installed")
        port = free_port()
        servers = "\n".join(f"  server gateway-{number} 127.0.0.1:{at}" for number, at in enumerate(self._ports))
        file = self._lab.folder / "haproxy.cfg"
        file.write_text(_HAPROXY.format(port=port, servers=servers), encoding="utf-8")
        return self._lab.start("haproxy", [program, "-db", "-f", file], self._lab.load_core, port)


def _servers(log: str) -> dict[int, str]:
    """To which server haproxy gave each request last."""
    return {int(number): server for number, server in re.findall(r"^call (\d+) (\S+)$", log, re.M)}


def _p99(asked: Sequence[Asked], begin: float, end: float) -> float:
    """Of the requests that succeeded in a span of time, in milliseconds."""
    took = sorted(one.ended - one.began for one in asked if begin <= one.began < end and not one.fault)
    return took[math.ceil(0.99 * len(took)) - 1] * 1000 if took else math.nan
