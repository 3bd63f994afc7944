"""Sessions of the console: cookies that nobody can make or keep, and requests that only our own page can send."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import httpx
import pytest
from conftest import StartGateway
from gateways import Gateway
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.bodies import STRANGER_BYTES
from gateway.chores import KEYS_SECONDS
from gateway.console.sessions import ALL_FAILURES, FAILURES, MAX_ADDRESSES, SESSION_SECONDS, Attempts, Sessions, right_token


class TestCookies:
    sessions = Sessions(b"s" * 32)

    def test_one_that_was_made_is_read_until_it_expires(self) -> None:
        cookie, made = self.sessions.begin("abcdefgh", 1000.0, math.inf)
        assert made.expires_at == 1000 + SESSION_SECONDS
        assert self.sessions.read(cookie, 1001.0) == made
        assert self.sessions.read(cookie, 1000.0 + SESSION_SECONDS) is None
        assert right_token(made, made.csrf)
        assert not right_token(made, "")

    def test_it_ends_with_its_key(self) -> None:
        assert self.sessions.begin("abcdefgh", 1000.0, 1010.0)[1].expires_at == 1010

    def test_another_secret_reads_nothing(self) -> None:
        cookie, _ = self.sessions.begin("abcdefgh", 1000.0, math.inf)
        assert Sessions(b"t" * 32).read(cookie, 1001.0) is None

    @given(st.data())
    def test_a_changed_cookie_is_none(self, data: st.DataObject) -> None:
        cookie, _ = self.sessions.begin("abcdefgh", 1000.0, math.inf)
        at = data.draw(st.integers(0, len(cookie) - 1))
        other = data.draw(st.characters().filter(lambda char: char != cookie[at]))
        assert self.sessions.read(cookie[:at] + other + cookie[at + 1 :], 1001.0) is None

    @given(st.text())
    def test_garbage_is_none(self, text: str) -> None:
        assert self.sessions.read(text, 0.0) is None


class TestAttempts:
    def test_one_address_waits_and_others_do_not(self) -> None:
        attempts = Attempts()
        for number in range(FAILURES):
            assert attempts.wait("a", number) == 0
            attempts.failed("a", number)
        assert attempts.wait("a", FAILURES) == 60 - FAILURES
        assert attempts.wait("b", FAILURES) == 0
        assert attempts.wait("a", 60.0) == 0

    def test_many_addresses_together_wait_too_and_are_not_remembered_for_ever(self) -> None:
        attempts = Attempts()
        for number in range(MAX_ADDRESSES + 5):
            attempts.failed(str(number), 1.0)
        assert attempts.wait("new", 2.0) > 0
        assert len(attempts._failed) == MAX_ADDRESSES > ALL_FAILURES

    def test_a_clock_that_is_set_back_locks_nobody_out(self) -> None:
        attempts = Attempts()
        for _ in range(FAILURES):
            attempts.failed("a", 1e9)
        assert attempts.wait("a", 1000.0) == 0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    started = Gateway(tmp_path_factory.mktemp("sessions"), {"limits": {"ready_grace_seconds": 0}}, 2, {})
    yield started
    started.stop()


def test_from_an_open_gateway_to_a_revoked_session(gateway: Gateway) -> None:
    fresh = {"limits": httpx.Limits(max_keepalive_connections=0)}  # a connection stays with one worker, and both are meant
    with gateway.client(**fresh) as script:
        assert script.get("/admin/v1/session").json()["open"]
        elsewhere = {"origin": "https://evil.example"}
        forged = script.post("/admin/v1/keys", content=b'{"role":"operator"}', headers={**elsewhere, "content-type": ""})
        assert forged.status_code == 403, "a page of another site makes no keys at a gateway that asks for none"
        assert script.get("/admin/v1/session", headers={"host": "evil.example"}).json() == {"signed_in": False, "open": False}
        operator = script.post("/admin/v1/keys", json={"role": "operator", "tenant": "*"}).json()
        script.headers["authorization"] = f"Bearer {operator['token']}"

        began = time.monotonic()  # each worker looks for keys once a second, and until then takes everybody for the operator
        while time.monotonic() < began + 3 * KEYS_SECONDS:
            _until(script, lambda: script.post("/admin/v1/keys", json={"role": "app"}))
        app = script.post("/admin/v1/keys", json={"role": "app"}).json()

        with gateway.client(**fresh) as browser:
            refused = browser.post("/admin/v1/session", json={"key": app["token"]})
            assert refused.status_code in (401, 403), "403, or 401 where this worker does not know the new key yet"
            assert browser.post("/admin/v1/session", json={"key": operator["token"]}, headers=elsewhere).status_code == 403
            got = browser.post("/admin/v1/session", json={"key": operator["token"]})
            cookie = got.headers["set-cookie"]
            assert {"HttpOnly", "Path=/admin", "SameSite=strict"} <= set(cookie.split("; "))
            assert operator["token"] not in cookie
            token = got.json()["csrf"]
            for _ in range(8):  # whichever worker answers
                assert browser.get("/admin/v1/session").json()["csrf"] == token
                assert browser.get("/admin/v1/keys").status_code == 200
                assert browser.post("/admin/v1/keys", json={"role": "app"}).status_code == 403
                assert browser.post("/admin/v1/keys", json={"role": "app"}, headers={"x-portcullis-csrf": "0" * 64}).status_code == 403
            ours = {"x-portcullis-csrf": token, "origin": gateway.url}
            assert browser.post("/admin/v1/keys", json={"role": "app"}, headers={**ours, **elsewhere}).status_code == 403
            assert browser.post("/admin/v1/keys", json={"role": "app"}, headers=ours).status_code == 201
            assert browser.post("/admin/v1/playground", json={"text": "x"}, headers=ours).json()["policies"]["current"]
            with gateway.client(**fresh, cookies=dict(browser.cookies)) as thief:
                assert thief.get("/admin/v1/keys").status_code == 200
                again = browser.post("/admin/v1/session", json={"key": operator["token"]})
                assert thief.delete("/admin/v1/session", headers=elsewhere).status_code == 403
                gone = thief.delete("/admin/v1/session")
                assert gone.json() == {"signed_in": False, "open": False}
                assert "Max-Age=0" in gone.headers["set-cookie"]
                for _ in range(8):  # whichever worker answers
                    assert thief.get("/admin/v1/keys").status_code == 401
                    assert not thief.get("/admin/v1/session").json()["signed_in"]
                    assert browser.get("/admin/v1/keys").status_code == 200, "another session of the same key goes on"
                ours["x-portcullis-csrf"] = again.json()["csrf"]
            assert script.delete(f"/admin/v1/keys/{operator['id']}").status_code == 200
            _until(browser, lambda: browser.get("/admin/v1/keys"), 401)


@pytest.mark.parametrize(
    ("settings", "name"), [({"allowed_hosts": ["gateway.example"]}, "gateway.example"), ({"open": True}, "rebound.example")]
)
def test_a_name_that_the_data_plane_takes_makes_nobody_the_local_operator(
    start_gateway: StartGateway, settings: dict[str, object], name: str
) -> None:
    """Visitors of a reverse proxy that keeps the Host header, and of a page whose name was made to lead to loopback."""
    gateway = start_gateway(detection={"model": False}, **settings)
    hello = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    with gateway.client() as client:
        for host in (name, f"{name}:{gateway.port}"):
            there = {"host": host}
            assert client.post("/v1/chat/completions", json=hello, headers=there).status_code == 200
            assert client.get("/admin/v1/session", headers=there).json() == {"signed_in": False, "open": False}
            assert client.get("/admin/v1/decisions", headers=there).status_code == 421
            assert client.post("/admin/v1/keys", json={"role": "operator", "tenant": "*"}, headers=there).status_code == 421
            large = client.post("/admin/v1/playground", json={"text": "x" * STRANGER_BYTES}, headers=there)
            assert large.status_code == 413, "no more is read of him than of any stranger"
        for host in ("localhost", "127.0.0.2:1", "[::1]:8080"):
            assert client.get("/admin/v1/session", headers={"host": host}).json()["open"]
            assert client.get("/admin/v1/keys", headers={"host": host}).json() == {"keys": []}


@pytest.mark.parametrize(
    ("asked", "part"),
    [({}, "either text or messages"), ({"text": "x", "messages": []}, "either text or messages"),
     ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"), ({"text": "x", "policies": ["lax"]}, "policies"),
     ({"text": "x", "policies": []}, "policies"), ({"text": "x" * (2 * 2**20 + 1)}, "text"), ({"text": "x", "origin": "king"}, "origin")],
)  # fmt: skip
def test_the_playground_names_what_is_wrong(echo_gateway: Gateway, asked: dict[str, object], part: str) -> None:
    with echo_gateway.client() as client:
        got = client.post("/admin/v1/playground", json=asked)
    assert got.status_code == 422
    assert part in got.text


def _until(client: httpx.Client, call: object, status: int = 0) -> httpx.Response:
    """Ask until every worker knows the keys as they are now; they look once a second."""
    for _ in range(400):
        got: httpx.Response = call()  # type: ignore[operator]
        if got.status_code == status or (not status and got.status_code in (200, 201)):
            return got
    raise AssertionError(f"{got.status_code} {got.text}")
