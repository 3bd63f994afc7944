"""What somebody said is taken back, whole, when his key was stolen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gateways import Gateway
from test_learning_api import PATTERN, People

from gateway.cli import main
from gateway.learning.book import Book, Listed
from gateway.learning.quorum import judged
from gateway.learning.retraction import Retracted, retract
from gateway.learning.values import Case, Label, Outcome, Proposal, ProposalKind, Said, Stage, Trajectory
from gateway.state.opening import open_state
from patterns.schema import Kind, Pattern, Severity

GATE = Pattern(id="own.gate", kind=Kind.LITERAL, body="open the gate", category="jailbreak.persona", severity=Severity.HIGH,
               reach=13, hits=("open the gate",), misses=("gate",))  # fmt: skip


def label(id: str, by: str, said: Said, at: float) -> Label:
    return Label(id, by, "analyst", said, "", "", 1.0, at)


def test_what_others_said_is_counted_anew_and_what_rests_on_it_is_withdrawn_or_named() -> None:
    async def story() -> None:
        state = open_state("sqlite::memory:")
        book = Book(state)
        said = {
            "hers": [label("1", "eve", Said.ATTACK, 10.0)],
            "both": [label("2", "eve", Said.ATTACK, 10.0), label("3", "ann", Said.ATTACK, 11.0)],
            "against": [label("4", "eve", Said.BENIGN, 10.0), label("5", "ann", Said.ATTACK, 11.0)],
            "before": [label("6", "eve", Said.ATTACK, 4.0)],
            "others": [label("7", "ann", Said.ATTACK, 10.0)],
        }
        for id, labels in said.items():
            await book.change_case(id, lambda _, id=id, labels=labels: judged(Case(id=id, at=1.0, labels=tuple(labels))))
            for one in labels:
                await book.add_label(Listed(one.id, id, one.by, one.role, one.said, "", "", one.at))
        stages = {"a": (Stage.PROPOSED, "hers"), "b": (Stage.FAILED, "both"), "c": (Stage.CANARY, "hers"), "d": (Stage.ACTIVE, "both"),
                  "e": (Stage.PROPOSED, "others"), "f": (Stage.PROPOSED, "before"), "g": (Stage.DEMOTED, "hers")}  # fmt: skip
        for id, (stage, case) in stages.items():
            made = Proposal(id=id, kind=ProposalKind.EXEMPLAR, pattern=GATE, at=9.0, since=9.0, author="engine", stage=stage, cases=(case,))
            await book.change_proposal(id, lambda _, made=made: made)
        for id, at in (("h", 9.0), ("i", 3.0)):
            made = Proposal(id=id, kind=ProposalKind.MANUAL, pattern=GATE, at=at, since=at, author="eve")
            await book.change_proposal(id, lambda _, made=made: made)
        before = await book.anew()
        assert await retract(book, "nobody", 0.0, 20.0) == Retracted(0, (), ())
        assert await retract(book, "eve", 5.0, 20.0) == Retracted(3, ("h", "b", "a"), ("d", "c"))
        cases = {case.id: case async for case in book.cases()}
        assert {id: ([one.by for one in case.labels], case.outcome) for id, case in cases.items()} == {
            "hers": ([], Outcome.UNDECIDED), "both": (["ann"], Outcome.FALSE_NEGATIVE), "against": (["ann"], Outcome.FALSE_NEGATIVE),
            "before": (["eve"], Outcome.FALSE_NEGATIVE), "others": (["ann"], Outcome.FALSE_NEGATIVE),
        }  # fmt: skip
        assert [one.id for one in await book.labels(10, None)] == ["7", "6", "5", "3"]
        left = {one.id: one.stage async for one in book.all_proposals()}
        assert left == {"c": Stage.CANARY, "d": Stage.ACTIVE, "e": Stage.PROPOSED, "f": Stage.PROPOSED, "g": Stage.DEMOTED,
                        "h": Stage.REJECTED, "i": Stage.PROPOSED}  # fmt: skip
        assert await book.anew() > before
        assert await retract(book, "eve", 5.0, 21.0) == Retracted(0, (), ())
        await state.close()

    asyncio.run(story())


def test_that_a_pattern_is_mostly_wrong_is_withdrawn_with_the_labels_that_said_so() -> None:
    """Such a proposal answers no cases, so it stayed, and could be approved after all."""

    async def story() -> None:
        state = open_state("sqlite::memory:")
        book = Book(state)
        for case, by, pattern in (("hers", "eve", "own.gate"), ("others", "ann", "own.door")):
            said = label(case, by, Said.BENIGN, 10.0)
            seen = Trajectory(stopped=True, stages=(("lexical", pattern, "jailbreak.persona", 0.9),))
            await book.change_case(case, lambda _, case=case, said=said, seen=seen: judged(
                Case(id=case, at=1.0, labels=(said,), trajectory=seen)))  # fmt: skip
            await book.add_label(Listed(case, case, by, said.role, said.said, "", "", said.at))
        for id, stage, pattern, author, kind in (
            ("a", Stage.PROPOSED, "own.gate", "engine", ProposalKind.NARROW), ("b", Stage.FAILED, "own.gate", "engine", ProposalKind.RETIRE),
            ("c", Stage.ACTIVE, "own.gate", "engine", ProposalKind.NARROW), ("d", Stage.PROPOSED, "own.door", "engine", ProposalKind.NARROW),
            ("e", Stage.PROPOSED, "own.gate", "ann", ProposalKind.RETIRE), ("f", Stage.PROPOSED, "own.gate", "engine", ProposalKind.LEXICAL),
        ):  # fmt: skip
            made = Proposal(id=id, kind=kind, pattern=replace(GATE, id=pattern), at=11.0, since=11.0, author=author, stage=stage)
            await book.change_proposal(id, lambda _, made=made: made)
        assert await retract(book, "eve", 11.0, 20.0) == Retracted(0, (), ())
        assert await retract(book, "eve", 5.0, 20.0) == Retracted(1, ("b", "a"), ("c",))
        assert {one.id async for one in book.all_proposals()} == {"c", "d", "e", "f"}
        await state.close()

    asyncio.run(story())


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    gateway = Gateway(tmp_path_factory.mktemp("retraction"), {}, 1, {})
    yield People(gateway)
    assert gateway.stop() == 0


def test_over_http_and_by_command_line(
    people: People, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    eve = people.key_ids["analyst"]
    for text in ("what a nice day", "what a nice night"):
        assert people.analyst.post("/admin/v1/feedback", json={"text": text, "label": "attack"}).status_code == 202
    assert people.second.post("/admin/v1/feedback", json={"text": "what a nice day", "label": "benign"}).status_code == 202
    proposal = people.analyst.post("/admin/v1/patterns", json={"pattern": PATTERN}).json()["id"]
    body = {"by": eve, "reason": "stolen"}
    assert people.analyst.post("/admin/v1/feedback/retract", json=body).status_code == 403
    assert people.approver.post("/admin/v1/feedback/retract", json=body).status_code == 403
    shop = people.operator.post("/admin/v1/keys", json={"role": "operator", "tenant": "shop"}).json()["token"]
    one_tenant = people.gateway.client(headers={"authorization": f"Bearer {shop}"})
    assert one_tenant.post("/admin/v1/feedback/retract", json=body).status_code == 403
    monkeypatch.setenv("PORTCULLIS_KEY", people.operator.headers["authorization"].removeprefix("Bearer "))
    asked = ["feedback", "retract", "--reason", "stolen", "--url", people.gateway.url, "--json"]
    assert main([*asked, "--by", eve, "--since", "2999-01-01"]) == 1
    assert f"404: by: {eve} said nothing since then" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*asked, "--by", eve, "--since", "yesterday"])
    assert "wanted a time as 2026-11-01" in capsys.readouterr().err
    assert main([*asked, "--by", eve, "--since", "2020-01-01T00:00"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["labels"], done["standing"]) == (2, [])
    assert proposal in done["withdrawn"], "and what the gateway made of the labels, where it has by now"
    told = people.approver.get(f"/admin/v1/proposals/{proposal}").json()
    assert (told["state"], told["reason"]) == ("rejected", "what its author said was taken back")

    def only_the_seconds() -> bool:
        (left,) = people.approver.get("/admin/v1/feedback").json()["feedback"]
        return bool((left["by"], left["outcome"]) == (people.key_ids["second"], "true_negative"))

    people.wait("what is left is another's word, and decides", only_the_seconds)
    log = Path(people.gateway.settings["data_dir"]) / "audit"
    assert any(b'"by":"%b"' % eve.encode() in file.read_bytes() for file in log.rglob("*") if file.is_file())
