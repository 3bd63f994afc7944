"""``portcullis serve``: run the gateway."""

from __future__ import annotations

import argparse
import gc
import sys

from gateway.cli.common import Misused, add_config, config_path, settings

HELP = "run the gateway"
EXAMPLE = "portcullis serve --config portcullis.yaml --workers 2"


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the port (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.workers <= 256:
        raise Misused("--workers: wanted 1 to 256")
    chosen = settings(arguments)
    if not arguments.json:
        print(greeting(chosen.listen, not chosen.upstreams), file=sys.stderr, flush=True)
        if not (chosen.data_dir / "cache").exists():
            waiting = "The first start compiles the patterns, a minute or two; what is sent meanwhile waits."
            print(waiting, file=sys.stderr, flush=True)
    gc.disable()  # all that is loaded and built stays, so there is nothing to find; a worker that serves turns it on
    from gateway import server

    return server.serve(chosen, config_path(arguments), arguments.workers)


def greeting(listen: str, echo: bool) -> str:
    """What a person reads first: where it listens and something to try."""
    host, _, port = listen.rpartition(":")
    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}"
    model = "echo-1" if echo else "gpt-4o-mini"
    return (
        f"Portcullis listens on {url}"
        + (" (no upstream is configured: the built-in echo model answers)" if echo else "")
        + f"\nTry: curl -s {url}/v1/chat/completions -H 'content-type: application/json' "
        f"-d '{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'"
    )
