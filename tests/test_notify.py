"""Notifications: what is told and when (pure), and a real gateway that tells it to real receivers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import StartGateway
from hypothesis import given
from hypothesis import strategies as st
from receivers import http_receiver, mail_server

from gateway.config import configuration, settings
from gateway.config.settings import SettingsError
from gateway.notify import messages
from gateway.notify.conditions import (
    KEPT_SECONDS,
    PAST_SECONDS,
    SURGE_SECONDS,
    Condition,
    History,
    Reading,
    Values,
    conditions,
)
from gateway.notify.ledger import CALM_SECONDS, Ledger, Notice
from gateway.notify.notifier import Post
from gateway.notify.receivers import Undelivered, receivers

DOWN = Condition("PortcullisStateDown", "", "critical", "the state does not answer")
SLOW = Condition("PortcullisBreakerOpen", "openai", "warning", "the breaker is open")


def told(notices: list[Notice]) -> list[tuple[str, str]]:
    return [(notice.condition.name, notice.state) for notice in notices]


class TestLedger:
    def test_once_then_again_then_over(self) -> None:
        ledger = Ledger("a", 3600, 10)
        assert told(ledger.step(0, [DOWN])) == [("PortcullisStateDown", "firing")]
        assert all(not ledger.step(at, [DOWN]) for at in range(5, 3600, 5))
        [again] = ledger.step(3600, [DOWN])
        assert (again.times, again.since) == (2, 0)
        assert told(ledger.step(3600 + CALM_SECONDS, [])) == [("PortcullisStateDown", "resolved")]
        assert ledger.step(9999, []) == []

    def test_what_comes_and_goes_is_told_once(self) -> None:
        ledger = Ledger("a", 3600, 10)
        notices = [notice for at in range(0, 1000, 5) for notice in ledger.step(at, [SLOW] if at % 50 < 25 else [])]
        assert told(notices) == [("PortcullisBreakerOpen", "firing")]

    def test_a_storm_is_bounded_and_the_grave_goes_first(self) -> None:
        ledger = Ledger("a", 3600, 3)
        storm = [SLOW._replace(key=str(number)) for number in range(50)]
        first = ledger.step(100, [*storm, DOWN])
        assert [notice.condition.severity for notice in first] == ["critical", "warning", "warning"]
        later = [notice for at in range(105, 700, 5) for notice in ledger.step(at, [*storm, DOWN])]
        assert len(later) <= 3 * 10
        assert later[0].held_back

    def test_what_was_never_told_is_never_over(self) -> None:
        ledger = Ledger("a", 3600, 1)
        assert len(ledger.step(100, [DOWN, SLOW])) == 1
        assert told(ledger.step(100 + CALM_SECONDS, [])) == [("PortcullisStateDown", "resolved")]

    @given(st.lists(st.tuples(st.floats(0, 300), st.sets(st.sampled_from("abcde"))), max_size=60), st.integers(1, 5))
    def test_every_resolved_follows_its_firing(self, steps: list[tuple[float, set[str]]], per_minute: int) -> None:
        ledger = Ledger("s", 600, per_minute)
        now, firing = 0.0, set()
        for gap, keys in steps:
            now += gap
            for notice in ledger.step(now, [SLOW._replace(key=key) for key in sorted(keys)]):
                if notice.state == "firing":
                    firing.add(notice.id)
                else:
                    assert notice.id in firing
                    firing.remove(notice.id)


class TestConditions:
    @staticmethod
    def over(*readings: tuple[float, dict[str, dict[tuple[str, ...], float]]]) -> set[str]:
        history = History()
        for at, series in readings:
            history.add(Reading(at, series))
        return {condition.name for condition in conditions(history)}

    def test_errors_need_a_share_and_a_number(self) -> None:
        def seen(good: float, bad: float) -> dict[str, dict[tuple[str, ...], float]]:
            return {"portcullis_requests": {("w", "t", "allow", "200"): good, ("w", "t", "allow", "502"): bad}}

        assert self.over((0, seen(0, 0)), (300, seen(90, 10))) == {"PortcullisErrorRate"}
        assert self.over((0, seen(0, 0)), (300, seen(990, 10))) == set()
        assert self.over((0, seen(0, 0)), (300, seen(5, 5))) == set()
        assert self.over((0, seen(0, 500)), (300, seen(1000, 500))) == set(), "errors of long ago"

    def test_fail_open_names_the_stage(self) -> None:
        history = History()
        history.add(Reading(0, {"portcullis_fail_open": {("encoder",): 4, ("audit",): 2}}))
        history.add(Reading(60, {"portcullis_fail_open": {("encoder",): 5, ("audit",): 2}}))
        assert [(one.name, one.key) for one in conditions(history)] == [("PortcullisFailOpen", "encoder")]

    def test_a_surge_is_measured_against_the_day_before(self) -> None:
        def blocked(count: float) -> dict[str, dict[tuple[str, ...], float]]:
            return {"portcullis_requests": {("w", "t", "block", "400"): count}}

        quiet = [(at, blocked(at * 0.1)) for at in range(0, 36_000, 60)]
        assert self.over(*quiet) == set()
        attack = [(36_000 + at, blocked(3_600 + at * 2.0)) for at in range(0, 960, 60)]
        assert self.over(*quiet, *attack) == {"PortcullisThreatSurge"}
        assert self.over(*attack) == set(), "with no past there is no surge"

    def test_a_day_of_readings_is_kept_as_a_few_sums(self) -> None:
        class Series(dict[str, Values]):
            """A reading's series, of which the test can tell whether anybody keeps them."""

        history = History()
        kept = weakref.WeakValueDictionary[float, Series]()
        for at in range(0, 90_000, 5):
            tenants = {("w", f"tenant {number}", "block", "400"): at * 0.01 for number in range(10)}
            series = kept[at] = Series({"portcullis_requests": tenants})
            history.add(Reading(at, series))
        assert set(kept) == {at}, "of all but the newest there are no series, which have a value for each tenant"
        assert len(history._counted) <= 1 + SURGE_SECONDS / 5 + 1 + KEPT_SECONDS / PAST_SECONDS + 1
        for seconds in (0, 5, 300, 600, 900):
            assert (history.before(seconds).at, history.increase(seconds, lambda one: one.threats)) == (
                at - seconds, pytest.approx(seconds * 0.1))  # fmt: skip
        assert at - KEPT_SECONDS <= history.before(KEPT_SECONDS).at < at - KEPT_SECONDS + 2 * PAST_SECONDS
        assert list(conditions(history)) == []
        attack = {("w", "tenant 1", "flag", "200"): 1_000.0}
        history.add(Reading(at + 5, {"portcullis_requests": tenants | attack}))
        assert [one.text for one in conditions(history)] == ["1.2 blocked or flagged requests a second, against 0.1 over the day before"]

    def test_gauges(self) -> None:
        now = 1_000_000.0
        bad = {
            "portcullis_state_up": {(): 0.0}, "portcullis_config_broken": {(): 1.0}, "portcullis_breaker_open": {("openai",): 1.0},
            "portcullis_audit_writable": {(): 0.0}, "portcullis_sync_certificate_expires": {(): now + 3600},
            "portcullis_in_flight": {(): 900.0}, "portcullis_in_flight_limit": {(): 1000.0},
        }  # fmt: skip
        assert self.over((now, bad)) == {
            "PortcullisStateDown", "PortcullisConfigurationRefused", "PortcullisBreakerOpen", "PortcullisAuditNotWritable",
            "PortcullisCertificateExpires", "PortcullisSaturated",
        }  # fmt: skip
        assert self.over((now, {"portcullis_state_up": {(): 1.0}, "portcullis_sync_certificate_expires": {(): 0.0}})) == set()

    def test_a_clock_that_goes_back_forgets_the_future(self) -> None:
        history = History()
        for at in (100.0, 200.0, 50.0):
            history.add(Reading(at, {}))
        assert history.newest.at == history.before(1000).at == 50.0


def test_every_condition_has_a_runbook() -> None:
    names = set(Path("gateway/notify/conditions.py").read_text().split('"')) & {
        part for part in Path("gateway/notify/conditions.py").read_text().split('"') if part.startswith("Portcullis")
    }
    assert names
    assert [name for name in sorted(names) if not Path(f"docs/runbooks/{name}.md").exists()] == []


def test_a_gateway_tells_its_receivers(start_gateway: StartGateway) -> None:
    with http_receiver(fail_first=1) as (url, posts), mail_server() as (server, mails):
        gateway = start_gateway(
            notify={
                "source": "replica <1>",
                "webhook": {"url": f"{url}/hook", "secret": "shared"},
                "slack": {"url": f"{url}/slack"},
                "pagerduty": {"url": f"{url}/pager", "routing_key": "R0"},
                "email": {"server": server, "sender": "gateway@example.org", "to": ["oncall@example.org"], "security": "none"},
            }
        )
        gateway.write({**gateway.settings, "polcy": "strict"})
        posts.wait_for(lambda got: got.path == "/hook")
        with posts._changed:  # the first attempt was answered 503: the second one is the same notice
            assert posts._changed.wait_for(lambda: all(sum(got.path == path for got in posts.items) >= 2 for path in ("/hook", "/slack", "/pager")), 60)
        hooks = [got for got in posts.items if got.path == "/hook"]
        hook = json.loads(hooks[1].body)
        assert (hook["name"], hook["state"], hook["source"]) == ("PortcullisConfigurationRefused", "firing", "replica <1>")
        assert hooks[0].headers["x-portcullis-delivery"] == hooks[1].headers["x-portcullis-delivery"]
        stamp, _, sent = hooks[1].headers["x-portcullis-signature"].removeprefix("t=").partition(",v1=")
        assert abs(time.time() - int(stamp)) < 120
        assert hmac.compare_digest(sent, hmac.new(b"shared", stamp.encode() + b"." + hooks[1].body, hashlib.sha256).hexdigest())
        slack = json.loads(next(got.body for got in posts.items if got.path == "/slack"))["text"]
        assert "PortcullisConfigurationRefused" in slack
        assert "replica &lt;1&gt;" in slack
        pager = json.loads(next(got.body for got in posts.items if got.path == "/pager"))
        assert (pager["routing_key"], pager["event_action"], pager["payload"]["severity"]) == ("R0", "trigger", "warning")
        sender, to, mail = mails.wait_for(lambda _: True)
        assert (sender, to) == ("gateway@example.org", ["oncall@example.org"])
        assert mail["subject"] == "[firing warning] PortcullisConfigurationRefused on replica <1>"
        assert "docs/runbooks/PortcullisConfigurationRefused.md" in mail.get_content()
        with gateway.client() as client:
            series = client.get("/metrics").text
        assert 'portcullis_notifications_total{receiver="webhook",result="failed"} 1.0' in series
        assert 'portcullis_notifications_total{receiver="email",result="sent"} 1.0' in series
        assert "shared" not in json.dumps(gateway.log)


def test_redirects_and_refusals_are_final() -> None:
    notice = Notice("a/b/1", DOWN, "firing", 1.0, 1, 0)
    with http_receiver() as (url, posts):
        [hook] = receivers(settings.NotifySettings(webhook={"url": f"{url}/moved"}))  # type: ignore[arg-type]
        with pytest.raises(Undelivered, match="answered 302") as caught:
            hook.send(notice, "a", 1.0)
        assert caught.value.final
        assert [got.path for got in posts.items] == ["/moved"]
    with pytest.raises(Undelivered) as caught:  # nobody listens any more: worth another try
        hook.send(notice, "a", 1.0)
    assert not caught.value.final


ODD = [
    b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 200 + b"\r\n",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_what_answers_no_http_ends_nothing(odd: bytes) -> None:
    """Of the notice it is tried again, and those after it are told, too."""
    asyncio.run(_told_after(odd))


async def _told_after(odd: bytes) -> None:
    answers = [odd, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"]
    got: asyncio.Queue[str] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.write(answers.pop(0))
        writer.close()
        got.put_nowait(next(line for line in head.splitlines() if line.lower().startswith("x-portcullis-delivery")).partition(": ")[2])

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        [hook] = receivers(settings.NotifySettings(webhook={"url": url}))  # type: ignore[arg-type]
        post = Post(hook, "gw")
        task = asyncio.create_task(post.run())
        for since in (1.0, 2.0):
            post.add(Notice(f"gw/X/{since:.0f}", DOWN, "firing", since, 1, 0))
        assert [await asyncio.wait_for(got.get(), 30) for _ in range(3)] == ["gw/X/1/firing/1", "gw/X/1/firing/1", "gw/X/2/firing/1"]
        task.cancel()
    assert post.results["failed"] == 1


def test_a_notice_that_cannot_be_sent_holds_no_other_one_up(caplog: pytest.LogCaptureFixture) -> None:
    async def told_past_it() -> Post:
        loop = asyncio.get_running_loop()
        sent: asyncio.Queue[str] = asyncio.Queue()
        post = Post(Broken(lambda name: loop.call_soon_threadsafe(sent.put_nowait, name)), "gw")
        for name in ("first", "second"):
            post.add(Notice(name, DOWN, "firing", 1.0, 1, 0))
        task = asyncio.create_task(post.run())
        assert await asyncio.wait_for(sent.get(), 30) == "second"
        task.cancel()
        return post

    class Broken:
        name = "webhook"

        def __init__(self, sent: Callable[[str], object]) -> None:
            self._sent = sent

        def send(self, notice: Notice, source: str, now: float) -> None:
            if notice.id == "first":
                raise ValueError("with a secret in it")
            self._sent(notice.id)

    post = asyncio.run(told_past_it())
    assert post.results["dropped"] == 1
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("source", ["büro-münchen", "東京", "gw 1"])
def test_a_replica_may_be_called_anything(source: str) -> None:
    with http_receiver() as (url, posts):
        [hook] = receivers(settings.NotifySettings(source=source, webhook={"url": f"{url}/x"}))  # type: ignore[arg-type]
        hook.send(Notice(f"{source}/a/1", DOWN, "firing", 1.0, 1, 0), source, 1.0)
    [got] = posts.items
    assert json.loads(got.body)["source"] == source
    assert unquote(got.headers["x-portcullis-delivery"]) == f"{source}/a/1/firing/1"


def test_a_resolved_event_closes_what_the_first_one_opened() -> None:
    first = Notice("a/b/1", DOWN, "firing", 1.0, 1, 0)
    last = first._replace(state="resolved")
    opened, closed = (json.loads(messages.pagerduty(one, "a", "R")) for one in (first, last))
    assert opened["dedup_key"] == closed["dedup_key"]
    assert closed["event_action"] == "resolve"
    mails = [messages.email(one, "a", "g@example.org", ["x@example.org"], 1.0) for one in (first, last)]
    assert mails[1]["references"] == mails[0]["message-id"]


@pytest.mark.parametrize(
    ("notify", "message"),
    [
        ("webhook: {url: 'ftp://x'}", "notify.webhook.url: wanted http(s)://"),
        ("webhook: {url: 'http://x/a b'}", "notify.webhook.url: wanted http(s)://"),
        ("webhook: {url: 'http://x/ü'}", "in visible ASCII: anything else percent-encoded"),
        ("webhook: {url: 'http://x:99999/'}", "notify.webhook.url: wanted http(s)://"),
        ("webhook: {url: 'http://[::1/'}", "notify.webhook.url: wanted http(s)://"),
        ("webhook: {url: 'http://:b@x/'}", "notify.webhook.url: wanted http(s)://"),
        ("webhook: {url: 'http://x..example/'}", "notify.webhook.url: wanted a host's name"),
        ('{source: "a\\nb", webhook: {url: "http://x"}}', "notify.source: wanted a name in one line"),
        ("email: {server: 'mail:25', sender: a..b@example.org, to: [b@example.org]}", "notify.email.sender: wanted an address"),
        ("email: {server: 'mail:25', sender: a@example.org, to: [jürgen@example.org]}", "notify.email.to.0: wanted an address"),
        ("email: {server: 'mail:25', sender: a@example.org, to: [b@example.org], username: a, password: ü}", "notify.email.password: wanted ASCII"),
        ("webhok: {url: 'http://x'}", "notify.webhok: unknown key; did you mean 'webhook'?"),
        ("{}", "notify: wanted at least one of webhook, slack, pagerduty, email"),
        ("email: {server: mail, sender: a@example.org, to: [b@example.org]}", "notify.email.server: wanted host:port"),
        ("email: {server: 'mail:25', sender: nobody, to: [b@example.org]}", "notify.email.sender: wanted an address"),
        ("email: {server: 'mail:25', sender: a@example.org, to: ['b@example.org\\r\\nBcc: x@example.org']}", "notify.email.to.0: wanted an address"),
        ("email: {server: 'mail:25', sender: a@example.org, to: [b@example.org], username: a}", "notify.email: username and password go together"),
        ("email: {server: 'mail:25', sender: a@example.org, to: [b@example.org], username: a, password: b, security: none}", "notify.email: a password needs starttls or tls"),
    ],
)
def test_wrong_settings(tmp_path: Path, notify: str, message: str) -> None:
    file = tmp_path / "portcullis.yaml"
    file.write_text("notify:\n  " + notify + "\n")
    with pytest.raises(SettingsError) as caught:
        configuration.load(file, {})
    assert message in str(caught.value)
