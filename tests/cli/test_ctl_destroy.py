"""Many units are destroyed with few requests, and the command says of each what it would say of it alone."""

import pytest

from xchronos.cli.commands import actions
from xchronos.client import Client
from xchronos.errors import ApiError


def test_many_are_destroyed_together(ctl, daemon, monkeypatch):
    registry = daemon.cluster.registry
    for name in ("a1.service", "a2.service", "a3.service", "b.service"):
        daemon.run(daemon.cluster.submit(name))
    asked, destroy_many = [], registry.destroy_many

    async def destroy(names, **options):
        asked.append(list(names))
        return await destroy_many(names, **options)

    monkeypatch.setattr(registry, "destroy_many", destroy)
    result = ctl("destroy", "no", "a*", "x" * 300, "b")
    assert result.stdout == "".join(f"{name}.service: destroyed\n" for name in ("a1", "a2", "a3", "b"))
    told = result.stderr.splitlines()
    assert (result.exit_code, told[0]) == (3, "xchronosctl: there is no unit no.service")
    assert "longer than 255 bytes" in told[1]
    assert asked == [["no.service", "a1.service", "a2.service", "a3.service", "b.service"]]


def test_what_stands_before_a_pattern_without_units_is_destroyed(ctl, daemon):
    for name in ("a.service", "b.service", "c.service"):
        daemon.run(daemon.cluster.submit(name))
    result = ctl("destroy", "a", "b", "q*", "c")
    assert (result.exit_code, result.stderr) == (3, "xchronosctl: no unit matches q*\n")
    assert result.stdout == "a.service: destroyed\nb.service: destroyed\n"
    assert daemon.run(daemon.cluster.registry.unit_names()) == ["c.service"]


def test_more_than_one_request_holds(ctl, daemon, monkeypatch):
    monkeypatch.setattr(actions, "UNITS_DESTROYED", 2)
    for number in range(5):
        daemon.run(daemon.cluster.submit(f"a{number}.service"))
    assert len(ctl("destroy", "a*").stdout.splitlines()) == 5


@pytest.mark.parametrize("status", [404, 405])
def test_a_daemon_that_knows_no_request_for_many(ctl, daemon, monkeypatch, status):
    def unknown(*_, **__):
        raise ApiError("Not Found", status)

    monkeypatch.setattr(Client, "destroy_many", unknown)
    for name in ("a.service", "b.service"):
        daemon.run(daemon.cluster.submit(name))
    result = ctl("destroy", "a", "no", "b")
    assert (result.exit_code, result.stderr) == (3, "xchronosctl: there is no unit no.service\n")
    assert result.stdout == "a.service: destroyed\nb.service: destroyed\n"


def test_no_daemon_for_many(ctl, monkeypatch):
    monkeypatch.setenv("XCHRONOS_API", "http://127.0.0.1:1")
    result = ctl("destroy", "a", "b")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (4, "", 2)
