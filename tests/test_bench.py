"""The pure parts of the benchmarks: texts, what load generators print, medians, goals, the last line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import gateway, load, machine, profile, prompts, report
from bench.load import Run
from bench.processes import BenchError, Lab, Memory
from bench.proxies import rivals
from bench.report import Goal

NAN = float("nan")

WRK = """Running 2s test @ http://127.0.0.1:9000
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   412.17us  105.30us   4.18ms   92.01%
Requests/sec:  75210.11
Transfer/sec:     48.12MB

bench {"requests":150420,"microseconds":2000000,"p50":394,"p99":1330,"bad":3}
"""

STREAMS = (
    '{"streams":20,"microseconds":500000,"bad":0,"events":2000,"reads":2040,"first_p50":87,"first_p99":384,'
    '"total_p50":431,"total_p99":568,"delay_p50":17,"delay_p99":51}\n'
)

QUIET = Run(1000.0, 0, 50.0, 0.9, 0.0, 300.0, 900.0)
STREAM = QUIET._replace(first_p50=100.0, first_p99=200.0, delay_p50=20.0, delay_p99=60.0)


def test_a_wrk_run_is_read() -> None:
    run = load.read_run(load.parse(WRK), proxy_seconds=1.8, other_seconds=0.2)
    assert (run.rate, run.bad, run.p50, run.p99) == (75210.0, 3, 394, 1330)
    assert run.cpu_us == pytest.approx(1.8e6 / 150420)
    assert run.busy == pytest.approx(0.9)
    assert run.neighbours == pytest.approx(0.1)
    assert math.isnan(run.first_p50)


def test_a_stream_run_is_read() -> None:
    run = load.read_run(load.parse(STREAMS), proxy_seconds=0.1, other_seconds=-0.01)
    assert (run.rate, run.neighbours) == (40.0, 0.0)
    assert run.cpu_us == pytest.approx(5000.0)
    assert run[5:] == (431, 568, 87, 384, 17, 51)


@pytest.mark.parametrize("printed", [WRK.replace("150420", "0"), STREAMS.replace('"streams":20', '"streams":0')])
def test_a_run_without_an_answer_has_no_times(printed: str) -> None:
    run = load.read_run(load.parse(printed), 0.1, 0.0)
    assert run.rate == 0
    assert all(math.isnan(value) for value in (run.cpu_us, *run[5:]))


@pytest.mark.parametrize("printed", ["", "unable to connect to 127.0.0.1:1 Connection refused\n", 'bench {"requests":'])
def test_a_load_that_printed_no_measurement_is_an_error(printed: str) -> None:
    with pytest.raises(BenchError, match="no measurement"):
        load.parse(printed)


def test_medians_leave_out_what_was_not_measured_and_add_up_failures() -> None:
    runs = [QUIET._replace(rate=10.0, bad=1, p50=NAN), QUIET._replace(rate=30.0, p50=7.0), QUIET._replace(rate=20.0, bad=2)]
    middle = load.median(runs)
    assert (middle.rate, middle.bad, middle.p50) == (20.0, 3, (7.0 + 300.0) / 2)
    assert math.isnan(middle.first_p50)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
def test_a_median_lies_among_the_runs(rates: list[float]) -> None:
    middle = load.median([QUIET._replace(rate=rate) for rate in rates]).rate
    assert min(rates) <= middle <= max(rates)


def test_counters_are_found_by_name_and_label() -> None:
    text = (
        "# TYPE portcullis_cache_total counter\n"
        'portcullis_cache_total{result="hit"} 12.0\nportcullis_cache_total{result="miss"} 3.0\n'
        "portcullis_cache_total_other 9.0\nportcullis_decisions_stored_total 7.0\n"
    )
    assert load.counters(text, "portcullis_cache_total") == {'{result="hit"}': 12.0, '{result="miss"}': 3.0}
    assert load.counters(text, "portcullis_decisions_stored_total") == {"": 7.0}
    assert load.counters(text, "portcullis_absent_total") == {}


def _medians(**ours: Run) -> dict[str, dict[str, Run]]:
    nginx = {each.name: STREAM if each.streamed else QUIET for each in gateway.LOADS}
    return {"nginx": nginx, "portcullis": {**nginx, **ours}}


MEMORIES = {"nginx": Memory(8.0, 7.0), "portcullis": Memory(109.0, 100.0)}


def test_all_goals_are_met_by_a_gateway_as_fast_as_nginx() -> None:
    goals = gateway.goals(_medians(), MEMORIES)
    assert len(goals) == 7
    assert all(goal.met for goal in goals)


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        ({"whole_300_c32": QUIET._replace(rate=249.0)}, "rate_300_c32_to_nginx_at_least"),
        ({"whole_4k_c32": QUIET._replace(rate=149.0)}, "rate_4k_c32_to_nginx_at_least"),
        ({"whole_300_c1": QUIET._replace(p50=381.0)}, "c1_p50_us_over_nginx_at_most"),
        ({"stream_c1": STREAM._replace(first_p50=161.0)}, "stream_first_byte_to_nginx_at_most"),
        ({"paced_c1": STREAM._replace(first_p50=161.0)}, "paced_first_byte_to_nginx_at_most"),
        ({"stream_c1": STREAM._replace(first_p50=NAN)}, "stream_first_byte_to_nginx_at_most"),
        ({"cached_300_c32": QUIET._replace(bad=1)}, "bad_replies_at_most"),
    ],
)
def test_each_goal_can_be_missed(ours: dict[str, Run], missed: str) -> None:
    goals = gateway.goals(_medians(**ours), MEMORIES)
    assert [goal.name for goal in goals if not goal.met] == [missed]


def test_a_heavy_worker_misses_its_goal() -> None:
    goals = gateway.goals(_medians(), {"portcullis": Memory(110.1, 100.0)})
    assert [goal.name for goal in goals if not goal.met] == ["worker_rss_mb_at_most"]


def test_there_are_no_goals_without_nginx() -> None:
    medians = _medians()
    del medians["nginx"]
    assert gateway.goals(medians, MEMORIES) == []


def test_the_tables_show_every_load_and_what_was_not_measured() -> None:
    text = gateway.tables(_medians(whole_300_c1=QUIET._replace(p50=NAN)), MEMORIES)
    assert all(each.title in text for each in gateway.LOADS)
    assert " - |" in text


def test_the_last_line_is_json_with_the_promised_keys() -> None:
    goals = [Goal("a_at_least", 0.5, 0.25), Goal("b_at_most", NAN, 1.6)]
    line = report.last_line("gateway", {"cores": 2}, {"python": "3"}, {"nginx": {}}, goals)
    assert "\n" not in line
    assert json.loads(line) == {
        "bench": "gateway", "machine": {"cores": 2}, "versions": {"python": "3"}, "figures": {"nginx": {}},
        "goals": {
            "a_at_least": {"figure": 0.5, "goal": 0.25, "met": True},
            "b_at_most": {"figure": None, "goal": 1.6, "met": False},
        },
    }  # fmt: skip


@pytest.mark.parametrize(("name", "met"), [("x_at_least", (False, True, True)), ("x_at_most", (True, True, False))])
def test_a_goal_compares_as_its_name_says(name: str, met: tuple[bool, ...]) -> None:
    assert tuple(Goal(name, figure, 2.0).met for figure in (1.0, 2.0, 3.0)) == met


@pytest.mark.parametrize("size", [40, 300, 4096])
def test_texts_differ_have_their_size_and_come_again(size: int) -> None:
    texts = list(prompts.texts(500, size))
    assert len(set(texts)) == 500
    assert {len(text) for text in texts} == {size}
    assert all(text.isascii() for text in texts)
    assert list(prompts.texts(500, size)) == texts
    assert list(prompts.texts(5, size, seed=1)) != texts[:5]


def test_request_files_hold_one_body_a_line(tmp_path: Path) -> None:
    prompts.write_requests(tmp_path / "r", "sse-100-0", 300, 20)
    bodies = [json.loads(line) for line in (tmp_path / "r").read_bytes().splitlines()]
    assert len({body["messages"][0]["content"] for body in bodies}) == 20
    assert all(body["stream"] is True and body["model"] == "sse-100-0" for body in bodies)
    assert "stream" not in json.loads(prompts.request_body("whole", "x"))


def test_replies_and_deltas_have_their_sizes(tmp_path: Path) -> None:
    prompts.write_replies(tmp_path / "replies", 10)
    assert {len(line) for line in (tmp_path / "replies").read_bytes().splitlines()} == {prompts.REPLY_BYTES}
    prompts.write_deltas(tmp_path / "deltas", 50)
    deltas = [json.loads(line) for line in (tmp_path / "deltas").read_text().splitlines()]
    assert [len(delta) for delta in deltas] == [prompts.DELTA_CHARS] * 50


def test_shares_of_folded_stacks() -> None:
    folded = ["main (a.py:1);read (a.py:5) 6", "main (a.py:1);scan (b.py:2) 3", "main (a.py:1) 1",
              "run (t.py:1);_worker (concurrent/futures/thread.py:81) 90"]  # fmt: skip
    found = {share.function: (share.own, share.with_callees) for share in profile.shares(folded)}
    assert found == {"read (a.py:5)": (0.6, 0.6), "scan (b.py:2)": (0.3, 0.3), "main (a.py:1)": (0.1, 1.0)}


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("nginx version: nginx/1.22.1\n", "1.22.1"),
        ("wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\n", "4.1.0-3+b2"),
        ("gcc (Debian 12.2.0-14) 12.2.0\n", "12.2.0-14"),
        ("unknown\nlines", "unknown"),
    ],
)
def test_versions_are_read_off_what_programs_print(printed: str, version: str) -> None:
    assert machine.first_version(printed) == version


def test_leaving_the_lab_ends_its_processes_and_removes_its_folder() -> None:
    with Lab() as lab:
        child = lab.start("sleeper", ["/bin/sh", "-c", "sleep 60 & wait"], lab.proxy_core, 0)
        assert child.alive()
        folder = lab.folder
    assert not child.alive()
    assert not folder.exists()


def test_a_missing_compiler_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with Lab() as lab, pytest.raises(BenchError, match="no C compiler"):
        lab.compile("upstream.c")


def test_the_versions_of_rivals_are_those_that_would_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may stand in an environment of its own; ours has a package of the same name, which is not the one that runs."""
    program = tmp_path / "litellm" / "bin" / "litellm"
    about = tmp_path / "litellm" / "lib" / "python3.11" / "site-packages" / "litellm-0.1.2.dist-info"
    server = tmp_path / "node" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    for folder in (program.parent, about, server.parent):
        folder.mkdir(parents=True)
    program.touch(0o755)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: litellm\nVersion: 0.1.2\n")
    server.touch()
    (server.parents[1] / "package.json").write_text('{"version": "3.4.5"}')
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NODE_PATH", str(tmp_path / "node"))
    monkeypatch.chdir(tmp_path)
    assert rivals() == {"litellm": "0.1.2", "portkey": "3.4.5"}
