"""Fixtures of the fault tests."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.network import require_namespaces
from tests.cluster.stores import CHOSEN, ConsulServers
from tests.conftest import unavailable
from tests.services import consul, etcd


@pytest.fixture(scope="session")
def cluster_services() -> None:
    """Network namespaces and the programs of the store that scenarios run on."""
    require_namespaces()
    if reason := (consul if CHOSEN is ConsulServers else etcd).missing():
        unavailable(reason)


@pytest.fixture(scope="session")
def consul_cluster_services() -> None:
    """Network namespaces and Consul's program."""
    require_namespaces()
    if reason := consul.missing():
        unavailable(reason)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """`figures(name=value ...)` keeps what a scenario has measured, for the end of the run."""
    mine: dict[str, Any] = {"scenario": request.node.name}
    request.node.user_properties.append(("figures", mine))  # for the summary: see tests/conftest.py
    yield mine.update
    if path := os.environ.get("XCHRONOS_CLUSTER_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps(mine) + "\n")
