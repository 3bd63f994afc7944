"""Work of seconds that people ask for: nobody's keeps others waiting."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateways import Gateway

from gateway.errands import MOST, Busy, Errands
from gateway.keys import Principal


def person(owner: str, key: str = "k") -> Principal:
    return Principal(key, "*", None, frozenset(), owner=owner)


def test_each_person_has_a_few_places_and_gets_them_back() -> None:
    async def story() -> None:
        errands, held = Errands(), threading.Event()
        begun = [asyncio.ensure_future(errands.run(person("ann", f"k{at}"), held.wait)) for at in range(MOST)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="4 trials and the like of yours are at work"):
            await errands.run(person("ann", "another"), held.wait)
        bob = asyncio.ensure_future(errands.run(person("bob"), int, "7"))
        assert await asyncio.to_thread(int, "7") == 7, "the threads that all else shares are free"
        held.set()
        assert await asyncio.gather(*begun) == [True] * MOST
        assert await bob == 7
        for _ in range(2 * MOST):
            with pytest.raises(ValueError, match="invalid literal"):
                await errands.run(person("ann"), int, "what fails gives its place back, too")
        errands.close()

    asyncio.run(story())


def test_one_key_keeps_nobody_elses_work_waiting(tmp_path: Path) -> None:
    """A labeller's key in the wrong hands sent so many trials at a time that others' labels and rollbacks took minutes."""
    gateway = Gateway(tmp_path, {}, 1, {})
    with gateway.client() as client:
        first = client.post("/admin/v1/keys", json={"role": "operator", "tenant": "*"}).json()["token"]
        asked = {"role": "analyst", "tenant": "*"}
        headers = {"authorization": f"Bearer {first}"}
        eve, bob = (client.post("/admin/v1/keys", json=asked, headers=headers).json()["token"] for _ in range(2))

    def trial(token: str, at: int) -> httpx.Response:
        raw: dict[str, Any] = {
            "id": f"own.t{at}", "kind": "regex", "body": rf"\bopen{at}\b.{{1,20}}gate", "category": "jailbreak.persona",
            "severity": "high", "hits": [f"open{at} the gate"], "misses": ["a"],
        }  # fmt: skip
        with gateway.client(headers={"authorization": f"Bearer {token}"}) as client:
            client.timeout = httpx.Timeout(120)
            return client.post("/admin/v1/patterns/test", json=raw)

    many = 40
    with ThreadPoolExecutor(many) as threads:
        flood = [threads.submit(trial, eve, at) for at in range(many)]
        refused = next(one.result() for one in flood if one.result().status_code == 429)
        assert "4 trials" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "2"
        mine = trial(bob, many)
        codes = [one.result().status_code for one in flood]
    assert mine.status_code == 200, mine.text
    assert mine.json()["passed"]
    assert codes.count(200) >= MOST
    assert codes.count(429) == many - codes.count(200)
    with gateway.client(headers={"authorization": f"Bearer {bob}"}) as client:
        for path, body in (("playground", {"text": "hello"}), ("exemplars/nearest", {"text": "hello"})):
            assert client.post(f"/admin/v1/{path}", json=body).status_code == 200
        assert client.get("/admin/v1/exemplars/clusters?count=5").status_code == 200
    assert gateway.stop() == 0
