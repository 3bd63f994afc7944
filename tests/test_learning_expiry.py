"""What was labelled leaves the state when it was kept long enough, and what acts keeps its evidence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from learning_support import proposal
from redis_servers import redis_server
from test_learning_corrections import case, move

from gateway.admin.proposals import explained
from gateway.keys import EVERY_TENANT, Permission, Principal
from gateway.learning.book import Book, Listed
from gateway.learning.expiry import Expired, expire, left
from gateway.learning.promotion import Rules
from gateway.learning.values import Case, Outcome, Proposal, ProposalKind, Stage
from gateway.records.decisions import new_id
from gateway.state.opening import open_state

DAY = 86_400.0
NOW = 1_800_000_000.0


def aged(number: int, days: float, text: str = "some words") -> Case:
    """A case whose latest label is so many days old; its first is older still."""
    made = case(number, Outcome.FALSE_NEGATIVE, 0.5)
    labels = tuple(made.labels[0]._replace(by=by, at=NOW - (days + more) * DAY) for by, more in (("ada", 900), ("bob", 0)))
    return replace(made, at=NOW - (days + 900) * DAY, text=text, labels=labels)


def test_a_text_goes_before_its_case() -> None:
    fresh, older, old = aged(1, 6), aged(2, 8), aged(3, 401)
    assert left(fresh, NOW, 7 * DAY, 400 * DAY, ()) is fresh
    assert left(older, NOW, 7 * DAY, 400 * DAY, ()) == replace(older, text="")
    assert left(old, NOW, 7 * DAY, 400 * DAY, ()) is None
    assert left(old, NOW, 7 * DAY, 400 * DAY, {old.id}) == replace(old, text=""), "evidence stays, its text does not"
    bare = aged(4, 300, text="")
    assert left(bare, NOW, 7 * DAY, 400 * DAY, ()) is bare


async def _kept(url: str) -> None:
    state = open_state(url)
    await state.ping()
    book = Book(state)
    cases = {days: aged(int(days), days) for days in (1.0, 100.0, 500.0, 600.0, 700.0)}
    for days, one in cases.items():
        await book.change_case(one.id, lambda _, one=one: one)  # type: ignore[misc]
        await book.add_label(Listed(new_id(NOW - days * DAY), one.id, "ada", "analyst", "attack", "", "", NOW - days * DAY))
    stages = {Stage.ACTIVE: 600.0, Stage.REJECTED: 700.0, Stage.PROPOSED: 500.0, Stage.DEMOTED: 1.0}
    for number, (stage, days) in enumerate(stages.items()):
        since = NOW - (days if stage is not Stage.DEMOTED else 10) * DAY
        made = Proposal(id=f"{number}", kind=ProposalKind.THRESHOLD, pattern=move("+0.5"), at=since, since=since, author="engine",
                        stage=stage, cases=(cases[days].id,))  # fmt: skip
        await book.change_proposal(made.id, lambda _, made=made: made)  # type: ignore[misc]
    assert await expire(book, NOW, 7 * DAY, 400 * DAY) == Expired(cases=1, texts=3, labels=3, proposals=1)
    found = {one.id: one.text async for one in book.cases()}
    assert found == {cases[1.0].id: "some words", **{cases[days].id: "" for days in (100.0, 500.0, 600.0)}}
    assert {one.stage async for one in book.all_proposals()} == {Stage.ACTIVE, Stage.PROPOSED, Stage.DEMOTED}
    assert len(await book.labels(10, None)) == 2
    assert await expire(book, NOW, 7 * DAY, 400 * DAY) == Expired(), "once is enough"
    await state.close()


def test_in_sqlite(tmp_path: Path) -> None:
    asyncio.run(_kept(f"sqlite:{tmp_path / 'state.db'}"))


def test_in_redis(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        asyncio.run(_kept(server.url))


def test_what_was_made_of_expired_cases_is_shown_to_nobody_who_sees_one_tenant_alone() -> None:
    """Whose they were nobody knows any more."""
    settled = replace(proposal(Stage.REJECTED), cases=("gone",), reflection="said of another tenant's text")
    for tenant, shown in (("acme", False), (EVERY_TENANT, True)):
        told = explained(settled, [], Rules(), Principal("k", tenant, None, frozenset({Permission.READ_TEXT})))
        assert (told["pattern"]["body"] is not None) is (told["reflection"] != "") is shown
