"""``portcullis check`` finds what would keep a gateway from starting, and ``keys create`` takes days that there are."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from gateways import CACHE_DIR

from gateway import cli
from gateway.cli import common
from gateway.sync import certificates


def _checked(folder: Path, capsys: pytest.CaptureFixture[str], **settings: Any) -> str:
    config = folder / "portcullis.yaml"
    config.write_bytes(orjson.dumps({"data_dir": str(folder / "data"), "state": "sqlite::memory:", **settings}))
    assert cli.main(["check", "--config", str(config)]) == 1
    assert not (folder / "data" / "audit").exists(), "nothing is made"
    return capsys.readouterr().err


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "file"
    path.write_text("no key, no certificate and no folder")
    return str(path)


def test_what_a_missing_stage_means_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runbooks send people here to see which modes are configured."""
    config, data = tmp_path / "portcullis.yaml", tmp_path / "data"
    data.mkdir()
    (data / "cache").symlink_to(CACHE_DIR, target_is_directory=True)
    settings = {
        "data_dir": str(data), "state": "sqlite::memory:", "detection": {"model": False},
        "policy": {"preset": "balanced", "failure": {"*": "flag", "audit": "open"}},
        "tenants": {"acme": {"policy": {"preset": "monitor", "failure": {"encoder": "open"}}},
                    "shut": {"policy": {"failure": {"*": "closed", "audit": "open"}}}},
    }  # fmt: skip
    config.write_bytes(orjson.dumps(settings))
    assert cli.main(["check", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^failure: audit open, others flag$", said, re.MULTILINE)
    assert re.search(r"^under the policy of tenant acme \(failure: .*encoder open, .*others closed\):$", said, re.MULTILINE)
    assert "under the policy of tenant shut (failure: audit open, others closed):" in said, "of the preset's nothing is left"
    assert cli.main(["check", "--config", str(config), "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["failure"]["audit"] == "open"


def test_a_folder_that_cannot_be_written_to_is_found(tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = _checked(tmp_path, capsys, audit={"directory": f"{file}/audit"}, state=f"sqlite:{file}/state.db")
    assert f"audit.directory: {file}/audit cannot be written to" in said
    assert f"state: {file} cannot be written to" in said
    assert f"data_dir: {file} cannot be written to" in _checked(tmp_path, capsys, data_dir=file)


def test_a_key_that_is_none_is_found(tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "log" / "signing.key"
    kept.parent.mkdir()
    kept.write_text("damaged")
    said = _checked(tmp_path, capsys, learning={"signing_key": file}, audit={"directory": str(kept.parent)})
    assert f"learning.signing_key: {file}: not a private key" in said
    assert f"audit.signing_key: {kept}: not a private key" in said
    assert "signing.key" not in _checked(tmp_path, capsys, learning={"signing_key": file}, audit={"enabled": False})


def test_certificates_that_cannot_be_used_are_found(tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    certificates.init_authority(tmp_path / "ca")
    ours = certificates.issue(tmp_path / "ca", "one.test", tmp_path / "one")
    other = certificates.issue(tmp_path / "ca", "two.test", tmp_path / "two")

    def sync(key: Path | str) -> dict[str, str]:
        return {"listen": "127.0.0.1:7443", "node": "one.test", "ca": str(ours.authority), "certificate": str(ours.certificate),
                "key": str(key)}  # fmt: skip

    assert f"sync: {other.key}: this is not the key of {ours.certificate}" in _checked(tmp_path, capsys, sync=sync(other.key))
    assert "sync: " not in _checked(tmp_path, capsys, sync=sync(ours.key), learning={"signing_key": file})


@pytest.mark.parametrize("days", ["-1", "0", "nan", "inf", "1e300", "soon"])
def test_a_key_is_valid_for_days_that_there_are(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["keys", "create", "--days", days])
    assert f"--days: {days!r}: wanted a number of days above 0, at most 36,500" in capsys.readouterr().err


def test_whoever_waits_for_a_compilation_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A fresh checkout's `check` and `scan` say nothing for a minute otherwise; what no person reads stays as it is."""
    monkeypatch.setattr(common, "COMPILING_SECONDS", 0.0)
    for person in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda person=person: person)
        with common.compiling("what is new"):
            for thread in threading.enumerate():
                if isinstance(thread, threading.Timer):
                    thread.join()
        assert capsys.readouterr().err == ("compiling what is new: a minute or two\n" if person else "")
