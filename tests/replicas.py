"""Gateways that share what they learnt, and somebody whose signature they trust."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gateways import Gateway
from sync_support import pattern

from bench.processes import free_port
from patterns.entries import Signer, Trust
from patterns.signing import public_text
from patterns.store import Store

CLI = [sys.executable, "-m", "gateway"]
_FOLDER = tempfile.TemporaryDirectory(prefix="portcullis-certificates-")


def cli(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)


class Approver:
    """Somebody with a signing key, who changes the pattern store of a gateway's machine from a process of their own."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.key = key
        self.public = public_text(key.public_key())

    def store(self, gateway: Gateway) -> Store:
        folder = Path(gateway.settings["data_dir"])
        return Store(folder / "patterns.db", Trust([self.key.public_key()]), Signer(self.key), "console")

    def promote(self, gateway: Gateway, identity: str) -> None:
        store = self.store(gateway)
        store.revise({identity: pattern(identity)}, "ada", "seen in the wild", time.time())
        store.close()

    def holds(self, gateway: Gateway, identity: str) -> bool:
        store = self.store(gateway)
        try:
            return identity in store.patterns()
        finally:
            store.close()


@functools.cache
def _issued() -> tuple[str, dict[str, dict[str, Any]]]:
    """An authority and the certificates of two replicas, made once: each command that makes one is a start of Python."""
    folder = Path(_FOLDER.name)
    made = json.loads(cli("sync", "init-ca", folder / "ca", "--json").stdout)
    return made["authority"], {
        name: json.loads(cli("sync", "issue", folder / "ca", name, "--out", folder, "--json").stdout) for name in ("a", "b")
    }


def two_replicas(trusted: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of two gateways, `a` and `b`, with issued certificates, that know each other and trust one public key."""
    authority, certificates = _issued()
    ports = free_port(), free_port()

    def settings(name: str, mine: int, other: int) -> dict[str, Any]:
        issued = certificates[name]
        sync = {
            "listen": f"127.0.0.1:{mine}", "node": name, "peers": [f"127.0.0.1:{other}"], "ca": authority,
            "certificate": issued["certificate"], "key": issued["key"],
        }  # fmt: skip
        return {"sync": sync, "learning": {"trusted_keys": [trusted]}}

    return settings("a", *ports), settings("b", *reversed(ports))
