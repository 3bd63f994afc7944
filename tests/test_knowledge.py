"""What makes replicas take each other's verdicts: the same code, whatever version it says it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import detectors
from gateway.screening import knowledge


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The detectors' code somewhere else, where it may be changed."""
    root = Path(detectors.__path__[0])
    shutil.copytree(root, tmp_path / "detectors", ignore=shutil.ignore_patterns("models", "__pycache__"))
    monkeypatch.setattr(detectors, "__path__", [str(tmp_path / "detectors")])
    return tmp_path / "detectors"


def digest() -> str:
    return knowledge.of_code.__wrapped__()


def test_it_is_over_what_files_hold_and_not_where_they_are(copy: Path) -> None:
    assert digest() == knowledge.of_code()


@pytest.mark.parametrize("name", ["cascade.py", "checks/cards.py", "data/characters.json", "_signs*.so", "semantic/_net*.so"])
def test_a_changed_byte_is_other_knowledge(copy: Path, name: str) -> None:
    before = digest()
    (file,) = copy.glob(name)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert digest() != before


def test_a_file_that_moved_is_other_knowledge_and_training_is_none(copy: Path) -> None:
    before = digest()
    (file, *_) = (copy / "train").glob("*.py")
    file.unlink()
    (copy / "notes.txt").write_text("of no consequence")
    assert digest() == before
    (copy / "checks/cards.py").rename(copy / "checks/card.py")
    assert digest() != before
