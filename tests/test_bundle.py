"""The wheel and the bundle: what is built, whether it serves with no network at all, and what of a changed archive is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import airgap, cli
from gateway.airgap import BundleError
from helm.generate.__main__ import ROOT

SERVE = """
set -eu
ip link set lo up
test "$(ip -o route show table all type unicast | grep -cv 'dev lo')" = 0
"$PYTHON" -m gateway serve --json --config "$CONFIG" &
server=$!
trap 'kill $server; wait $server' EXIT
until "$PYTHON" -m gateway health --config "$CONFIG" --json 2>/dev/null; do kill -0 $server; sleep 0.3; done
"$PYTHON" - <<'END'
import json, urllib.request
body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "My card is 4111 1111 1111 1111"}]}).encode()
request = urllib.request.Request("http://127.0.0.1:18080/v1/chat/completions", body, {"content-type": "application/json"})
with urllib.request.urlopen(request) as reply:
    print("ACTION", reply.headers["x-portcullis-action"], json.load(reply)["choices"][0]["message"]["content"])
import gateway
print("FROM", gateway.__file__)
END
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our wheel, built from a copy of the tree, as a release would build it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(["git", "ls-files", "-z", "gateway", "detectors", "patterns", "pyproject.toml", "README.md", "LICENSE"],
                           cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")  # fmt: skip
    for name in filter(None, files):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(pip, check=True)
    [built] = folder.glob("portcullis-*.whl")
    return built


def test_the_wheel_holds_all_that_serving_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("patterns/packs", "detectors/models", "detectors/data"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert str(file.relative_to(ROOT)) in names


def test_the_installed_wheel_serves_without_any_network(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(install, check=True)
    config = tmp_path / "portcullis.yaml"
    config.write_text(f"listen: 127.0.0.1:18080\nstate: sqlite:{tmp_path}/state.db\ndata_dir: {ROOT / 'var/tests'}\n")
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHON": sys.executable, "CONFIG": str(config)}
    unshare = ["unshare", "--net", *([] if os.getuid() == 0 else ["--map-root-user"])]
    done = subprocess.run([*unshare, "bash", "-c", SERVE], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "ACTION redact You said: My card is 4111 1111 1111 1111" in done.stdout, done.stderr[-3000:]
    assert f"FROM {site}/gateway" in done.stdout


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private = tmp_path / "signing.pem"
    return private, airgap.new_key(private)


@pytest.fixture
def archive(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    wheels = tmp_path / "dist"
    wheels.mkdir()
    (wheels / "portcullis-1-py3-none-any.whl").write_bytes(b"our wheel")
    (wheels / "numpy-2-cp311-linux.whl").write_bytes(b"n" * 100_000)
    pack = tmp_path / "own.yaml"
    pack.write_text("a pack")
    pack.with_name("own.yaml.sig").write_text("its signature")
    made = tmp_path / "a.bundle.tar"
    airgap.make(made, wheels, [pack], keys[0])
    return made


def test_there_and_back(archive: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    names = airgap.unpack(archive, tmp_path / "out", keys[1])
    assert names == ["packs/own.yaml", "packs/own.yaml.sig", "wheels/numpy-2-cp311-linux.whl", "wheels/portcullis-1-py3-none-any.whl"]
    assert (tmp_path / "out/packs/own.yaml").read_text() == "a pack"
    assert (tmp_path / "out/packs/own.yaml.sig").read_text() == "its signature", "no gateway starts without it"
    again = tmp_path / "again.tar"
    airgap.make(again, tmp_path / "dist", [tmp_path / "own.yaml"], keys[0])
    assert again.read_bytes() == archive.read_bytes(), "the same files give the same archive"


def rewritten(archive: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]) -> None:
    """Take the archive apart, change its members, put it together again."""
    with tarfile.open(archive) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    change(members)
    with tarfile.open(archive, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member, b""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.__setitem__(2, (m[2][0], b"x" + m[2][1][1:])), "was changed since it was signed"),
        (lambda m: m.__setitem__(2, (m[2][0], m[2][1][:-1])), "was changed since it was signed"),
        (lambda m: m.pop(), "is missing"),
        (lambda m: m.append(m[2]), "is there twice"),
        (lambda m: m.append(_named("wheels/extra.whl")), "is not in the manifest"),
        (lambda m: m.append(_named("../../etc/passwd")), "is not in the manifest"),
        (lambda m: m.insert(2, _named(m[2][0].name, tarfile.SYMTYPE, "/etc/passwd")), "is no plain file"),
        (lambda m: m.__setitem__(0, (m[0][0], m[0][1].replace(b"packs/own", b"packs/owm"))), "the signature is not by this key"),
        (lambda m: m.__setitem__(1, (m[1][0], bytes(64))), "the signature is not by this key"),
        (lambda m: m.pop(1), "manifest.sig: is missing"),
        (lambda m: m.clear(), "manifest.json: is missing"),
    ],
)  # fmt: skip
def test_what_was_changed_is_refused_and_leaves_nothing(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    rewritten(archive, change)
    before = set(tmp_path.iterdir())
    with pytest.raises(BundleError, match=message):
        airgap.unpack(archive, tmp_path / "out", keys[1])
    assert set(tmp_path.iterdir()) == before


def test_another_makers_key(archive: Path, tmp_path: Path) -> None:
    other = airgap.new_key(tmp_path / "other.pem")
    with pytest.raises(BundleError, match="not by this key"):
        airgap.unpack(archive, tmp_path / "out", other)


def test_the_command_line(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = tmp_path / "signing.pem.pub"
    assert cli.main(["bundle", "open", str(archive), str(tmp_path / "out"), "--public-key", str(public), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 4
    assert cli.main(["bundle", "open", str(archive), str(tmp_path / "out"), "--public-key", str(public)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["bundle", "make", str(tmp_path / "x"), "--wheels", str(tmp_path), "--key", str(public)]) == 1
    assert "wanted an Ed25519 private key" in capsys.readouterr().err
    assert cli.main(["bundle", "make", str(tmp_path / "x"), "--wheels", str(tmp_path), "--key", str(tmp_path / "signing.pem")]) == 1
    assert "holds no wheel of portcullis" in capsys.readouterr().err
    assert (tmp_path / "signing.pem").stat().st_mode & 0o077 == 0
    (tmp_path / "own.yaml.sig").unlink()
    made = ["bundle", "make", str(tmp_path / "x"), "--wheels", str(tmp_path / "dist"), "--packs", str(tmp_path / "own.yaml")]
    assert cli.main([*made, "--key", str(tmp_path / "signing.pem")]) == 1
    assert "own.yaml: unsigned: there is no own.yaml.sig" in capsys.readouterr().err
