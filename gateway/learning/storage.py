"""From the configuration to the pattern store of this machine, and to whose changes and packs are taken."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

import orjson

from gateway import __version__
from gateway.config.settings import Settings, SettingsError
from patterns import packs, release, signed
from patterns.entries import Signer, Trust
from patterns.schema import PatternError
from patterns.signing import KeyFault, own_key, read_private, read_public
from patterns.store import Store, StoreError

_log = logging.getLogger(__name__)


def signing(settings: Settings) -> tuple[Trust, Signer]:
    """Who signs what is changed here, and whose changes are taken: its own, and those of ``learning.trusted_keys``.

    Raises:
        SettingsError: a key cannot be used; the message names the setting.
    """
    chosen = settings.learning
    try:
        key = read_private(chosen.signing_key) if chosen.signing_key else own_key(settings.data_dir / "store.key")
    except KeyFault as error:
        raise SettingsError(f"{'learning.signing_key' if chosen.signing_key else 'data_dir'}: {error}") from None
    return Trust([key.public_key(), *map(read_public, chosen.trusted_keys)]), Signer(key)


def open_store(settings: Settings) -> Store:
    """The store under ``data_dir``.

    Raises:
        SettingsError: as `signing`; or the store cannot be used, with the name of its file.
    """
    try:
        return Store(settings.data_dir / "patterns.db", *signing(settings), settings.sync.node)
    except StoreError as error:
        raise SettingsError(f"data_dir: the pattern store cannot be opened: {error}") from None


def check_packs(settings: Settings, shipped: Path = release.HERE) -> dict[Path, str]:
    """Let no pack through that was changed: neither a ``shipped`` one, nor one of the configuration that is unsigned, or older
    than one taken before. Returns the SHA-256 of each as it was checked: what is read then must still be that.

    Raises:
        PatternError: there is one; the message names it and what is wrong with it.
    """
    chosen = settings.learning
    keys = [read_public(text) for text in chosen.pack_keys]
    record = settings.data_dir / "packs.json"
    seen = _versions(record)
    found = release.digests(shipped)
    taken = dict(seen) | _shipped(shipped, found, chosen.unsigned_packs, seen)
    checked = {shipped / name: digest for name, digest in found.items() if name.startswith("packs/")}
    for file in packs.files(settings.patterns):
        if not file.exists():
            raise PatternError(f"patterns: {file}: is not there")
        if chosen.unsigned_packs:
            checked[file] = packs.digest(file)
            continue
        try:
            said = signed.verify(file, keys, seen)
        except PatternError as error:
            raise PatternError(f"{error} (learning.unsigned_packs: true takes packs as they are)") from None
        taken[said.pack], checked[file] = said.version, said.sha256
    if taken != seen:
        with contextlib.suppress(OSError):  # a read-only disk costs the protection against older packs, and nothing else
            scratch = record.with_suffix(f".{os.getpid()}")
            scratch.write_bytes(orjson.dumps(taken))
            scratch.replace(record)
    return checked


def _shipped(folder: Path, found: dict[str, str], unsigned: bool, seen: dict[str, str]) -> dict[str, str]:
    """What to remember of the shipped packs: the version, once they were signed; from then on they may not be unsigned."""
    installed = __version__
    said = release.verify(installed, folder, found)
    if said is not None:
        return {_RELEASE: installed}
    if seen.get(_RELEASE) == installed and not unsigned:
        raise PatternError(f"the shipped packs of {installed} were signed, and {release.MANIFEST} is missing now; install it"
                           " anew (learning.unsigned_packs: true takes packs as they are)")  # fmt: skip
    _log.info("the shipped packs are unsigned: this is a checkout, not a release")
    return {}


_RELEASE: Final = "(shipped)"
"""Stands for the shipped packs among names of packs; no pack can be called so."""


def _versions(record: Path) -> dict[str, str]:
    try:
        found = orjson.loads(record.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return {str(pack): str(version) for pack, version in found.items()} if isinstance(found, dict) else {}
