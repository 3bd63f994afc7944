"""What is Redis's own: a server that goes, comes back, hangs or refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import redis as redis_client
from redis_servers import COMMON, Group, cluster_group, on_port, redis_server, running, sentinel_group
from state_support import NOW, decision, texts

from gateway.state.base import Settled, StateUnavailable
from gateway.state.opening import open_state
from gateway.state.redis import RedisState
from gateway.sync import certificates

StartGroup = Callable[[Path], AbstractContextManager[Group]]


def test_every_name_has_the_prefix(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:

        async def story() -> None:
            state = open_state(server.url)
            await state.append([decision(threats=["pii.payment"], action="block")])
            await state.swap("generation", b"", 0)
            await state.emit("work", [b"", b""], NOW, 1, make_room=True)
            await state.claim("work", "a", 1, 60, NOW)
            await state.close()

        asyncio.run(story())
        client = redis_client.Redis.from_url(server.url)
        names = client.execute_command("KEYS", "*")
        assert len(names) > 5
        assert [name for name in names if not name.startswith(b"{portcullis}:")] == []
        client.close()


def test_what_expired_leaves_nothing_behind(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:

        async def story() -> None:
            state = open_state(server.url)
            made = [decision(threats=["pii.payment"], action="block", tenant="acme") for _ in range(10)]
            await state.append(made, [texts(each, 2**40) for each in made])
            assert await state.expire(NOW, NOW + 1, 100) == 10
            await state.close()

        asyncio.run(story())
        client = redis_client.Redis.from_url(server.url)
        assert client.execute_command("KEYS", "*") == [b"{portcullis}:decisions:indexes"]
        client.close()


def test_a_record_that_the_server_evicted_is_passed_over(tmp_path: Path) -> None:
    made = [decision(NOW + i) for i in range(5)]
    with redis_server(tmp_path) as server:
        client = redis_client.Redis.from_url(server.url)

        async def story() -> None:
            state = open_state(server.url)
            await state.append(made)
            client.delete(f"{{portcullis}}:decision:{made[3].id}", "{portcullis}:decisions:indexes")
            first = await state.decisions(limit=2)
            rest = await state.decisions(limit=9, cursor=first.cursor)
            assert [one.time - NOW for one in (*first.decisions, *rest.decisions)] == [4, 2, 1, 0]
            assert await state.expire(NOW, NOW + 9, 0) == 5
            await state.close()

        asyncio.run(story())
        client.close()


def test_what_belongs_together_is_asked_together(tmp_path: Path) -> None:
    made = [decision(NOW + number, threats=["pii.payment"], action="block", tenant="acme") for number in range(50)]
    with redis_server(tmp_path) as server, server.client() as client:

        async def story() -> None:
            state = open_state(server.url)
            await state.ping()

            async def reads(work: Awaitable[object]) -> int:
                before = read()
                await work
                return read() - before

            def read() -> int:
                return int(client.info("stats")["total_reads_processed"])

            alone = await reads(asyncio.sleep(0))  # to ask how many there were
            assert await reads(state.append(made, [texts(one, 2**40) for one in made])) <= alone + 3
            assert await reads(state.decisions(limit=50)) <= alone + 2
            assert await reads(state.tally("a", {f"minute {number}": number for number in range(50)}, 2**40)) == alone + 1
            assert await reads(state.fleeting([f"name {number}" for number in range(50)], NOW)) == alone + 1
            await state.close()

        asyncio.run(story())


def test_a_server_that_goes_is_an_error_and_one_that_comes_back_is_found(tmp_path: Path) -> None:
    made = decision()
    with redis_server(tmp_path) as server:

        async def story() -> None:
            state = open_state(server.url)
            await state.append([made])
            server.stop()
            for _ in range(2):
                with pytest.raises(StateUnavailable) as caught:
                    await state.append([made])
                assert caught.value.what == f"unix://{tmp_path}/redis.sock"
            server.start()
            await state.append([made])
            assert await state.decision(made.id) is not None
            server.stop()
            await asyncio.to_thread(server.start)
            await state.ping()  # the connection that the server closed is not used
            await state.close()

        asyncio.run(story())


def test_a_server_that_hangs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.state.redis.ANSWER_SECONDS", 0.05)
    with redis_server(tmp_path) as server:
        assert server.process is not None
        pid = server.process.pid

        async def story() -> None:
            state = open_state(server.url)
            await state.ping()
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(StateUnavailable):
                await state.ping()
            os.kill(pid, signal.SIGCONT)
            await state.ping()
            await state.close()

        asyncio.run(story())


def test_a_password_is_used_and_never_shown(tmp_path: Path) -> None:
    with redis_server(tmp_path, password="hunter2") as server:

        async def why(url: str) -> str:
            state = open_state(url)
            with pytest.raises(StateUnavailable) as caught:
                await state.ping()
            await state.close()
            assert "hunter" not in repr(state) + state.what
            return repr(caught.value) + str(caught.value)

        async def right() -> None:
            state = open_state(server.url)
            await state.ping()
            await state.close()

        asyncio.run(right())
        said = asyncio.run(why(server.url.replace("hunter2", "hunter3")))
        assert "hunter" not in said
        assert "password" in said.lower()


def test_a_full_server_is_an_error(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        client = redis_client.Redis.from_url(server.url)
        client.config_set("maxmemory", "1")
        client.close()

        async def story() -> None:
            state = open_state(server.url)
            with pytest.raises(StateUnavailable, match="memory"):
                await state.append([decision()])
            assert (await state.decisions()).decisions == ()
            await state.close()

        asyncio.run(story())


def test_the_shown_address_has_no_credentials() -> None:
    for url, shown in {
        "redis://user:hunter2@db.example:6380/3": "redis://db.example:6380/3",
        "rediss://:hunter2@db.example": "rediss://db.example",
        "unix://:hunter2@/run/redis.sock?db=2": "unix:///run/redis.sock",
        "redis+sentinel://u:hunter2@a,[::1]:1/main/2?sentinel_password=hunter2": "redis+sentinel://a,[::1]:1/main/2",
        "rediss+cluster://:hunter2@a:1,b": "rediss+cluster://a:1,b",
    }.items():
        assert RedisState(url).what == shown


@pytest.mark.parametrize("start", [sentinel_group, cluster_group])
def test_when_the_master_dies_its_standby_is_found_and_has_what_was_stored(tmp_path: Path, start: StartGroup) -> None:
    before, after = decision(NOW), decision(NOW + 1)

    async def story(group: Group) -> None:
        state = open_state(group.url)
        await state.append([before])
        with group.master.client() as asked:
            assert asked.execute_command("WAIT", 1, 5_000) == 1  # the standby has it
        await asyncio.to_thread(group.fail_over)
        async with asyncio.timeout(20):
            while True:
                try:
                    await state.append([after])
                    break
                except StateUnavailable:
                    await asyncio.sleep(0.05)
        assert [one.id for one in (await state.decisions()).decisions] == [after.id, before.id]
        await state.close()

    with start(tmp_path) as group:
        asyncio.run(story(group))


def test_over_tls_as_a_user_who_may_touch_our_names_only(tmp_path: Path) -> None:
    certificates.init_authority(tmp_path / "ca")
    files = certificates.issue(tmp_path / "ca", "localhost", tmp_path)
    server = on_port(tmp_path / "server")
    (server.folder).mkdir()
    server.options = [
        "--port", "0", "--tls-port", str(server.port), "--tls-cert-file", str(files.certificate), "--tls-key-file",
        str(files.key), "--tls-ca-cert-file", str(files.authority), *COMMON, "--user", "default", "off", "--user",
        "gateway", "on", ">p@ss/1", "~{portcullis}:*", "+@read", "+@write", "+@scripting", "+@transaction", "+@connection",
    ]  # fmt: skip
    tls = f"ssl_ca_certs={files.authority}&ssl_certfile={files.certificate}&ssl_keyfile={files.key}"
    url = f"rediss://gateway:p%40ss%2F1@localhost:{server.port}/0?{tls}"
    one = decision()

    async def story() -> None:
        state = open_state(url)
        await state.ping()
        await state.append([one], [texts(one, 2**40)])
        assert await state.decision(one.id) is not None
        assert await state.swap("generation", b"x", 0) == 1
        assert await state.put("case", "a", b"x", 0) == 1
        assert await state.expire(NOW, NOW + 1, 100) == 1
        await state.put_fleeting({"a": b"x"}, time.time() + 60)
        assert await state.fleeting(["a"], time.time()) == [b"x"]
        assert await state.tally("a", {"minute": 3}, time.time() + 60) == [(3, 1)]
        assert await state.emit("work", [b"x"], NOW, 10, make_room=True) == 0
        [event] = await state.claim("work", "a", 1, 60, NOW)
        assert (await state.backlog("work", time.time())).pending == 1
        assert await state.settle("work", "a", [event.id]) is Settled.DONE
        await state.close()
        for wrong in (url.replace("p%40ss", "guess"), url.replace("rediss", "redis").partition("?")[0], url.partition("?")[0]):
            stranger = open_state(wrong)
            with pytest.raises(StateUnavailable) as caught:
                await stranger.ping()
            assert "ss/1" not in str(caught.value)
            await stranger.close()

    with running(server):
        asyncio.run(story())
