"""Corrections of the model over HTTP, from labels to acting and back: a bar that moves, and a head that is trained further.

What they are tried on takes the encoder minutes to read when it is read first, so this has a target of its own:
`make test-corrections`. Their parts are tested with fewer texts in `test_learning_corrections`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from families import FAMILIES, draw
from gateways import Gateway
from test_learning_api import People

pytestmark = pytest.mark.corrections

OUTSIDE = {"reviewer_note", "ranking_bias", "bank_details", "calendar_plant"}
SAID = [name for name in FAMILIES.sections if name.partition(".")[2] not in OUTSIDE]
ATTACKS, HARMLESS = ([name for name in SAID if name.startswith(kind)] for kind in ("attack.", "benign."))
SHOWN, EACH = 20, 32
READ_SECONDS = 1800.0


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    settings = {"limits": {"ready_grace_seconds": 0}, "learning": {"labels_per_minute": 60_000}}
    gateway = Gateway(tmp_path_factory.mktemp("corrections"), settings, 1, {})
    made = People(gateway)
    _label(made)
    yield made
    assert gateway.stop() == 0


def _label(people: People) -> None:
    """Twenty texts of each family, by two analysts in turn."""
    made = people.operator.post("/admin/v1/keys", json={"role": "analyst", "tenant": "*"}).json()
    other = people.gateway.client(headers={"authorization": f"Bearer {made['token']}"})
    other.timeout = httpx.Timeout(600)
    people.analyst.timeout = httpx.Timeout(600)
    rows = [(text, "attack" if name in ATTACKS else "benign") for name in (*ATTACKS, *HARMLESS) for text in draw(name, SHOWN)]
    for at, who in enumerate((people.analyst, other)):
        lines = "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows[at::2])
        told = who.post("/admin/v1/feedback/bulk", content=lines.encode()).json()
        assert told["wrong"] == 0, told["faults"]


def unseen(names: list[str]) -> list[str]:
    return [text for name in names for text in draw(name, EACH)[SHOWN:]]


@pytest.mark.parametrize("kind", ["threshold_move", "retrained_head"])
def test_from_labels_to_a_model_corrected_and_back(people: People, kind: str) -> None:
    def proposed() -> dict[str, Any] | None:
        found = people.analyst.get("/admin/v1/proposals?state=proposed&limit=500").json()["proposals"]
        return next((one for one in found if one["kind"] == kind), None)

    proposal = people.wait(f"a {kind} that passed its trial", proposed, READ_SECONDS)
    path = f"/admin/v1/proposals/{proposal['id']}"
    told = people.approver.get(path).json()
    assert told["trial"]["against"] == []
    assert told["trial"]["harmless"] == told["trial"]["hostile"] == 5000
    assert told["trial"]["false_alarms"] <= 5
    assert "judged" in told["reflection"]
    attacks, harmless = unseen(ATTACKS), unseen(HARMLESS)
    before = [stopped(people, texts) for texts in (attacks, harmless)]
    generation = people.analyst.get("/admin/v1/generations").json()["generation"]

    assert people.analyst.post(path + "/approve", json={"reason": "mine"}).status_code == 403
    assert people.approver.post(path + "/approve", json={"reason": "seen"}).json()["state"] == "shadow"
    # Nobody labels what it would have changed, so few texts may come: from the sixth on it would be demoted as too eager.
    seen = people.wait("it is watched", lambda: next((text for text in attacks if watched(people, text, told["pattern"]["id"])), None))
    assert stopped(people, [seen]) == [before[0][attacks.index(seen)]], "in the shadow it changes nothing"
    for state in ("canary", "active"):
        moved = people.approver.post(path + "/promote", json={"reason": "fine"})
        assert moved.json()["state"] == state, moved.text
    people.wait("more of their kind are stopped", lambda: sum(stopped(people, attacks)) > sum(before[0]))
    after = [stopped(people, texts) for texts in (attacks, harmless)]
    won, lost = (sum(now) - sum(then) for now, then in zip(after, before, strict=True))
    assert won > 0, f"{won} of {len(attacks)} attacks that nobody labelled, and {lost} of {len(harmless)} harmless texts"
    assert lost <= won / 2

    assert people.approver.post("/admin/v1/rollback", json={"generation": generation, "reason": "a drill"}).status_code == 200
    people.wait("all is as it was", lambda: [stopped(people, texts) for texts in (attacks, harmless)] == before)
    assert people.analyst.get(path).json()["state"] == "demoted"


def stopped(people: People, texts: list[str]) -> list[bool]:
    return [people.chat(text).status_code == 400 for text in texts]


def watched(people: People, text: str, pattern: str) -> bool:
    """Whether a correction in the shadow would have changed what is done about a text."""
    decision = people.chat(text).headers["x-portcullis-id"]
    findings = people.analyst.get(f"/admin/v1/decisions/{decision}").json()["request"]["findings"]
    return any((one["detector"], one["pattern"]) == ("shadow", pattern) for one in findings)
