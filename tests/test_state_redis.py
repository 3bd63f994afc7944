"""What is Redis's own: a server that goes, comes back, hangs or refuses."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
import redis as redis_client
from state_support import NOW, decision, redis_server, texts

from gateway.state.base import StateUnavailable
from gateway.state.opening import open_state
from gateway.state.redis import RedisState


def test_every_name_has_the_prefix(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:

        async def story() -> None:
            state = open_state(server.url)
            await state.append([decision(threats=["pii.payment"], action="block")])
            await state.swap("generation", b"", 0)
            await state.close()

        asyncio.run(story())
        client = redis_client.Redis.from_url(server.url)
        names = client.execute_command("KEYS", "*")
        assert len(names) > 5
        assert [name for name in names if not name.startswith(b"portcullis:")] == []
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
        assert client.execute_command("KEYS", "*") == [b"portcullis:decisions:indexes"]
        client.close()


def test_a_record_that_the_server_evicted_is_passed_over(tmp_path: Path) -> None:
    made = [decision(NOW + i) for i in range(5)]
    with redis_server(tmp_path) as server:
        client = redis_client.Redis.from_url(server.url)

        async def story() -> None:
            state = open_state(server.url)
            await state.append(made)
            client.delete(f"portcullis:decision:{made[3].id}", "portcullis:decisions:indexes")
            first = await state.decisions(limit=2)
            rest = await state.decisions(limit=9, cursor=first.cursor)
            assert [one.time - NOW for one in (*first.decisions, *rest.decisions)] == [4, 2, 1, 0]
            assert await state.expire(NOW, NOW + 9, 0) == 5
            await state.close()

        asyncio.run(story())
        client.close()


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
    }.items():
        assert RedisState(url).what == shown
