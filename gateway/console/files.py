"""The console's files, read once and served from memory."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, nothing inline, and no string can become markup or code, whatever a prompt holds."""

HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}

_KINDS: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "LICENSE": "text/plain"}


class Asset(NamedTuple):
    """A file: its media type, its bytes plain and compressed, and its entity tag."""

    kind: str
    body: bytes
    packed: bytes
    tag: str


def load() -> dict[str, Asset]:
    """All files by their path below ``static``."""
    found: dict[str, Asset] = {}
    _gather(files("gateway.console").joinpath("static"), "", found)
    return found


def _gather(folder: Traversable, prefix: str, found: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _gather(entry, f"{prefix}{entry.name}/", found)
            continue
        body = entry.read_bytes()
        kind = _KINDS[entry.name.rpartition(".")[2]] + "; charset=utf-8"
        tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        found[prefix + entry.name] = Asset(kind, body, gzip.compress(body, 6, mtime=0), tag)
