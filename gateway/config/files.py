"""Whether the files that the settings came from are still those that were read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import BaseModel

from gateway.config.fields import FileSecret
from gateway.config.settings import Settings


class Watched:
    """The configuration file, and the files that it names for secrets and certificates, by when they changed last.

    A file that is missing has not changed: whoever replaces one by removing it first is not told of a broken configuration.
    """

    def __init__(self, config: Path | None, settings: Settings, fixed: Collection[str]) -> None:
        """Args:
        settings: what was read last. fixed: top-level keys that cannot change, whose files are not looked at.
        """
        self._config = config
        self._fixed = fixed
        self._seen = {config: _changed_at(config)} if config else {}
        self.taken(settings)

    @property
    def changed(self) -> bool:
        """Whether a file is another than the one that was read last."""
        return any(_changed_at(file) not in (0.0, seen) for file, seen in self._seen.items())

    def look(self) -> None:
        """The files are about to be read; whatever comes of it, they are not read again before they change."""
        self._seen = {file: _changed_at(file) for file in self._seen}

    def taken(self, settings: Settings) -> None:
        """These settings were read."""
        named = (one for key in Settings.model_fields if key not in self._fixed for one in _named(getattr(settings, key)))
        own = {self._config: self._seen[self._config]} if self._config else {}
        self._seen = {**dict(named), **own}


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
