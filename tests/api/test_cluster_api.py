"""Machines, the daemon's overview, health, metrics, the description; and who is let in."""

from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from tests.api.api_helpers import at, running
from xchronos.api.app import create_app
from xchronos.api.ports import Services
from xchronos.api.serving.access_control import AccessControl, host_name
from xchronos.model.records import MachineWish, Reading, SchedulerRecord
from xchronos.registry.codec import encode
from xchronos.registry.keys import shard_of
from xchronos.store.contract import Delete, DeleteRange, Put, Txn
from xchronos.wire.details import Machines, MachineStatus, UnitDetail
from xchronos.wire.messages import Asked, DaemonStatus, ErrorBody, Explanation, IntakeFault, Scheduler, UnitPage

ROUTES = {
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/v1/executions"),
    ("GET", "/v1/executions/{unit}/{fire}/{copy}"),
    ("GET", "/v1/executions/{unit}/{fire}/{copy}/logs"),
    ("POST", "/v1/executions/{unit}/{fire}/{copy}/stop"),
    ("POST", "/v1/destroy"),
    ("GET", "/v1/machines"),
    ("DELETE", "/v1/machines/{machine}"),
    ("GET", "/v1/machines/{machine}"),
    ("POST", "/v1/machines/{machine}/cordon"),
    ("POST", "/v1/machines/{machine}/drain"),
    ("PATCH", "/v1/machines/{machine}/metadata"),
    ("POST", "/v1/machines/{machine}/uncordon"),
    ("GET", "/v1/status"),
    ("DELETE", "/v1/unreadable"),
    ("GET", "/v1/units"),
    ("DELETE", "/v1/units/{name}"),
    ("GET", "/v1/units/{name}"),
    ("PUT", "/v1/units/{name}"),
    ("GET", "/v1/units/{name}/calendar"),
    ("GET", "/v1/units/{name}/executions"),
    ("GET", "/v1/units/{name}/explain"),
    ("POST", "/v1/units/{name}/pause"),
    ("POST", "/v1/units/{name}/resume"),
    ("POST", "/v1/units/{name}/start"),
    ("POST", "/v1/units/{name}/stop"),
    ("POST", "/v1/verify"),
}


def read(answer, kind, status=200):
    assert answer.status_code == status, answer.text
    return msgspec.json.decode(answer.content, type=kind)


class TestDescription:
    def test_the_routes_are_these(self, api):
        paths = read(api.get("/schema"), dict)["paths"]
        assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == ROUTES

    def test_answers_are_the_structs(self, api):
        schema = read(api.get("/schema"), dict)
        schemas = schema["components"]["schemas"]
        structs = ("UnitPage", "UnitDetail", "ExecutionStatus", "AttemptStatus", "StepResult", "MachineStatus")
        assert {*structs, "Calendar"} <= set(schemas)
        assert {"id", "attempts", "current"} <= set(schemas["ExecutionStatus"]["properties"])

    def test_bodies_and_filters_are_described(self, api):
        paths = read(api.get("/schema"), dict)["paths"]
        put = paths["/v1/units/{name}"]["put"]
        assert set(put["requestBody"]["content"]) == {"text/plain", "application/json"}
        assert "state" in {parameter["name"] for parameter in paths["/v1/executions"]["get"]["parameters"]}


class TestMachines:
    async def test_list(self, api, cluster):
        await cluster.machine("m1", metadata={"region": "eu"}, address="10.0.0.1:7480")
        await cluster.machine("m2")
        await cluster.execution(running("a.service", 0, machine="m2"))
        await cluster.execution(running("a.service", 1, machine="m4"))
        await cluster.put(cluster.registry.keys.wish("m3"), MachineWish({"a": "b"}, cordoned=True))
        first, second, third, fourth = read(api.get("/v1/machines"), Machines).machines
        assert (first.id, first.metadata, first.placed, first.state) == ("m1", {"region": "eu"}, 0, "ready")
        assert (second.id, second.capacity.slots, second.placed) == ("m2", 8, 1)
        assert (third.id, third.state, third.metadata, third.cordoned) == ("m3", "gone", {"a": "b"}, True)
        assert (fourth.id, fourth.state, fourth.placed) == ("m4", "gone", 1)
        for listed in (first, second, third, fourth):
            assert read(api.get(f"/v1/machines/{listed.id}"), MachineStatus) == listed
        assert read(api.get("/v1/machines/m5"), ErrorBody, 404).error == "there is no machine m5"

    async def test_cordon(self, api, cluster):
        await cluster.machine("m1")
        assert read(api.post("/v1/machines/m1/cordon"), Asked) == Asked("m1", "cordoned")
        assert read(api.get("/v1/machines"), Machines).machines[0].state == "cordoned"
        assert read(api.post("/v1/machines/m1/cordon", json={"reason": "disk"}), Asked)
        assert read(api.get("/v1/machines/m1"), MachineStatus).cordon_reason == "disk"
        assert read(api.post("/v1/machines/m1/uncordon"), Asked) == Asked("m1", "uncordoned")
        assert not read(api.get("/v1/machines"), Machines).machines[0].cordoned
        assert read(api.post("/v1/machines/m2/cordon"), ErrorBody, 404).error == "there is no machine m2"

    async def test_drain(self, api, cluster):
        await cluster.machine("m1")
        await cluster.execution(running("a.service", 0))
        asked = api.post("/v1/machines/m1/drain", json={"seconds": 1.5, "reason": "new disk"})
        assert read(asked, Asked, 202) == Asked("m1", "draining")
        found = read(api.get("/v1/machines/m1"), MachineStatus)
        assert (found.state, found.drain_until, found.cordon_reason) == ("draining", at(1.5), "new disk")
        await cluster.registry.store.commit(Txn((), (DeleteRange(cluster.registry.keys.placements),)))
        assert read(api.get("/v1/machines/m1"), MachineStatus).state == "drained"
        for seconds in (-1, 1e9):
            refused = api.post("/v1/machines/m1/drain", json={"seconds": seconds})
            assert "expected 0 to" in read(refused, ErrorBody, 400).error
        assert read(api.post("/v1/machines/m1/drain", json={}), ErrorBody, 400).error

    async def test_the_first_8_characters_of_an_id(self, api, cluster):
        first, second = "3d1219c7c4c5404a", "3d1219c8aaaa"
        await cluster.machine(first, metadata={"region": "eu"})
        await cluster.machine(second)
        await cluster.put(cluster.registry.keys.wish("99999999-gone"), MachineWish({"a": "b"}))
        short = "/v1/machines/3d1219c7"
        assert read(api.get(short), MachineStatus).id == first
        assert read(api.post(f"{short}/cordon"), Asked) == Asked(first, "cordoned")
        assert read(api.post(f"{short}/drain", json={"seconds": 1}), Asked, 202) == Asked(first, "draining")
        assert read(api.post(f"{short}/uncordon"), Asked) == Asked(first, "uncordoned")
        assert read(api.patch(f"{short}/metadata", json={"set": {"a": "b"}}), Asked) == Asked(first, "changed")
        assert read(api.delete("/v1/machines/99999999"), Asked) == Asked("99999999-gone", "forgotten")
        assert read(api.get("/v1/machines/3d1219c"), ErrorBody, 404).error == "there is no machine 3d1219c"
        assert read(api.get("/v1/machines/3d1219c9"), ErrorBody, 404).error == "there is no machine 3d1219c9"
        await cluster.machine("3d1219c7-twin")
        told = "3d1219c7 is the beginning of 2 machines' ids: 3d1219c7-twin, 3d1219c7c4c5404a"
        assert read(api.get(short), ErrorBody, 409).error == told
        await cluster.machine("3d1219c7")
        assert read(api.get(short), MachineStatus).id == "3d1219c7"

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "units/a.service/start", {"paylod": "x"}),
            ("POST", "units/a.service/stop", {"reson": "x"}),
            ("POST", "machines/m1/cordon", {"reson": "x"}),
            ("POST", "machines/m1/drain", {"seconds": 1, "reson": "x"}),
            ("PATCH", "machines/m1/metadata", {"values": {"a": "b"}}),
            ("PUT", "units/a.service", {"txt": "x"}),
            ("PUT", "units/a.service", {"text": "", "drop_ins": [{"name": "a.conf", "text": "", "txt": ""}]}),
        ],
    )
    async def test_a_field_that_nobody_knows_is_refused(self, api, cluster, method, path, body):
        await cluster.machine("m1")
        refused = read(api.request(method, f"/v1/{path}", json=body), ErrorBody, 400)
        assert "Object contains unknown field" in refused.error
        assert "data" not in refused.error

    async def test_a_body_that_is_missing(self, api, cluster):
        await cluster.machine("m1")
        for method, path in (("POST", "drain"), ("PATCH", "metadata")):
            refused = read(api.request(method, f"/v1/machines/m1/{path}"), ErrorBody, 400)
            assert refused.error == "Validation failed; body: missing, expected a JSON object"

    async def test_metadata_and_forgetting(self, api, cluster):
        await cluster.machine("m1", metadata={"region": "eu"})
        asked = api.patch("/v1/machines/m1/metadata", json={"set": {"disk": "ssd"}, "unset": ["region"]})
        assert read(asked, Asked) == Asked("m1", "changed")
        assert read(api.get("/v1/machines/m1"), MachineStatus).metadata == {"disk": "ssd"}
        assert read(api.patch("/v1/machines/m1/metadata", json={"set": {"a=b": "c"}}), ErrorBody, 400).error
        large = read(api.patch("/v1/machines/m1/metadata", json={"set": {"a": "x" * 500_000}}), ErrorBody, 400)
        assert len(large.error) < 200
        assert "its value has 500000 bytes, expected at most 1024" in large.error
        assert "m1 is alive" in read(api.delete("/v1/machines/m1"), ErrorBody, 409).error
        await cluster.registry.store.commit(Txn((), (Delete(cluster.registry.keys.machine("m1")),)))
        assert read(api.delete("/v1/machines/m1"), Asked) == Asked("m1", "forgotten")
        assert read(api.get("/v1/machines"), Machines).machines == ()


class TestDaemon:
    async def test_status(self, api, cluster):
        await cluster.submit("a.service")
        await cluster.machine("m1")
        await cluster.execution(running("a.service", 0))
        cluster.daemon.refused.append(IntakeFault("/etc/xchronos/b.service", "unknown key", at(-60), "abc"))
        found = read(api.get("/v1/status"), DaemonStatus)
        assert (found.machine, found.store, found.now, found.units, found.machines) == ("m1", "memory", at(0), 1, 1)
        assert found.executions == {"running": 1}
        assert found.intake == (IntakeFault("/etc/xchronos/b.service", "unknown key", at(-60), "abc"),)

    async def test_who_schedules(self, api, cluster):
        store, keys = cluster.registry.store, cluster.registry.keys
        assert read(api.get("/v1/status"), DaemonStatus).schedulers == ()
        dead = await store.grant(1000)
        for machine, numbers in (("m1", range(9)), ("m2", range(9, 15))):
            lease = await store.grant(1000)
            record = encode(SchedulerRecord(machine, "1"))
            held = [Put(keys.shard(number), machine.encode(), lease) for number in numbers]
            await store.commit(Txn((), (Put(keys.member(machine), record, lease), *held)))
        former = Put(keys.shard(15), b"m2", dead)
        await store.commit(Txn((), (Put(keys.election, b"m2", lease), former)))
        found = read(api.get("/v1/status"), DaemonStatus)
        assert found.schedulers == (Scheduler("m1", tuple(range(9))), Scheduler("m2", tuple(range(9, 15)), leads=True))
        assert found.unowned == (15,)

    async def test_without_an_intake(self, cluster):
        services = Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon)
        with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
            assert read(api.get("/v1/status"), DaemonStatus).intake == ()

    async def test_health(self, cluster):
        faults = cluster.daemon.faults
        services = Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon)
        with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
            assert api.get("/healthz").json() == {"status": "ok"}
            faults.append("store unavailable")
            assert read(api.get("/healthz"), ErrorBody, 503).error == "store unavailable"
            assert read(api.get("/v1/status"), DaemonStatus).faults == ("store unavailable",)

    async def test_what_is_no_fault_is_a_note(self, cluster):
        cluster.daemon.notes = ["the zone rules are old"]
        services = Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon)
        unable = SchedulerRecord("old", "i", Reading(2, "1.5", "2024b"), {"a.service": "unknown key"})
        await cluster.put(cluster.registry.keys.member("old"), unable)
        key = cluster.registry.keys.shard(shard_of("a.service"))
        await cluster.registry.store.commit(Txn((), (Put(key, b"old"),)))
        await cluster.submit("a.service")
        with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
            assert api.get("/healthz").json() == {"status": "ok", "notes": ["the zone rules are old"]}
            status = read(api.get("/v1/status"), DaemonStatus)
            assert status.faults == ()
            assert status.notes[:2] == (
                "the zone rules are old",
                "the scheduler on old cannot read a.service: unknown key",
            )
            (scheduler,) = status.schedulers
            assert (scheduler.level, scheduler.rules, scheduler.cannot_read) == (
                2,
                "2024b",
                {"a.service": "unknown key"},
            )
            said = "the scheduler on old cannot read it, and has its shard, so nothing of it is decided: unknown key"
            (unit,) = read(api.get("/v1/units"), UnitPage).units
            assert (unit.state, unit.unread) == ("unread", said)
            assert read(api.get("/v1/units/a.service"), UnitDetail).summary.unread == said
            assert read(api.get("/v1/units/a.service/explain"), Explanation).lines[0] == said

    async def test_metrics(self, cluster):
        cluster.daemon.counted = b"things_total 3.0\n"
        services = Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon)
        with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
            answer = api.get("/metrics")
        assert "things_total 3.0" in answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=")

    def test_unknown_routes_and_methods(self, api):
        assert read(api.get("/v1/nothing"), ErrorBody, 404).error == "Not Found"
        assert read(api.post("/v1/units"), ErrorBody, 405).error


class TestGuard:
    @pytest.mark.parametrize(
        "host",
        ["127.0.0.1", "127.0.0.1:7480", "127.1.2.3", "localhost", "LOCALHOST:7480", "localhost.", "[::1]:7480", "::1"],
    )
    def test_loopback_names(self, api, host):
        expected = 403 if host == "::1" else 200  # an address without brackets is no host
        assert api.get("/healthz", headers={"host": host}).status_code == expected

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7", "", "[::1", "a:b:c"]
    )
    def test_other_names_are_refused(self, api, host):
        assert api.get("/v1/units", headers={"host": host}).status_code == 403

    def test_configured_names(self, cluster):
        services = Services(
            cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon, names=("Jobs.Example.",)
        )
        with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
            assert api.get("/v1/units", headers={"host": "jobs.example:80"}).status_code == 200
            assert api.get("/v1/units", headers={"host": "other.example"}).status_code == 403

    def test_the_address_the_request_came_in_at(self, cluster):
        services = Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon)
        with TestClient(create_app(services), base_url="http://10.0.0.7") as api:
            assert api.get("/v1/units").status_code == 200
            assert api.get("/v1/units", headers={"host": "10.0.0.8"}).status_code == 403

    def test_an_address_of_ipv4_at_a_socket_of_ipv6(self, cluster):
        guard = AccessControl(None, (), lambda: "")
        assert guard._is_ours("10.0.0.7:7480", ("::ffff:10.0.0.7", 7480))
        assert not guard._is_ours("10.0.0.8:7480", ("::ffff:10.0.0.7", 7480))
        assert not guard._is_ours("evil.example", None)
        assert guard._is_ours("anything", ("/run/api.sock", None))

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "http://[", "", "http://127.0.0.1:8080", "http://localhost"]
    )
    def test_other_origins_change_nothing(self, api, origin):
        answer = api.put("/v1/units/a.service", content=b"", headers={"origin": origin})
        assert "other origins are refused" in read(answer, ErrorBody, 403).error
        assert api.get("/v1/units").json()["units"] == []

    def test_its_own_origin(self, api):
        answer = api.post("/v1/verify", content=b"", headers={"origin": "http://127.0.0.1"})
        assert answer.status_code == 200

    async def test_two_hosts(self):
        sent = []

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]
        scope: Any = {"type": "http", "headers": headers, "server": ("127.0.0.1", 80), "path": "/v1/units"}
        await AccessControl(None, (), lambda: "")(scope, None, send)
        assert sent[0]["status"] == 400
        assert msgspec.json.decode(sent[1]["body"], type=ErrorBody).error == "the request has two Host headers"

    def test_a_token_may_be_exchanged(self, cluster):
        services = Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon, token="old")
        with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
            new = {"authorization": "Bearer new"}
            assert api.get("/v1/units", headers=new).status_code == 401
            services.token = "new"
            assert api.get("/v1/units", headers=new).status_code == 200
            assert api.get("/v1/units", headers={"authorization": "Bearer old"}).status_code == 401

    def test_token(self, cluster):
        services = Services(cluster.registry, cluster.clock, "m1", cluster.steps, cluster.daemon, token="s3cret")
        with TestClient(create_app(services), base_url="http://127.0.0.1") as api:
            for given in ({}, {"authorization": "Bearer no"}, {"authorization": "Basic s3cret"}):
                answer = api.get("/v1/units", headers=given)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert api.get("/v1/units", headers={"authorization": "bearer s3cret"}).status_code == 200
            assert api.get("/healthz").status_code == 200

    @pytest.mark.parametrize(
        ("host", "expected"),
        [("A.b:80", "a.b"), ("[fe80::1]:1", "fe80::1"), ("", ""), ("[", ""), ("user@host:1", "host")],
    )
    def test_host_names(self, host, expected):
        assert host_name(host) == expected
