"""Kinds of values that several sections of the configuration share."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


class Model(BaseModel):
    """A section: immutable, without unknown keys, and without values in its errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)
    """Built when it is first used: within the whole, and not once more for each section by itself."""


def is_loopback(host: str) -> bool:
    """Whether a host of an address, or of a Host header, is this machine and none other."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def named_host(header: bytes) -> str:
    """The name in a Host header, without its port and an address's brackets."""
    text = header.decode("latin-1")
    return (text if text.endswith("]") else text.rsplit(":", 1)[0]).strip("[]").lower()


class FileSecret(SecretStr):
    """A secret that stands in a file.

    Attributes:
        file: that file.
        changed_at: when it had changed last (Unix seconds) before it was read.
    """

    def __init__(self, secret: str, file: Path, changed_at: float) -> None:
        super().__init__(secret)
        self.file = file
        self.changed_at = changed_at


def _secret(value: SecretStr) -> SecretStr:
    """Resolve ``env:NAME`` and ``file:PATH``; anything else is the secret itself. An empty one protects nothing."""
    raw = value.get_secret_value()
    if raw.startswith("env:"):
        found = os.environ.get(raw[4:])
        if not found:
            raise ValueError(f"the environment variable {raw[4:]} is not set")
        return SecretStr(found)
    if raw.startswith("file:"):
        file = Path(raw[5:])
        try:
            changed_at = file.stat().st_mtime
            read = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"the file {raw[5:]} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the file {raw[5:]} is not UTF-8") from None
        if not read:
            raise ValueError("the file is empty")
        return FileSecret(read, file, changed_at)
    if not raw:
        raise ValueError("wanted a secret, and this is empty; leave the key out where there is none")
    return value


def _certificates(value: Path) -> Path:
    try:
        ssl.create_default_context(cafile=str(value))
    except OSError:
        raise ValueError("wanted a file of certificates (PEM) that can be read") from None
    return value


def differ(names: Iterable[str], what: str) -> None:
    """
    Raises:
        ValueError: a name stands twice.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two {what} are named {name!r}; wanted a name for each")
        seen.add(name)


def check_host(host: str) -> None:
    """
    Raises:
        ValueError: no machine can have this name; it is not repeated, since it may stand in a secret.
    """
    try:
        host.encode("idna")  # as `socket` does with it
    except UnicodeError:
        raise ValueError("wanted a host's name whose parts between the dots have 1 to 63 characters") from None


_ADDRESS = re.compile(r"(?:([\w.-]+)|(\[)?([0-9a-f:.]+(?:%[\w.-]+)?)(?(2)\])):([0-9]{1,5})", re.IGNORECASE)


def check_address(value: str, example: str) -> str:
    """The address of a server, ``host:port``, as the ``example`` is; one of IPv6 stands in brackets, or by itself.

    Raises:
        ValueError: it is none.
    """
    match = _ADDRESS.fullmatch(value)
    if match is None or not 0 < int(match[4]) < 65_536 or not (match[1] or is_ipv6(match[3])):
        raise ValueError(f"wanted host:port, for example {example}")
    if match[1]:
        check_host(match[1])
    return value


def is_ipv6(host: str) -> bool:
    """Whether this is an address of IPv6, as it is written without brackets."""
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def http_url(value: str) -> str:
    """
    Raises:
        ValueError: it is no URL that can be sent to.
    """
    wanted = "wanted http(s)://host[:port]/path with no user and no fragment"
    if not re.fullmatch("[!-~]+", value):
        raise ValueError(f"{wanted}, in visible ASCII: anything else percent-encoded, and of a host's name as xn--")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    named = parts.username is not None or parts.password is not None
    if parts.scheme not in ("http", "https") or not parts.hostname or named or parts.fragment or port == 0:
        raise ValueError(wanted)
    check_host(parts.hostname)
    return value


def _secret_url(value: SecretStr) -> SecretStr:
    http_url(value.get_secret_value())
    return value


Certificates = Annotated[Path, AfterValidator(_certificates)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
SecretUrl = Annotated[SecretStr, AfterValidator(_secret), AfterValidator(_secret_url)]
"""An address that is a secret itself, as those of incoming webhooks are."""

Url = Annotated[str, AfterValidator(http_url)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
