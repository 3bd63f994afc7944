"""What is SQLite's own: the file, several processes on it, a killed writer, a full disk."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path

import pytest
from state_support import NOW, TENANTS, THREATS, decision, texts

from gateway.state.base import Filter, State, StateUnavailable
from gateway.state.opening import open_state
from gateway.state.sqlite import SqliteState

BATCH = 200

WRITER = f"""
import asyncio, itertools, sys
from gateway.state.opening import open_state
from state_support import decision

async def main(url, name, count):
    state = open_state(url)
    await state.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in itertools.islice(itertools.count(), count or None):
        await state.append([decision(model=f"{{name}} {{number}}") for _ in range({BATCH})])
        print(number, flush=True)
    await state.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def writer(url: str, name: str, batches: int = 0) -> subprocess.Popen[str]:
    """A process that is ready and waits for a line before it appends ``batches`` (0: endlessly)."""
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, name, str(batches)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])},
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def batches(path: Path) -> dict[str, int]:
    """How many records each batch has, read by another program's eyes."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        models = [row[0] for row in db.execute("SELECT body ->> 7 FROM decisions")]
    return {model: models.count(model) for model in set(models)}


def test_a_killed_writer_leaves_whole_batches_only(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    for attempt in range(4):
        process = writer(f"sqlite:{path}", f"run{attempt}")
        assert line(process) == "ready"
        go(process)
        told = ""
        for _ in range(3 * attempt + 1):
            told = line(process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = batches(path)
        assert set(found.values()) == {BATCH}
        assert all(f"run{attempt} {number}" in found for number in range(int(told) + 1))


def test_processes_that_begin_together_share_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.db"
    processes = [writer(f"sqlite:{path}", f"p{number}", 5) for number in range(3)]
    assert [line(process) for process in processes] == ["ready"] * 3
    for process in processes:
        go(process)
    assert [process.wait() for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    assert batches(path) == {f"p{p} {n}": BATCH for p in range(3) for n in range(5)}


def test_one_store_sees_what_another_wrote(tmp_path: Path) -> None:
    async def story() -> None:
        one, two = open_state(f"sqlite:{tmp_path}/state.db"), open_state(f"sqlite:{tmp_path}/state.db")
        made = decision()
        await two.ping()
        await one.append([made])
        assert await two.decision(made.id) is not None
        await one.close()
        await two.close()

    asyncio.run(story())


def test_the_files_are_private_and_so_is_the_folder_made_for_them(tmp_path: Path) -> None:
    async def story() -> None:
        state = open_state(f"sqlite:{tmp_path}/var/state.db")
        await state.append([decision()])
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "var").iterdir()}
        assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
        assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
        await state.close()

    asyncio.run(story())


def test_texts_that_expired_are_not_left_in_the_file(tmp_path: Path) -> None:
    async def story() -> None:
        state = open_state(f"sqlite:{tmp_path}/state.db")
        made = decision()
        await state.append([made], [texts(made, NOW + 1, "a very private sentence")])
        await state.expire(NOW + 1, 0.0, 10)
        await state.close()

    asyncio.run(story())
    assert [each.name for each in tmp_path.iterdir()] == ["state.db"]
    assert b"very private" not in (tmp_path / "state.db").read_bytes()


def test_what_expired_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story() -> None:
        state = open_state(f"sqlite:{tmp_path}/state.db")
        made = [decision(threats=["pii.payment"], action="block") for _ in range(10)]
        await state.append(made, [texts(each, NOW + 9) for each in made])
        assert await state.expire(NOW, NOW + 1, 100) == 10
        await state.close()

    asyncio.run(story())
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        for table in ("decisions", "labels", "texts"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.parametrize("combination", list(product((False, True), repeat=4)), ids=str)
def test_no_filter_looks_at_a_decision_more_than_once(tmp_path: Path, combination: tuple[bool, ...]) -> None:
    """Counted in SQLite's own steps: what took one for each pair of decisions was slow with 100,000 of them only."""
    wanted = ("block", "acme", THREATS[0], "gemini.generate")  # a wire that is never met: no page is full before the end
    action, tenant, category, wire = (value if used else None for value, used in zip(wanted, combination, strict=True))
    count, steps = 2_000, 0

    def step() -> None:
        nonlocal steps
        steps += 100

    async def search() -> None:
        state = SqliteState(str(tmp_path / "state.db"))
        made = [decision(NOW + n, action="block", tenant=TENANTS[n % 2], threats=[THREATS[n % 3 and 1]]) for n in range(count)]
        await state.append(made)
        await state._call(lambda db: db.set_progress_handler(step, 100))
        await state.decisions(Filter(action=action, tenant=tenant, category=category, wire=wire))
        await state.close()

    asyncio.run(search())
    assert steps < 25 * count


def unavailable(path: Path) -> str:
    async def story() -> str:
        state = open_state(f"sqlite:{path}")
        with pytest.raises(StateUnavailable) as caught:
            await state.ping()
        assert caught.value.what == f"sqlite:{path}"
        await state.close()
        return caught.value.why

    return asyncio.run(story())


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"something else entirely" * 100)
    assert unavailable(path) == "file is not a database"
    assert path.read_bytes() == b"something else entirely" * 100


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in unavailable(tmp_path / "file" / "state.db")


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert "newer version" in unavailable(path)


@contextmanager
def full_disk(allowed: int) -> Iterator[None]:
    """No file of this process can grow beyond ``allowed`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error_that_passes(tmp_path: Path) -> None:
    before, lost, after = [decision()], [decision() for _ in range(2000)], [decision()]

    async def story(state: State) -> None:
        await state.append(before)
        with full_disk(400_000), pytest.raises(StateUnavailable, match=r"full|disk I/O"):
            await state.append(lost)
        page = await state.decisions()
        assert [each.id for each in page.decisions] == [before[0].id]
        await state.append(after)
        assert await state.decision(after[0].id) is not None
        await state.append(lost)
        assert await state.decision(lost[-1].id) is not None

    async def run() -> None:
        state = open_state(f"sqlite:{tmp_path}/state.db")
        await story(state)
        await state.close()

    asyncio.run(run())


def test_what_is_stored_can_be_read_while_the_disk_is_full(tmp_path: Path) -> None:
    made = decision()

    async def story() -> None:
        state = open_state(f"sqlite:{tmp_path}/state.db")
        await state.append([made])
        with full_disk(100):
            for _ in range(2):
                with pytest.raises(StateUnavailable, match=r"full|disk I/O"):
                    await state.append([decision()])
                assert await state.decision(made.id) is not None
                await state.ping()
        await state.append([decision()])
        assert len((await state.decisions()).decisions) == 2
        await state.close()

    asyncio.run(story())


def test_a_file_that_may_not_grow_is_an_error_that_passes() -> None:
    async def story() -> None:
        state = SqliteState(":memory:")
        await state.append([decision()])
        await state._call(lambda db: db.execute("PRAGMA max_page_count = 30"))
        with pytest.raises(StateUnavailable, match="database or disk is full"):
            await state.append([decision() for _ in range(2000)])
        assert len((await state.decisions()).decisions) == 1
        await state._call(lambda db: db.execute("PRAGMA max_page_count = 3000"))
        await state.append([decision()])
        assert len((await state.decisions()).decisions) == 2
        await state.close()

    asyncio.run(story())


def test_a_backup_that_is_put_back_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    made = decision()

    async def story() -> None:
        state = open_state(f"sqlite:{path}")
        await state.append([made])
        await state.close()
        (tmp_path / "backup").write_bytes(path.read_bytes())
        state = open_state(f"sqlite:{path}")
        await state.ping()
        path.write_bytes(b"\0" * path.stat().st_size)
        with pytest.raises(StateUnavailable):
            await state.decision(made.id)
        (tmp_path / "backup").replace(path)
        assert await state.decision(made.id) is not None
        await state.close()

    asyncio.run(story())


def test_a_lock_that_another_process_holds_is_an_error_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.state.sqlite.BUSY_SECONDS", 0.05)

    async def story() -> None:
        state = SqliteState(f"{tmp_path}/state.db")
        await state.ping()
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="locked"):
            await state.append([decision()])
        assert (await state.decisions()).decisions == ()
        other.execute("COMMIT")
        await state.append([decision()])
        assert len((await state.decisions()).decisions) == 1
        other.close()
        await state.close()

    asyncio.run(story())


def test_a_call_that_does_not_return_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        state = SqliteState(f"{tmp_path}/state.db")
        await state.ping()
        monkeypatch.setattr("gateway.state.sqlite.CALL_SECONDS", 0.05)
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match="no answer"):
            await state.append([decision()])
        other.execute("ROLLBACK")
        other.close()
        await state.close()

    asyncio.run(story())


def test_what_a_dead_one_took_by_a_clock_that_was_ahead_is_given_to_the_next_who_asks(tmp_path: Path) -> None:
    async def story() -> None:
        state = SqliteState(str(tmp_path / "state.db"))
        now = time.time()
        await state.emit("work", [b"0"], now, 10, make_room=True)
        assert await state.claim("work", "dead", 1, 60, now + 86_400)
        [again] = await state.claim("work", "next", 1, 60, now)
        assert (again.body, again.deliveries) == (b"0", 2)
        assert await state.claim("work", "late", 1, 60, now - 5) == [], "who waited for the lock has an earlier time, too"
        await state.close()

    asyncio.run(story())
