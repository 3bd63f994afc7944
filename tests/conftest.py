"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gateways import Gateway
from hypothesis import settings
from realtime_support import Provider

# How long an example takes says how busy the machine is. A change is judged by the same examples as the one before it; `make
# explore` draws others.
settings.register_profile("explore", deadline=None, print_blob=True)
settings.register_profile("portcullis", parent=settings.get_profile("explore"), derandomize=True)
settings.load_profile("portcullis")

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask a server at import

LONGEST = ("console", "bad_input", "gateway", "sync_gateways", "state", "replicas", "audit_log", "bundle", "dashboards", "alerts",
           "checks_numbers", "clients", "learning_poison", "chart", "realtime")  # fmt: skip
"""Modules that take ten seconds or more begin first, so that no process is left with a long one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))


StartGateway = Callable[..., Gateway]


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Starts gateways; they are stopped when the test is over."""
    started: list[Gateway] = []

    def start(
        workers: int = 1, environment: dict[str, str] | None = None, forked: bool = True, **settings: Any
    ) -> Gateway:
        folder = tmp_path / f"gateway-{len(started)}"
        folder.mkdir()
        quick = {"ready_grace_seconds": 0, "drain_seconds": 5, **settings.pop("limits", {})}
        gateway = Gateway(folder, {**settings, "limits": quick}, workers, environment or {}, forked=forked)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture(scope="session")
def echo_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway with the echo model behind it, for tests that change nothing in it."""
    gateway = Gateway(tmp_path_factory.mktemp("echo"), {"limits": {"ready_grace_seconds": 0}}, 1, {})
    yield gateway
    gateway.stop()


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    running = Provider()
    yield running
    running.server.shutdown()


@pytest.fixture(scope="session")
def scripted(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "limits": {"ready_grace_seconds": 0, "drain_seconds": 2}, "detection": {"encoder": False},
        "realtime": {"message_bytes": 65_536},
        "upstreams": {"openai": {"base_url": provider.base_url, "attempts": 1}},
    }  # fmt: skip
    running = Gateway(tmp_path_factory.mktemp("realtime"), settings, 1, {})
    yield running
    running.stop()
