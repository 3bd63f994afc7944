"""Gateways forked from a process that has loaded the gateway's modules: a start then takes a quarter of the time.

A whole test run starts a hundred gateways, and two thirds of a start are imports. What runs in the child is the command's own
`main`; `Gateway(forked=False)` starts the command itself, for tests of how a process begins and ends.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.reduction import DupFd
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["gateway.cli.serve", "gateway.serving.server", "gateway.admin", "wsproto", "forked"])


class Forked:
    """A command in a process of its own, used as `subprocess.Popen` is; ``stderr`` is read by who started it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], constants: Mapping[str, Any]) -> None:
        """``constants``: other values of modules' constants, by their whole names."""
        read, write = os.pipe()
        given = list(arguments), dict(environment), dict(constants), DupFd(write)
        self._process = _SERVER.Process(target=_run, args=given, daemon=True)
        self._process.start()
        os.close(write)
        self.stderr = os.fdopen(read, "rb")
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """
        Raises:
            TimeoutError: it still runs.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            os.kill(self.pid, signal.SIGUSR1)  # it writes down what its threads are at
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _run(arguments: list[str], environment: dict[str, str], constants: dict[str, Any], stderr: Any) -> None:
    os.dup2(descriptor := stderr.detach(), 2)
    os.close(descriptor)
    faulthandler.register(signal.SIGUSR1)
    os.environ.clear()
    os.environ.update(environment)
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        assert hasattr(import_module(module), constant), name
        setattr(import_module(module), constant, value)
    from gateway.cli import main

    sys.exit(main(arguments))
