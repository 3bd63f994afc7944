"""``portcullis serve``: run the gateway."""

from __future__ import annotations

import argparse
import socket
import sys

from gateway.cli.common import add_config, config_path, settings
from gateway.cli.faults import Failed, Misused
from gateway.config.settings import Settings
from gateway.serving import port

EXAMPLE = "portcullis serve --config portcullis.yaml --workers 2"


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the port (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.workers <= 256:
        raise Misused("--workers: wanted 1 to 256")
    chosen = settings(arguments)
    try:
        listener = port.bind(chosen.listen)
    except OSError as error:
        why = str(error.strerror).partition(" (while ")[0]  # what follows says the address once more
        raise Failed(f"listen: {chosen.listen}: {why}") from None
    if not arguments.json:
        print(greeting(listener, chosen), file=sys.stderr, flush=True)
        if not (chosen.data_dir / "cache").exists():
            waiting = "The first start compiles the patterns, a minute or two; what is sent meanwhile waits."
            print(waiting, file=sys.stderr, flush=True)
    from gateway.serving import server

    return server.serve(chosen, config_path(arguments), arguments.workers, listener)


def greeting(listener: socket.socket, chosen: Settings) -> str:
    """What a person reads first: where it listens and something to try."""
    url = port.address(listener)
    echo = not chosen.upstreams
    model = "echo-1" if echo else "gpt-4o-mini"
    closed = not (chosen.is_loopback or chosen.open)
    key = "-H 'authorization: Bearer KEY' " if closed else ""
    return (
        f"Portcullis listens on {url}"
        + (" (no upstream is configured: the built-in echo model answers)" if echo else "")
        + ("\nWhoever calls shows a key: portcullis keys create --role app" if closed else "")
        + f"\nTry: curl -s {url}/v1/chat/completions {key}-H 'content-type: application/json' "
        f"-d '{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'"
    )
