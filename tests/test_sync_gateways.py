"""Gateways as their operators run them: processes of their own that replicate over loopback, and the tools around them."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from conftest import StartGateway
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gateways import Gateway, until
from replicas import Approver, cli, two_replicas

from gateway.sync import status


@pytest.fixture
def approver() -> Approver:
    return Approver(Ed25519PrivateKey.generate())


@pytest.fixture
def pair(start_gateway: StartGateway, approver: Approver) -> tuple[Gateway, Gateway]:
    """The second one has two workers."""
    a, b = two_replicas(approver.public)
    return start_gateway(**a), start_gateway(workers=2, **b)


def test_a_promotion_on_one_gateway_is_held_by_the_other(pair: tuple[Gateway, Gateway], approver: Approver) -> None:
    a, b = pair
    with a.client() as client:
        until(lambda: client.get("/admin/v1/sync").json()["peers"])
        approver.promote(a, "from-a")
        until(lambda: approver.holds(b, "from-a"))
        approver.promote(b, "from-b")
        until(lambda: approver.holds(a, "from-b"))

        found = until_held(client, "from-a")
        assert found["held_by"] == ["a", "b"]
        assert found["reached"]
        assert found["quorum"] == 2

        until(lambda: client.get("/admin/v1/sync").json()["peers"][0]["agrees"])
        report = client.get("/admin/v1/sync").json()
        assert report["summary"] == "a agrees with 1 connected replica"
        assert report["peers"][0]["transport"] == "quic"
        assert [member["node"] for member in report["members"]] == ["b"]
        assert client.get("/admin/v1/sync/entries/nothing").status_code == 404
        series = client.get("/metrics").text
        assert 'portcullis_sync_peers{state="agrees",transport="quic"} 1.0' in series
        assert "portcullis_sync_entries 2.0" in series
        assert 'portcullis_sync_bytes_total{direction="sent",transport="quic"}' in series
    with b.client() as client:  # whichever of its workers answers
        until(lambda: client.get("/admin/v1/sync").json().get("peers"))
    until(lambda: cli("sync", "status", "--config", a.config).returncode == 0)  # a connection may have broken meanwhile
    done = cli("sync", "status", "--config", a.config)
    assert "agree" in done.stdout
    assert "quic" in done.stdout
    assert f"certificate {a.settings['sync']['certificate']}, valid until 20" in done.stdout

    b.stop()
    until(lambda: cli("sync", "status", "--config", a.config).returncode == 1)
    assert "knows of no other replica" in cli("sync", "status", "--config", a.config).stdout
    file = status.report_file(Path(a.settings["data_dir"]))
    a.signal(signal.SIGSTOP)  # as if it could not write
    file.write_text(json.dumps({**json.loads(file.read_text()), "at": time.time() - 60}))
    silent = cli("sync", "status", "--config", a.config)
    a.signal(signal.SIGCONT)
    assert silent.returncode == 1
    assert re.search(r"has written no report for 6\d s: it has ended, or cannot write there", silent.stderr)


def until_held(client: object, identity: str) -> dict[str, object]:
    found: dict[str, object] = {}

    def held() -> bool:
        found.update(client.get(f"/admin/v1/sync/entries/{identity}").json())  # type: ignore[attr-defined]
        return found.get("reached") is True

    until(held)
    return found


def test_a_pattern_that_nobody_trusted_signed_is_held_by_nobody_else(pair: tuple[Gateway, Gateway], approver: Approver) -> None:
    a, b = pair
    stranger = Approver(Ed25519PrivateKey.generate())
    stranger.promote(a, "evil")
    approver.promote(a, "good")
    until(lambda: approver.holds(b, "good"))
    assert not approver.holds(b, "evil")
    with b.client() as client:
        until(lambda: 'portcullis_sync_refused_total{reason="untrusted"}' in client.get("/metrics").text)
    with a.client() as client:
        until(lambda: "entries are refused" in client.get("/admin/v1/sync").json()["peers"][0]["in_words"])


def test_where_the_worker_that_speaks_with_replicas_is_killed_another_does(
    pair: tuple[Gateway, Gateway], approver: Approver
) -> None:
    a, b = pair
    killed = speaks(b)
    assert killed
    os.kill(killed, signal.SIGKILL)
    until(lambda: speaks(b) not in (None, killed))
    approver.promote(a, "from-a")
    until(lambda: approver.holds(b, "from-a"))


def speaks(gateway: Gateway) -> int | None:
    """The worker that holds the lock."""
    file = (Path(gateway.settings["data_dir"]) / "sync.lock").stat().st_ino
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return next((int(one[4]) for one in locks if one[1] == "FLOCK" and one[5].endswith(f":{file}")), None)


def test_a_key_that_is_trusted_no_longer_is_refused_without_a_restart(pair: tuple[Gateway, Gateway], approver: Approver) -> None:
    """The configuration was taken, as the log said, and whoever had stolen the key went on."""
    a, b = pair
    approver.promote(a, "before")
    until(lambda: approver.holds(b, "before"))
    b.write({**b.settings, "learning": {"trusted_keys": [Approver(Ed25519PrivateKey.generate()).public]}})
    b.wait_for(lambda line: "configuration taken" in line["message"], count=2)
    approver.promote(a, "after")
    with b.client() as client:
        until(lambda: client.get("/admin/v1/sync").json()["refused"].get("untrusted"))
    assert approver.holds(b, "before"), "what was taken stays; it is rolled back by hand"
    assert not approver.holds(b, "after")


def test_certificates_are_made_once_and_misuse_is_named(tmp_path: Path) -> None:
    assert cli("sync", "init-ca", tmp_path).returncode == 0
    again = cli("sync", "init-ca", tmp_path)
    assert again.returncode == 1
    assert "ca.key: cannot be written: File exists" in again.stderr
    assert "wanted a DNS name" in cli("sync", "issue", tmp_path, "näme", "--out", tmp_path).stderr
    assert (tmp_path / "ca.key").stat().st_mode & 0o077 == 0
    issued = cli("sync", "issue", tmp_path, "a.example", "--name", "*.example", "--out", tmp_path)
    assert "node: a.example" in issued.stdout
    config = tmp_path / "portcullis.yaml"
    config.write_text("{}")
    assert "sync.listen is not set" in cli("sync", "status", "--config", config).stderr


@pytest.mark.parametrize(
    ("sync", "says"),
    [
        ({"listen": "x"}, "sync.listen: wanted host:port"),
        ({"listen": "127.0.0.1:7443"}, "ca, certificate and key: all three are needed"),
        ({"listen": "0.0.0.0:7443", "development": "x"}, "0.0.0.0:7443 is not a loopback address"),
        ({"listen": "127.0.0.1:7443", "development": "x", "ca": "y"}, "goes without"),
        ({"lisen": "127.0.0.1:7443"}, "did you mean 'listen'"),
    ],
)
def test_a_wrong_section_names_the_key(tmp_path: Path, sync: dict[str, object], says: str) -> None:
    config = tmp_path / "portcullis.yaml"
    config.write_text(json.dumps({"sync": sync}))
    assert says in cli("check", "--config", config).stderr
