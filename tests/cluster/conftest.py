"""Fixtures of the fault tests, and the figures that they measure."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from services import etcd

from tests.cluster.network import require_namespaces
from tests.conftest import unavailable

FIGURES: list[dict[str, Any]] = []


@pytest.fixture(scope="session")
def cluster_services() -> None:
    """Network namespaces and etcd's programs."""
    require_namespaces()
    if reason := etcd.missing():
        unavailable(reason)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """`figures(name=value ...)` keeps what a scenario has measured, for the end of the run."""
    mine: dict[str, Any] = {"scenario": request.node.name}
    yield mine.update
    FIGURES.append(mine)
    if path := os.environ.get("XCHRONOS_CLUSTER_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps(mine) + "\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was measured."""
    for figures in FIGURES:
        words = ", ".join(
            f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}"
            for name, value in figures.items()
            if name != "scenario"
        )
        terminalreporter.write_line(f"{figures['scenario']}: {words}")
