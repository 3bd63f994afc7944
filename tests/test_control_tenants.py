"""What keys of one tenant see and change in the control plane, with a real gateway: nothing of another's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from families import draw
from gateways import Gateway, until

FAMILY = draw("attack.dream_frame", 40, seed=3)
NOTE = "acme says: our customer Bob"
Keys = dict[tuple[str, str], httpx.Client]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("tenants")
    started = Gateway(folder, {"retention": {"text": "full"}, "limits": {"ready_grace_seconds": 0}}, 1, {})
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def keys(gateway: Gateway) -> Keys:
    found: Keys = {}
    with gateway.client() as client:
        for tenant in ("*", "acme", "beta"):
            for role in ("operator", "approver", "analyst", "viewer", "app"):
                if (tenant, role) != ("*", "app"):
                    made = client.post("/admin/v1/keys", json={"role": role, "tenant": tenant}, timeout=60)
                    assert made.status_code == 201, made.text
                    client.headers["authorization"] = next(iter(found.values()), client).headers.get(
                        "authorization", f"Bearer {made.json()['token']}"
                    )
                    one = gateway.client(headers={"authorization": f"Bearer {made.json()['token']}", "x-id": made.json()["id"]})
                    one.timeout = httpx.Timeout(120)
                    found[tenant, role] = one
    return found


def test_an_operator_of_one_tenant_makes_lists_and_revokes_keys_of_that_tenant_only(keys: Keys) -> None:
    acme = keys["acme", "operator"]
    for tenant in ("*", "beta"):
        refused = acme.post("/admin/v1/keys", json={"role": "viewer", "tenant": tenant})
        assert (refused.status_code, refused.json()["detail"]) == (403, "this key makes keys of its own tenant only")
    assert {key["tenant"] for key in acme.get("/admin/v1/keys").json()["keys"]} == {"acme"}
    assert {key["tenant"] for key in keys["*", "operator"].get("/admin/v1/keys").json()["keys"]} == {"*", "acme", "beta"}
    for tenant in ("*", "beta"):
        other = keys[tenant, "viewer"]
        assert acme.delete(f"/admin/v1/keys/{other.headers['x-id']}").status_code == 404
        assert other.get("/admin/v1/decisions").status_code == 200
    own = acme.post("/admin/v1/keys", json={"role": "viewer", "tenant": "acme"}).json()
    assert acme.delete(f"/admin/v1/keys/{own['id']}").json() == {"id": own["id"], "revoked": True}


def test_labels_and_the_texts_that_are_learnt_of_them_stay_with_their_tenant(keys: Keys) -> None:
    every, acme, beta = (keys[tenant, "analyst"] for tenant in ("*", "acme", "beta"))
    texts = []
    for text in FAMILY:
        chat = keys["acme", "app"].post("/v1/chat/completions", json={"model": "m", "messages": [{"role": "user", "content": text}]})
        if chat.status_code == 200 and len(texts) < 5:
            texts.append(text)
            given = {"decision_id": chat.headers["x-portcullis-id"], "label": "attack", "note": NOTE}
            assert acme.post("/admin/v1/feedback", json=given).status_code == 202
    assert len(texts) == 5, "the family is one that the shipped model misses"

    def answer() -> list[dict[str, Any]]:
        found = every.get("/admin/v1/proposals?state=proposed").json()["proposals"]
        return [one for one in found if one["kind"] == "exemplar" and one["trial"]["passed"]]

    until(answer)
    proposal = answer()[0]
    path = f"/admin/v1/proposals/{proposal['id']}"
    for one in (every, acme):
        assert {label["note"] for label in one.get("/admin/v1/feedback").json()["feedback"]} == {NOTE}
        told = one.get(path).json()
        assert {told["pattern"]["body"], told["evidence"][0]["text"]} <= set(texts)
    body = told["pattern"]["body"]
    assert beta.get("/admin/v1/feedback").json() == {"feedback": [], "next": None}
    told = beta.get(path).json()
    assert (told["evidence"], told["pattern"]["body"], told["reflection"]) == ([], None, "")
    assert not any(text in beta.get(path).text for text in (*texts, NOTE))

    learnt = f"/admin/v1/patterns/{proposal['pattern']}"
    why = {"reason": "agreed"}
    for verb in ("approve", "promote", "reject"):
        refused = keys["acme", "approver"].post(f"{path}/{verb}", json=why)
        assert (refused.status_code, "tenant '*'" in refused.json()["detail"]) == (403, True)
    refused = keys["acme", "approver"].post("/admin/v1/rollback", json={"generation": 0, "reason": "mine alone"})
    assert refused.status_code == 403
    assert keys["*", "approver"].post(f"{path}/approve", json=why).json()["state"] == "shadow"
    number = every.get("/admin/v1/generations").json()["generation"]
    for url in (learnt, f"/admin/v1/generations/0/diff/{number}"):
        assert body in every.get(url).text
        for reader in (beta, acme, keys["*", "viewer"]):
            assert reader.get(url).status_code == 200
            assert body not in reader.get(url).text
    assert beta.get(learnt).json()["body"] is None
    assert keys["*", "approver"].post(f"{path}/reject", json=why).json()["state"] == "demoted"
