"""What a worker is and what it takes: version, memory, processor time, open files, room left. Read when scraped."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable
from typing import Final

from gateway import __version__
from gateway.telemetry.metrics import Metrics

_PAGE: Final = resource.getpagesize()
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_UTIME: Final = 11
"""Fields of /proc/self/stat after the name of the process: proc(5) counts utime as the 14th, and two come before the name."""


def register(metrics: Metrics, in_flight_limit: Callable[[], int]) -> None:
    """Add the series of one worker. ``in_flight_limit``: requests at once that this worker takes."""
    build = (__version__, platform.python_version())
    metrics.gauge("portcullis_build_info", "The version that runs.", ("version", "python"), lambda: {build: 1.0}, "max")
    metrics.gauge("portcullis_workers", "Workers that share this address.", (), lambda: {(): 1.0})
    metrics.gauge(
        "portcullis_in_flight_limit", "Requests in flight above which new ones are refused.", (),
        lambda: {(): float(in_flight_limit())},
    )  # fmt: skip
    metrics.gauge("portcullis_resident_bytes", "Memory that is resident.", (), lambda: {(): float(_resident())})
    metrics.gauge("portcullis_open_files", "Open file descriptors.", (), lambda: {(): float(len(os.listdir("/proc/self/fd")))})
    metrics.gauge(
        "portcullis_open_files_limit", "Open file descriptors that one worker may have.", (),
        lambda: {(): float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])}, "min",
    )  # fmt: skip
    metrics.count("portcullis_cpu_seconds", "Processor time used, user and system.", (), lambda: {(): _cpu_seconds()})


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


def _cpu_seconds() -> float:
    with open("/proc/self/stat", "rb") as file:
        after_name = file.read().rpartition(b")")[2].split()
    return (int(after_name[_UTIME]) + int(after_name[_UTIME + 1])) / _TICKS
