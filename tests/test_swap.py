"""Patterns are replaced while requests are served: none fails, none goes unscreened, each names a generation that was."""

from __future__ import annotations

from pathlib import Path

from gateways import Gateway

from bench.swaps import CHAT, SERVES, Traffic, made, opened, swaps


def test_patterns_are_replaced_under_load(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {"limits": {"ready_grace_seconds": 0}}, 1, {})
    store = opened(tmp_path / "var")

    def serves(generation: int) -> None:
        gateway.wait_for(lambda line: any(int(found[1]) == generation for found in SERVES.finditer(line["message"])))

    traffic = Traffic(gateway.url)
    assert len(list(swaps(store, 300, 5, serves))) == 5
    last = next(iter(made(300, 4).values())).body
    with gateway.client() as client:
        body = {"model": "m", "messages": [{"role": "user", "content": f"please {last} now"}]}
        assert client.post(CHAT, json=body).status_code == 400, "what stands now acts"
        first = next(iter(made(300, 0).values())).body
        body["messages"] = [{"role": "user", "content": f"please {first} now"}]
        assert client.post(CHAT, json=body).status_code == 200, "what was replaced does not"
        traffic.stop()
        served = {1} | {int(found[2]) for line in gateway.log if (found := SERVES.search(line["message"]))}
        assert traffic.answers
        assert traffic.wrong(served) == []
        recorded = client.get("/admin/v1/decisions?limit=1000").json()["decisions"]
    assert {one["generation"] for one in recorded} <= served
    assert {one.id for one in traffic.answers[-900:]} <= {one["id"] for one in recorded}, "each left its record"
    store.close()
    assert gateway.stop() == 0
