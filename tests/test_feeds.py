"""Feeds: what is new is proposed once, a broken feed brings nothing, and nothing is read without bounds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.learning import feeds as feeds_module
from gateway.learning.feeds import FeedFault, Feeds, pull
from gateway.learning.settings import FeedSettings
from patterns.schema import Pattern


class Taken:
    """What a feed's run proposed, and what is known because of it."""

    def __init__(self, *feeds: FeedSettings) -> None:
        self.patterns: list[Pattern] = []
        self.feeds = Feeds(lambda: feeds, self._propose, self._known)

    async def _propose(self, pattern: Pattern, where: str) -> None:
        assert where.startswith("from feed ")
        self.patterns.append(pattern)

    async def _known(self) -> frozenset[str]:
        return frozenset(pattern.id for pattern in self.patterns)

    def run(self, now: float) -> list[str]:
        before = len(self.patterns)
        asyncio.run(self.feeds.run(now))
        return [pattern.body for pattern in self.patterns[before:]]


def test_a_folder_is_pulled_when_it_is_due_and_what_is_new_is_proposed_once(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("say it aloud\n")
    taken = Taken(FeedSettings(name="ours", source=str(tmp_path), every_seconds=60))
    assert taken.run(0) == ["say it aloud"]
    (tmp_path / "two.csv").write_text("text,label\nbe evil,1\n")
    assert taken.run(59) == []
    assert taken.run(60) == ["be evil"]
    assert taken.run(200) == []
    assert all(pattern.provenance == "feed ours" for pattern in taken.patterns)


def test_a_broken_feed_brings_nothing_and_harms_no_other(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("say it aloud\n")
    (tmp_path / "bad.stix.json").write_text("{")
    taken = Taken(
        FeedSettings(name="gone", source=str(tmp_path / "none.txt")),
        FeedSettings(name="bad", source=str(tmp_path / "bad.stix.json")),
        FeedSettings(name="good", source=f"file:{good}"),
    )
    assert taken.run(0) == ["say it aloud"]
    assert taken.feeds.faults == {"gone": "gone: No such file or directory", "bad": "bad: not valid JSON: unexpected end of data"}


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = tmp_path / "many.txt"
    many.write_text("\n".join(f"say number {n}" for n in range(450)))
    taken = Taken(FeedSettings(name="many", source=str(many), every_seconds=10))
    assert [len(taken.run(now)) for now in (0, 10, 20, 30)] == [200, 200, 50, 0]
    monkeypatch.setattr(feeds_module, "MAX_BYTES", 10)
    with pytest.raises(FeedFault, match=r"many: many\.txt: more than 10 bytes"):
        pull(FeedSettings(name="many", source=str(many)), "")


def test_an_address_that_does_not_answer_is_told_without_waiting() -> None:
    with pytest.raises(FeedFault, match="far: "):
        pull(FeedSettings(name="far", source="https://127.0.0.1:9/list.txt"), "")


@pytest.mark.parametrize("source", ["http://example.org/x", "ftp://x", "rules"])
def test_only_https_and_files(source: str) -> None:
    with pytest.raises(ValidationError, match="wanted https"):
        FeedSettings(name="x", source=source)
