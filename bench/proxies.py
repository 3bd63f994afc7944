"""The proxies that are compared, and how each is started in front of the benchmark's upstream."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench.processes import ROOT, BenchError, Child, Lab, find, free_port

CACHE: Final = ROOT / "var" / "bench" / "cache"
"""Compiled patterns, kept from run to run: they take a minute or more, and what is measured is not that."""

PATH: Final = "/v1/chat/completions"
"""Where every request goes, whichever proxy takes it."""


class Proxy(NamedTuple):
    """A proxy under test.

    Attributes:
        start: starts it before an upstream's port; raises BenchError where it is not installed.
        headers: what it wants of each request besides the usual, given the upstream's port.
        metrics: the path of its Prometheus metrics, or empty.
    """

    name: str
    start: Callable[[Lab, int], Child]
    headers: Callable[[int], Mapping[str, str]] = lambda _: {}
    metrics: str = ""


_NGINX: Final = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  keepalive_requests 1000000000;
  client_body_buffer_size 64k;
  tcp_nodelay on;
  upstream provider {{
    server 127.0.0.1:{upstream};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def _nginx(lab: Lab, upstream: int) -> Child:
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise BenchError("not installed")
    port = free_port()
    config = lab.folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=lab.folder, port=port, upstream=upstream), encoding="utf-8")
    return lab.start("nginx", [program, "-e", lab.folder / "nginx-error.log", "-c", config], lab.proxy_core, port)


def _aiohttp(lab: Lab, upstream: int) -> Child:
    if importlib.util.find_spec("aiohttp") is None:
        raise BenchError("not installed (pip install aiohttp)")
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "bench.rivals.asgi_aiohttp:app", "--port", str(port),
            "--http", "httptools", "--loop", "uvloop", "--no-access-log", "--lifespan", "off"]  # fmt: skip
    return lab.start("aiohttp", argv, lab.proxy_core, port, {"BENCH_UPSTREAM": f"http://127.0.0.1:{upstream}"})


def _bare(lab: Lab, upstream: int) -> Child:
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "bench.rivals.asgi_bare:app", "--port", str(port),
            "--http", "httptools", "--loop", "uvloop", "--no-access-log", "--lifespan", "off"]  # fmt: skip
    return lab.start("bare", argv, lab.proxy_core, port, {"BENCH_UPSTREAM": f"http://127.0.0.1:{upstream}"})


def share_compiled(data_dir: Path) -> None:
    """Let a gateway with this folder take compiled patterns from `CACHE`, and keep them there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not (data_dir / "cache").exists():
        (data_dir / "cache").symlink_to(CACHE.resolve(), target_is_directory=True)


def portcullis(
    lab: Lab, upstream: int, connections: int = 256, workers: int = 1, name: str = "portcullis",
    changes: Mapping[str, object] | None = None,
) -> Child:
    """As shipped, but for ``changes``: all packs, the balanced policy, decisions recorded in SQLite, metrics and timeouts."""
    port = free_port()
    var = lab.folder / name
    var.mkdir()
    share_compiled(var)
    config = {
        "listen": f"127.0.0.1:{port}",
        "state": f"sqlite:{var / 'state.db'}",
        "data_dir": str(var),
        "upstreams": {"openai": {"base_url": f"http://127.0.0.1:{upstream}/v1", "connections": connections}},
        **(changes or {}),
    }
    file = lab.folder / f"{name}.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    argv: list[str | Path] = [sys.executable, "-m", "gateway", "serve", "--config", file, "--workers", str(workers)]
    return lab.start(name, argv, lab.proxy_core, port)


def _litellm(lab: Lab, upstream: int) -> Child:
    program = find("litellm")
    if program is None:
        raise BenchError("not installed (pip install 'litellm[proxy]')")
    port = free_port()
    parameters = {"model": "openai/*", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "sk-bench"}
    file = lab.folder / "litellm.yaml"
    file.write_text(json.dumps({"model_list": [{"model_name": "*", "litellm_params": parameters}]}), encoding="utf-8")
    argv: list[str | Path] = [program, "--config", file, "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # or newer ones do not start
    }  # fmt: skip
    return lab.start("litellm", argv, lab.proxy_core, port, environment)


def _portkey(lab: Lab, _upstream: int) -> Child:
    node, server = shutil.which("node"), _portkey_server()
    if node is None or server is None:
        raise BenchError("not installed (npm install @portkey-ai/gateway)")
    port = free_port()
    return lab.start("portkey", [node, server, f"--port={port}", "--headless"], lab.proxy_core, port)


def _portkey_server() -> Path | None:
    roots = [Path.cwd() / "node_modules", *map(Path, filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep)))]
    if npm := shutil.which("npm"):
        found = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=False).stdout.strip()
        roots += [Path(found)] if found else []
    servers = (root / "@portkey-ai" / "gateway" / "build" / "start-server.js" for root in roots)
    return next((server for server in servers if server.exists()), None)


def rivals() -> dict[str, str]:
    """Versions of those that are installed apart from us, each as the one that is started says."""
    found: dict[str, str] = {}
    if program := find("litellm"):
        packages = map(str, Path(program).resolve().parents[1].glob("lib/python*/site-packages"))
        found |= {one.name: one.version for one in importlib.metadata.distributions(name="litellm", path=list(packages))}
    if server := _portkey_server():
        found["portkey"] = json.loads((server.parents[1] / "package.json").read_bytes())["version"]
    return found


def _portkey_headers(upstream: int) -> Mapping[str, str]:
    return {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1"}


PROXIES: Final = (
    Proxy("nginx", _nginx),
    Proxy("aiohttp", _aiohttp),
    Proxy("portcullis", portcullis, metrics="/metrics"),
    Proxy("litellm", _litellm),
    Proxy("portkey", _portkey, headers=_portkey_headers),
)

def _streamer(name: str, **changes: object) -> Proxy:
    return Proxy(name, partial(portcullis, connections=2_048, name=name, changes=changes), metrics="/metrics")


STREAMERS: Final = (Proxy("nginx", _nginx), Proxy("bare", _bare), _streamer("portcullis"))
"""Those that are compared with streams; ``bare`` is a relay on our own stack that looks at nothing."""

PATTERNS_ALONE: Final = _streamer("patterns_alone", detection={"model": False})
"""The gateway without its model: no judgement by meaning."""

POLICIES: Final = (STREAMERS[-1], _streamer("strict", policy="strict"), _streamer("monitor", policy="monitor"))
"""The gateway under each preset; as shipped it is ``balanced``."""
