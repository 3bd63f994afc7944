"""What stands in the pattern store overrules a proposal: whoever changed it, wherever, and whatever ended before it was told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from gateways import CACHE_DIR

from gateway import live as live_module
from gateway.config import configuration
from gateway.keys import EVERY_TENANT, Permission, Principal
from gateway.learning.book import Book
from gateway.learning.service import Learning
from gateway.learning.stages import Stages
from gateway.learning.storage import open_store
from gateway.learning.teacher import Teacher
from gateway.learning.values import Proposal, ProposalKind, Refused, Stage, Trial, Vote, decode_proposal, encode_proposal
from gateway.live import Live
from gateway.state import base
from gateway.state.opening import open_state
from patterns.clock import Stamp
from patterns.entries import Signer, Trust
from patterns.schema import Kind, Pattern, Severity, State
from patterns.store import Store

PATTERN = Pattern(id="own.gate", kind=Kind.LITERAL, body="open the gate", category="jailbreak.persona", severity=Severity.HIGH,
                  reach=13, hits=("open the gate",), misses=("gate",))  # fmt: skip
PROPOSAL = Proposal(id="1", kind=ProposalKind.MANUAL, pattern=PATTERN, at=0, since=0, author="ann", trial=Trial(),
                    votes=(Vote("bob", True, "yes", 0.0),))  # fmt: skip
EVE = Principal("eve", EVERY_TENANT, None, frozenset(Permission))
HOUR = 3600.0
NOW = 1_700_000_000.0


class Machines:
    """Two machines that share the state and a signing key, each with a pattern store of its own."""

    def __init__(self, folder: Path) -> None:
        (folder / "cache").symlink_to(CACHE_DIR)
        settings = configuration.check({
            "data_dir": str(folder), "sync": {"node": "a"}, "detection": {"model": False},
            "learning": {"watched_requests": 0},  # there is no traffic
        }, "test")  # fmt: skip
        self.live: Live = live_module.build(settings, 1, 0.0, {})
        self.state: base.State = open_state(f"sqlite:{folder / 'state.db'}")
        self.a = open_store(settings)
        signer: Signer = self.a.signer
        trust: Trust = self.a.trust
        self.b = Store(folder / "b.db", trust, signer, "b")
        self.book = Book(self.state)

    def stages(self, store: Store) -> Stages:
        return Stages(self.book, store, lambda: self.live, lambda: Teacher(None), lambda *_: True)

    def learning(self, store: Store) -> Learning:
        return Learning(self.state, store, lambda: self.live, lambda *_: True)

    async def told(self) -> Proposal:
        found = await self.book.proposal("1")
        assert found is not None
        return found

    async def in_canary(self) -> None:
        """The proposal is a canary, as the first machine had it; the second has not heard of it."""
        await self.book.change_proposal("1", lambda _: PROPOSAL)
        stages = self.stages(self.a)
        await stages.advance(await self.told(), NOW)
        assert (await stages.promote(EVE, "1", "go", NOW)).stage is Stage.CANARY


def replicate(one: Store, other: Store, now: float) -> None:
    other.apply(one.entries().values(), now)
    one.apply(other.entries().values(), now)


def test_what_was_rolled_back_elsewhere_does_not_come_back(tmp_path: Path) -> None:
    """Its time as a canary was over an hour later, and it acted again, on all replicas."""

    async def run() -> None:
        machines = Machines(tmp_path)
        await machines.in_canary()
        replicate(machines.a, machines.b, NOW + 1)
        machines.b.rollback(0, "eve", "it refuses customers", NOW + 60)
        replicate(machines.a, machines.b, NOW + 61)
        learning = machines.learning(machines.a)
        for passed in (61.0, HOUR + 1, 2 * HOUR, 3 * HOUR):
            assert await learning.run(NOW + passed)
            told = await machines.told()
            assert (told.stage, told.reason) == (Stage.DEMOTED, "it refuses customers (eve, b)")
        assert machines.a.patterns() == {}
        await machines.state.close()

    asyncio.run(run())


def test_one_who_promotes_is_told_that_it_was_rolled_back(tmp_path: Path) -> None:
    async def run() -> None:
        machines = Machines(tmp_path)
        await machines.in_canary()
        machines.a.rollback(0, "eve", "no", NOW + 60)  # and whoever asked for it was killed before the proposal was told
        told = await asyncio.gather(machines.stages(machines.a).promote(EVE, "1", "go", NOW + 61), return_exceptions=True)
        assert str(told[0]) == "the proposal is demoted already"
        assert machines.a.patterns() == {}
        await machines.state.close()

    asyncio.run(run())


def test_a_machine_that_did_not_hear_of_a_stage_waits_for_it(tmp_path: Path) -> None:
    """It holds the lease, and its store lacks the pattern: nothing was rolled back, and nothing may be moved on either."""

    async def run() -> None:
        machines = Machines(tmp_path)
        await machines.in_canary()
        learning = machines.learning(machines.b)
        assert await learning.run(NOW + 2 * HOUR)
        assert (await machines.told()).stage is Stage.CANARY
        assert machines.b.patterns() == {}
        replicate(machines.a, machines.b, NOW + 2 * HOUR)
        assert await learning.run(NOW + 2 * HOUR + 1)
        assert (await machines.told()).stage is Stage.ACTIVE
        assert machines.b.patterns()["own.gate"].state is State.ACTIVE
        await machines.state.close()

    asyncio.run(run())


def test_a_rejection_by_a_clock_that_is_behind_is_later_than_what_it_rejects(tmp_path: Path) -> None:
    """The pattern came to the second machine after it was rejected there, with a later stamp, and acted."""

    async def run() -> None:
        machines = Machines(tmp_path)
        await machines.in_canary()
        behind = NOW - 300
        assert (await machines.stages(machines.b).vote(EVE, "1", False, "no", behind)).stage is Stage.DEMOTED
        replicate(machines.a, machines.b, NOW + 1)
        assert {store.patterns()["own.gate"].state for store in (machines.a, machines.b)} == {State.RETIRED}
        await machines.state.close()

    asyncio.run(run())


def test_what_was_taken_back_on_one_side_of_a_parted_cluster_stays_so_when_they_meet(tmp_path: Path) -> None:
    """Each side with a state of its own: on the other one the pattern entered its next stage later, and acted again."""

    async def run() -> None:
        machines = Machines(tmp_path)
        there = open_state(f"sqlite:{tmp_path / 'there.db'}")
        other = Book(there)
        await machines.in_canary()
        replicate(machines.a, machines.b, NOW + 1)
        canary = await machines.told()
        await other.change_proposal("1", lambda _: canary)
        here = machines.stages(machines.a)
        elsewhere = Stages(other, machines.b, lambda: machines.live, lambda: Teacher(None), lambda *_: True)
        assert (await here.vote(EVE, "1", False, "it refuses customers", NOW + 60)).stage is Stage.DEMOTED
        assert (await elsewhere.promote(EVE, "1", "quiet so far", NOW + 600)).stage is Stage.ACTIVE
        replicate(machines.a, machines.b, NOW + 601)
        assert {store.patterns()["own.gate"].state for store in (machines.a, machines.b)} == {State.RETIRED}
        [told] = [one async for one in other.all_proposals()]
        await elsewhere.advance(told, NOW + 602)
        assert machines.b.patterns()["own.gate"].state is State.RETIRED
        machines.b.revise({"own.gate": PATTERN}, "ann", "it does not any more", NOW + 603)
        replicate(machines.a, machines.b, NOW + 604)
        assert machines.a.patterns()["own.gate"].state is State.ACTIVE, "whoever knows may bring it back"
        await asyncio.gather(machines.state.close(), there.close())

    asyncio.run(run())


def test_a_retirement_does_not_demote_what_it_retires(tmp_path: Path) -> None:
    async def run() -> None:
        machines = Machines(tmp_path)
        await machines.in_canary()
        stages = machines.stages(machines.a)
        assert (await stages.promote(EVE, "1", "go", NOW)).stage is Stage.ACTIVE
        machines.a.revise({"own.gate": replace(machines.a.patterns()["own.gate"], state=State.RETIRED)}, "eve", "noisy", NOW + 1)
        assert (await stages.advance(await machines.told(), NOW + 2)).stage is Stage.ACTIVE
        await machines.state.close()

    asyncio.run(run())


def test_what_was_taken_back_is_not_brought_back_by_narrowing_it(tmp_path: Path) -> None:
    """Labels spoke against it, so it was demoted, and a narrowing was proposed besides: approved later, that let it act again."""

    async def run() -> None:
        machines = Machines(tmp_path)
        await machines.in_canary()
        stages = machines.stages(machines.a)
        await stages.promote(EVE, "1", "go", NOW)
        standing = machines.a.patterns()["own.gate"]
        narrowed = replace(PROPOSAL, id="2", kind=ProposalKind.NARROW, author="engine", votes=(),
                           pattern=replace(standing, severity=Severity.MEDIUM))  # fmt: skip
        for id in ("2", "3"):
            await machines.book.change_proposal(id, lambda _, id=id: replace(narrowed, id=id))  # type: ignore[misc]
        assert (await stages.vote(EVE, "3", True, "yes", NOW)).stage is Stage.SHADOW
        assert (await stages.vote(EVE, "1", False, "noisy", NOW)).stage is Stage.DEMOTED
        for refused in (stages.vote(EVE, "2", True, "yes", NOW), stages.promote(EVE, "3", "go", NOW)):
            with pytest.raises(Refused, match=r"own\.gate: it is not matched any more"):
                await refused
        watched = await machines.book.proposal("3")
        assert watched is not None
        assert (await stages.advance(watched, NOW + 2 * HOUR)).stage is Stage.DEMOTED
        assert machines.a.patterns()["own.gate"].state is State.RETIRED
        assert (await stages.vote(EVE, "2", False, "no", NOW)).stage is Stage.REJECTED
        await machines.state.close()

    asyncio.run(run())


def test_a_proposal_that_a_newer_version_wrote_is_read() -> None:
    one = Proposal(**{name: getattr(PROPOSAL, name) for name in ("id", "kind", "pattern", "at", "since", "author", "trial", "votes")},
                   stamp=Stamp(5, 1, "a"))  # fmt: skip
    body = encode_proposal(one)
    assert decode_proposal(body) == one
    assert decode_proposal(body[:-1] + b',"mood":"good"}') == one
