from collections.abc import Iterator

import pytest
from litestar.testing import TestClient

from tests.api.api_helpers import Cluster
from xchronos.api.app import create_app
from xchronos.api.ports import Services


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def services(cluster: Cluster) -> Services:
    return Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon)


@pytest.fixture
def api(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), base_url="http://127.0.0.1") as client:
        yield client
