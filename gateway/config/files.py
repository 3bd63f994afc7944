"""Whether the files that the settings came from are still those that were read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from gateway.config.fields import FileSecret
from gateway.config.settings import Settings
from patterns import packs
from patterns.signed import SUFFIX

Stamp = float | tuple[str, ...]
"""When a file changed last (UNIX seconds, 0.0 where it is missing); of a folder of packs, their names."""


class Watched:
    """The configuration file, and the files that it names for secrets, certificates and packs, by when they changed last.

    A file that is missing has not changed: whoever replaces one by removing it first is not told of a broken configuration. A
    pack that left its folder has: it is no longer to act.
    """

    def __init__(self, config: Path | None, settings: Settings, fixed: Collection[str]) -> None:
        """Args:
        settings: what was read last. fixed: top-level keys that cannot change, whose files are not looked at.
        """
        self._config = config
        self._fixed = fixed
        self._packs: tuple[Path, ...] = ()
        self._seen: dict[Path, Stamp] = {config: _changed_at(config)} if config else {}
        self.named(settings)

    @property
    def changed(self) -> bool:
        """Whether a file is another than the one that was read last."""
        return any(stamp not in (0.0, self._seen.get(file)) for file, stamp in self._now().items())

    def look(self) -> None:
        """The files are about to be read; whatever comes of it, they are not read again before they change."""
        self._seen = self._now()

    def named(self, settings: Settings) -> None:
        """These settings were read. Their packs are about to be: what of these is broken may be mended in its own file."""
        self._packs = settings.patterns
        own = {self._config: self._seen[self._config]} if self._config else {}
        files = (one for key in Settings.model_fields if key not in self._fixed for one in _named(getattr(settings, key)))
        self._seen = {**dict(files), **dict(_stamps(self._packs)), **own}

    def _now(self) -> dict[Path, Stamp]:
        return {**{file: _changed_at(file) for file in self._seen if file not in self._packs}, **dict(_stamps(self._packs))}


def _stamps(paths: Iterable[Path]) -> Iterator[tuple[Path, Stamp]]:
    """Packs and their signatures, and the folders that they lie in."""
    for path in paths:
        found = packs.files([path])
        if path.is_dir():
            yield path, tuple(file.name for file in found)
        for pack in found:
            for file in (pack, pack.with_name(pack.name + SUFFIX)):
                yield file, _changed_at(file)


def _named(value: object, key: str = "") -> Iterator[tuple[Path, float]]:
    if isinstance(value, FileSecret):
        yield value.file, value.changed_at
    elif isinstance(value, Path) and key == "ca_file":
        yield value, _changed_at(value)
    elif isinstance(value, BaseModel):
        for name, inner in value:
            yield from _named(inner, name)
    elif isinstance(value, dict | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _named(inner)


def _changed_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
