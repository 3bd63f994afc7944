"""Where a benchmark ran and with what: read at run time, and printed with every result."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    "portcullis", "uvicorn", "uvloop", "httptools", "hyperscan", "orjson", "aiohttp",
)  # fmt: skip
"""Python packages whose versions a result names."""


def machine() -> dict[str, object]:
    """The machine, the kernel, and what of the environment configures the gateway."""
    cpuinfo = _text("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _text("/proc/meminfo"), re.M)
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in cpuinfo,
        "memory_gb": round(int(memory.group(1)) * 1024 / 1e9, 1) if memory else None,
        "kernel": platform.release(),
        "command": " ".join(["python", "-m", "bench", *sys.argv[1:]]),
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith("PORTCULLIS_")},
    }


def versions() -> dict[str, str]:
    """Versions of the programs and packages that take part; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for program, flag in (("nginx", "-v"), ("wrk", "-v"), ("gcc", "--version")):
        if path := shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin"):
            done = subprocess.run([path, flag], capture_output=True, text=True, check=False)
            found[program] = first_version(done.stdout + done.stderr)
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def first_version(text: str) -> str:
    """The first thing in ``text`` that looks like a version; its first line when nothing does."""
    match = re.search(r"(?<![\w.])v?(\d+\.\d+[\w.+-]*)", text.replace("/", " "))
    return match.group(1) if match else text.partition("\n")[0].strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
