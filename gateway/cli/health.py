"""``portcullis health``: ask a running gateway whether it is ready. For container health checks, where there is no curl."""

from __future__ import annotations

import argparse
import http.client
import json
import urllib.error
import urllib.request

from gateway.cli.common import add_config, seconds, settings, write_json
from gateway.cli.faults import Failed

EXAMPLE = "portcullis health"


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--seconds", type=seconds, default=2.0, help="how long the answer may take (default: 2)")


def run(arguments: argparse.Namespace) -> int:
    host, _, port = settings(arguments).listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/readyz", timeout=arguments.seconds) as reply:
            said = json.load(reply)
        status = said["status"]
    except urllib.error.HTTPError as error:
        raise Failed(error.read(1000).decode(errors="replace")) from None
    except (OSError, ValueError) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Failed(f"no answer from {host}:{port}: {getattr(why, 'strerror', None) or why}") from None
    except (http.client.HTTPException, KeyError, TypeError, RecursionError):
        raise Failed(f"{host}:{port} does not answer as a gateway does; does something else listen there?") from None
    if arguments.json:
        write_json(said)
    else:
        print(status)
    return 0
