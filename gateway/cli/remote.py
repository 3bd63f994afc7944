"""What commands that speak with a running gateway share: its address, a key, and its errors in words."""

from __future__ import annotations

import argparse
import http.client
import os
import re
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote

import orjson

from gateway.cli.faults import Failed, Misused

DEFAULT_URL: Final = "http://127.0.0.1:8080"
_NO_KEY: Final = "; set PORTCULLIS_KEY to a key that is valid (portcullis keys create --role analyst, approver or operator)"
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

    def post(self, path: str, body: Any, kind: str = "application/json") -> Any:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
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


def part(what: str, name: str) -> str:
    """A name as a part of a path.

    Raises:
        Misused: it is empty.
    """
    if not name.strip("."):
        raise Misused(f"{what}: got {name!r}; wanted one as it is listed")
    return quote(name, safe="")


def _detail(body: bytes) -> str:
    try:
        detail = orjson.loads(body)["detail"]
        return detail if isinstance(detail, str) else "; ".join(map(_fault, detail))
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def _fault(one: dict[str, Any]) -> str:
    return f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}"
