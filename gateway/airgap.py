"""Archives for installations without a network: a tar of files, a manifest of their digests, and a signature of the manifest.

The manifest is the first member and its signature the second, so that nothing is unpacked before both were read and found good.
Entries are unpacked under names that the manifest lists, as plain files, and a digest that differs stops it: what is not whole
leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Final

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway import __version__
from patterns.signed import SUFFIX

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
FORMAT: Final = "portcullis-bundle-1"

MAX_MANIFEST: Final = 4 * 2**20
MAX_FILE: Final = 2 * 2**30
"""Bytes of one file. The largest wheel today takes 20 MB; the bound keeps a hostile archive from filling the disk."""

_PIECE: Final = 2**20


class BundleError(ValueError):
    """An archive that cannot be made or must not be used: the file, and what is wrong."""


def new_key(private: Path) -> Path:
    """Write a new private key, and its public one beside it.

    Raises:
        BundleError: a file of that name is there, or the folder cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    public = private.with_name(private.name + ".pub")
    try:
        with private.open("xb") as file:
            private.chmod(0o600)
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    except OSError as error:
        raise BundleError(f"{private}: {error.strerror}") from None
    return public


def make(archive: Path, wheels: Path, packs: Sequence[Path], key: Path) -> list[str]:
    """Write an archive; returns the names in it.

    Raises:
        BundleError: a folder lacks what it must hold, a key cannot be used, or the archive cannot be written.
    """
    signer = _load_private(key)
    files = dict(_gather(wheels, packs))
    digests = {name: _digest(file) for name, file in files.items()}
    about = {"format": FORMAT, "version": __version__, "files": digests}
    manifest = orjson.dumps(about, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    scratch = archive.with_name(archive.name + ".new")
    try:
        with tarfile.open(scratch, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, MANIFEST, manifest)
            _add(tar, SIGNATURE, signer.sign(manifest))
            for name, file in sorted(files.items()):
                with file.open("rb") as content:
                    tar.addfile(_member(name, file.stat().st_size), content)
        scratch.replace(archive)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise BundleError(f"{archive}: {error.strerror}") from None
    return sorted(files)


def unpack(archive: Path, folder: Path, public_key: Path) -> list[str]:
    """Check an archive and unpack it into ``folder``, which must not exist; returns the names.

    Raises:
        BundleError: it is not what its maker signed, or cannot be read or unpacked.
    """
    verifier = _load_public(public_key)
    if folder.exists():
        raise BundleError(f"{folder}: is there already; wanted a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".bundle-", dir=folder.parent))
    except OSError as error:
        raise BundleError(f"{folder}: {error.strerror}") from None
    try:
        with tarfile.open(archive, "r:") as tar:
            names = _unpack(tar, scratch, verifier)
        scratch.chmod(0o755)
        scratch.rename(folder)
    except tarfile.TarError as error:
        raise BundleError(f"{archive}: is no archive, or broken: {error}") from None
    except OSError as error:
        raise BundleError(f"{error.filename or archive}: {error.strerror or 'broken'}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return names


def install_command(folder: Path) -> str:
    """How what was unpacked is installed, with the network out of reach."""
    return f"python3 -m venv .venv && .venv/bin/pip install --no-index --find-links {folder / 'wheels'} portcullis"


def _gather(wheels: Path, packs: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    found = sorted(wheels.glob("*.whl"))
    if not any(file.name.startswith("portcullis-") for file in found):
        raise BundleError(f"{wheels}: holds no wheel of portcullis; make one with: pip wheel --wheel-dir {wheels} .")
    for file in found:
        yield f"wheels/{file.name}", file
    for pack in packs:
        members = sorted(pack.rglob("*.yaml")) if pack.is_dir() else [pack]
        if not members or not members[0].is_file():
            raise BundleError(f"{pack}: no such pack, or a folder without any")
        for member in members:
            name = f"packs/{member.relative_to(pack) if pack.is_dir() else member.name}"
            signature = member.with_name(member.name + SUFFIX)
            if not signature.is_file():
                told = f"there is no {signature.name}, and no gateway starts with it; sign it with: portcullis patterns sign"
                raise BundleError(f"{member}: unsigned: {told}")
            yield name, member
            yield name + SUFFIX, signature


def _unpack(tar: tarfile.TarFile, scratch: Path, verifier: Ed25519PublicKey) -> list[str]:
    manifest = _small(tar, MANIFEST)
    signature = _small(tar, SIGNATURE)
    try:
        verifier.verify(signature, manifest)
    except InvalidSignature:
        raise BundleError("the signature is not by this key, or the manifest was changed") from None
    wanted = _listed(manifest)
    seen: set[str] = set()
    while (member := tar.next()) is not None:
        name = member.name
        if name not in wanted or name in seen or not member.isreg() or member.size > MAX_FILE:
            raise BundleError(f"{name[:200]!r}: is not in the manifest, is there twice, or is no plain file")
        seen.add(name)
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None
        with target.open("xb") as file:
            if _copy(content, file) != wanted[name]:
                raise BundleError(f"{name}: was changed since it was signed")
    if missing := sorted(set(wanted) - seen):
        raise BundleError(f"{missing[0]}: is missing")
    return sorted(seen)


def _listed(manifest: bytes) -> Mapping[str, str]:
    """Digests by name. The signature is good, but a signer's mistake must not write outside the folder either."""
    try:
        read = orjson.loads(manifest)
        files = read["files"]
        good = read["format"] == FORMAT and all(isinstance(digest, str) for digest in files.values())
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise BundleError(f"{MANIFEST}: is not of the format {FORMAT}")
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or path.parts[0] not in ("wheels", "packs"):
            raise BundleError(f"{MANIFEST}: {name[:200]!r} is no name that may be in a bundle")
    listed: Mapping[str, str] = files
    return listed


def _small(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.next()
    if member is None or member.name != name or not member.isreg() or member.size > MAX_MANIFEST:
        raise BundleError(f"{name}: is missing where it should be; this is no bundle")
    content = tar.extractfile(member)
    assert content is not None
    return content.read()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_member(name, len(content)), io.BytesIO(content))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Without owner and time: the same files give the same archive."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    state = hashlib.sha256()
    while piece := source.read(_PIECE):
        state.update(piece)
        target.write(piece)
    return state.hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _load_private(file: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{file}: wanted an Ed25519 private key in PEM without a password; `portcullis bundle key` makes one")
    return key


def _load_public(file: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{file}: wanted an Ed25519 public key in PEM")
    return key
