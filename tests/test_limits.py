"""Limits over many workers, without a store: what is let through, what is refused, and until when."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.limits.buckets import BYTES, MAX_SUBJECTS, MINUTE, REQUESTS, TOKENS, Ledger

START = 1_000_000 * MINUTE
NAME = "limit:tenant:acme"


class Allowed(NamedTuple):
    requests_per_minute: int | None = None
    bytes_per_minute: int | None = None
    tokens_per_minute: int | None = None


class Store:
    """The tallies, as `State.tally` keeps them."""

    def __init__(self) -> None:
        self.said: defaultdict[str, dict[Ledger, int]] = defaultdict(dict)

    def total(self, what: str, minute: int) -> int:
        return sum(self.said[f"{NAME}:{what}:{minute}"].values())

    def hear(self, ledger: Ledger, now: float) -> list[tuple[int, int]]:
        values = ledger.due(now)
        for name, value in values.items():
            self.said[name][ledger] = max(value, self.said[name].get(ledger, 0))
        return [(sum(self.said[name].values()), len(self.said[name])) for name in values]

    def answer(self, ledger: Ledger, now: float) -> None:
        ledger.told(self.hear(ledger, now))


def ask(ledger: Ledger, allowed: Allowed, now: float) -> bool:
    if ledger.refused(NAME, allowed, now) is not None:
        return False
    ledger.spend(NAME, REQUESTS, 1, now)
    return True


steps = st.lists(st.tuples(st.integers(0, 3), st.floats(0, 20)), max_size=120)


@given(st.integers(1, 20), steps)
def test_workers_that_ask_after_each_request_keep_to_the_limit(limit: int, steps: list[tuple[int, float]]) -> None:
    store, workers, now = Store(), [Ledger() for _ in range(4)], START
    went: list[float] = []
    for worker, pause in steps:
        now += pause
        workers[worker].refused(NAME, Allowed(limit), now)  # from then on it asks about them
        store.answer(workers[worker], now)
        if ask(workers[worker], Allowed(limit), now):
            went.append(now)
        store.answer(workers[worker], now)
    by_minute: defaultdict[int, int] = defaultdict(int)
    for when in went:
        by_minute[int(when // MINUTE)] += 1
    assert all(count <= limit for count in by_minute.values())
    # Of the minute before, what is still covered is taken as if it had come evenly.
    for minute in by_minute:
        share = 1 - max(when for when in went if when // MINUTE == minute) % MINUTE / MINUTE
        assert by_minute[minute] + by_minute.get(minute - 1, 0) * share <= limit + 1e-6


@given(st.integers(1, 20), steps)
def test_what_goes_beyond_is_what_came_since_workers_asked(limit: int, steps: list[tuple[int, float]]) -> None:
    store, workers, now, unsent, beyond = Store(), [Ledger() for _ in range(4)], START, 0, 0
    by_minute: defaultdict[int, int] = defaultdict(int)
    for number, (worker, pause) in enumerate(steps):
        now += pause
        if number % 7 == 0:
            for one in (*workers, *workers):  # who asked first did not hear of the others yet
                one.refused(NAME, Allowed(limit), now)  # all are in use: who is not does not ask
                store.answer(one, now)
            unsent = 0
        if ask(workers[worker], Allowed(limit), now):
            by_minute[int(now // MINUTE)] += 1
            unsent += 1
        beyond = max(beyond, unsent)
    assert all(count <= limit + beyond for count in by_minute.values())


@given(st.integers(1, 30), st.lists(st.floats(0, 5), min_size=1, max_size=150))
def test_who_waits_as_told_is_let_in(limit: int, pauses: list[float]) -> None:
    ledger, now = Ledger(), START
    for pause in pauses:
        now += pause
        refused = ledger.refused(NAME, Allowed(limit), now)
        if refused is None:
            ledger.spend(NAME, REQUESTS, 1, now)
            continue
        assert (refused.what, refused.limit) == (REQUESTS, limit)
        assert 1 <= refused.seconds <= 2 * MINUTE
        assert ledger.refused(NAME, Allowed(limit), now + refused.seconds) is None
        assert refused.seconds == 1 or ledger.refused(NAME, Allowed(limit), now + refused.seconds - 1.001) is not None


@given(st.integers(1, 10_000), st.lists(st.integers(0, 5_000), max_size=40))
@example(188, [255, 0])
def test_bytes_are_let_in_while_there_is_any_room(limit: int, sizes: list[int]) -> None:
    ledger, spent = Ledger(), 0
    for size in sizes:
        refused = ledger.refused(NAME, Allowed(bytes_per_minute=limit), START)
        assert (refused is None) == (spent < limit)
        if refused is None:
            ledger.spend(NAME, BYTES, size, START)
            spent += size
        else:
            assert ledger.refused(NAME, Allowed(bytes_per_minute=limit), START + refused.seconds) is None


def test_while_the_store_is_gone_each_keeps_to_its_share_and_tells_all_of_it_afterwards() -> None:
    store, workers, limit = Store(), [Ledger() for _ in range(3)], Allowed(30)
    for worker in workers:
        assert ask(worker, limit, START)
        store.answer(worker, START)
    for worker in workers:
        worker.refused(NAME, limit, START)
        store.answer(worker, START)
        assert worker.share == 3
        worker.due(START)
        worker.told(None)
        assert worker.alone
    went = [sum(ask(worker, limit, START + 1) for _ in range(40)) for worker in workers]
    assert went == [9, 9, 9]  # ten each, of which one went before
    for worker in workers:
        store.answer(worker, START + 2)
        assert not worker.alone
    assert store.total(REQUESTS, int(START // MINUTE)) == 30
    for worker in workers:
        worker.refused(NAME, limit, START + 2)
        store.answer(worker, START + 2)
    assert not any(ask(worker, limit, START + 3) for worker in workers)


def test_a_limit_smaller_than_the_number_of_workers_leaves_each_one_request() -> None:
    store, workers = Store(), [Ledger() for _ in range(4)]
    for worker in workers:
        ask(worker, Allowed(100), START)
        store.answer(worker, START)
    for worker in workers:
        worker.refused(NAME, Allowed(100), START)
        store.answer(worker, START)
        worker.due(START)
        worker.told(None)
        assert ask(worker, Allowed(2), START + MINUTE * 2)
        assert not ask(worker, Allowed(2), START + MINUTE * 2)


def test_what_nobody_uses_is_forgotten() -> None:
    ledger = Ledger()
    for number in range(100):
        ledger.spend(f"limit:key:acme:{number}", REQUESTS, 1, START)
    ledger.due(START)
    assert len(ledger) == 100
    assert ledger.due(START + 4 * MINUTE) == {}
    assert len(ledger) == 0


def test_only_what_was_used_is_asked_about_and_the_minute_before_only_until_it_is_known() -> None:
    store, ledger = Store(), Ledger()
    asked = []
    for second in (50.0, 50.1, 61.0, 61.1, 64.9, 65.1, 65.2):
        ask(ledger, Allowed(1_000), START + second)
        asked.append([int(name.rsplit(":", 1)[1]) - int(START // MINUTE) for name in ledger.due(START + second)])
        ask(ledger, Allowed(1_000), START + second)
        ledger.told(None)
        store.answer(ledger, START + second)
        assert not ledger.waiting
        assert ledger.due(START + second) == {}
    assert asked == [[-1, 0], [0], [0, 1], [1], [1], [0, 1], [1]]
    assert [store.total(REQUESTS, int(START // MINUTE) + minute) for minute in (-1, 0, 1)] == [0, 4, 10]


def test_many_are_asked_about_in_turn() -> None:
    ledger, names = Ledger(), [f"limit:key:acme:{number}" for number in range(10 * MAX_SUBJECTS)]
    for name in names:
        ledger.spend(name, REQUESTS, 1, START)
    asked: list[str] = []
    while ledger.waiting:
        due = ledger.due(START)
        ledger.told([(1, 1)] * len(due))
        assert len(due) == 2 * MAX_SUBJECTS  # the minute before, once
        asked += [name.rsplit(":", 2)[0] for name in due]
        ledger.spend("limit:key:acme:often", REQUESTS, 1, START)
        if len(asked) == 2 * len(names):
            break
    assert asked == [name for name in names for _ in range(2)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans(), st.booleans()), max_size=60))
def test_an_answer_that_got_lost_counts_nothing_twice(steps: list[tuple[int, int, bool, bool]]) -> None:
    store, workers, spent = Store(), [Ledger() for _ in range(3)], 0
    for number, amount, heard, answered in steps:
        workers[number].spend(NAME, REQUESTS, amount, START)
        spent += amount
        if not heard:
            workers[number].due(START)
            workers[number].told(None)
            assert workers[number].waiting  # it says so again, used or not
            continue
        answer = store.hear(workers[number], START)
        workers[number].told(answer if answered else None)
    for _ in range(2):  # who asked first did not hear of the others yet
        for worker in workers:
            worker.refused(NAME, Allowed(), START)
            worker.spend(NAME, REQUESTS, 0, START)
            store.answer(worker, START)
    assert store.total(REQUESTS, int(START // MINUTE)) == spent
    for worker in workers:
        assert worker.refused(NAME, Allowed(spent + 1), START) is None
        assert worker.refused(NAME, Allowed(max(1, spent)), START) is not None or not spent
        assert worker.share == 3


def test_tokens_under_way_count_here_until_it_is_known_what_they_came_to() -> None:
    ledger, allowed = Ledger(), Allowed(tokens_per_minute=100)
    assert ledger.refused(NAME, allowed, START, 60) is None
    ledger.hold(NAME, 60, START)
    assert ledger.refused(NAME, allowed, START, 40) is None
    told = ledger.refused(NAME, allowed, START, 41)
    assert told is not None
    assert (told.what, told.limit) == (TOKENS, 100)
    ledger.hold(NAME, -60, START)
    ledger.spend(NAME, TOKENS, 20, START)
    assert ledger.refused(NAME, allowed, START, 80) is None
    assert ledger.refused(NAME, allowed, START, 81) is not None


def test_more_tokens_than_a_minute_has_go_where_a_whole_one_is_free() -> None:
    ledger, allowed = Ledger(), Allowed(tokens_per_minute=100)
    assert ledger.refused(NAME, allowed, START, 1_000) is None
    ledger.spend(NAME, TOKENS, 1, START)
    assert ledger.refused(NAME, allowed, START, 1_000) is not None
    assert ledger.refused(NAME, allowed, START + 2 * MINUTE, 1_000) is None


@given(st.integers(1, 9), st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_a_stale_worker_that_looks_again_lets_no_more_go(limit: int, workers: list[int]) -> None:
    """As `Limiter.read` does it: nobody knew of the others when it was asked, and all do before requests go on."""
    store, ledgers, went = Store(), [Ledger() for _ in range(4)], 0
    allowed = Allowed(limit)
    admitted = [ledgers[worker] for worker in workers if ask(ledgers[worker], allowed, START)]
    for _ in range(2):
        for ledger in ledgers:
            store.answer(ledger, START)
    for ledger in admitted:
        ledger.give_back(NAME, REQUESTS, 1, START)
        went += ask(ledger, allowed, START)
        store.answer(ledger, START)
    assert went <= limit
    assert went > 0 or len(admitted) > limit


def test_what_was_given_back_is_spent_before_anything_is_told() -> None:
    store, ledger = Store(), Ledger()
    for _ in range(3):
        ledger.spend(NAME, REQUESTS, 1, START)
    store.answer(ledger, START)
    ledger.give_back(NAME, REQUESTS, 1, START)
    assert ask(ledger, Allowed(3), START)
    assert not ask(ledger, Allowed(3), START)
    store.answer(ledger, START)
    assert store.total(REQUESTS, int(START // MINUTE)) == 3
