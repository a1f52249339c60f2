"""xchronosctl while the daemon's job store does not answer."""

import msgspec

from xchronos.api import queries
from xchronos.errors import StoreUnavailable
from xchronos.model.policies import Outcome


def test_the_reason_and_the_exit_code(ctl, daemon, monkeypatch):
    async def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("etcd at 10.0.0.1:2379 did not answer in time")

    for method in ("get", "range", "commit"):
        monkeypatch.setattr(daemon.cluster.registry.store, method, fail)
    for command in (("list-units",), ("status", "a"), ("list-executions",), ("start", "a"), ("stop", "a")):
        done = ctl(*command)
        assert done.exit_code == 1, command
        assert done.stderr == (
            "xchronosctl: the job store is not available: etcd at 10.0.0.1:2379 did not answer in time\n"
        )


def test_a_drain_waits_on_through_an_outage(ctl, daemon, monkeypatch):
    daemon.run(daemon.cluster.machine("m1"))
    whole, asked = queries.machine, 0

    async def machine(registry, name):
        nonlocal asked
        asked += 1
        if asked < 3:
            raise StoreUnavailable("etcd is away")
        return await whole(registry, name)

    monkeypatch.setattr(queries, "machine", machine)
    done = ctl("machine", "drain", "m1", "--wait")
    assert (done.exit_code, done.stdout) == (0, "m1: draining\nm1: drained\n")
    assert done.stderr == "m1: the job store is not available: etcd is away; still waiting\n"


def test_start_waits_on_through_an_outage(ctl, daemon, monkeypatch):
    daemon.run(daemon.cluster.submit("a.service"))
    registry = daemon.cluster.registry
    whole, asked = registry.execution, 0

    async def execution(execution_id):
        nonlocal asked
        asked += 1
        if asked in (2, 3):
            raise StoreUnavailable("etcd is away")
        found = await whole(execution_id)
        if asked < 5:
            return found
        return msgspec.structs.replace(found, state="ended", outcome=Outcome.SUCCEEDED)

    monkeypatch.setattr(registry, "execution", execution)
    done = ctl("start", "--wait", "a")
    assert done.exit_code == 0
    assert done.stderr.count("the job store is not available: etcd is away; still waiting") == 1
    assert "succeeded" in done.stderr.splitlines()[-1]
