"""Keys: made, kept, verified, followed; and where a caller may put one."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_servers import redis_server

from gateway.cli import main
from gateway.keys import (
    ANYONE,
    LOCAL_OPERATOR,
    MAX_NOTE,
    PERMISSIONS,
    TOKEN_LENGTH,
    Keyring,
    NewKey,
    Permission,
    Principal,
    Role,
    StoredKey,
    Tenant,
    decode_key,
    encode_key,
    foreign,
    make_key,
)
from gateway.serving.credentials import AmbiguousCredential, gateway_key, without_key
from gateway.state import keystore
from gateway.state.keystore import KeyWatch
from gateway.state.opening import open_state

NOW = 1_700_000_000.0


def made(**options: Any) -> NewKey:
    return make_key(options.pop("role", Role.APP), options.pop("tenant", "acme"), NOW, **options)


def ring(*keys: StoredKey, **options: Any) -> Keyring:
    return Keyring(keys, options.pop("tenants", {}), open_when_empty=options.pop("open_when_empty", False))


# Making


def test_a_token_has_its_form_and_opens_what_the_key_says() -> None:
    new = made(policy="strict", note="for tests", expires_at=NOW + 60)
    assert len(new.token) == TOKEN_LENGTH
    assert new.token.startswith(f"pc_{new.key.id}_")
    assert ring(new.key).find(new.token.encode(), NOW) == Principal(
        new.key.id, "acme", "strict", frozenset({Permission.DATA_PLANE}), NOW + 60
    )


def test_the_form_of_a_token_for_known_bytes() -> None:
    new = made(entropy=lambda count: bytes(range(count)))
    assert new.token == "pc_aaaqeaye_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


def test_two_keys_share_nothing() -> None:
    one, two = made(), made()
    assert one.key.id != two.key.id
    assert one.key.salt != two.key.salt
    assert one.token[12:] != two.token[12:]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tenant": ""}, "tenant: got ''"),
        ({"tenant": "Acme"}, "tenant: got 'Acme'"),
        ({"tenant": "a" * 64}, "tenant"),
        ({"tenant": "-a"}, "tenant"),
        ({"tenant": "a\n"}, "tenant"),
        ({"tenant": "*"}, "tenant: got '\\*'"),
        ({"policy": "no such name"}, "policy"),
        ({"expires_at": NOW}, "expires_at"),
        ({"expires_at": math.inf}, "expires_at"),
        ({"expires_at": math.nan}, "expires_at"),
        ({"note": "x" * (MAX_NOTE + 1)}, "note"),
        ({"note": "two\nlines"}, "note"),
        ({"note": "\x1b[2J"}, "note"),
    ],
)
def test_wrong_arguments_are_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(**options)


def test_a_control_plane_key_may_be_for_every_tenant() -> None:
    operator = made(role=Role.OPERATOR, tenant="*")
    principal = ring(operator.key).find(operator.token.encode(), NOW)
    assert principal is not None
    assert principal.sees("acme")
    assert principal.sees("other")


@pytest.mark.parametrize("role", Role)
def test_a_stored_key_comes_back(role: Role) -> None:
    key = made(role=role, policy="p", expires_at=NOW + 0.25, note="é").key
    assert decode_key(encode_key(key), None) == key
    assert decode_key(encode_key(key), NOW) == replace(key, revoked_at=NOW)


def test_no_secret_is_shown() -> None:
    new = made(note="n")
    key_ring = ring(new.key)
    key_ring.find(new.token.encode(), NOW)
    shown = repr(new) + str(new) + repr(new.key) + repr(key_ring) + repr(key_ring.find(new.token.encode(), NOW))
    assert new.key.id in shown
    for secret in (new.token[12:], new.key.salt.hex(), new.key.digest.hex(), repr(new.key.salt), repr(new.key.digest)):
        assert secret not in shown
    assert new.token[12:].encode() not in encode_key(new.key)


# Roles


def test_what_each_role_may_do() -> None:
    table = {role: {each.value for each in PERMISSIONS[role]} for role in Role}
    analyst = {"read_decisions", "read_text", "label", "propose"}
    assert table == {
        Role.APP: {"data_plane"},
        Role.VIEWER: {"read_decisions"},
        Role.ANALYST: analyst,
        Role.APPROVER: analyst | {"approve"},
        Role.OPERATOR: {"read_decisions", "configure", "manage_keys"},
    }


def test_who_needs_no_key() -> None:
    assert [each for each in Permission if ANYONE.may(each)] == [Permission.DATA_PLANE]
    assert all(LOCAL_OPERATOR.may(each) for each in Permission)
    assert LOCAL_OPERATOR.sees("acme")
    assert ANYONE.sees("default")
    assert not ANYONE.sees("acme")


# Verifying


@given(st.data())
def test_a_token_that_differs_anywhere_opens_nothing(data: st.DataObject) -> None:
    new = made()
    token = bytearray(new.token.encode())
    place = data.draw(st.integers(0, len(token) - 1))
    token[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[place]))
    key_ring = ring(new.key)
    assert key_ring.find(bytes(token), NOW) is None
    assert key_ring.find(new.token.encode(), NOW) is not None
    assert key_ring.find(bytes(token), NOW) is None


@pytest.mark.parametrize(
    "token", [None, b"", b"pc_", b"sk-proj-abc", b"x" * TOKEN_LENGTH, b"\xff" * TOKEN_LENGTH, b"pc_" * 9999]
)
def test_what_is_no_token_opens_nothing(token: bytes | None) -> None:
    assert ring(made().key).find(token, NOW) is None


def test_an_open_ring_takes_everybody_for_the_default_tenant() -> None:
    assert ring(open_when_empty=True).find(None, NOW) is ANYONE
    assert ring(open_when_empty=True).find(b"whatever a client sends", NOW) is ANYONE
    assert ring(open_when_empty=False).find(None, NOW) is None


@pytest.mark.parametrize("change", [{"revoked_at": NOW - 1}, {"expires_at": NOW - 1}])
def test_a_ring_whose_keys_are_all_dead_is_not_open(change: dict[str, Any]) -> None:
    assert ring(replace(made().key, **change), open_when_empty=True).find(None, NOW) is None


@pytest.mark.parametrize(
    ("own", "tenant", "policy"),
    [(None, None, None), (None, "monitor", "monitor"), ("strict", "monitor", "strict"), ("strict", None, "strict")],
)
def test_a_keys_policy_comes_before_its_tenants(own: str | None, tenant: str | None, policy: str | None) -> None:
    new = made(policy=own)
    principal = ring(new.key, tenants={"acme": Tenant("acme", tenant)}).find(new.token.encode(), NOW)
    assert principal is not None
    assert principal.policy == policy


def test_a_tenant_is_checked() -> None:
    with pytest.raises(ValueError, match=r"tenant: got 'A B'"):
        Tenant("A B")
    with pytest.raises(ValueError, match=r"policy: got ''"):
        Tenant("acme", "")


STEPS = st.one_of(
    st.tuples(st.just("create"), st.none() | st.integers(1, 20)),
    st.tuples(st.just("revoke"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.integers(1, 10)),
)


@given(st.lists(STEPS, max_size=20))
@settings(deadline=None)
def test_exactly_the_live_keys_open_under_any_history(steps: list[tuple[str, int | None]]) -> None:
    now = NOW
    held: list[NewKey] = []
    dead: set[int] = set()
    key_ring = ring()
    for step, value in steps:
        if step == "create":
            held.append(make_key(Role.APP, "acme", now, expires_at=None if value is None else now + value))
        elif step == "revoke" and value is not None and value < len(held):
            dead.add(value)
        elif step == "wait" and value is not None:
            now += value
        if step != "wait":  # expiry needs no new ring
            keys = [replace(each.key, revoked_at=now if i in dead else None) for i, each in enumerate(held)]
            key_ring = ring(*keys)
        for index, each in enumerate(held):
            for _ in range(2):  # as it is verified, and as it is remembered
                principal = key_ring.find(each.token.encode(), now)
                expired = each.key.expires_at is not None and each.key.expires_at <= now
                assert (principal is None) == (index in dead or expired)
                assert principal is None or principal.key == each.key.id


# Following a store


def test_a_watch_follows_the_store(tmp_path: Path) -> None:
    new = made()

    async def story() -> None:
        ours, theirs = open_state(f"sqlite:{tmp_path}/state.db"), open_state(f"sqlite:{tmp_path}/state.db")
        watch = KeyWatch(ours, open_when_empty=True)
        assert watch.ring.find(None, NOW) is None
        assert await watch.refresh()
        assert watch.ring.find(None, NOW) is ANYONE
        assert not await watch.refresh()
        await theirs.put_key(new.key)
        assert await watch.refresh()
        assert watch.ring.find(None, NOW) is None
        assert watch.ring.find(new.token.encode(), NOW) is not None
        await theirs.revoke_key(new.key.id, NOW)
        assert await watch.refresh()
        assert watch.ring.find(new.token.encode(), NOW) is None
        await ours.close()
        await theirs.close()

    asyncio.run(story())


def test_a_store_that_lost_its_keys_does_not_open_the_gateway(tmp_path: Path) -> None:
    async def story() -> None:
        state = open_state(f"sqlite:{tmp_path}/state.db")
        await state.put_key(made().key)
        watch = KeyWatch(state, open_when_empty=True)
        await watch.refresh()
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.executescript("DELETE FROM keys; DELETE FROM counters")
        assert await watch.refresh()
        assert await state.keys() == []
        assert watch.ring.find(None, NOW) is None
        await state.close()

    asyncio.run(story())


def _garbled() -> list[bytes]:
    whole = orjson.loads(encode_key(made().key))
    changed: list[dict[str, Any]] = [{"salt": "xy"}, {"salt": "00"}, {"digest": 7}, {"role": "king"}, {"expires_at": "soon"},
                                     {"created_at": None}, {"id": "another"}, {"tenant": ["acme"]}, {"newer": True},
                                     {"expires_at": ""}, {"expires_at": []}, {"expires_at": True}, {"created_at": False},
                                     {"policy": {}}, {"policy": []}, {"policy": 0}, {"policy": False}]  # fmt: skip
    bare = [b"", b"{", b"[]", b"7", b"null", b"\xff", b"{}"]
    named = [{**whole, "id": f"none-{number}", **change} for number, change in enumerate(changed, len(bare))]
    return [*bare, *map(orjson.dumps, named)]  # what is wrong with each is not its id: it stands where it is written to


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_key_that_cannot_be_read_costs_that_key(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before, none was taken over any more: no new one opened, and no revoked one was shut out."""
    good, bad = made(), _garbled()

    async def story(url: str, write: Callable[[str, bytes], None]) -> None:
        state = open_state(url)
        watch = KeyWatch(state, open_when_empty=True)
        write("none-0", bad[0])
        assert await watch.refresh()
        assert watch.ring.find(None, NOW) is None, "where a key was made the gateway is closed"
        for number, body in enumerate(bad):
            write(f"none-{number}", body)
        await state.put_key(good.key)
        assert await watch.refresh()
        assert watch.unreadable == len(bad)
        assert f"{len(bad)} keys cannot be read" in caplog.text
        assert watch.ring.find(good.token.encode(), NOW) is not None
        assert {key.id for key in await state.keys() if not key.readable} == {f"none-{number}" for number in range(len(bad))}
        assert (await state.own_key("none-1", "ann")) == (await state.key("none-1")), "what stands there is left alone"
        assert await state.revoke_key("none-1", NOW)
        assert await state.revoke_key(good.key.id, NOW)
        assert await watch.refresh()
        assert watch.ring.find(good.token.encode(), NOW) is None
        await state.close()

    def into_file(key_id: str, body: bytes) -> None:
        with closing(sqlite3.connect(tmp_path / "state.db")) as other, other:
            other.execute("INSERT OR REPLACE INTO keys (id, body) VALUES (?, ?)", (key_id, body))
            other.execute("INSERT INTO counters VALUES ('keys', 1) ON CONFLICT DO UPDATE SET value = value + 1")

    if kind == "sqlite":
        keystore.every(f"sqlite:{tmp_path}/state.db")  # makes the file
        asyncio.run(story(f"sqlite:{tmp_path}/state.db", into_file))
        return
    with redis_server(tmp_path) as server, server.client() as client:

        def into_redis(key_id: str, body: bytes) -> None:
            client.hset("{portcullis}:keys", key_id, body)
            client.incr("{portcullis}:keys:version")

        asyncio.run(story(server.url, into_redis))


def test_the_command_lines_three_verbs(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/state.db"
    assert keystore.every(url) == []
    new = keystore.create(url, Role.ANALYST, "*", NOW, note="ann")
    assert keystore.every(url) == [new.key]
    assert keystore.revoke(url, new.key.id, NOW + 1)
    assert keystore.every(url) == [replace(new.key, revoked_at=NOW + 1)]
    assert not keystore.revoke(url, "nobody", NOW)
    with pytest.raises(ValueError, match="tenant"):
        keystore.create(url, Role.APP, "*", NOW)


def test_whose_a_key_is_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "portcullis.yaml"
    config.write_text(f"state: sqlite:{tmp_path}/state.db\ndata_dir: {tmp_path}\n")
    id = keystore.create(f"sqlite:{tmp_path}/state.db", Role.ANALYST, "*", NOW).key.id

    def own(id: str, owner: str) -> tuple[int, str]:
        code = main(["keys", "own", id, "--owner", owner, "--config", str(config)])
        return code, "".join(capsys.readouterr())

    assert own(id, "ann") == (0, f"key {id} is ann's\n")
    assert own(id, "ann")[0] == 0
    assert own(id, "bob") == (1, f"portcullis keys: key {id} is ann's already; revoke it, and make another one\n")
    assert own("nobody", "bob")[0] == 1
    assert own(id, "Ann Smith")[0] == 2
    assert [key.owner for key in keystore.every(f"sqlite:{tmp_path}/state.db")] == ["ann"]


def test_nobody_takes_the_name_of_somebody_he_does_not_see() -> None:
    keys = [make_key(Role.APPROVER, "*", NOW, owner="ann").key, make_key(Role.ANALYST, "shop", NOW, owner="bob").key,
            make_key(Role.ANALYST, "shop", NOW).key]  # fmt: skip
    everywhere, shop, bank = (Principal("k", tenant, None, frozenset()) for tenant in ("*", "shop", "bank"))
    asked = [(owner, one) for owner in ("ann", "bob", "cy", "") for one in (everywhere, shop, bank) if foreign(owner, keys, one)]
    assert asked == [("ann", shop), ("ann", bank), ("bob", bank)]


# Where a request carries its key

AUTH, ANTHROPIC, GOOGLE, OWN = b"authorization", b"x-api-key", b"x-goog-api-key", b"x-portcullis-key"
OTHER = (b"host", b"localhost")


@pytest.mark.parametrize(
    ("headers", "query", "explicit", "found"),
    [
        ([], b"", False, None),
        ([OTHER], b"a=b&keys=c", False, None),
        ([OTHER, (AUTH, b"Bearer k"), OTHER], b"", False, b"k"),
        ([(AUTH, b"bearer  k ")], b"", False, b"k"),
        ([(AUTH, b"Basic k")], b"", False, None),
        ([(AUTH, b"Bearer")], b"", False, None),
        ([(AUTH, b"Bearer ")], b"", False, None),
        ([(AUTH, b"k")], b"", False, None),
        ([(ANTHROPIC, b"k")], b"", False, b"k"),
        ([(ANTHROPIC, b"")], b"", False, None),
        ([(GOOGLE, b"k")], b"", False, b"k"),
        ([(OWN, b"k")], b"", False, b"k"),
        ([], b"key=k", False, b"k"),
        ([], b"alt=sse&key=k%2D1&x", False, b"k-1"),
        ([], b"%6Bey=k", False, b"k"),
        ([], b"key", False, None),
        ([(AUTH, b"Bearer k"), (ANTHROPIC, b"k"), (OWN, b"k")], b"key=k", False, b"k"),
        ([(AUTH, b"Basic b"), (ANTHROPIC, b"k")], b"", False, b"k"),
        ([(AUTH, b"Bearer theirs"), (OWN, b"k")], b"key=theirs", True, b"k"),
        ([(AUTH, b"Bearer theirs")], b"key=theirs", True, None),
        ([(ANTHROPIC, b"\xff\xfe")], b"", False, b"\xff\xfe"),
    ],
)
def test_where_a_key_is_found(headers: list[tuple[bytes, bytes]], query: bytes, explicit: bool, found: bytes | None) -> None:
    assert gateway_key(headers, query, explicit=explicit) == found


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("name", [AUTH, ANTHROPIC, GOOGLE, OWN])
@pytest.mark.parametrize("second", [b"Bearer secret-one", b""])
def test_a_repeated_header_is_refused(name: bytes, second: bytes, explicit: bool) -> None:
    with pytest.raises(AmbiguousCredential, match=f"{name.decode()} is repeated") as caught:
        gateway_key([(name, b"Bearer secret-one"), OTHER, (name, second)], explicit=explicit)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("query", [b"key=a&key=a", b"key=a&x=1&%6bey=b", b"key&key"])
def test_a_repeated_query_key_is_refused(query: bytes) -> None:
    with pytest.raises(AmbiguousCredential, match="repeats 'key'"):
        gateway_key([], query)


@pytest.mark.parametrize(
    ("headers", "query", "places"),
    [
        ([(AUTH, b"Bearer s1"), (ANTHROPIC, b"s2")], b"", "authorization, x-api-key"),
        ([(OWN, b"s1"), (GOOGLE, b"s2")], b"", "x-goog-api-key, x-portcullis-key"),
        ([(GOOGLE, b"s1")], b"key=s2", r"\?key=, x-goog-api-key"),
    ],
)
def test_different_keys_are_refused(headers: list[tuple[bytes, bytes]], query: bytes, places: str) -> None:
    with pytest.raises(AmbiguousCredential, match=places) as caught:
        gateway_key(headers, query)
    assert "s1" not in str(caught.value)
    assert "s2" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "left"),
    [(b"", b""), (b"key=k", b""), (b"alt=sse&key=k", b"alt=sse"), (b"%6bey=k&a=key&keys=1&b", b"a=key&keys=1&b")],
)
def test_the_key_is_taken_out_of_a_query(query: bytes, left: bytes) -> None:
    assert without_key(query) == left
