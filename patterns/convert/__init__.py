"""From what people have to patterns: one module a format, all bounded, none of them ever runs what it reads.

A converter reads bytes and yields mappings as `patterns.schema.read_pattern` takes them. What cannot become a pattern is told
by where it stands, and the rest is taken.
"""

from __future__ import annotations

import hashlib
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import orjson

from patterns.convert import native, probes, sigma, stix, tables, yara
from patterns.convert.base import Converted, Fault, Unreadable
from patterns.schema import MAX_ID, Pattern, PatternError, read_pattern

MAX_BYTES: Final = 128 * 2**20
"""Bytes of one import: ten thousand patterns are some ten megabytes, and a hundred million bytes are read in some seconds."""

MAX_PATTERNS: Final = 200_000
MAX_FAULTS: Final = 200

READERS: Final[dict[str, Callable[[bytes], Iterator[Converted | Fault]]]] = {
    "yaml": native.read_yaml,
    "jsonl": native.read_jsonl,
    "yara": yara.read,
    "sigma": sigma.read,
    "garak": probes.read_garak,
    "promptfoo": probes.read_promptfoo,
    "labelled-csv": tables.read_csv,
    "labelled-jsonl": tables.read_jsonl,
    "stix": stix.read,
}
"""Formats by the name that the command line and feeds use."""

_SIGMA: Final = re.compile(rb"^detection\s*:", re.M)
_TESTS: Final = re.compile(rb'^tests\s*:|"tests"\s*:', re.M)
_UNSAFE: Final = re.compile(r"[^a-z0-9]+")


class Import(NamedTuple):
    """What an import gave. ``faults`` are at most `MAX_FAULTS`; ``wrong`` counts all of them."""

    patterns: tuple[Pattern, ...]
    faults: tuple[str, ...]
    wrong: int


def convert(data: bytes, form: str, name: str, provenance: str = "") -> Import:
    """Read patterns of any known format.

    Args:
        name: of the file or feed; it names ids that the format has none for, and errors.

    Raises:
        Unreadable: it is too large, of an unknown format, or not of that format at all.
    """
    if len(data) > MAX_BYTES:
        raise Unreadable(f"{name}: {len(data)} bytes; at most {MAX_BYTES} are taken")
    reader = READERS.get(form)
    if reader is None:
        raise Unreadable(f"{name}: unknown format {form[:40]!r}; known: {', '.join(READERS)}")
    found: dict[str, Pattern] = {}
    faults: list[str] = []
    wrong = 0
    try:
        for one in reader(data.removeprefix(BOM_UTF8)):
            if isinstance(one, Fault):
                problem = f"{name}: {one.where}: {one.what}"
            else:
                raw = {"id": _id(name, one), **one.fields}
                try:
                    pattern = read_pattern(raw, f"{name}: {one.where}", provenance or name)
                except PatternError as error:
                    problem = str(error)
                else:
                    if one.name and found.get(pattern.id, pattern).body != pattern.body:  # names are given more than once
                        pattern = replace(pattern, id=other_id(pattern))
                    if pattern.id not in found:
                        found[pattern.id] = pattern
                        if len(found) > MAX_PATTERNS:
                            raise Unreadable(f"{name}: more than {MAX_PATTERNS} patterns; split it")
                        continue
                    problem = f"{name}: {one.where}: {pattern.id}: this id stands twice"
            wrong += 1
            if len(faults) < MAX_FAULTS:
                faults.append(problem)
    except Unreadable as error:
        raise Unreadable(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
    return Import(tuple(found.values()), tuple(faults), wrong)


def guess(path: str, data: bytes) -> str:
    """The format that a file's name speaks for, and where several are written alike, what stands in it.

    Raises:
        Unreadable: none.
    """
    data = data.removeprefix(BOM_UTF8)
    ending = "." + path.lower().rpartition(".")[2]
    if ending in (".yaml", ".yml"):
        return "sigma" if _SIGMA.search(data) else "promptfoo" if _TESTS.search(data) else "yaml"
    if ending == ".json":
        return "garak" if data.lstrip()[:1] == b"[" else "promptfoo" if _TESTS.search(data) else "stix"
    if ending == ".jsonl":
        return _of_lines(data)
    form = {".yara": "yara", ".yar": "yara", ".csv": "labelled-csv", ".txt": "garak"}.get(ending)
    if form is None:
        raise Unreadable(f"{path}: its name does not tell its format: say it; known: {', '.join(READERS)}")
    return form


def _of_lines(data: bytes) -> str:
    """What JSON lines are, by the first that is an object: a pattern has a ``kind`` and a labelled text a label."""
    for line in data.splitlines():
        try:
            row = orjson.loads(line) if line.strip() else None
        except orjson.JSONDecodeError:
            continue
        if isinstance(row, dict):
            labelled = any(name in row for name in tables.LABELS) and any(name in row for name in tables.TEXTS)
            return "jsonl" if "kind" in row else "labelled-jsonl" if labelled else "garak" if "prompt" in row else "jsonl"
    return "jsonl"


def _id(name: str, one: Converted) -> str:
    """An id from the source's own name for it where it has one, else from its text: the same source gives the same id."""
    stem = _UNSAFE.sub("-", name.rpartition("/")[2].partition(".")[0].lower()).strip("-") or "import"
    given = _UNSAFE.sub("-", one.name.lower()).strip("-")[:60]
    body = one.fields.get("body")
    return f"{stem[:40]}.{given or _hash(body if isinstance(body, str) else '')[:16]}".strip("-.")


def other_id(pattern: Pattern) -> str:
    """An id for a pattern whose own is another one's that says something else."""
    return f"{pattern.id[: MAX_ID - 9]}-{_hash(pattern.body)[:8]}"


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


__all__ = ["READERS", "Import", "Unreadable", "convert", "guess", "other_id"]


