"""The contract on a real etcd, and what is etcd's own."""

from pathlib import Path

import pytest
from services.etcd import EtcdCluster

from xchronos.store import Store
from xchronos.store.etcd import EtcdStore
from xchronos.store.etcd_access import EtcdAccess
from xchronos.testing.store import StoreContract

pytestmark = pytest.mark.etcd


def access(cluster: EtcdCluster, **options) -> EtcdAccess:
    return EtcdAccess(endpoints=tuple(url.partition("//")[2] for url in cluster.endpoints), **options)


class TestEtcdStore(StoreContract):
    ttl = 2.0

    @pytest.fixture(autouse=True)
    def _server(self, etcd_server: EtcdCluster) -> None:
        etcd_server.ctl("del", "", "--prefix")
        self.server = etcd_server

    async def open_store(self, directory: Path) -> Store:
        return await EtcdStore.open(access(self.server))
