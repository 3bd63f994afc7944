"""Patterns and stores for the tests of the store, and a process that writes to one until it is killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from patterns.entries import Signer, Trust
from patterns.schema import Kind, Pattern, Severity, State
from patterns.signing import own_key
from patterns.store import Store


def literal(identity: str, body: str = "open the gate", state: State = State.ACTIVE) -> Pattern:
    return Pattern(
        id=identity, kind=Kind.LITERAL, body=body, category="prompt_injection.instruction_override",
        severity=Severity.HIGH, reach=len(body), hits=(f"please {body} now",), misses=("nothing",), state=state,
    )  # fmt: skip


def open_store(folder: Path, node: str = "", *trusted: Ed25519PrivateKey) -> Store:
    """The store in ``folder``, which trusts its own key and ``trusted``."""
    key = own_key(folder / "store.key")
    return Store(folder / "patterns.db", Trust([key.public_key(), *(one.public_key() for one in trusted)]), Signer(key), node)


TOGETHER = ("one", "two", "three")


def write_for_ever(folder: Path) -> None:
    """Change three patterns together, again and again; print each generation when it is written."""
    store = open_store(folder)
    print("open", flush=True)
    number = store.generation
    while True:
        number += 1
        body = f"body {number}"
        applied = store.revise({id: literal(id, body) for id in TOGETHER}, "ada", f"change {number}", time.time())
        print(applied.generation, flush=True)


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]))
