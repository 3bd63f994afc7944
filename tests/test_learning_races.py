"""Several people, and the gateway itself, move one proposal at a time: what acts is what is said to act."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from gateways import CACHE_DIR

from gateway import live as live_module
from gateway.config import configuration
from gateway.keys import EVERY_TENANT, Permission, Principal
from gateway.learning import stages as stages_module
from gateway.learning.book import Book
from gateway.learning.pulling import FeedFault
from gateway.learning.service import Learning
from gateway.learning.stages import Stages
from gateway.learning.storage import open_store
from gateway.learning.teacher import Teacher
from gateway.learning.values import Proposal, ProposalKind, Refused, Stage, Trial, Vote
from gateway.live import Live
from gateway.state import base
from gateway.state.opening import open_state
from patterns.schema import Kind, Pattern, Severity, State
from patterns.store import Store

ROUNDS = 12


async def opened(folder: Path) -> tuple[Live, base.State, Store]:
    """Patterns, a state and a pattern store of one machine, without a model."""
    (folder / "cache").symlink_to(CACHE_DIR)
    settings = configuration.check({"data_dir": str(folder), "detection": {"model": False}}, "test")
    state = open_state(f"sqlite:{folder / 'state.db'}")
    await state.ping()
    return live_module.build(settings, 1, 0.0, {}), state, open_store(settings)


def test_a_vote_counts_while_its_key_may_vote(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "cache").symlink_to(CACHE_DIR)
        chosen = {"data_dir": str(tmp_path), "detection": {"model": False}, "learning": {"approvals": 2}}
        settings = configuration.check(chosen, "test")
        live = live_module.build(settings, 1, 0.0, {})
        state = open_state(f"sqlite:{tmp_path / 'state.db'}")
        await state.ping()
        revoked: set[str] = set()
        book = Book(state)
        stages = Stages(book, open_store(settings), lambda: live, lambda: Teacher(None), lambda by, _: by not in revoked)
        ann, bob, cat = (Principal(name, EVERY_TENANT, None, frozenset(Permission)) for name in ("ann", "bob", "cat"))
        pattern = Pattern(id="own.gate", kind=Kind.LITERAL, body="open the gate", category="jailbreak.persona",
                          severity=Severity.HIGH, reach=13, hits=("open the gate",), misses=("gate",))  # fmt: skip
        proposal = Proposal(id="1", kind=ProposalKind.MANUAL, pattern=pattern, at=0, since=0, author="x", trial=Trial())
        await book.change_proposal("1", lambda _: proposal)
        assert (await stages.vote(ann, "1", True, "yes", 1.0)).stage is Stage.PROPOSED
        revoked.add("ann")
        assert (await stages.vote(bob, "1", True, "yes", 2.0)).stage is Stage.PROPOSED, "one of the two was revoked"
        with pytest.raises(Refused, match="not enough approvals"):
            await stages.promote(bob, "1", "now", 3.0)
        assert (await stages.vote(cat, "1", True, "yes", 4.0)).stage is Stage.SHADOW
        await state.close()

    asyncio.run(run())


def test_labels_of_one_tenants_keys_let_nothing_act_on_all_without_a_vote(tmp_path: Path) -> None:
    """A tenant's operator makes as many labellers as he likes."""

    async def run() -> None:
        (tmp_path / "cache").symlink_to(CACHE_DIR)
        chosen = {"data_dir": str(tmp_path), "detection": {"model": False}, "learning": {"automatic": True}}
        settings = configuration.check(chosen, "test")
        live = live_module.build(settings, 1, 0.0, {})
        state = open_state(f"sqlite:{tmp_path / 'state.db'}")
        await state.ping()
        book = Book(state)
        stages = Stages(book, open_store(settings), lambda: live, lambda: Teacher(None), lambda by, _: by in ("ann", "bob"))
        for id, supporters, stage in (("1", ("ann", "eve", "mallory"), Stage.PROPOSED), ("2", ("ann", "bob", "eve"), Stage.SHADOW)):
            pattern = Pattern(id=f"own.gate{id}", kind=Kind.LITERAL, body=f"open the gate {id}", category="jailbreak.persona",
                              severity=Severity.HIGH, reach=15, hits=(f"open the gate {id}",), misses=("gate",))  # fmt: skip
            made = Proposal(id=id, kind=ProposalKind.LEXICAL, pattern=pattern, at=0, since=0, author="engine", trial=Trial(),
                            supporters=supporters)  # fmt: skip
            await book.change_proposal(id, lambda _, made=made: made)
            assert (await stages.advance(made, 1.0)).stage is stage, supporters
        await state.close()

    asyncio.run(run())


def test_nobody_fills_the_book_with_proposals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass of the loop reads all of them, and people have to."""
    monkeypatch.setattr(stages_module, "MOST_OPEN", 3)

    async def run() -> None:
        live, state, store = await opened(tmp_path)
        book = Book(state)
        stages = Stages(book, store, lambda: live, lambda: Teacher(None), lambda *_: True)
        ann, bob = (Principal(name, EVERY_TENANT, None, frozenset(Permission)) for name in ("ann", "bob"))

        def pattern(word: str) -> Pattern:
            return Pattern(id=f"own.{word}", kind=Kind.LITERAL, body=f"open the {word}", category="jailbreak.persona", reach=40,
                           severity=Severity.HIGH, hits=(f"open the {word}",), misses=("gate",))  # fmt: skip

        for at, word in enumerate(("gate", "door", "barn")):
            assert (await stages.propose(ann, pattern(word), "", 1.0 + at)).stage is Stage.PROPOSED
        for word in ("shed", "cave"):
            with pytest.raises(Refused, match="3 proposals of this author wait for a decision") as caught:
                await stages.propose(ann, pattern(word), "", 9.0)
            assert caught.value.status == 429
        assert "own.gate: a pattern with this id" in (await stages.propose_from_feed(pattern("gate"), "from feed x") or "")
        for word in ("lake", "pond", "well"):
            assert await stages.propose_from_feed(pattern(word), "from feed x") is None
        with pytest.raises(FeedFault, match="from feed x: 3 proposals of this author"):
            await stages.propose_from_feed(pattern("pool"), "from feed x")
        first = [one async for one in book.all_proposals()][-1]
        await stages.vote(bob, first.id, False, "no", 10.0)
        assert (await stages.propose(ann, pattern("shed"), "", 11.0)).stage is Stage.PROPOSED
        monkeypatch.setattr(stages_module, "MOST_OPEN", 100)
        monkeypatch.setattr(stages_module, "MOST_OPEN_BYTES", 20_000)
        long = replace(pattern("cave"), hits=("open the cave " + "x" * 7_000,) * 3)
        assert (await stages.propose(ann, long, "", 12.0)).stage is Stage.PROPOSED
        with pytest.raises(Refused, match="with 20000 bytes of patterns and examples wait for a decision") as caught:
            await stages.propose(ann, pattern("hole"), "", 13.0)
        assert caught.value.status == 429
        monkeypatch.setattr(stages_module, "MOST_OPEN_BYTES", 500)
        with pytest.raises(FeedFault, match="from feed x: proposals of this author with 500 bytes"):
            await stages.propose_from_feed(pattern("hole"), "from feed x")
        await state.close()

    asyncio.run(run())


def test_others_have_their_turn_while_long_proposals_are_read() -> None:
    """A thousand were read in one go, twice a second, and every request waited for it."""

    async def run() -> None:
        state = open_state("sqlite::memory:")
        book = Book(state)
        gate = Pattern(id="own.gate", kind=Kind.LITERAL, body="open the gate", category="jailbreak.persona", reach=13,
                       severity=Severity.HIGH, hits=("open the gate " + "x" * 600_000,), misses=("gate",))  # fmt: skip
        for id in ("1", "2", "3"):
            made = Proposal(id=id, kind=ProposalKind.MANUAL, pattern=gate, at=0, since=0, author="ann")
            await book.change_proposal(id, lambda _, made=made: made)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        had = [turns async for _ in book.all_proposals()]
        assert had[0] < had[1] < had[2]
        beside.cancel()
        await state.close()

    asyncio.run(run())


def test_a_lease_that_was_taken_before_the_clock_went_back_holds_nobody_back(tmp_path: Path) -> None:
    async def run() -> None:
        live, state, store = await opened(tmp_path)
        before, after = (Learning(state, store, lambda: live, lambda *_: True) for _ in range(2))
        assert await before.run(10_000.0)
        assert not await after.run(10_001.0), "another holds it"
        assert not await after.run(9_900.0), "clocks differ by minutes"
        assert await after.run(5_000.0), "its holder is gone, and would be so for an hour and a half"
        await state.close()

    asyncio.run(run())


def test_a_rejection_stands_whoever_lets_the_pattern_act_meanwhile(tmp_path: Path) -> None:
    """The store said active of a pattern that its proposal called demoted, or the other way round, and nobody looked again."""

    async def run() -> None:
        live, state, store = await opened(tmp_path)
        book = Book(state)
        workers = [Stages(book, store, lambda: live, lambda: Teacher(None), lambda *_: True) for _ in range(3)]
        bob, cat = (Principal(name, EVERY_TENANT, None, frozenset(Permission)) for name in ("bob", "cat"))
        orders = set()
        for number in range(ROUNDS):
            pattern = Pattern(id=f"own.p{number}", kind=Kind.LITERAL, body="open the gate", category="jailbreak.persona",
                              severity=Severity.HIGH, reach=13, hits=("open the gate",), misses=("gate",), rollout=10,
                              state=State.CANARY)  # fmt: skip
            proposal = Proposal(id=f"{number:032x}", kind=ProposalKind.MANUAL, pattern=pattern, at=0, since=0, author="ann",
                                stage=Stage.CANARY, trial=Trial())  # fmt: skip
            await book.change_proposal(proposal.id, lambda _, one=proposal: one)  # type: ignore[misc]
            store.revise({pattern.id: pattern}, "rules", "canary", 1.0)
            votes = [
                workers[0].promote(bob, proposal.id, "go", 2.0), workers[1].vote(cat, proposal.id, False, "no", 2.0),
                workers[2].advance(replace(proposal, since=-1e9, watched=10_000), 2.0),
            ]  # fmt: skip
            done = await asyncio.gather(*(votes if number % 2 else reversed(votes)), return_exceptions=True)
            assert not [one for one in done if isinstance(one, BaseException) and not isinstance(one, Refused)], done
            told = await book.proposal(proposal.id)
            assert told is not None
            orders.add(len(store.history(pattern.id)))
            assert (told.stage, store.patterns()[pattern.id].state) == (Stage.DEMOTED, State.RETIRED)
        assert max(orders) > 2, "somebody let it act meanwhile"
        await state.close()

    asyncio.run(run())


def test_who_approves_what_was_rejected_or_written_anew_meanwhile_lets_nothing_act(tmp_path: Path) -> None:
    """A rejection that came between ended in an error, and its pattern was watched; what the engine had written anew was
    taken for what was approved."""

    async def run() -> None:
        live, state, store = await opened(tmp_path)
        book = Book(state)
        stages = Stages(book, store, lambda: live, lambda: Teacher(None), lambda *_: True)
        pattern = Pattern(id="own.gate", kind=Kind.LITERAL, body="open the gate", category="jailbreak.persona",
                          severity=Severity.HIGH, reach=13, hits=("open the gate",), misses=("gate",))  # fmt: skip
        approved = Proposal(id="1", kind=ProposalKind.MANUAL, pattern=pattern, at=0, since=0, author="ann", trial=Trial(),
                            votes=(Vote("bob", True, "yes", 0.0),))  # fmt: skip
        for meanwhile in (
            replace(approved, stage=Stage.REJECTED), replace(approved, stage=Stage.FAILED),
            replace(approved, pattern=replace(pattern, body="e", hits=("e",)), votes=()),
        ):  # fmt: skip
            await book.change_proposal("1", lambda _, one=meanwhile: one)  # type: ignore[misc]
            assert await stages.enter(approved, Stage.SHADOW, "approved", 1.0, "rules") == meanwhile
            assert await book.proposal("1") == meanwhile
            assert store.patterns()["own.gate"].state is State.RETIRED
        await state.close()

    asyncio.run(run())


def test_what_was_killed_while_it_moved_moves_on(tmp_path: Path) -> None:
    """Its pattern stands in the shadow, and the proposal does not say so yet: it is its own, and no other one's."""

    async def run() -> None:
        live, state, store = await opened(tmp_path)
        book = Book(state)
        stages = Stages(book, store, lambda: live, lambda: Teacher(None), lambda *_: True)
        pattern = Pattern(id="own.gate", kind=Kind.LITERAL, body="open the gate", category="jailbreak.persona",
                          severity=Severity.HIGH, reach=13, hits=("open the gate",), misses=("gate",), state=State.PROPOSED)  # fmt: skip
        approved = Proposal(id="1", kind=ProposalKind.MANUAL, pattern=pattern, at=0, since=0, author="ann", trial=Trial(),
                            votes=(Vote("bob", True, "yes", 0.0),))  # fmt: skip
        await book.change_proposal("1", lambda _: approved)
        store.revise({"own.gate": replace(pattern, state=State.SHADOW)}, "rules", "shadow: approved", 1.0)
        assert (await stages.advance(approved, 2.0)).stage is Stage.SHADOW
        other = replace(approved, id="2", pattern=replace(pattern, body="shut the gate"))
        await book.change_proposal("2", lambda _: other)
        assert (await stages.advance(other, 3.0)).stage is Stage.PROPOSED
        assert store.patterns()["own.gate"].body == "open the gate"
        await state.close()

    asyncio.run(run())


def test_what_was_taken_back_and_acts_all_the_same_is_found(tmp_path: Path) -> None:
    """Who promoted was killed before he heard of a rejection, and the pattern acted with nothing left to reject; and so did one
    that a rollback had brought back."""

    async def run() -> None:
        live, state, store = await opened(tmp_path)
        book = Book(state)
        stages = Stages(book, store, lambda: live, lambda: Teacher(None), lambda *_: True)
        learning = Learning(state, store, lambda: live, lambda *_: True)
        eve = Principal("eve", EVERY_TENANT, None, frozenset(Permission))
        pattern = Pattern(id="own.gate", kind=Kind.LITERAL, body="open the gate", category="jailbreak.persona",
                          severity=Severity.HIGH, reach=13, hits=("open the gate",), misses=("gate",))  # fmt: skip
        approved = Proposal(id="1", kind=ProposalKind.MANUAL, pattern=pattern, at=0, since=0, author="ann", trial=Trial(),
                            votes=(Vote("bob", True, "yes", 0.0),))  # fmt: skip
        await book.change_proposal("1", lambda _: approved)
        await stages.advance(approved, 1_000.0)
        assert (await stages.promote(eve, "1", "go", 1_000.0)).stage is Stage.CANARY
        canary = store.generation
        assert (await stages.vote(eve, "1", False, "no", 1_001.0)).stage is Stage.DEMOTED
        store.revise({"own.gate": replace(pattern, state=State.ACTIVE)}, "rules", "active: it was time", 1_001.5)
        assert await learning.run(1_002.0)
        told = await book.proposal("1")
        assert told is not None
        assert (told.stage, store.patterns()["own.gate"].state) == (Stage.DEMOTED, State.RETIRED)

        store.rollback(canary, "eve", "it was right after all", 1_003.0)
        assert await learning.run(1_004.0 + 3 * 3600)
        assert await learning.run(1_020.0 + 6 * 3600)
        told = await book.proposal("1")
        assert told is not None
        assert (told.stage, store.patterns()["own.gate"].state) == (Stage.CANARY, State.CANARY), "and no further by itself"
        assert (await stages.vote(eve, "1", False, "no", 1_030.0 + 6 * 3600)).stage is Stage.DEMOTED
        assert store.patterns()["own.gate"].state is State.RETIRED
        await state.close()

    asyncio.run(run())
