"""A fuzz target for what peers send: `make fuzz`. A frame is read or refused; nothing else may happen, whatever comes.

The bytes are cut as a network would and fed to the decoder, and each frame that they hold is told to a node as a peer's word.
An exception other than `FrameError` is a crash, and libFuzzer leaves the bytes that led to it in a file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from gateway.sync import frames
    from gateway.sync.commands import Apply, Judge
    from gateway.sync.ledger import Ledger
    from gateway.sync.membership import MAX_MEMBERS, Directory
    from gateway.sync.node import Node

NOW = 1_750_000_000.0
DIGEST = b"d" * 16
HELLO = frames.Hello("peer", b"j" * 16, ":7", DIGEST, 0, 0)

SEEDS: tuple[frames.Frame, ...] = (
    HELLO, frames.Ping(1, DIGEST, 0, 0, 0), frames.Pong(1, DIGEST, 0, 0), frames.Tree(bytes(2_048)),
    frames.HelloSince("peer", b"j" * 16, ":7", DIGEST, 0, 0, [frames.Mark("peer", 1, 0)]),
    frames.Listing(1, [frames.Listed("p", DIGEST, 1, 0, "peer")], 0), frames.Want(["p"]), frames.Entries(1, True, [b"{}"]),
    frames.Ack(1, [DIGEST]), frames.Holds(DIGEST, ["peer"]), frames.Members([frames.Member("m", "h:1", 1, False)]),
    frames.Question(1, DIGEST, "tenant", 500, [frames.Said(b"hello", False, "user", 0, False)]),
    frames.Answer(1, "verdict", 0.5, [frames.Seen("lexical", "p", "pii.payment", 0.5, 0, 0, 1)], [("encoder", "late")]),
    frames.Bye("leaving"),
)  # fmt: skip
"""One frame of each kind, to begin with."""

ASKED = frames.Question(0, DIGEST, "tenant", 500, [frames.Said(b"hello", False, "user", 0, False)])


def one(raw: bytes) -> None:
    """The first byte says how the rest is cut."""
    node = Node("here", b"i" * 16, Directory("here", "here:1", (), Random(1)), Ledger())
    node.opened(1, ("peer",), None, "quic", "10.0.0.9", NOW, 2)
    node.received(1, HELLO, NOW)
    node.ask(1, ASKED, 1, NOW)
    reader, step = frames.Reader(), 1 + 16 * raw[0] if raw else 1
    for start in range(1, len(raw), step):
        try:
            got = list(reader.feed(raw[start : start + step]))
        except frames.FrameError:
            return
        for frame in got:
            assert frames.encode(frame)
            for command in node.received(1, frame, NOW):
                if isinstance(command, Apply):
                    node.applied(command.link, command.batch, {}, NOW)
                elif isinstance(command, Judge):
                    node.judged(command.link, frames.Answer(command.question.number, "failed"))
    assert len(node.directory) <= MAX_MEMBERS
    assert len(node.ledger) == 0  # nobody's store took anything


def seed(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for frame in SEEDS:
        (folder / type(frame).__name__).write_bytes(b"\xff" + frames.encode(frame))


if __name__ == "__main__":
    seed(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
