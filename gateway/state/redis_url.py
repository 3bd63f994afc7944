"""What a Redis URL says: one server, a Sentinel's, or a cluster's; who we are there, and what TLS believes. Opens nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")

_PORTS: Final = {"one": 6379, "sentinel": 26_379, "cluster": 6379}
_TLS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL: Final = frozenset({"sentinel_username", "sentinel_password"})

_AUTHORITY: Final = re.compile(r"(?P<kind>[a-z+]+)://(?:(?P<user>[^/?@]*)@)?(?P<hosts>[^/?@]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?")
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(?P<port>\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where Redis is.

    Attributes:
        what: names it for people, without any credential.
        kind: how its servers stand to each other. hosts: addresses, the Sentinels' where there are some.
        socket: the path of a Unix socket, instead of hosts. service: the name by which Sentinels know the master.
        options: what connections to the servers take; sentinel_options: connections to Sentinels.
    """

    what: str
    kind: Literal["one", "sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    service: str = ""
    tls: bool = False
    database: int = 0
    options: dict[str, str] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, str] = field(default_factory=dict, repr=False)


def read_url(url: str) -> Place:
    """Take a URL apart.

    ``redis://[[user]:password@]host[:port][/db]``, ``rediss://...`` for TLS, ``unix://path?db=0``,
    ``redis+sentinel://...@host1[:26379],host2/MASTER[/db]`` and ``redis+cluster://...@host1[:6379],host2``. The query may hold
    ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile`` (with TLS), ``db``, ``sentinel_username`` and ``sentinel_password``.

    Raises:
        ValueError: it is not usable. The message shows no credential.
    """
    parts = _AUTHORITY.fullmatch(url)
    if parts is None or parts["kind"] not in SCHEMES:
        raise ValueError("it cannot be read; is a / or @ in the password written as %2F or %40?")
    secure, _, way = parts["kind"].partition("+")
    kind: Literal["one", "sentinel", "cluster"] = "sentinel" if way == "sentinel" else "cluster" if way else "one"
    given = dict(parse_qsl(parts["query"] or "", keep_blank_values=True))
    known = ({"db"} if kind != "cluster" else set()) | (_TLS if secure == "rediss" else set())
    known |= _SENTINEL if kind == "sentinel" else set()
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"unknown option {unknown[0][:40]!r} (known: {', '.join(sorted(known))})")
    user, _, password = (parts["user"] or "").partition(":")
    options = {name: unquote(value) for name, value in (("username", user), ("password", password)) if value}
    options |= {name: value for name, value in given.items() if name in _TLS}
    path = unquote(parts["path"] or "")
    if secure == "unix":
        if not path:
            raise ValueError("the socket's path is missing")
        return Place(what=f"unix://{path}", kind="one", socket=path, database=_database(given.get("db", "")), options=options)
    hosts = tuple(_address(host, _PORTS[kind]) for host in parts["hosts"].split(","))
    if kind == "one" and len(hosts) > 1:
        raise ValueError("several hosts are of redis+sentinel:// or redis+cluster://")
    service, _, database = path[1:].partition("/") if kind == "sentinel" else ("", "", path[1:])
    if kind == "sentinel" and not service:
        raise ValueError("the master's name after the Sentinels is missing")
    if kind == "cluster" and database:
        raise ValueError("a cluster has no databases to choose from")
    sentinel = {name.removeprefix("sentinel_"): given[name] for name in _SENTINEL & given.keys()}
    return Place(
        what=f"{parts['kind']}://{parts['hosts']}{path if path != '/' else ''}", kind=kind, hosts=hosts, service=service,
        tls=secure == "rediss", database=_database(database or given.get("db", "")), options=options,
        sentinel_options=sentinel | {name: value for name, value in options.items() if name in _TLS},
    )  # fmt: skip


def _address(text: str, usual: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if not text or text.startswith(":"):
        raise ValueError("the host is missing")
    if found is None or int(found["port"] or usual) > 65_535:
        raise ValueError("the port is not a number from 0 to 65535")
    return found["host"].strip("[]"), int(found["port"] or usual)


def _database(text: str) -> int:
    if not re.fullmatch(r"\d{0,6}", text, re.ASCII):
        raise ValueError("the database after the host is not a number")
    return int(text or 0)
