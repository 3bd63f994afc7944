"""A digest of all that decides what a verdict is: only replicas that have the same one take each other's verdicts.

The version says what a release is meant to do; the digest is over what is installed: the code of `detectors` and `patterns`, as
Python has it and as it was compiled, their tables, the files of the model, and the versions of the libraries that read them.
What the processor itself makes of a model's numbers is not in it.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import detectors
import patterns
from detectors.semantic.judge import FILES, MODELS
from gateway import __version__
from gateway.live import Live
from gateway.screening import semantics, verdicts

DECIDES: Final = frozenset({".py", ".so", ".json"})
"""What is read of a package: code, compiled code, tables."""

APART: Final = frozenset({"models", "train", "packs", "exemplars", "__pycache__"})
"""Folders that are not: the model's files have a digest of their own, packs and exemplars are in a generation's and in the
model's, and training decides nothing here."""

LIBRARIES: Final = ("hyperscan", "onnxruntime", "tokenizers", "hnswlib", "numpy")


def of(live: Live) -> bytes:
    """Names all that a verdict comes of: 16 bytes. The first call reads some forty megabytes; later ones cost microseconds."""
    chosen = live.settings.detection
    parts = (
        of_code(), live.engine.generation.digest, chosen.decode, chosen.model, chosen.encoder, chosen.windows,
        _of_model(chosen.models or MODELS) if chosen.model else "",
    )  # fmt: skip
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


@functools.cache
def of_code() -> str:
    """Names the code that decides, as it was when it was first asked for, and what it runs on."""
    state = hashlib.sha256()
    for package in (detectors, patterns):
        root = Path(package.__path__[0])
        for name in _files(root):
            _add(state, f"{package.__name__}/{name}", (root / name).read_bytes())
    for module in (semantics, verdicts):  # what is left unread, and how a verdict is written
        assert module.__file__
        _add(state, module.__name__, Path(module.__file__).read_bytes())
    runs_on = (__version__, platform.python_version(), platform.machine(), *map(version, LIBRARIES))
    _add(state, "versions", repr(runs_on).encode())
    return state.hexdigest()


def _files(root: Path) -> Iterator[str]:
    names = (file.relative_to(root) for file in root.rglob("*") if file.suffix in DECIDES)
    yield from sorted(name.as_posix() for name in names if APART.isdisjoint(name.parts))


def _add(state: hashlib._Hash, name: str, data: bytes) -> None:
    state.update(f"{len(name)} {name} {len(data)} ".encode() + data)


@functools.cache
def _of_model(folder: Path) -> str:
    """Names the files that a model is read from: SHA-256 of each. Read once, as the model is."""
    return " ".join(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES)
