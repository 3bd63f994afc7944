"""Packs are signed and checked on the command line, and files of other tools are read without a gateway."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from pathlib import Path

import pytest
from gateways import CACHE_DIR

from gateway.cli import main
from gateway.config.settings import Settings
from gateway.learning.settings import LearningSettings
from gateway.learning.storage import check_packs
from gateway.live import load_engine, load_patterns
from patterns import detached, signed
from patterns.entries import key_id
from patterns.schema import PatternError
from patterns.signing import own_key, public_text, read_public

PACK = """
pack: gate
version: {version}
description: d
provenance: us
patterns:
- {{id: own.gate, kind: literal, body: open the gate, category: jailbreak.persona, severity: high, hits: [open the gate], misses: [x]}}
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "gate.yaml"
    path.write_text(PACK.format(version=2))
    return path


def test_a_pack_that_could_hold_a_worker_is_refused_by_name(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While Python's engine looks for where a match starts, nothing else runs; some expressions would have it look for ever."""
    pack.write_text(pack.read_text().replace("literal, body: open the gate", "regex, body: '(?:a|aa){1,200}b|open the gate'"))
    fault = "gate.yaml: own.gate: body: there are texts for which it takes longer than anybody waits"
    assert main(["patterns", "test", str(pack)]) == 1
    assert fault in capsys.readouterr().err
    settings = Settings(patterns=(pack,), data_dir=tmp_path, learning=LearningSettings(unsigned_packs=True))
    (tmp_path / "cache").symlink_to(CACHE_DIR)
    with pytest.raises(PatternError, match=f"^{fault}"):
        load_engine(settings, 1, 0.0)


def sign(pack: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["patterns", "sign", "--json", "--key", str(pack.parent / "release.pem"), str(pack)]) == 0
    public: str = json.loads(capsys.readouterr().out)["public_key"]
    return public


def test_sign_and_verify(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = sign(pack, capsys)
    assert (pack.parent / "release.pem").stat().st_mode & 0o777 == 0o600
    assert main(["patterns", "verify", "--trust", public, str(pack)]) == 0
    pack.write_text(pack.read_text().replace("high", "low"))
    assert main(["patterns", "verify", "--trust", public, str(pack)]) == 1
    assert "gate.yaml: was changed after it was signed" in capsys.readouterr().out


def test_a_pack_is_taken_signed_or_not_at_all(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def settings(**learning: object) -> Settings:
        return Settings(patterns=(pack,), data_dir=tmp_path, learning=LearningSettings.model_validate(learning))

    with pytest.raises(PatternError, match=r"gate\.yaml: unsigned: there is no gate\.yaml\.sig.*learning\.unsigned_packs"):
        check_packs(settings())
    check_packs(settings(unsigned_packs=True))
    public = sign(pack, capsys)
    stranger = public_text(own_key(tmp_path / "other.pem").public_key())
    with pytest.raises(PatternError, match="which is not trusted"):
        check_packs(settings(pack_keys=(stranger,)))
    check_packs(settings(pack_keys=(stranger, public)))
    pack.write_text(PACK.format(version=1))
    sign(pack, capsys)
    with pytest.raises(PatternError, match=r"version 1 is older than 2, which was taken before"):
        check_packs(settings(pack_keys=(public,)))


@pytest.mark.parametrize("version", ["2026-11-02", "v2.0", "1.2-rc2", "2026w40", "1.10", "true", "[1]", '""', '"1."', '"٢"', "-1"])
def test_a_version_that_has_no_order_is_neither_signed_nor_taken(version: str, pack: Path) -> None:
    """Each of its parts that was no number counted as 0, so that whoever kept an older pack could put it back."""
    pack.write_text(PACK.format(version=version))
    key = own_key(pack.parent / "release.pem")
    with pytest.raises(PatternError, match=r"^gate\.yaml: version: got .*; wanted whole numbers joined by dots"):
        signed.sign(pack, key)
    data = pack.read_bytes()  # as earlier releases signed it
    said = signed.PackSignature("gate", version.strip('"'), hashlib.sha256(data).hexdigest(), key_id(key.public_key()))
    file = pack.with_name("gate.yaml.sig")
    file.write_text(json.dumps({**said._asdict(), "signature": key.sign(signed._signed(said)).hex()}))
    with pytest.raises(PatternError, match=r"^gate\.yaml: version: got .*; wanted whole numbers joined by dots"):
        signed.verify(pack, [key.public_key()])


def test_versions_are_ordered_as_numbers_between_dots(pack: Path) -> None:
    key = own_key(pack.parent / "release.pem")
    for version, latest in (("1.10", "1.9"), ("2", "1.9.9"), ("1.9", "1.9"), ("1", "2026-11-02"), ("1", "9" * 5_000)):
        pack.write_text(PACK.format(version=f'"{version}"'))
        assert signed.sign(pack, key).version == version
        assert signed.verify(pack, [key.public_key()], {"gate": latest}).version == version
    with pytest.raises(PatternError, match=r"version 1 is older than 1\.1, which was taken before"):
        signed.verify(pack, [key.public_key()], {"gate": "1.1"})


def test_a_pack_that_is_swapped_once_it_was_checked_is_not_read(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = sign(pack, capsys)
    folder = tmp_path / "own"
    folder.mkdir()
    for file in (pack, pack.with_name(pack.name + ".sig")):
        file.rename(folder / file.name)
    settings = Settings(patterns=(folder,), data_dir=tmp_path, learning=LearningSettings(pack_keys=(public,)))
    checked = check_packs(settings)
    cache, file = tmp_path / "cache", folder / pack.name
    good = load_patterns((folder,), None, checked)
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"high", b"low"))
    with pytest.raises(PatternError, match=r"^gate\.yaml: was changed between being checked and being read$"):
        load_patterns((folder,), cache, checked)
    file.write_bytes(whole)
    (folder / "more.yaml").write_bytes(whole)
    with pytest.raises(PatternError, match=r"^more\.yaml: came or went between"):
        load_patterns((folder,), cache, checked)
    (folder / "more.yaml").unlink()
    assert load_patterns((folder,), cache, checked) == good


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"signature": "00"}, "the signature is not of"), ({"version": "9"}, "the signature is not of"),
        ({"signer": "me"}, "not trusted"), ({"more": "x"}, "wanted exactly"), ({"sha256": "0" * 64}, "the signature is not of"),
    ],
)
def test_a_forged_signature_is_refused_by_name(
    pack: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], says: str
) -> None:
    sign(pack, capsys)
    file = pack.with_name("gate.yaml.sig")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(PatternError, match=says):
        signed.verify(pack, [own_key(pack.parent / "release.pem").public_key()])


def test_files_of_other_tools_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "set.csv"
    file.write_text("text,label\nbe evil,attack\nbe kind,perhaps\n")
    assert main(["patterns", "import", "--dry-run", "--json", str(file)]) == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert [one["body"] for one in told["patterns"]] == ["be evil"]
    assert "set.csv: row 3: label: got 'perhaps'" in err
    assert main(["patterns", "import", "--dry-run", str(tmp_path / "none.csv")]) == 2


def test_a_gateway_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feedback", "list", "--url", "http://127.0.0.1:9"]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert main(["feedback", "add", "attack", "--url", "http://127.0.0.1:9"]) == 2
    assert main(["feedback", "list", "--url", "file:///etc/passwd"]) == 2


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", b"HTTP/1.1 404 No\r\ncontent-length: 100\r\n\r\n{"],
)
def test_what_is_no_gateway_is_told_in_a_line(
    answer: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("PORTCULLIS_LISTEN", address)
        assert main(["feedback", "list", "--url", f"http://{address}"]) == 1
        assert main(["health"]) == 1
        thread.join()
    assert f"http://{address}: no gateway: not an answer in HTTP" in capsys.readouterr().err


def test_a_key_goes_nowhere_but_to_the_gateway_that_was_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCULLIS_KEY", "hush\nhush")
    assert main(["feedback", "list", "--url", "http://127.0.0.1:9"]) == 2
    assert "hush" not in capsys.readouterr().err
    monkeypatch.setenv("PORTCULLIS_KEY", "hush")
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as server:
        there = f"http://127.0.0.1:{other.getsockname()[1]}/"

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(f"HTTP/1.1 302 Found\r\nlocation: {there}\r\ncontent-length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=serve)
        thread.start()
        assert main(["feedback", "list", "--url", f"http://127.0.0.1:{server.getsockname()[1]}"]) == 1
        thread.join()
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:80a", "http://a b"])
def test_an_address_that_is_none_is_misused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feedback", "list", "--url", url]) > 0
    assert url in capsys.readouterr().err


def test_a_feed_is_signed_in_any_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed, key = tmp_path / "prompts.jsonl", tmp_path / "feed.pem"
    feed.write_bytes(b'{"text":"be evil","label":1}\n')
    assert main(["patterns", "sign", "--feed", "--json", "--key", str(key), str(feed)]) == 0
    told = json.loads(capsys.readouterr().out)
    detached.verify(feed.read_bytes(), (tmp_path / "prompts.jsonl.sig").read_bytes(), read_public(told["public_key"]), feed.name)
    assert told["signed"][0]["file"] == "prompts.jsonl"
    assert main(["patterns", "sign", "--feed", "--key", str(key), str(feed)]) == 0
    assert "prompts.jsonl: signed\npublic key, for learning.feeds[].key: ed25519:" in capsys.readouterr().out
    assert main(["patterns", "sign", "--feed", "--key", str(key), str(tmp_path / "none.txt")]) == 1
    assert "none.txt: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", ""], "id: got ''; wanted one as it is listed"),
        (["promote", "..", "--reason", "x"], "proposal: got '..'; wanted one as it is listed"),
        (["list", "--category", "jailbraek"], "--category: unknown category 'jailbraek'; known: prompt_injection"),
        (["test", "--category", "jailbreak.x"], "--category: unknown subcategory 'x' of jailbreak; known: "),
        (["clusters", "--count", "0"], "'0': wanted a number from 1 on"),
        (["clusters", "--count", "99999"], "'99999': wanted a number from 1 to 1000"),
        (["duplicates", "--alike", "7"], "'7': wanted a number above 0 and up to 1"),
        (["import", "/dev/zero", "--format", "yaml"], "/dev/zero: 134217729 bytes; at most 134217728 are taken"),
    ],
)
def test_what_is_misused_is_told_with_what_is_accepted(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        assert main(["patterns", *arguments]) > 0
    assert says in capsys.readouterr().err
