"""Work in a process of its own, and what a thread that yields leaves to the others."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import pytest

from detectors.aside import LOWEST, SWITCH_SECONDS, YOUNG, kept, yielding


def pid_and_priority(given: list[str]) -> bytes:
    return " ".join([*given, str(os.getpid()), str(os.nice(0))]).encode()


def broken(_: list[str]) -> bytes:
    raise ValueError("cannot be made")


def test_another_process_makes_a_file_once_and_leaves_the_cores_to_who_serves(tmp_path: Path) -> None:
    own = os.nice(0)
    said, pid, priority = (kept(tmp_path / "one", pid_and_priority, ["ß"], bytes.decode) or "").split()
    assert (said, int(priority)) == ("ß", own)
    assert int(pid) != os.getpid()
    with yielding():
        again = (kept(tmp_path / "one", pid_and_priority, ["other"], bytes.decode) or "").split()
        assert again == [said, pid, priority], "it was there"
        lowest = str(min(19, own + LOWEST))
        assert (kept(tmp_path / "two", pid_and_priority, [], bytes.decode) or "").split()[1] == lowest


def test_what_cannot_be_made_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(tmp_path / "one", broken, [], bytes.decode) is None
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    assert kept(tmp_path / "one", pid_and_priority, [], bytes.decode) is None


def test_threads_that_yield_leave_everything_as_it_was() -> None:
    before = sys.getswitchinterval(), gc.get_threshold()
    inside, outside = threading.Event(), threading.Event()

    def other() -> None:
        with yielding():
            inside.set()
            outside.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    with yielding():
        assert (sys.getswitchinterval(), gc.get_threshold()[0]) == (pytest.approx(SWITCH_SECONDS), YOUNG)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS), "the other one yields still"
    outside.set()
    thread.join()
    assert (sys.getswitchinterval(), gc.get_threshold()) == before


def test_much_that_stays_is_not_looked_through_again_and_is_freed_all_the_same() -> None:
    frozen = gc.get_freeze_count()
    with yielding():
        built = [[number] for number in range(50 * YOUNG)]
    left_out = gc.get_freeze_count()
    assert left_out >= frozen + 50 * YOUNG
    built.clear()
    assert gc.get_freeze_count() <= left_out - 49 * YOUNG
    gc.unfreeze()
    with yielding():
        built = [[number] for number in range(YOUNG)]
    assert gc.get_freeze_count() == 0, "a few are not worth it"


def test_nothing_is_imported_from_where_the_gateway_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('of somebody else')")
    monkeypatch.chdir(tmp_path)
    assert kept(tmp_path / "one", pid_and_priority, ["said"], bytes.decode) is not None
