"""What commands that speak with a running gateway share: its address, a key, and its errors in words."""

from __future__ import annotations

import argparse
import functools
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

import orjson

from gateway.cli.faults import Failed, Misused

DEFAULT_URL: Final = "http://127.0.0.1:8080"
_NO_KEY: Final = "; set PORTCULLIS_KEY to a key that is valid (portcullis keys create --role analyst, approver or operator)"
_NOT_TEXT: Final = "what was given is not UTF-8"
NO_GATEWAY: Final = "does not answer as a gateway of this version does; does something else listen there?"
SECONDS: Final = 60.0


def add_remote(parser: argparse.ArgumentParser) -> None:
    """``--url``; the key comes from the environment, where no listing of processes shows it."""
    parser.add_argument(
        "--url", default=os.environ.get("PORTCULLIS_URL", DEFAULT_URL),
        help=f"the gateway (default: $PORTCULLIS_URL, else {DEFAULT_URL}); a key is taken from $PORTCULLIS_KEY",
    )  # fmt: skip


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for the gateway that was named, and no gateway sends anybody elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener: Final = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


class Refusal(Failed):
    """The gateway understood, and does not take what it was given."""


class Remote:
    """A running gateway's control plane."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """
        Raises:
            Misused: the address is none, or the key cannot be one.
        """
        if not arguments.url.startswith(("http://", "https://")):
            raise Misused(f"--url: got {arguments.url!r}; wanted http(s)://host[:port]")
        self._url = arguments.url.rstrip("/")
        self._key = os.environ.get("PORTCULLIS_KEY", "").strip()
        if not re.fullmatch("[!-~]*", self._key):  # what refuses the header would say it
            raise Misused("PORTCULLIS_KEY: wanted a key in visible ASCII, as `keys create` prints it")

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None, "")

    def pages(self, path: str) -> Iterator[Any]:
        """A listing's pages, by their ``next``; ``path`` ends in a query.

        Raises:
            Failed: as `get`; or they go in a circle.
        """
        cursor, seen = None, set[object]()
        while cursor not in seen:
            seen.add(cursor)
            page = self.get(path if cursor is None else f"{path}&cursor={cursor}")
            yield page
            cursor = page["next"]
            if cursor is None:
                return
        raise Failed(f"{self._url}: {NO_GATEWAY}")

    def post(self, path: str, body: Any, kind: str = "application/json") -> Any:
        try:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
        except orjson.JSONEncodeError:  # of texts, it takes all but what no text is made of
            raise Misused(_NOT_TEXT) from None
        return self._ask("POST", path, data, kind)

    def _ask(self, method: str, path: str, data: bytes | None, kind: str) -> Any:
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        if data is not None:
            headers["content-type"] = kind
        try:
            request = urllib.request.Request(self._url + path, data, headers, method=method)
            try:
                with _opener.open(request, timeout=SECONDS) as answer:
                    return orjson.loads(answer.read())
            except urllib.error.HTTPError as error:
                fault = Refusal if error.code in (409, 422) else Failed
                told = _detail(error.read()) + (_NO_KEY if error.code == 401 else "")
                raise fault(f"{self._url}{path}: {error.code}: {told}") from None
        except http.client.InvalidURL as error:
            raise Misused(f"--url: got {self._url!r}; wanted http(s)://host[:port]: {error}") from None
        except http.client.HTTPException as error:
            raise Failed(f"{self._url}: no gateway: not an answer in HTTP: {type(error).__name__}") from None
        except (OSError, ValueError) as error:
            raise Failed(f"{self._url}: does not answer: {getattr(error, 'reason', error)}") from None


def asks(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command that tells what a gateway answers: where that cannot be read as its answer, something else said it.

    Raises (the command):
        Failed: so it is.
        UnicodeEncodeError: as of printing.
    """

    @functools.wraps(command)
    def run(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except UnicodeEncodeError:  # it could be read, but not be written here
            raise
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Failed(f"{arguments.url}: {NO_GATEWAY}") from error

    return run


def part(what: str, name: str) -> str:
    """A name as a part of a path.

    Raises:
        Misused: it is empty, or no text.
    """
    if not name.strip("."):
        raise Misused(f"{what}: got {name!r}; wanted one as it is listed")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:
        raise Misused(f"{what}: {_NOT_TEXT}") from None


def _detail(body: bytes) -> str:
    try:
        detail = orjson.loads(body)["detail"]
        return detail if isinstance(detail, str) else "; ".join(map(_fault, detail))
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _fault(one: dict[str, Any]) -> str:
    return f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}"
