"""The streams of the learning loop over real stores: shared work, killed workers, events that come twice or in any order."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_servers import redis_server

from gateway.learning import events
from gateway.learning.book import PROPOSALS, Book, Listed
from gateway.learning.events import MAX_MATCHED, Spoken, Watched
from gateway.learning.inbox import FEEDBACK, MAX_DELIVERIES, TRAJECTORIES, Full, Inbox
from gateway.learning.teacher import Teacher
from gateway.learning.values import Case, Label, Outcome, Proposal, ProposalKind, Stage, Trajectory, encode_proposal
from gateway.records.decisions import new_id
from gateway.state.base import State
from gateway.state.opening import open_state
from gateway.state.resilient import ResilientState
from patterns.schema import read_pattern

SECRET = b"0123456789abcdef0123456789abcdef"
TRAJECTORY = Trajectory("d" * 32, 3, "acme", "user", "allow", False, 0.25, (("lexical", "p.one", "jailbreak.persona", 0.5),), True)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A function that gives the URL of an empty store."""
    if request.param == "sqlite":
        yield lambda: f"sqlite:{tmp_path_factory.mktemp('inbox')}/state.db"
    else:
        with redis_server(tmp_path_factory.mktemp("redis")) as server, server.client() as client:
            yield lambda: client.flushall() and server.url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody took is anybody's at once."""
    monkeypatch.setattr("gateway.learning.inbox.IDLE_SECONDS", 0)


def inbox(state: State, name: str, secret: bytes | None = None, text_seconds: float = 3600) -> Inbox:
    made = Inbox(state, Book(state), lambda: Teacher(None), lambda: text_seconds, name)
    made.begin(secret)
    return made


_later = count(1)


def label(number: int, said: str = "attack", by: str = "ann", **fields: Any) -> Spoken:
    """What ``by`` says of text ``number``, now, and after what was said before."""
    now = time.time() + next(_later) / 1000
    word = Label(new_id(now), by, "analyst", said, "", "", 1.0, now)
    return Spoken(**{"label": word, "case": f"case {number:04}", "text": f"text number {number}", "trajectory": TRAJECTORY, **fields})


def use(url: str, story: Callable[[State], Awaitable[None]]) -> None:
    async def run() -> None:
        state = open_state(url)
        try:
            await story(state)
        finally:
            await state.close()

    asyncio.run(run())


async def listed(state: State) -> list[Listed]:
    return await Book(state).labels(1000, None)


async def put_on(state: State, stream: str, *some: Spoken | Watched) -> None:
    """As an inbox would, without its taking them up at once."""
    assert await state.emit(stream, [events.encode(each) for each in some], time.time(), 10_000, make_room=False) == 0


async def put_proposal(state: State, stage: Stage, pattern: str) -> None:
    raw = {"id": pattern, "kind": "regex", "body": "xy", "category": "jailbreak.persona", "severity": "high", "hits": ["xy"], "misses": ["x"]}
    made = Proposal(id=f"proposal {pattern}", kind=ProposalKind.MANUAL, pattern=read_pattern(raw, "test"), at=1.0, since=1.0,
                    author="engine", stage=stage)  # fmt: skip
    assert await state.put(PROPOSALS, made.id, encode_proposal(made), 0)


def test_a_label_becomes_part_of_its_case_and_is_listed(fresh: Callable[[], str]) -> None:
    async def story(state: State) -> None:
        one, other = inbox(state, "a"), label(1, by="bob")
        await one.say(first := label(1), time.time())
        await one.say(other, time.time())
        await one.nudge()
        case = await Book(state).case("case 0001")
        assert case is not None
        assert (case.text, case.trajectory, case.at) == ("text number 1", TRAJECTORY, first.label.at)
        assert case.labels == (first.label, other.label)
        assert {(one.id, one.case, one.by) for one in await listed(state)} == {
            (other.label.id, "case 0001", "bob"), (first.label.id, "case 0001", "ann"),
        }  # fmt: skip
        assert await Book(state).dirty() == 2
        assert one.results == {(FEEDBACK, "told"): 2, (FEEDBACK, "done"): 2}
        await one.look(time.time())
        assert one.backlog[FEEDBACK] == (0, 0, 0.0, 0)

    use(fresh(), story)


def test_replicas_share_the_labels_and_each_is_heard_once(fresh: Callable[[], str]) -> None:
    url = fresh()

    async def story(state: State) -> None:
        second = open_state(url)
        both = [inbox(state, "a"), inbox(second, "b")]
        made = [label(number) for number in range(100)]
        await put_on(state, FEEDBACK, *made)
        await asyncio.gather(*(one.nudge() for one in both))
        done = [one.results[FEEDBACK, "done"] for one in both]
        assert sum(done) == len(made)
        assert min(done) > 0
        assert sorted(one.id for one in await listed(state)) == sorted(one.label.id for one in made)
        await second.close()

    use(url, story)


def test_what_was_seen_adds_up_whoever_counts_it(fresh: Callable[[], str]) -> None:
    url = fresh()

    async def story(state: State) -> None:
        second = open_state(url)
        both = [inbox(state, "a"), inbox(second, "b")]
        for pattern, stage in (("p.watched", Stage.SHADOW), ("p.idle", Stage.CANARY), ("p.new", Stage.PROPOSED)):
            await put_proposal(state, stage, pattern)
        for number in range(60):
            await both[number % 2].report(10, Counter({"p.watched": 2, f"p.{number % 3}": 1}), 100.0 + number)
        await asyncio.gather(*(one.nudge() for one in both))
        effects = await Book(state).effects()
        assert {id: one.hits for id, one in effects.items()} == {"p.watched": 120, "p.0": 20, "p.1": 20, "p.2": 20}
        assert effects["p.watched"].last_seen == 159
        found = {one.pattern.id: (one.watched, one.alarms) for one in await Book(state).proposals()}
        assert found == {"p.watched": (600, 120), "p.idle": (600, 0), "p.new": (0, 0)}
        assert (await state.backlog(TRAJECTORIES, time.time()))[:2] == (0, 0)
        await second.close()

    use(url, story)


def _work_forever(url: str, at_it: Any) -> None:
    async def run() -> None:
        one = inbox(open_state(url), "the one that is killed")
        at_it.set()
        while True:
            await one.nudge()
            await asyncio.sleep(0.001)

    asyncio.run(run())


def test_a_worker_killed_half_way_loses_nothing_and_counts_nothing_twice(fresh: Callable[[], str], impatient: None) -> None:
    url, made = fresh(), [label(number) for number in range(400)]

    async def story(state: State) -> None:
        process = (forks := multiprocessing.get_context("forkserver")).Process(
            target=_work_forever, args=(url, at_it := forks.Event()), daemon=True
        )
        process.start()
        await asyncio.to_thread(at_it.wait)
        for start in range(0, len(made), 20):
            await put_on(state, TRAJECTORIES, *[Watched(3, {"p.one": 2}, 1.0)] * 20)
            await put_on(state, FEEDBACK, *made[start : start + 20])
        while len(await listed(state)) < 30:
            await asyncio.sleep(0)
        process.kill()
        await asyncio.to_thread(process.join)
        told = await state.backlog(FEEDBACK, time.time())
        assert 0 < told.waiting + told.pending < len(made), "it was killed half-way"
        await inbox(state, "the one that goes on").nudge()
        assert sorted(one.id for one in await listed(state)) == sorted(one.label.id for one in made)
        cases = [case async for case in Book(state).cases()]
        assert sorted(case.id for case in cases) == sorted(one.case for one in made)
        assert all(len(case.labels) == 1 for case in cases)
        assert (await Book(state).effect("p.one")).hits == 2 * len(made)
        for stream in (FEEDBACK, TRAJECTORIES):
            assert (await state.backlog(stream, time.time()))[:2] == (0, 0)

    use(url, story)


def test_a_label_that_comes_again_or_late_changes_nothing(fresh: Callable[[], str]) -> None:
    async def story(state: State) -> None:
        one = inbox(state, "a")
        early, late = label(1, "attack"), label(1, "benign")
        again = replace(late, label=late.label._replace(id=new_id(time.time())))
        await put_on(state, FEEDBACK, late, early, late, again, early)
        await one.nudge()
        case = await Book(state).case("case 0001")
        assert case is not None
        assert case.labels == (late.label,), "what he said last"
        assert sorted(one.id for one in await listed(state)) == sorted([early.label.id, late.label.id])
        assert one.results[FEEDBACK, "repeated"] == 1

    use(fresh(), story)


def test_with_a_secret_the_state_reads_nothing_and_forges_nothing(tmp_path: Path, impatient: None) -> None:
    with redis_server(tmp_path) as server, server.client() as client:

        async def story(state: State) -> None:
            ours, stranger = inbox(state, "ours", SECRET), inbox(state, "stranger", b"x" * 32)
            body = ours._sealed(events.encode(label(1)))
            await state.emit(FEEDBACK, [body, body[:-1], events.encode(label(2))], time.time(), 10, make_room=False)
            held = client.dump("{portcullis}:stream:feedback")
            assert isinstance(held, bytes)
            assert b"text number 1" not in held
            assert b"attack" not in body
            # Nobody settles what he cannot open until it was tried `MAX_DELIVERIES` times: another may know the secret.
            assert await stranger._some(FEEDBACK)
            assert await listed(state) == []
            await ours.nudge()
            assert [one.case for one in await listed(state)] == ["case 0001"]
            assert ours.results == {(FEEDBACK, "done"): 1, (FEEDBACK, "unreadable"): 2}
            assert (await state.backlog(FEEDBACK, time.time()))[:2] == (0, 0)

        use(server.url, story)


def test_what_breaks_its_worker_each_time_is_given_up_and_keeps_nothing_else(fresh: Callable[[], str], impatient: None) -> None:
    async def story(state: State) -> None:
        one = inbox(state, "a")
        for stream in (FEEDBACK, TRAJECTORIES):
            await state.emit(stream, [b"{}", b"{]", b'{"label": 1}'], time.time(), 10, make_room=False)
        await put_on(state, FEEDBACK, label(1))
        await put_on(state, TRAJECTORIES, Watched(1, {"p.one": 1}, 1.0))
        await one.nudge()
        assert one.results == {
            (FEEDBACK, "done"): 1, (FEEDBACK, "failed"): 3, (TRAJECTORIES, "done"): 1, (TRAJECTORIES, "failed"): 3,
        }  # fmt: skip
        assert (await Book(state).effect("p.one")).hits == 1
        assert MAX_DELIVERIES == 5

    use(fresh(), story)


def test_too_many_labels_are_refused_and_of_what_was_seen_the_oldest_goes(
    fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.learning.inbox.MOST", {FEEDBACK: 2, TRAJECTORIES: 2})

    async def story(state: State) -> None:
        one = inbox(state, "a")
        await put_on(state, FEEDBACK, label(1), label(2))
        with pytest.raises(Full):
            await one.say(label(3), time.time())
        for number in range(3):
            await one.report(1, Counter({f"p.{number}": 1}), 1.0)
        await one.look(time.time())
        assert [one.backlog[stream][::3] for stream in (FEEDBACK, TRAJECTORIES)] == [(2, 0), (2, 1)]
        await one.nudge()
        assert sorted(await Book(state).effects()) == ["p.1", "p.2"]

    use(fresh(), story)


def test_a_text_that_waited_longer_than_texts_are_kept_is_forgotten(fresh: Callable[[], str]) -> None:
    async def story(state: State) -> None:
        await put_on(state, FEEDBACK, label(1))
        await inbox(state, "a", text_seconds=-60).nudge()
        case = await Book(state).case("case 0001")
        assert case is not None
        assert case.text == ""
        assert len(case.labels) == 1

    use(fresh(), story)


def test_what_was_taken_before_redis_went_is_heard_when_it_is_back(
    tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(tmp_path / "redis") as server:
        server.options = [*server.options, "--appendonly", "yes", "--appendfsync", "always"]
        server.stop()
        server.start()

        async def story(plain: State) -> None:
            state = ResilientState(plain, tmp_path / "spool")
            one = inbox(state, "a")
            await put_on(state, FEEDBACK, label(1), label(2))
            assert await state.claim(FEEDBACK, "a", 1, 0, time.time())
            server.stop()
            for _ in range(5):
                await one.nudge()
            assert caplog.text.count("what the learning loop was told waits") == 1, "once for an outage"
            assert state.gone_since is not None
            await asyncio.to_thread(server.start)
            while len(await listed(plain)) < 2:
                await one.nudge()
            assert {found.case for found in await listed(plain)} == {"case 0001", "case 0002"}

        use(server.url, story)


def test_what_is_written_is_read_back() -> None:
    spoken = label(1, views="[1]")
    assert events.decode_spoken(events.encode(spoken)) == spoken
    watched = Watched(7, {"p.one": 2}, 1.5)
    assert events.decode_watched(events.encode(watched)) == watched
    assert "text number" not in repr(spoken)


@given(st.binary(max_size=40) | st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.sampled_from(["label", "trajectory", "matches", "seen", "at"]), inner),
    max_leaves=12,
).map(orjson.dumps))  # fmt: skip
def test_what_is_no_event_is_a_value_error(body: bytes) -> None:
    for decode in (events.decode_spoken, events.decode_watched):
        with pytest.raises(ValueError) if not _may_be_watched(body) else contextlib.suppress(ValueError):  # noqa: PT011
            decode(body)


def _may_be_watched(body: bytes) -> bool:
    """Whether all that an event of what was seen has stands in one that was drawn; of a label nothing like it is drawn."""
    with contextlib.suppress(ValueError):
        drawn = orjson.loads(body)
        return isinstance(drawn, dict) and isinstance(drawn.get("matches"), dict) and {"seen", "at"} <= drawn.keys()
    return False


@given(st.integers(0, 9), st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 9), max_size=3 * MAX_MATCHED))
@settings(max_examples=30)
def test_parts_are_bounded_and_add_up(seen: int, matches: dict[str, int]) -> None:
    found = list(events.parts(seen, matches, 5.0))
    assert all(len(one.matches) <= MAX_MATCHED for one in found)
    told = events.together(found)
    assert (told.seen, dict(told.matches)) == (seen, matches)


@given(st.permutations(range(8)), st.data())
def test_a_case_is_the_same_in_whatever_order_its_labels_come(order: list[int], data: st.DataObject) -> None:
    made = [label(1, data.draw(st.sampled_from(["attack", "benign"])), by=f"labeller {number % 3}") for number in range(8)]
    last = {one.label.by: one.label for one in made}

    def after(some: list[Spoken]) -> set[tuple[str, str]]:
        case: Case | None = None
        for one in some:
            case = events.heard(case, one) or case
        assert case is not None
        return {(one.by, one.said) for one in case.labels}

    assert after([made[at] for at in order]) == {(by, one.said) for by, one in last.items()}


def test_whoever_weighs_more_says_which_decision_a_text_is_of() -> None:
    """An application could say of an attack that a blocked decision was it, so that nobody's label taught anything any more."""

    def spoken(by: str, trust: float, stopped: bool, at: float) -> Spoken:
        told = Label(f"{by}{at}", by, "app" if trust < 1 else "analyst", "attack", "", "", trust, at)
        return Spoken(label=told, case="c", trajectory=TRAJECTORY._replace(stopped=stopped))

    first = events.heard(None, spoken("app", 0.2, True, 1.0))
    case = events.heard(first, spoken("ada", 1.0, False, 2.0))
    assert case is not None
    assert (case.trajectory.stopped, case.outcome) == (False, Outcome.FALSE_NEGATIVE)
    again = events.heard(case, spoken("app2", 0.2, True, 3.0))
    assert again is not None
    assert not again.trajectory.stopped
