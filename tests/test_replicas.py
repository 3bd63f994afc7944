"""Two replicas that are looked at: by a real Prometheus with our dashboards and alerts, and by somebody at the console."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from browsers import Seat, chromium
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from gateways import Gateway, until
from playwright.sync_api import expect
from prometheus import Prometheus, prometheus
from replicas import Approver, two_replicas

from helm.generate.__main__ import ROOT
from helm.generate.alerts import ALERTS
from helm.generate.dashboards import DASHBOARDS

CHAT = "/v1/chat/completions"
PATTERN = {
    "id": "own.drawbridge", "kind": "regex", "body": r"\blower\b.{1,20}\bthe drawbridge\b", "severity": "high",
    "category": "agent_abuse.unauthorised_action", "hits": ["now lower for me the drawbridge"], "misses": ["raise the drawbridge"],
}  # fmt: skip

LABELS = ("portcullis_labels_total", "portcullis_pattern_labelled")
"""Nobody labels anything here: `test_dashboards` sees these."""


class Pair(NamedTuple):
    a: Gateway
    b: Gateway
    approver: Approver


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("replicas")
    approver = Approver(Ed25519PrivateKey.generate())
    signing_key = folder / "signing.pem"
    signing_key.write_bytes(approver.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signing_key.chmod(0o600)
    started = []
    for settings in two_replicas(approver.public):
        settings["learning"]["signing_key"] = str(signing_key)  # as a cluster mounts one secret into all of its pods
        home = folder / settings["sync"]["node"]
        home.mkdir()
        started.append(Gateway(home, {**settings, "limits": {"ready_grace_seconds": 0}}, 1, {}))
    yield Pair(*started, approver)
    for gateway in started:
        gateway.stop()


@pytest.fixture(scope="module")
def watched(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that watches both, while they answer and patterns are proposed, promoted and replaced."""
    a, b, approver = pair
    folder = tmp_path_factory.mktemp("prometheus")
    targets = [f"127.0.0.1:{gateway.port}" for gateway in (a, b)]
    with prometheus(folder, targets, ROOT / "helm/portcullis/files/rules.yaml") as running:
        running.wait_for('sum(portcullis_sync_peers{state="agrees"}) == 2')
        with a.client() as client:
            client.timeout = 120
            made = client.post("/admin/v1/patterns", json={"pattern": PATTERN, "reason": "seen"}).raise_for_status().json()
            client.post(f"/admin/v1/proposals/{made['id']}/approve", json={"reason": "agreed"}).raise_for_status()
        for number in range(3):
            identity = f"own-{number}"
            approver.promote(a, identity)
            until(lambda identity=identity: approver.holds(b, identity))  # type: ignore[misc]
            for gateway in (a, b):
                with gateway.client() as client:
                    client.post(CHAT, json={"model": "m", "messages": [{"role": "user", "content": f"Hello {number}!"}]})
            running.wait_for(f"min(portcullis_sync_entries) == {number + 2}")
        running.wait_for("sum(rate(portcullis_requests_total[1m])) > 0")
        yield running


@pytest.mark.parametrize("key", ["sync", "learning"])
def test_every_panel_has_data(watched: Prometheus, key: str) -> None:
    (dashboard,) = (one for one in DASHBOARDS if one.key == key)
    queries = [(title, expr.replace("$__rate_interval", "1m").replace("$job", ".*")) for title, expr in dashboard.queries()
               if not any(name in expr for name in LABELS)]  # fmt: skip
    assert [f"{title}: {expr}" for title, expr in queries if not watched.query(expr)] == []


def test_every_series_of_an_alert_on_sync_exists_for_both(watched: Prometheus) -> None:
    used = {name for alert in ALERTS for name in re.findall(r"\bportcullis_sync_\w+", alert.expr)}
    assert len(used) >= 3
    assert [name for name in sorted(used) if len(watched.query(f"count by (instance) ({name})")) != 2] == []


def test_both_hold_the_same_and_prometheus_sees_it(watched: Prometheus) -> None:
    watched.wait_for("count(count by (digest) (portcullis_sync_digest)) == 1")
    watched.wait_for("count(count by (digest) (portcullis_generation_digest)) == 1")
    watched.wait_for("max(portcullis_sync_lag_seconds) < 1")


def test_the_console_tells_who_holds_what(watched: Prometheus, pair: Pair) -> None:
    a, b, _ = pair
    with a.client() as client:
        digest = client.get("/admin/v1/sync").json()["digest"][:12]
    with chromium() as browser:
        seat = Seat(browser, a.url)
        page = seat.go("replicas", "Replicas")
        lines = page.get_by_role("table", name="Replicas and what they hold").locator("tbody tr")
        expect(lines).to_have_count(2)
        expect(lines.nth(0)).to_contain_text("this one")
        expect(lines.nth(1)).to_contain_text("agrees")
        expect(lines.nth(1)).to_contain_text("quic")
        for line in (lines.nth(0), lines.nth(1)):
            expect(line).to_contain_text(digest)
        expect(page.get_by_text("a agrees with 1 connected replica.")).to_be_visible()
        expect(page.get_by_text("certificate expires at").locator("xpath=following-sibling::dd[1]")).to_contain_text("20")
        seat.check_accessibility()
        seat.shot("replicas")
        b.stop()
        expect(lines).to_have_count(1)  # one that leaves in order is no longer known
        expect(page.get_by_text("a knows of no other replica.")).to_be_visible()
        assert not seat.errors
