"""The autoscaler's simulation: what must hold for any demand, and that it is the same every time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.autoscaling import Plan, ramp, simulate, step
from bench.capacity import pods

PLAN = Plan(pod_rate=1000, target=0.65, least=3, most=50, start_seconds=15)


@given(st.floats(1, 40_000), st.floats(1, 40_000), st.integers(0, 1200), st.integers(1, 600))
def test_pods_stay_within_bounds_and_settle(before: float, after: float, at: int, seconds: int) -> None:
    outcome = simulate(PLAN, ramp(before, after, at, seconds), 3600)
    assert all(count >= 3 for count in outcome.pods)
    assert max(outcome.pods) <= max(50, outcome.pods[0])
    needed = after / (PLAN.pod_rate * PLAN.target)
    if needed <= PLAN.most:  # an hour later there is enough, with the autoscaler's own tolerance
        assert outcome.pods[-1] * PLAN.pod_rate * PLAN.target * 1.1 >= after
    assert 0 <= outcome.refused_share <= 1


def test_steady_demand_changes_nothing() -> None:
    outcome = simulate(PLAN, step(6500, 6500, 0), 3600)
    assert set(outcome.pods) == {10}
    assert (outcome.refused_share, outcome.short_seconds) == (0, 0)


def test_slow_pods_refuse_more() -> None:
    jump = step(5000, 20_000, 300)
    quick, slow = (simulate(PLAN._replace(start_seconds=seconds), jump, 3600) for seconds in (10, 120))
    assert quick.refused_share < slow.refused_share
    assert simulate(PLAN, jump, 3600) == simulate(PLAN, jump, 3600)


def test_the_arithmetic() -> None:
    assert pods(1_000_000, 65) == 100  # 65 core-seconds a second, at 0.65 of a core each
    assert pods(1, 65) == 3
