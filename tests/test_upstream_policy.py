"""The pure decisions about a failing upstream: the circuit breaker and the retries, with the time given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.breaker import Breaker, BreakerPolicy, State
from gateway.upstream.errors import BadReply, ConnectFailed, TimedOut, TooBusy, Truncated, UpstreamError
from gateway.upstream.retry import RetryPolicy, delay, nothing_was_sent, retry_after

POLICY = BreakerPolicy(streak=3, ratio=0.5, least=6, window=10, rest=2, longest_rest=5)

# Each line: time, what happens ("+" success, "-" failure, "?" asks leave), then the state, and for "?" the seconds to wait.
STORIES: dict[str, str] = {
    "failures in a row open it": """
        0 - closed
        1 - closed
        2 - open
        3 ? open 1""",
    "a success breaks the row": """
        0 - closed
        0 - closed
        0 + closed
        0 - closed
        0 - closed
        0 ? closed 0""",
    "a share of failures opens it": """
        0 - closed
        1 + closed
        2 - closed
        3 + closed
        4 + closed
        5 - open""",
    "a share among few does not": """
        0 - closed
        1 + closed
        2 - closed
        3 + closed
        4 - closed""",
    "a share below the bound does not": """
        0 - closed
        0 + closed
        0 + closed
        0 + closed
        0 + closed
        1 - closed
        2 - closed""",
    "failures of another window do not count": """
        0 - closed
        1 + closed
        2 - closed
        3 + closed
        11 - closed
        12 + closed
        13 - closed""",
    "a trial that succeeds closes it": """
        0 - closed
        0 - closed
        0 - open
        2 ? half_open 0
        3 + closed
        3 ? closed 0
        4 - closed
        4 - closed
        4 - open""",
    "one trial at a time": """
        0 - closed
        0 - closed
        0 - open
        2 ? half_open 0
        2 ? half_open 2
        3 ? half_open 1""",
    "a trial that fails doubles the rest, up to a bound": """
        0 - closed
        0 - closed
        0 - open
        2 ? half_open 0
        2 - open
        2 ? open 4
        6 ? half_open 0
        7 - open
        7 ? open 5
        12 ? half_open 0
        12 + closed
        12 - closed
        12 - closed
        12 - open
        12 ? open 2""",
    "a trial that is never heard of is followed by another": """
        0 - closed
        0 - closed
        0 - open
        2 ? half_open 0
        4 ? half_open 0
        5 + closed""",
    "outcomes of requests from before change nothing": """
        0 - closed
        0 - closed
        0 - open
        1 - open
        1 + open
        1 ? open 1
        2 ? half_open 0""",
}


@pytest.mark.parametrize("name", STORIES)
def test_the_breaker(name: str) -> None:
    breaker = Breaker(POLICY)
    for line in STORIES[name].strip().splitlines():
        at, event, state, *wait = line.split()
        now = float(at)
        if event == "?":
            assert breaker.admit(now) == float(wait[0]), line
        elif event == "+":
            breaker.succeeded()
        else:
            breaker.failed(now)
        assert breaker.state(now) == state, line


def test_an_open_breaker_that_has_rested_is_half_open_before_anyone_asks() -> None:
    breaker = Breaker(POLICY)
    for _ in range(3):
        breaker.failed(0)
    assert [breaker.state(now) for now in (0, 1.9, 2)] == [State.OPEN, State.OPEN, State.HALF_OPEN]
    assert breaker.opened == 1


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from("+-?")), max_size=60))
def test_the_breaker_never_rests_longer_than_allowed(events: list[tuple[int, str]]) -> None:
    breaker = Breaker(POLICY)
    now = 0.0
    for pause, event in events:
        now += pause
        if event == "?":
            assert 0 <= breaker.admit(now) <= POLICY.longest_rest
        elif event == "+":
            breaker.succeeded()
        else:
            breaker.failed(now)
    assert breaker.admit(now + POLICY.longest_rest) == 0.0


RETRIES = RetryPolicy(attempts=4, base=1, longest=8)


@pytest.mark.parametrize(("attempt", "remaining", "chance", "wanted", "wait"), [
    (1, 100, 0.0, None, 0.0),      # full jitter: from nothing
    (1, 100, 1.0, None, 1.0),      # to the base
    (2, 100, 1.0, None, 2.0),      # doubled each time
    (3, 100, 0.5, None, 2.0),
    (4, 100, 0.5, None, None),     # that was the last attempt
    (1, 100, 0.0, 3.0, 3.0),       # what the upstream asks for is never undercut
    (1, 100, 1.0, 3.0, 4.0),       # and jittered beyond
    (1, 100, 0.0, 8.0, 8.0),
    (1, 100, 0.0, 8.1, None),      # longer than we wait: the caller's business
    (1, 100, 0.0, 0.0, 0.0),
    (1, 3, 0.0, 3.0, None),        # no time left after it
    (1, 0.5, 1.0, None, None),
    (1, 0, 0.0, None, None),
])  # fmt: skip
def test_the_wait(attempt: int, remaining: float, chance: float, wanted: float | None, wait: float | None) -> None:
    assert delay(RETRIES, attempt, remaining, chance, wanted) == wait


def test_no_wait_is_longer_than_allowed() -> None:
    patient = RetryPolicy(attempts=50, base=1, longest=8)
    assert delay(patient, 40, 100, 1.0, None) == 8.0


@pytest.mark.parametrize(("value", "seconds"), [
    (b"0", 0.0), (b"120", 120.0), (b"99999999999999999999", 999999999.0), (b"Fri, 31 Dec 1999 23:59:59 GMT", 9.0),
    (b"Friday, 31-Dec-99 23:59:59 GMT", 9.0), (b"Fri Dec 31 23:59:59 1999", 9.0), (b"Fri, 31 Dec 1999 23:59:40 GMT", 0.0),
    (b"0.5", 0.5), (b"1.25", 1.25),
    (b"", None), (b"-1", None), (b"1.", None), (b".5", None), (b"1e3", None), (b"nan", None), (b"soon", None), (b"\xff", None), (b"Fri, 99 Dec 1999 23:59:59 GMT", None),
    (b"1 2", None), (b"Fri, 31 Dec 99999999 23:59:59 GMT", None),
    (b"99999999999 Dec  31 24.00 GMT", None),
])  # fmt: skip
def test_retry_after(value: bytes, seconds: float | None) -> None:
    assert retry_after([(b"a", b"1"), (b"retry-after", value)], wall=946684790.0) == seconds


@pytest.mark.parametrize(("value", "seconds"), [(b"120", 0.12), (b"1500.5", 1.5005), (b"0", 0.0), (b"-1", 7.0), (b"", 7.0), (b"soon", 7.0)])
def test_milliseconds_are_nearer_than_seconds(value: bytes, seconds: float) -> None:
    """OpenAI and Azure send both, and their clients go by the former."""
    for headers in ([(b"retry-after", b"7"), (b"retry-after-ms", value)], [(b"retry-after-ms", value), (b"retry-after", b"7")]):
        assert retry_after(headers, wall=0.0) == seconds


def test_no_retry_after() -> None:
    assert retry_after([], wall=0.0) is None


@given(st.binary(max_size=40))
def test_any_retry_after_is_seconds_or_nothing(value: bytes) -> None:
    for name in (b"retry-after", b"retry-after-ms"):
        seconds = retry_after([(name, value)], wall=0.0)
        assert seconds is None or seconds >= 0


@pytest.mark.parametrize(("error", "unsent"), [
    (ConnectFailed("x"), True), (TimedOut("connect"), True), (TimedOut("first_byte"), False), (TimedOut("send"), False),
    (TimedOut("total"), False), (TimedOut("queue"), False), (Truncated(0), False), (BadReply("x"), False), (TooBusy(), False),
])  # fmt: skip
def test_what_cannot_have_reached_the_upstream(error: UpstreamError, unsent: bool) -> None:
    assert nothing_was_sent(error) is unsent
