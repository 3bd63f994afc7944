"""The shipped packs are what the release key signed, for this version, or they are refused by name."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config.settings import Settings
from gateway.learning.settings import LearningSettings
from gateway.learning.storage import check_packs
from patterns import release
from patterns.schema import PatternError
from patterns.signing import own_key, public_text, read_private

VERSION = version("portcullis")


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A release of a key of its own: two packs and one file of exemplars."""
    folder = tmp_path / "patterns"
    for name in ("packs/injection.yaml", "packs/jailbreak.yaml", "exemplars/benign.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(release.HERE / name, folder / name)
    key = own_key(tmp_path / "release.pem")
    (folder / "release.pub").write_text(public_text(key.public_key()) + "\n")
    assert release.sign(key, VERSION, folder).files == 3
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(PatternError) as error:
        release.verify(VERSION, folder)
    return str(error.value)


def test_what_was_signed_is_taken_and_a_checkout_is_known_as_one(shipped: Path) -> None:
    found = release.verify(VERSION, shipped)
    assert found is not None
    assert (found.version, found.files) == (VERSION, 3)
    (shipped / "packs" / release.MANIFEST).unlink()
    assert release.verify(VERSION, shipped) is None


def test_a_tampered_pack_is_refused_by_name(shipped: Path) -> None:
    pack = shipped / "packs" / "injection.yaml"
    whole = pack.read_bytes()
    pack.write_bytes(whole.replace(b"severity: critical", b"severity: low", 1) + b"\n")
    assert refused(shipped) == "packs/injection.yaml: a shipped pack was changed after it was signed"
    pack.write_bytes(whole)
    shutil.copy(pack, shipped / "packs" / "more.yaml")
    assert refused(shipped) == "packs/more.yaml: is among the shipped packs and was not signed with them"
    (shipped / "packs" / "more.yaml").unlink()
    (shipped / "exemplars" / "benign.jsonl").unlink()
    assert refused(shipped) == "exemplars/benign.jsonl: a shipped pack is missing"


def test_an_older_release_does_not_pass_for_this_one(shipped: Path, tmp_path: Path) -> None:
    release.sign(read_private(tmp_path / "release.pem"), "0.0.9", shipped)
    assert refused(shipped) == f"SIGNED.json: signed for Portcullis 0.0.9, and {VERSION} is installed"


@pytest.mark.parametrize("change", [{"version": "9"}, {"files": {}}, {"signature": "00"}, {"signature": 7}, {"signer": "me"}])
def test_a_forged_manifest_is_refused(shipped: Path, change: dict[str, object]) -> None:
    file = shipped / "packs" / release.MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert "SIGNED.json: not signed by the release key" in refused(shipped)
    file.write_text("{}")
    assert "SIGNED.json: wanted exactly" in refused(shipped)
    file.write_text("no")
    assert "SIGNED.json: cannot be read" in refused(shipped)


def test_a_release_whose_signature_is_taken_away_is_refused(shipped: Path, tmp_path: Path) -> None:
    def settings(**learning: object) -> Settings:
        return Settings(data_dir=tmp_path, learning=LearningSettings.model_validate(learning))

    check_packs(settings(), shipped)
    (shipped / "packs" / release.MANIFEST).unlink()
    with pytest.raises(PatternError, match=f"the shipped packs of {VERSION} were signed, and SIGNED.json is missing now"):
        check_packs(settings(), shipped)
    check_packs(settings(unsigned_packs=True), shipped)


def test_signing_asks_for_the_release_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_key(tmp_path / "mine.pem")
    assert main(["patterns", "sign", "--shipped", "--key", str(tmp_path / "mine.pem")]) == 1
    assert "its public half is not patterns/release.pub: ed25519:" in capsys.readouterr().err
    assert main(["patterns", "sign", "--key", str(tmp_path / "mine.pem")]) == 2
    assert main(["patterns", "verify", "--shipped", "x.yaml"]) == 2
    assert not (release.HERE / "packs" / release.MANIFEST).exists(), "a release is not tested in its checkout"
    assert main(["patterns", "verify", "--shipped", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"shipped": None, "fault": ""}
