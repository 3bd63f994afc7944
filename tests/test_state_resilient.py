"""A Redis that goes and comes back: nothing is lost, nobody waits for it, and what cannot be said truthfully is refused."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from conftest import StartGateway
from gateways import until
from redis_servers import redis_server
from state_support import NOW, decision, texts

from gateway.keys import Role, make_key
from gateway.state import spool as spool_module
from gateway.state.base import StateUnavailable
from gateway.state.opening import open_state
from gateway.state.resilient import POLICY, ResilientState
from gateway.state.spool import Spool, SpoolFull


def test_decisions_wait_on_disk_and_return(tmp_path: Path) -> None:
    before, during, after = decision(NOW), [decision(NOW + 1 + n) for n in range(600)], decision(NOW + 1_000)

    async def story(state: ResilientState) -> None:
        await state.append([before])
        server.stop()
        for one in during:
            await state.append([one], [texts(one, time.time() + 99)])
        assert state.spooled == 600
        waits = f"; {state.spool.size} bytes of decisions wait on disk"
        assert waits in state.health
        beside = ResilientState(open_state(server.url), tmp_path / "spool")  # another worker, who has put nothing there
        beside.gone_since = time.time()
        assert waits in beside.health
        await beside.close()
        with pytest.raises(StateUnavailable):
            await state.decisions()
        server.start()
        while state.returned < 600:
            try:
                await state.ping()
            except StateUnavailable:
                await asyncio.sleep(0.05)
        await state.append([after])
        page = await state.decisions(limit=1_000)
        assert [one.id for one in reversed(page.decisions)] == [one.id for one in (*during, after)]  # the test's server keeps nothing itself
        assert await state.kept_texts(during[7].id, NOW) is not None
        assert state.health == "answers"
        assert list((tmp_path / "spool").iterdir()) == []
        await state.close()

    with redis_server(tmp_path) as server:
        asyncio.run(story(ResilientState(open_state(server.url), tmp_path / "spool")))


def test_while_it_is_gone_nobody_waits_and_known_values_are_served(tmp_path: Path) -> None:
    async def story(state: ResilientState) -> None:
        await state.swap("known", b"value", 0)
        await state.get("known")
        server.stop()
        for _ in range(POLICY.streak):
            with pytest.raises(StateUnavailable):
                await state.keys_version()
        with pytest.raises(StateUnavailable, match="it did not answer lately; tried again in"):
            await state.put_key(make_key(Role.APP, "default", NOW).key)
        assert state.refused == 1
        found = await state.get("known")
        assert found is not None
        assert found.value == b"value"
        with pytest.raises(StateUnavailable):
            await state.get("unknown")
        with pytest.raises(StateUnavailable):
            await state.swap("known", b"other", 1)
        await state.close()

    with redis_server(tmp_path) as server:
        asyncio.run(story(ResilientState(open_state(server.url), tmp_path / "spool")))


@pytest.mark.parametrize("pid", ["its own", "ours", "of one that runs"])
def test_what_a_killed_process_left_is_stored_by_the_next_one(tmp_path: Path, pid: str) -> None:
    """Also where that has the same id, as in a container: what it left waited until something else did."""
    left = [decision(NOW + n) for n in range(3)]
    if not (child := os.fork()):
        Spool(tmp_path / "spool").put(left, [])
        os._exit(0)
    os.waitpid(child, 0)
    [file] = (tmp_path / "spool").iterdir()
    file = file.rename(file.with_name(f"state-{ {'its own': child, 'ours': os.getpid(), 'of one that runs': 1}[pid] }.spool"))
    with file.open("ab") as torn:
        torn.write(b'D["half a rec')

    async def story(state: ResilientState) -> None:
        await state.ping()
        assert [one.id for one in (await state.decisions()).decisions] == [one.id for one in reversed(left)]
        assert list((tmp_path / "spool").iterdir()) == []
        await state.close()

    with redis_server(tmp_path) as server:
        asyncio.run(story(ResilientState(open_state(server.url), tmp_path / "spool")))


def test_what_a_process_writes_is_left_to_it(tmp_path: Path) -> None:
    one, other = Spool(tmp_path), Spool(tmp_path)
    one.put([decision(NOW)], [])
    assert other.waiting() == []
    other.put([decision(NOW + 1)], [])
    [mine] = one.waiting()
    assert [mine] == one.waiting(), "what is not stored yet waits on"
    one.put([decision(NOW + 2)], [])
    assert one.waiting() == [mine], "and is stored before more is"
    [theirs] = other.waiting()
    assert mine != theirs
    one.drop(mine)
    [last] = one.waiting()
    one.drop(last)
    assert list(tmp_path.iterdir()) == [theirs]
    assert (one.size, one.waiting()) == (theirs.stat().st_size, [])


def test_what_is_being_written_is_not_dropped_with_what_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is full answers, and takes nothing: records go to disk while those of before are to return."""
    queue, known = Spool(tmp_path), [decision(NOW + number) for number in range(2)]
    queue.put(known[:1], [])
    writing, may_write = threading.Event(), threading.Event()
    write = os.write

    def slow(handle: int, data: bytes) -> int:
        writing.set()
        may_write.wait()
        return write(handle, data)

    def stored() -> set[str]:
        found: set[str] = set()
        for file in queue.waiting():
            found |= {one.id for decisions, _ in queue.read(file, 10) for one in decisions}
            queue.drop(file)
        return found

    monkeypatch.setattr(os, "write", slow)
    with ThreadPoolExecutor(2) as pool:
        putting = pool.submit(queue.put, known[1:], [])
        writing.wait()
        returning = pool.submit(stored)
        wait([returning], 0.2)  # a disk that is busy for so long
        may_write.set()
        putting.result()
        returned = returning.result()
    assert returned | stored() == {one.id for one in known}


def test_a_full_queue_is_an_error_and_loses_nothing_that_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Spool(tmp_path)
    queue.put([decision(NOW)], [])
    monkeypatch.setattr(spool_module, "MAX_SPOOL", queue.size + 10)
    with pytest.raises(SpoolFull, match="as much as it may"):
        queue.put([decision(NOW + 1)], [])
    with pytest.raises(SpoolFull, match="as much as it may"):  # nor does a worker beside it
        Spool(tmp_path).put([decision(NOW + 1)], [])
    [file] = queue.waiting()
    [(decisions, _)] = list(queue.read(file, 10))
    assert len(decisions) == 1
    assert file.stat().st_mode & 0o077 == 0


def test_a_disk_that_fails_and_then_is_full_takes_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, known = Spool(tmp_path), [decision(NOW + number) for number in range(4)]

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    queue.put(known[:1], [])
    before = queue.size
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fails)
        with pytest.raises(SpoolFull, match="Input/output error"):
            queue.put(known[1:2], [])
    assert queue.size == before, "nothing was appended"
    queue.put(known[2:3], [])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (queue.size + 10, limits[1]))
    try:
        with pytest.raises(SpoolFull, match="No space left"):
            queue.put(known[3:], [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    [file] = tmp_path.iterdir()
    assert [one.id for records, _ in queue.read(file, 10) for one in records] == [known[0].id, known[2].id]


def test_a_full_queue_is_said_until_the_store_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(state: ResilientState) -> None:
        server.stop()
        await state.append([decision(NOW)])
        monkeypatch.setattr(spool_module, "MAX_SPOOL", state.spool.size + 10)
        with pytest.raises(StateUnavailable, match="as much as it may"):
            await state.append([decision(NOW + 1)])
        assert " bytes of decisions wait on disk; the queue on disk holds" in state.health
        assert "the oldest are dropped" in state.health
        server.start()
        while state.returned < 1:
            with contextlib.suppress(StateUnavailable):
                await state.ping()
            await asyncio.sleep(0.02)
        assert state.health == "answers"
        await state.close()

    with redis_server(tmp_path) as server:
        asyncio.run(story(ResilientState(open_state(server.url), tmp_path / "spool")))


def test_keys_documents_and_settings_pass_through_and_are_refused_while_it_is_gone(tmp_path: Path) -> None:
    key, one = make_key(Role.APP, "default", NOW).key, decision()

    async def story(state: ResilientState) -> None:
        await state.put_key(key)
        assert await state.key(key.id) == key
        assert await state.keys() == [key]
        assert await state.keys_version() == 1
        assert await state.put("case", "a", b"one", 0) == 1
        assert await state.put("case", "a", b"two", 0) is None
        assert await state.put("case", "a", b"two", 1) == 2
        assert await state.document("case", "a") == (b"two", 2)
        assert await state.documents("case") == [("a", (b"two", 2))]
        await state.append([one], [texts(one, time.time() + 99)])
        assert await state.decision(one.id) is not None
        assert await state.kept_texts(one.id, NOW) is not None
        assert await state.expire(NOW, NOW + 1, 100) == 1
        assert await state.remove("case", "a")
        assert await state.revoke_key(key.id, NOW)
        assert await state.swap("known", b"x", 0) == 1
        server.stop()
        for call in (
            state.put_key(key), state.key(key.id), state.keys(), state.keys_version(), state.revoke_key(key.id, NOW),
            state.put("case", "b", b"x", 0), state.document("case", "a"), state.documents("case"), state.remove("case", "a"),
            state.decision(one.id), state.decisions(), state.kept_texts(one.id, NOW), state.expire(NOW, NOW, 1),
            state.swap("known", b"y", 1), state.ping(),
        ):  # fmt: skip
            with pytest.raises(StateUnavailable):
                await call
        assert await state.get("known") == (b"x", 1)
        await state.close()

    with redis_server(tmp_path) as server:
        asyncio.run(story(ResilientState(open_state(server.url), tmp_path / "spool")))


def test_a_gateway_serves_on_without_redis_says_so_and_stores_what_it_decided_meanwhile(
    tmp_path: Path, start_gateway: StartGateway
) -> None:
    with redis_server(tmp_path) as server:
        gateway = start_gateway(state=server.url)
        with gateway.client() as client:

            def health() -> dict[str, str]:
                answer = client.get("/readyz")
                assert answer.status_code == 200
                return dict(answer.json())

            def chat() -> str:
                asked = {"model": "echo", "messages": [{"role": "user", "content": "good morning"}]}
                answer = client.post("/v1/chat/completions", json=asked)
                assert answer.status_code == 200
                return answer.headers["x-portcullis-id"]

            assert health()["state"] == "answers"
            server.stop()
            made = chat()
            until(lambda: "gone for" in health()["state"] and "; 0 bytes" not in health()["state"])
            assert client.get(f"/admin/v1/decisions/{made}").status_code == 503
            server.start()
            until(lambda: health()["state"] == "answers")
            until(lambda: client.get(f"/admin/v1/decisions/{made}").status_code == 200)
            assert 'portcullis_state_without_total{what="returned"} 1.0' in client.get("/metrics").text
