"""Packs: the YAML files that patterns ship in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import yaml

from patterns import cache as caching
from patterns import yamls
from patterns.schema import Pattern, PatternError, read_pattern

SHIPPED: Final = Path(__file__).parent / "packs"
"""The packs that come with Portcullis."""

EXEMPLARS: Final = Path(__file__).parent / "exemplars"
"""The texts that come with Portcullis as examples: ``attacks`` and ``benign``."""

_FIELDS: Final = {"pack", "version", "description", "provenance", "patterns"}


def files(paths: Iterable[Path]) -> list[Path]:
    """The packs among files and folders of ``*.yaml``."""
    return [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]


def digest(file: Path) -> str:
    """A pack's SHA-256.

    Raises:
        PatternError: it cannot be read.
    """
    return hashlib.sha256(_bytes(file)).hexdigest()


class Example(NamedTuple):
    """A shipped exemplar: its text, its threat (empty for a harmless one), and the code of its language or ``other``."""

    text: str
    threat: str
    language: str


def examples(name: str) -> dict[str, Example]:
    """The shipped exemplars called ``name``, ``attacks`` or ``benign``, by their ids."""
    with (EXEMPLARS / f"{name}.jsonl").open("rb") as lines:
        return {row["id"]: Example(row["text"], row["category"], row["lang"]) for row in map(orjson.loads, lines)}


def exemplars(name: str) -> dict[str, str]:
    """The texts of `examples`."""
    return {id: one.text for id, one in examples(name).items()}


def load(path: Path) -> list[Pattern]:
    """Read one pack.

    Raises:
        PatternError: the file cannot be read, is not YAML, or a pattern in it is wrong; names file, pattern and field.
    """
    return _parse(path, _bytes(path))


def _parse(path: Path, source: bytes) -> list[Pattern]:
    where = path.name
    try:
        raw: Any = yamls.load(source.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise PatternError(f"{where}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise PatternError(f"{where}: not YAML: {error}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("patterns"), list):
        raise PatternError(f"{where}: wanted a mapping with pack, version, description, provenance and a list of patterns")
    if unknown := sorted(map(str, raw.keys() - _FIELDS)):
        raise PatternError(f"{where}: unknown field {unknown[0]!r}; known: {', '.join(sorted(_FIELDS))}")
    provenance = f"{raw.get('provenance', '')} ({raw.get('pack', path.stem)} {raw.get('version', '')})".strip()
    patterns = []
    for number, entry in enumerate(raw["patterns"]):
        if not isinstance(entry, dict):
            raise PatternError(f"{where}: patterns[{number}]: wanted a mapping")
        pattern = read_pattern(entry, where, provenance)
        if pattern.kind.corrects:
            raise PatternError(f"{where}: {pattern.id}: kind: {pattern.kind.value} corrects a model by what was labelled here;"
                               " a pack cannot hold one")  # fmt: skip
        patterns.append(pattern)
    return patterns


def load_all(
    paths: Iterable[Path], cache: Path | None = None, checked: Mapping[Path, str] | None = None
) -> list[Pattern]:
    """Read packs and folders of packs together; arguments and errors as `load_each`."""
    return [pattern for some in load_each(paths, cache, checked).values() for pattern in some]


def load_each(
    paths: Iterable[Path], cache: Path | None = None, checked: Mapping[Path, str] | None = None
) -> dict[Path, list[Pattern]]:
    """Read packs and folders of packs, by file.

    Args:
        paths: files, or folders of ``*.yaml``.
        cache: a folder for packs that were read and checked before: YAML is slow to read, and ten thousand patterns
            would take seconds at every start.
        checked: the SHA-256 of each pack as it was when signatures were verified; exactly these are read.

    Raises:
        PatternError: as `load`; also when two patterns share an id, when there is none at all, or when packs are not what was
            checked.
    """
    found: dict[Path, list[Pattern]] = {}
    known: set[str] = set()
    read = files(paths)
    if checked is not None and (differ := sorted(checked.keys() ^ set(read))):
        raise PatternError(f"{differ[0].name}: came or went between being checked and being read")
    for file in read:
        source = _bytes(file)
        if checked is not None and hashlib.sha256(source).hexdigest() != checked[file]:
            raise PatternError(f"{file.name}: was changed between being checked and being read")
        patterns = _load_cached(file, source, cache) if cache else _parse(file, source)
        for pattern in patterns:
            if pattern.id in known:
                raise PatternError(f"{file.name}: {pattern.id}: this id is taken by another pattern")
            known.add(pattern.id)
        found.setdefault(file, []).extend(patterns)
    if not known:
        raise PatternError("no patterns found: a gateway without patterns would call every text clean")
    return found


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PatternError(f"{file.name}: cannot be read: {error}") from None


def _load_cached(file: Path, source: bytes, cache: Path) -> list[Pattern]:
    # The schema's own source is part of the identity: patterns that an older version accepted are checked again.
    key = hashlib.sha256(source + _SCHEMA + file.name.encode()).hexdigest()[:32]
    kept = cache / f"pack-{key}.json"
    try:
        return _restored(caching.read(kept) or b"")
    except msgspec.DecodeError:
        patterns = _parse(file, source)
    caching.write(kept, msgspec.json.encode(patterns))
    return patterns


_restored: Final = msgspec.json.Decoder(list[Pattern]).decode  # of ten thousand, in a fifth of the time that Python takes
_SCHEMA: Final = (Path(__file__).parent / "schema.py").read_bytes() + (Path(__file__).parent / "taxonomy.py").read_bytes()
