"""What sync says for itself, in words: who lags, by what, and why."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sync_support import entry

from bench.simnet import BEGIN
from gateway.sync import frames, status
from gateway.sync.commands import Command, Send
from gateway.sync.ledger import Ledger
from gateway.sync.membership import FEW, LOST_SECONDS, Directory
from gateway.sync.node import Node
from patterns.clock import Stamp

OTHER = b"o" * 16  # a digest that is not ours


class Here:
    """A replica that holds three patterns, and the peers that a test lets it have."""

    def __init__(self) -> None:
        self.ledger = Ledger([entry(f"p{number}", Stamp(number, 0, "here")) for number in range(3)])
        self.node = Node("here", b"i" * 16, Directory("here", "here:1", (), Random(1)), self.ledger)
        self._peers = 0

    def peer(self, name: str, digest: bytes, seconds: float = 0.0) -> int:
        """One that speaks the first version, so that nothing is sent to it before it asks."""
        self._peers += 1
        key = self._peers
        now = BEGIN + seconds
        self.node.opened(key, (name,), None, "quic", "10.0.0.9", now)
        self.node.received(key, frames.Hello(name, b"%16d" % key, f"{name}:1", digest, 3, int(now * 1000)), now)
        return key

    def says(self, seconds: float = 0.0) -> dict[str, Any]:
        service = SimpleNamespace(node=self.node, credentials=SimpleNamespace(not_after=0), data_dir=Path(), certificate=Path())
        return status.report(cast(Any, service), BEGIN + seconds)

    def summary(self, seconds: float = 0.0) -> str:
        return str(self.says(seconds)["summary"])


@pytest.fixture
def here() -> Here:
    return Here()


def test_who_has_not_acknowledged_lags_and_by_how_much(here: Here) -> None:
    here.peer("same", here.ledger.root)
    key = here.peer("slow", OTHER)
    here.node.received(key, frames.Want(["p0", "p1"]), BEGIN)
    assert here.summary(7.0) == "slow lags: 2 revisions on the way to it, the oldest for 7.0 s"
    told = {peer["node"]: (peer["lag_revisions"], peer["lag_seconds"]) for peer in here.says(7.0)["peers"]}
    assert told == {"same": (0, 0.0), "slow": (2, 7.0)}


def test_who_has_more_than_we_do_is_ahead(here: Here) -> None:
    key = here.peer("rich", OTHER)
    here.node.received(key, frames.Ping(1, OTHER, 9, 6, int(BEGIN * 1000)), BEGIN)
    assert here.summary(1.0) == "rich is ahead: it has 6 revisions for us"


def test_whose_entries_are_refused_is_told_where_to_look(here: Here) -> None:
    key = here.peer("odd", OTHER)
    here.node.received(key, frames.Entries(1, True, [b"{}"]), BEGIN)
    assert "odd differs: entries are refused (1); do both trust the same signers" in here.summary()


def test_who_differs_for_no_reason_that_is_known_is_told_of_with_the_time(here: Here) -> None:
    here.peer("other", OTHER)
    assert here.summary(1.0) == "other is being compared"
    assert here.summary(60.0) == "other differs for 60 s, and the comparison has not found why yet"


def test_who_differs_over_connections_that_break_differs_since_the_first(here: Here) -> None:
    """Whose disk is full ends each connection on which it is sent something, and would differ for a moment for ever."""
    key = here.peer("full", OTHER)
    for seconds in range(20, 400, 20):
        here.node.closed(key, BEGIN + seconds)
        key = here.peer("full", OTHER, seconds + 1)
    assert here.says(400.0)["peers"][0]["differs_seconds"] == 400.0
    here.node.closed(key, BEGIN + 400)
    here.peer("full", OTHER, 400 + LOST_SECONDS)
    assert here.says(401 + LOST_SECONDS)["peers"][0]["differs_seconds"] == 1.0, "who was away that long begins anew"
    here.node.closed(here.peer("well", OTHER), BEGIN)
    here.peer("well", here.ledger.root)
    assert [peer["differs_seconds"] for peer in here.says()["peers"] if peer["node"] == "well"] == [None]


def test_who_reaches_nobody_says_so(here: Here) -> None:
    assert here.summary() == "here knows of no other replica"
    here.node.directory.learn([frames.Member("far", "far:1", int(BEGIN * 1000), False)], BEGIN)
    assert here.summary() == "here is cut off: it knows 1 other replica and reaches none"


def test_who_is_not_reached_is_named(here: Here) -> None:
    """A promotion does not act there, and of a connection that is gone nothing lags."""
    here.peer("near", here.ledger.root)
    here.node.directory.learn([frames.Member("far", "far:1", int(BEGIN * 1000), False)], BEGIN)
    assert here.summary(12.0) == "here agrees with 1 connected replica; far is not reached, last heard of 12 s ago"
    assert here.says(12.0)["unreached"] == ["far"]


def test_of_many_who_was_heard_of_lately_need_not_be_connected(here: Here) -> None:
    here.peer("near", here.ledger.root)
    many = [frames.Member(f"far-{number}", f"far:{number}", int(BEGIN * 1000), False) for number in range(1, FEW + 2)]
    here.node.directory.learn(many, BEGIN)
    assert here.says(12.0)["unreached"] == []
    assert len(here.says(LOST_SECONDS + 1)["unreached"]) == FEW + 1


def test_when_all_agree_nobody_lags(here: Here) -> None:
    keys = [here.peer(name, here.ledger.root) for name in ("a", "b")]
    assert here.summary() == "here agrees with 2 connected replicas"
    made: list[Command] = here.node.changed([entry("new", Stamp(9, 0, "here"))], BEGIN)
    assert {one.link for one in made if isinstance(one, Send)} == set(keys)
    [revision] = here.says()["revisions"]
    assert (revision["held_by"], revision["reached"], revision["quorum"]) == (["here"], False, 2)
    here.node.received(keys[0], frames.Ack(1, []), BEGIN + 0.25)
    [revision] = here.says(1.0)["revisions"]
    assert (revision["held_by"], revision["reached"], revision["seconds"]) == (["a", "here"], True, 0.25)
