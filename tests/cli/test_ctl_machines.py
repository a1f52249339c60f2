"""`list-machines` and `machine` against a real server."""

import msgspec

from tests.api.api_helpers import at, running
from xchronos.model.records import KnownMachine, Machine, MachineWish
from xchronos.store.contract import DeleteRange, Txn
from xchronos.wire.details import MachineStatus


def read(result, kind):
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout, type=kind)


class TestLooking:
    def test_list(self, ctl, daemon):
        daemon.run(daemon.cluster.machine("m1", metadata={"region": "eu", "disk": "ssd"}, address="10.0.0.1:7480"))
        daemon.run(daemon.cluster.machine("m2", cordoned=True, drain_until=at(60)))
        daemon.run(daemon.cluster.execution(running("a.service", 0, machine="m2")))
        daemon.run(daemon.cluster.put(daemon.cluster.registry.keys.wish("m3"), MachineWish({"a": "b"})))
        titles, first, second, third = ctl("list-machines").stdout.splitlines()
        assert titles.split() == ["MACHINE", "STATE", "ATTEMPTS", "HOST", "EXECUTORS", "METADATA"]
        assert first.split() == ["m1", "ready", "0/8", "m1", "docker,process", "disk=ssd,region=eu"]
        assert second.split()[:5] == ["m2", "draining", "until", "2030-01-01T12:01:00Z", "1/8"]
        assert third.split() == ["m3", "gone", "0", "-", "-", "a=b"]
        assert [m.id for m in read(ctl("list-machines", "-o", "json"), list[MachineStatus])] == ["m1", "m2", "m3"]

    def test_machines_that_are_down_or_have_no_engine(self, ctl, daemon):
        cluster = daemon.cluster
        keys = cluster.registry.keys
        daemon.run(cluster.machine("m1", docker="unavailable: no answer", docker_since=at(-60)))
        daemon.run(cluster.put(keys.known_machines + "m2", KnownMachine(Machine("m2", hostname="host-2"), at(-120))))
        daemon.run(cluster.put(keys.known_machines + "m3", KnownMachine(Machine("m3"))))
        _, first, second, third = ctl("list-machines").stdout.splitlines()
        assert first.split()[:4] == ["m1", "no-engine", "since", "2030-01-01T11:59:00Z"]
        assert second.split()[:6] == ["m2", "down", "since", "2030-01-01T11:58:00Z", "0", "host-2"]
        assert third.split()[:2] == ["m3", "down"]
        assert "down since 2030-01-01T11:58:00Z" in ctl("machine", "show", "m2").stdout
        assert ctl("machine", "forget", "m2").exit_code == 0
        assert ctl("machine", "show", "m2").exit_code == 3

    def test_show(self, ctl, daemon):
        daemon.run(
            daemon.cluster.machine(
                "m1", metadata={"a": "b"}, configured={}, cordoned=True, cordon_reason="new\x1bdisk", version="1"
            )
        )
        assert ctl("machine", "show", "m1").stdout.splitlines() == [
            "m1",
            "      State: cordoned: new\\x1bdisk",
            "   Attempts: 0/8 of its slots",
            "   Metadata: a=b",
            " Configured: none",
            "  Executors: docker, process",
            "     Docker: 27.0",
            "       Host: m1",
            "    Version: 1",
        ]
        daemon.run(daemon.cluster.machine("m2", cordoned=True, drain_until=at(60)))
        daemon.run(daemon.cluster.execution(running("a.service", 0, machine="m2")))
        shown = ctl("machine", "show", "m1", "m2")
        assert "      State: draining until 2030-01-01T12:01:00Z" in shown.stdout.splitlines()
        assert read(ctl("machine", "show", "m2", "-o", "json"), list[MachineStatus])[0].placed == 1
        missing = ctl("machine", "show", "m9", "m2")
        assert (missing.exit_code, missing.stderr) == (3, "xchronosctl: there is no machine m9\n")
        assert missing.stdout.startswith("m2\n")

    def test_an_attempt_that_has_to_leave(self, ctl, daemon):
        execution = running("a.service", 0)
        current = msgspec.structs.replace(execution.current, leave="m1 is being drained")
        daemon.run(daemon.cluster.execution(msgspec.structs.replace(execution, current=current)))
        assert "attempt 1 on m1: running" in (shown := ctl("status", execution.id).stdout)
        assert "has to leave: m1 is being drained" in shown


class TestWishes:
    def test_cordon_and_uncordon(self, ctl, daemon):
        daemon.run(daemon.cluster.machine("m1"))
        assert ctl("machine", "cordon", "m1", "--reason", "disk").stdout == "m1: cordoned\n"
        (found,) = read(ctl("machine", "show", "m1", "-o", "json"), list[MachineStatus])
        assert (found.cordoned, found.cordon_reason) == (True, "disk")
        assert ctl("machine", "uncordon", "m1").stdout == "m1: uncordoned\n"
        assert not read(ctl("list-machines", "--output", "json"), list[MachineStatus])[0].cordoned
        assert ctl("machine", "cordon", "m3").exit_code == 3

    def test_metadata(self, ctl, daemon):
        daemon.run(daemon.cluster.machine("m1", metadata={"region": "eu"}))
        assert ctl("machine", "set", "m1", "region=us-east-1", "disk=a=b").stdout == "m1: changed\n"
        assert read(ctl("list-machines", "-o", "json"), list[MachineStatus])[0].metadata == {
            "region": "us-east-1",
            "disk": "a=b",
        }
        assert ctl("machine", "unset", "m1", "region", "disk").stdout == "m1: changed\n"
        assert ctl("list-machines", "--no-legend").stdout.split()[-1] == "-"
        for wrong in ("region", "=x", "region="):
            refused = ctl("machine", "set", "m1", wrong)
            assert (refused.exit_code, "expected KEY=VALUE" in refused.stderr) == (2, True)

    def test_drain(self, ctl, daemon, monkeypatch):
        cluster = daemon.cluster
        daemon.run(cluster.machine("m1"))
        daemon.run(cluster.execution(running("a.service", 0)))
        assert ctl("machine", "drain", "m1", "--deadline", "90s", "--reason", "disk").stdout == "m1: draining\n"
        (found,) = read(ctl("machine", "show", "m1", "-o", "json"), list[MachineStatus])
        assert (found.state, found.drain_until, found.cordon_reason) == ("draining", at(90), "disk")

        def leave(_seconds):
            daemon.run(cluster.registry.store.commit(Txn((), (DeleteRange(cluster.registry.keys.placements),))))

        monkeypatch.setattr("xchronos.cli.commands.machines.time.sleep", leave)
        waited = ctl("machine", "drain", "m1", "--wait")
        assert (waited.stdout, waited.stderr) == ("m1: draining\nm1: drained\n", "m1: 1 left\n")

    def test_a_drain_that_ends_before_everything_has_left(self, ctl, daemon, monkeypatch):
        daemon.run(daemon.cluster.machine("m1"))
        daemon.run(daemon.cluster.execution(running("a.service", 0)))
        monkeypatch.setattr(
            "xchronos.cli.commands.machines.time.sleep",
            lambda _: daemon.run(daemon.cluster.registry.wishes.uncordon("m1")),
        )
        waited = ctl("machine", "drain", "m1", "--wait")
        assert (waited.exit_code, waited.stdout) == (1, "m1: draining\n")
        assert waited.stderr.endswith("\nxchronosctl: m1: its drain was ended by somebody else\n")

    def test_deadlines_that_are_none(self, ctl, daemon):
        for wrong in ("soon", "infinity", ""):
            refused = ctl("machine", "drain", "m1", "--deadline", wrong)
            assert (refused.exit_code, "--deadline" in refused.stderr) == (2, True)
        assert ctl("machine", "drain", "m1").exit_code == 3

    def test_forget(self, ctl, daemon):
        daemon.run(daemon.cluster.machine("m1"))
        refused = ctl("machine", "forget", "m1")
        assert (refused.exit_code, "m1 is alive: stop its daemon first" in refused.stderr) == (1, True)
        daemon.run(daemon.cluster.put(daemon.cluster.registry.keys.wish("m2"), MachineWish({"a": "b"})))
        assert ctl("machine", "forget", "m2").stdout == "m2: forgotten\n"
        assert ctl("machine", "forget", "m2").exit_code == 3
