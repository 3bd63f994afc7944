"""Paths that the configuration passes through by name: their bytes go on as they are and nothing screens them.

Everything under a provider's prefix that no wire knows is refused, unless an upstream's ``passthrough`` names it. Keys,
limits, metrics and records hold for such a request as for any other; its record and the coverage matrix say that it was
not screened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gateway.wires import routes
from gateway.wires.base import Parsed, Reply, StreamReader, Target, Wire

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_ENTRY: Final = re.compile(rf"(?:({'|'.join(_METHODS)}) )?(/v1(?:beta|alpha)?(?:/[\w.:@-]+)+)(/\*)?", re.ASCII)


class Rule(NamedTuple):
    """One entry: a path, or all paths below it; and a method, or any."""

    method: str
    path: str
    below: bool

    def matches(self, method: str, path: str) -> bool:
        if method not in ((self.method,) if self.method else _METHODS):
            return False
        if self.below:
            return len(path) > len(self.path) + 1 and path.startswith(self.path + "/")
        return path == self.path


def read_rule(entry: str) -> Rule:
    """Read an entry of the configuration.

    Raises:
        ValueError: it is none, or covers what a wire screens.
    """
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError("wanted a path such as /v1/files or /v1/files/*, or a method and one: GET /v1/files/*")
    rule = Rule(match[1] or "", match[2], match[3] is not None)
    for route in routes.SCREENED:
        if route == rule.path or (rule.below and route.startswith(rule.path + "/")):
            raise ValueError(f"{rule.path}: {route} lies there and is screened; name what is to pass more narrowly")
    return rule


def can_name(path: str) -> bool:
    """Whether an entry of the configuration can name a path, such as that of a request, and others of its kind."""
    if path.startswith("/v1/responses/"):  # an id stands there, another each time, and what is screened lies beside it
        return False
    try:
        read_rule(path)
    except ValueError:
        return False
    return True


class PassedThrough(Wire):
    """What stands in for a wire where none is spoken: it reads nothing and answers errors in the provider's terms."""

    def __init__(self, provider: str, name: str = "") -> None:
        self.name = name or f"{provider}.passthrough"
        self.provider = provider

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        raise NotImplementedError("nothing of it is read")

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        raise NotImplementedError("nothing of it is read")

    def stream(self, target: Target, model: str | None) -> StreamReader:
        raise NotImplementedError("nothing of it is read")

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        return self.error(400, "content_filter", message, request_id)

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return routes.errors_of(self.provider).error(status, code, message, request_id)


class Table:
    """All that passes through, by provider."""

    def __init__(self, entries: Mapping[str, Iterable[str]]) -> None:
        """
        Raises:
            ValueError: as `read_rule`.
        """
        self._rules = [
            (read_rule(entry), Target(PassedThrough(provider), "passthrough"))
            for provider, each in entries.items()
            for entry in each
        ]

    def find(self, method: str, path: str, dialect: str) -> Target | None:
        """What a request passes through as; where two providers name its path, ``dialect`` decides."""
        found = [target for rule, target in self._rules if rule.matches(method, path)]
        return next((target for target in found if target.wire.provider == dialect), found[0] if found else None)
