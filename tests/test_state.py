"""What every store must do: one suite, run on each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_servers import cluster_group, redis_server, sentinel_group
from state_support import ACTIONS, NOW, TENANTS, THREATS, WIRES, decision, findable_decisions, texts

from gateway.keys import Role, make_key
from gateway.records.decision_records import labels, settle
from gateway.records.decisions import AnyDecision, Record
from gateway.state import base
from gateway.state import redis as redis_state
from gateway.state.base import ANY, Change, Filter, KeyExists, Page, Settled, State, StateUnavailable
from gateway.state.opening import open_state

T = TypeVar("T")
Fresh = Callable[[], str]


@pytest.fixture(scope="module", params=["sqlite", "memory", "redis", "sentinel", "cluster"])
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """A function that gives the URL of an empty store."""
    if request.param == "memory":
        yield lambda: "sqlite::memory:"
    elif request.param == "sqlite":
        yield lambda: f"sqlite:{tmp_path_factory.mktemp('state')}/new/folder/state.db"
    elif request.param == "redis":
        with redis_server(tmp_path_factory.mktemp("redis")) as server, server.client() as client:
            yield lambda: client.flushall() and server.url
    else:
        start = sentinel_group if request.param == "sentinel" else cluster_group
        with start(tmp_path_factory.mktemp("redis")) as group, group.master.client() as client:
            yield lambda: client.flushall() and group.url


def use(url: str, story: Callable[[State], Awaitable[T]]) -> T:
    async def run() -> T:
        state = open_state(url)
        try:
            return await story(state)
        finally:
            await state.close()

    return asyncio.run(run())


async def every_page(state: State, only: Filter, limit: int) -> list[Record]:
    found: list[Record] = []
    page = await state.decisions(only, limit)
    found += page.decisions
    while page.cursor is not None:
        before = page.cursor
        page = await state.decisions(only, limit, before)
        assert page.cursor != before
        assert len(page.decisions) <= limit
        found += page.decisions
    return found


# Keys


def test_keys_are_stored_listed_and_revoked(fresh: Fresh) -> None:
    first = make_key(Role.APP, "acme", NOW, policy="strict", expires_at=NOW + 60, note="é", owner="ann").key
    second = make_key(Role.OPERATOR, "*", NOW + 1).key

    async def story(state: State) -> None:
        assert await state.keys() == []
        await state.put_key(second)
        await state.put_key(first)
        assert await state.keys() == [first, second]
        assert await state.key(first.id) == first
        assert await state.key("nobody") is None
        assert await state.revoke_key(first.id, NOW + 5)
        assert await state.revoke_key(first.id, NOW + 9)
        revoked = replace(first, revoked_at=NOW + 5)
        assert await state.key(first.id) == revoked
        assert await state.keys() == [revoked, second]
        assert not await state.revoke_key("nobody", NOW)

    use(fresh(), story)


def test_a_key_is_never_overwritten(fresh: Fresh) -> None:
    key = make_key(Role.APP, "acme", NOW).key

    async def story(state: State) -> None:
        await state.put_key(key)
        await state.revoke_key(key.id, NOW + 1)
        with pytest.raises(KeyExists):
            await state.put_key(key)
        assert await state.key(key.id) == replace(key, revoked_at=NOW + 1)

    use(fresh(), story)


def test_whose_a_key_is_can_be_said_once(fresh: Fresh) -> None:
    key, owned = make_key(Role.ANALYST, "*", NOW).key, make_key(Role.ANALYST, "*", NOW, owner="bob").key

    async def story(state: State) -> None:
        for one in (key, owned):
            await state.put_key(one)
        await state.revoke_key(key.id, NOW + 1)
        before = await state.keys_version()
        mine = replace(key, owner="ann", revoked_at=NOW + 1)
        for owner in ("ann", "ann", "eve"):
            assert await state.own_key(key.id, owner) == mine
        assert await state.keys_version() > before
        assert await state.own_key(owned.id, "eve") == owned
        assert await state.own_key("nobody", "eve") is None
        assert await state.key(key.id) == mine
        assert {one.id: one.owner for one in await state.keys()} == {key.id: "ann", owned.id: "bob"}

    use(fresh(), story)


def test_the_version_of_the_keys_changes_with_them(fresh: Fresh) -> None:
    key = make_key(Role.APP, "acme", NOW).key

    async def story(state: State) -> None:
        seen = [await state.keys_version()]
        await state.put_key(key)
        seen.append(await state.keys_version())
        await state.append([decision()])
        assert await state.keys_version() == seen[-1]
        await state.revoke_key(key.id, NOW)
        seen.append(await state.keys_version())
        assert len(set(seen)) == 3

    use(fresh(), story)


# Decisions


def test_a_record_comes_back_as_it_was(fresh: Fresh) -> None:
    one = decision(threats=THREATS)

    async def story(state: State) -> None:
        await state.append([one])
        assert await state.decision(one.id) == settle(one)
        assert await state.decision("0" * 32) is None
        assert await state.decision("no id; DROP TABLE decisions") is None
        await state.append([one])
        assert await state.decisions() == Page((settle(one),), None)
        await state.append([])
        assert await state.decisions() == Page((settle(one),), None)

    use(fresh(), story)


def test_records_larger_than_one_statement(fresh: Fresh) -> None:
    many = [decision(NOW + i / 1000) for i in range(base.MAX_PAGE)]

    async def story(state: State) -> None:
        await state.append(many)
        page = await state.decisions(limit=base.MAX_PAGE)
        assert [each.id for each in page.decisions] == [each.id for each in reversed(many)]
        assert page.cursor is None

    use(fresh(), story)


def _wanted(only: Filter, one: AnyDecision) -> bool:
    return (
        (only.action is None or one.action == only.action)
        and (only.tenant is None or one.tenant == only.tenant)
        and (only.wire is None or one.wire == only.wire)
        and (only.category is None or only.category in labels(one))
        and (only.since is None or int(one.time * 1000) >= int(only.since * 1000))
        and (only.until is None or int(one.time * 1000) < int(only.until * 1000))
    )


TIMES = st.integers(0, 20).map(lambda n: NOW + n / 4)
FILTERS = st.builds(
    Filter,
    action=st.none() | st.sampled_from(ACTIONS),
    tenant=st.none() | st.sampled_from(TENANTS),
    category=st.none() | st.sampled_from([*THREATS, "secret", "pii", "harmful_code"]),
    wire=st.none() | st.sampled_from(WIRES),
    since=st.none() | TIMES,
    until=st.none() | TIMES,
)


@given(
    st.lists(findable_decisions(TIMES), max_size=12, unique_by=lambda each: each.id),
    FILTERS,
    st.integers(1, 5),
    st.lists(st.lists(findable_decisions(TIMES), max_size=3), max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_pages_hold_each_record_once_and_in_order_while_others_arrive(
    fresh: Fresh, first: list[AnyDecision], only: Filter, limit: int, later: list[list[AnyDecision]]
) -> None:
    known = {each.id for each in first}
    arrivals = [[each for each in batch if each.id not in known] for batch in later]

    async def story(state: State) -> list[Record]:
        await state.append(first)
        page = await state.decisions(only, limit)
        found = list(page.decisions)
        while page.cursor is not None:
            if arrivals:
                await state.append(arrivals.pop())
            before = page.cursor
            page = await state.decisions(only, limit, before)
            assert page.cursor != before
            found += page.decisions
        return found

    found = use(fresh(), story)
    ids = [each.id for each in found]
    assert ids == sorted(set(ids), reverse=True)
    wanted = sorted((each for each in first if _wanted(only, each)), key=lambda each: each.id, reverse=True)
    assert [each for each in found if each.id in known] == [settle(each) for each in wanted]
    assert all(_wanted(only, settle(each)) for each in found)


def test_a_search_stops_at_its_bound_and_goes_on_from_there(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_state, "SCAN_STEP", 3)
    monkeypatch.setattr(redis_state, "MAX_SCANNED", 6)
    rare = decision(NOW, wire="anthropic.messages")

    async def story(state: State) -> list[Record]:
        await state.append([rare, *(decision(NOW + 1 + i) for i in range(40))])
        return await every_page(state, Filter(wire="anthropic.messages"), 2)

    assert use(fresh(), story) == [settle(rare)]


@pytest.mark.parametrize("cursor", ["", "c1-", "c1-xyz", "c2-" + "0" * 32, "0" * 32, "c1-" + "é" * 32])
def test_a_cursor_that_no_page_gave_is_refused(fresh: Fresh, cursor: str) -> None:
    with pytest.raises(ValueError, match=r"^cursor: "):
        use(fresh(), lambda state: state.decisions(cursor=cursor))


@pytest.mark.parametrize("limit", [0, -1, base.MAX_PAGE + 1])
def test_a_limit_out_of_range_is_refused(fresh: Fresh, limit: int) -> None:
    with pytest.raises(ValueError, match=r"^limit: "):
        use(fresh(), lambda state: state.decisions(limit=limit))


# Expiry. Redis keeps its own time for texts, so these times are today's.


def test_kept_texts_live_until_they_expire(fresh: Fresh) -> None:
    now = time.time()
    lasting, brief, past = decision(now), decision(now), decision(now)

    async def story(state: State) -> None:
        kept = [texts(lasting, now + 1000, "é\ud800"), texts(brief, now + 500), texts(past, now - 1)]
        await state.append([lasting, brief, past], kept)
        found = await state.kept_texts(lasting.id, now)
        assert found == texts(lasting, now + 1000, "é\ufffd")
        assert await state.kept_texts(brief.id, now) == texts(brief, now + 500)
        assert await state.kept_texts(brief.id, now + 500) is None
        assert await state.kept_texts(past.id, now) is None
        assert await state.kept_texts("0" * 32, now) is None
        assert await state.expire(now + 600, 0.0, 100) == 0
        assert await state.kept_texts(lasting.id, now + 600) is not None
        assert await state.decision(brief.id) is not None

    use(fresh(), story)


@pytest.mark.parametrize(
    ("before", "keep", "left"),
    [(0.0, 100, 10), (NOW + 4, 100, 6), (0.0, 3, 3), (NOW + 8, 3, 2), (NOW + 2, 3, 3), (NOW + 99, 100, 0), (0.0, 0, 0)],
)
def test_decisions_expire_by_age_and_by_number(fresh: Fresh, before: float, keep: int, left: int) -> None:
    until = time.time() + 1000
    made = [decision(NOW + i, threats=["pii.payment"], action="block") for i in range(10)]
    staying = [settle(each) for each in reversed(made[10 - left :])]

    async def story(state: State) -> None:
        await state.append(made, [texts(each, until) for each in made])
        assert await state.expire(until - 1, before, keep) == 10 - left
        for only in (ANY, Filter(category="pii"), Filter(action="block"), Filter(tenant="default")):
            assert await every_page(state, only, 4) == staying
        for each in made:
            gone = each not in made[10 - left :]
            assert (await state.kept_texts(each.id, until - 1) is None) == gone
            assert (await state.decision(each.id) is None) == gone

    use(fresh(), story)


def test_more_expires_than_one_step_removes(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite_decisions", "redis"):
        monkeypatch.setattr(f"gateway.state.{module}.EXPIRE_STEP", 7)

    async def story(state: State) -> None:
        await state.append([decision(NOW + i) for i in range(30)])
        assert await state.expire(NOW, 0.0, 2) == 28
        assert [each.time for each in await every_page(state, ANY, 5)] == [NOW + 29, NOW + 28]

    use(fresh(), story)


# Settings


def test_a_setting_is_written_only_over_the_version_that_was_read(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        assert await state.get("generation") is None
        assert await state.swap("generation", b"one", 3) is None
        assert await state.swap("generation", b"one", 0) == 1
        assert await state.swap("generation", b"other", 0) is None
        assert await state.get("generation") == (b"one", 1)
        assert await state.swap("generation", b"\x00two", 1) == 2
        assert await state.get("generation") == (b"\x00two", 2)
        assert await state.get("other") is None

    use(fresh(), story)


def test_of_many_writers_at_once_one_wins(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        tries = await asyncio.gather(*(state.swap("leader", b"%d" % i, 0) for i in range(20)))
        assert [each for each in tries if each is not None] == [1]
        found = await state.get("leader")
        assert found == (b"%d" % tries.index(1), 1)

    use(fresh(), story)


# Documents


def test_documents_are_written_once_each_and_listed_in_order(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        assert await state.document("case", "a") is None
        assert await state.put("case", "a", b"one", 4) is None
        for id in ("b", "a", "c"):
            assert await state.put("case", id, b"\x00one " + id.encode(), 0) == 1
        assert await state.put("other", "a", b"x", 0) == 1
        assert await state.put("case", "a", b"again", 0) is None
        assert await state.put("case", "a", b"two", 1) == 2
        assert await state.document("case", "a") == (b"two", 2)
        assert await state.documents("case") == [("c", (b"\x00one c", 1)), ("b", (b"\x00one b", 1)), ("a", (b"two", 2))]
        assert [id for id, _ in await state.documents("case", 1, "c")] == ["b"]
        assert await state.remove("case", "b")
        assert not await state.remove("case", "b")
        assert [id for id, _ in await state.documents("case")] == ["c", "a"]
        with pytest.raises(ValueError, match="limit"):
            await state.documents("case", 0)

    use(fresh(), story)


def test_of_many_writers_of_a_document_one_wins(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        tries = await asyncio.gather(*(state.put("case", "x", b"%d" % i, 0) for i in range(20)))
        assert [each for each in tries if each is not None] == [1]

    use(fresh(), story)


# Fleeting values and tallies


def test_fleeting_values_are_there_until_they_expire(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        now = time.time()
        assert await state.fleeting([], now) == []
        assert await state.fleeting(["a", "b"], now) == [None, None]
        await state.put_fleeting({"a": b"1", "b": b"\0\xff"}, now + 60)
        await state.put_fleeting({"c": b"3"}, now - 60)
        assert await state.fleeting(["b", "c", "a", "b"], now) == [b"\0\xff", None, b"1", b"\0\xff"]
        await state.put_fleeting({"a": b"2"}, now + 60)
        assert await state.fleeting(["a"], now) == [b"2"]
        await state.expire(now, 0, 100)
        assert await state.fleeting(["a", "c"], now) == [b"2", None]

    use(fresh(), story)


def test_tallies_add_up_whoever_counts(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        later = time.time() + 60
        assert await state.tally("x", {"a": 2, "b": 0}, later) == [(2, 1), (0, 1)]
        totals = await asyncio.gather(*(state.tally(f"y{number}", {"a": 1, "b": 10}, later) for number in range(20)))
        assert sorted(totals) == [[(3 + n, 2 + n), (10 + 10 * n, 2 + n)] for n in range(20)]
        assert await state.tally("x", {"b": 5}, later) == [(205, 21)]

    use(fresh(), story)


def test_what_is_said_twice_counts_once(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        later = time.time() + 60
        for value, total in ((3, 10), (3, 10), (12, 19), (9, 19), (0, 19)):
            await state.tally("y", {"a": 7}, later)
            assert await state.tally("x", {"a": value}, later) == [(total, 2)]
        assert await state.tally("z", {}, later) == []

    use(fresh(), story)


# Streams


async def drained(state: State, who: str, count: int = 100) -> list[bytes]:
    """Claim and settle until there is no more; bodies in the order of their claims."""
    found: list[bytes] = []
    while events := await state.claim("work", who, count, 60, time.time()):
        assert len(events) <= count
        found += [event.body for event in events]
        assert await state.settle("work", who, [event.id for event in events]) is Settled.DONE
    return found


def test_an_event_is_given_to_one_and_gone_when_it_is_settled(fresh: Fresh) -> None:
    made = [b"\x00%d" % i for i in range(7)]

    async def story(state: State) -> None:
        now = time.time()
        assert await state.claim("work", "a", 9, 60, now) == []
        assert await state.backlog("work", now) == (0, 0, 0.0, 0)
        assert await state.emit("work", made[:5], now, 10, make_room=True) == 0
        assert await state.emit("work", made[5:], now, 10, make_room=False) == 0
        mine, others = await state.claim("work", "a", 3, 60, now), await state.claim("work", "b", 9, 60, now)
        assert [event.body for event in (*mine, *others)] == made
        assert {event.deliveries for event in (*mine, *others)} == {1}
        assert await state.claim("other", "a", 9, 60, now) == []
        told = await state.backlog("work", now + 5)
        assert (told.waiting, told.pending, told.dropped) == (0, 7, 0)
        assert 4 < told.oldest < 7
        assert await state.settle("work", "b", [mine[0].id]) is Settled.GONE, "another holds it"
        assert await state.settle("work", "a", [event.id for event in mine]) is Settled.DONE
        assert await state.settle("work", "a", [mine[0].id]) is Settled.GONE, "it is settled"
        assert (await state.backlog("work", now))[:2] == (0, 4)

    use(fresh(), story)


def test_what_a_dead_one_held_is_given_to_the_next_who_asks(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        await state.emit("work", [b"0", b"1", b"2"], time.time(), 10, make_room=True)
        held = await state.claim("work", "dead", 2, 60, time.time())
        assert await drained(state, "b") == [b"2"], "what it holds is its own for a while"
        again = await state.claim("work", "b", 9, 0, time.time())
        assert [(event.id, event.body, event.deliveries) for event in again] == [(e.id, e.body, 2) for e in held]
        assert await state.settle("work", "dead", [held[0].id]) is Settled.GONE, "it was only slow"
        assert await state.settle("work", "b", [event.id for event in again]) is Settled.DONE
        assert (await state.backlog("work", time.time()))[:2] == (0, 0)

    use(fresh(), story)


def test_what_came_of_events_is_written_with_them_once_or_not_at_all(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        await state.emit("work", [b"x"], time.time(), 10, make_room=True)
        (event,) = await state.claim("work", "a", 9, 60, time.time())
        await state.put("sum", "known", b"1", 0)
        both = [Change("sum", "known", b"2", 0), Change("sum", "new", b"\x00", 0)]
        assert await state.settle("work", "a", [event.id], both) is Settled.CONFLICT
        assert await state.document("sum", "new") is None
        assert await state.document("sum", "known") == (b"1", 1)
        both[0] = both[0]._replace(version=1)
        assert await state.settle("work", "a", [event.id], both) is Settled.DONE
        assert await state.settle("work", "a", [event.id], [Change("sum", "known", b"3", 2)]) is Settled.GONE
        found = await state.documents("sum")
        assert found == [("new", (b"\x00", 1)), ("known", (b"2", 2))]
        assert await state.put("sum", "known", b"4", 2) == 3

    use(fresh(), story)


def test_a_stream_is_bounded_and_says_what_had_to_go(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        made = [b"%d" % i for i in range(8)]
        assert await state.emit("work", made[:4], time.time(), 5, make_room=False) == 0
        assert await state.emit("work", made[4:6], time.time(), 5, make_room=False) is None
        assert await state.emit("work", made[4:6], time.time(), 5, make_room=True) == 1
        held = await state.claim("work", "a", 2, 60, time.time())
        assert [event.body for event in held] == made[1:3]
        assert await state.emit("work", made[6:], time.time(), 5, make_room=True) == 2
        assert await state.settle("work", "a", [held[0].id]) is Settled.GONE, "it had to go, too"
        assert await drained(state, "b") == made[3:]
        assert await state.claim("work", "b", 9, 0, time.time()) == []
        assert await state.backlog("work", time.time()) == (0, 0, 0.0, 3)

    use(fresh(), story)


def test_many_share_the_work_and_each_event_is_done_once(fresh: Fresh) -> None:
    made = [b"%d" % i for i in range(300)]

    async def story(state: State) -> None:
        async def produce() -> None:
            for start in range(0, len(made), 25):
                await state.emit("work", made[start : start + 25], time.time(), 1000, make_room=False)

        await produce()
        shares = await asyncio.gather(*(drained(state, f"worker {i}", 7) for i in range(4)))
        assert sorted(body for share in shares for body in share) == sorted(made)
        assert all(shares), "everybody had some"

    use(fresh(), story)


def test_what_expired_leaves_no_room_taken(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        await state.ping()  # to connect takes its time
        for who, seconds in (("x", 0.5), ("y", 2.0), ("z", 8.0)):
            now = time.time()
            await state.put_fleeting({who: b"1"}, now + seconds)
            await state.tally(who, {who: 7}, now + seconds)
            await state.tally(who, {who: 8}, now + 60)  # it is gone when it was first to be
            if time.time() < now + seconds / 2:
                break  # else the first one may have been gone: this machine has much to do
        while await state.fleeting([who], time.time()) != [None]:
            await asyncio.sleep(0.01)
        await state.expire(time.time(), 0, 100)
        assert await state.tally(who, {who: 1}, now + 60) == [(1, 1)]

    use(fresh(), story)


# The store itself


def test_a_closed_store_says_so(fresh: Fresh) -> None:
    async def story(state: State) -> None:
        await state.ping()
        await state.close()
        await state.close()
        with pytest.raises(StateUnavailable, match="closed"):
            await state.ping()

    use(fresh(), story)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "begins with ''"),
        ("sqlite:", "begins with 'sqlite'"),
        ("sqlite:///srv/state.db", "begins with 'sqlite'"),
        ("postgres://user:hunter2@host/db", "begins with 'postgres'"),
        ("redis://", "host is missing"),
        ("redis://:hunter2@", "host is missing"),
        ("redis://:hunter2@host:99999/0", "port"),
        ("redis://:hunter2@host:port/0", "port"),
        ("redis://:hunter2@host/prod", "database"),
        ("redis://host?password=hunter2", "unknown option 'password'"),
        ("rediss://host/0?ssl_cert_reqs=none", "unknown option 'ssl_cert_reqs'"),
        ("unix://", "path is missing"),
        ("redis://a,b", "several hosts"),
        ("redis+sentinel://:hunter2@a,b", "master's name"),
        ("redis+cluster://:hunter2@a/3", "no databases"),
        ("redis+cluster://a,:1", "host is missing"),
        ("redis+sentinel://a/main?ssl_ca_certs=x", "unknown option 'ssl_ca_certs'"),
        ("redis://:hunter2/x@host", "host is missing"),
        ("redis://user:hunter2@x@host", "password written as %2F"),
    ],
)
def test_a_url_that_names_no_store_is_refused_by_name_and_without_its_secret(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        open_state(url)
    assert str(caught.value).startswith("state: ")
    assert "wanted sqlite:PATH" in str(caught.value)
    assert "hunter2" not in str(caught.value)
