"""The log at level debug: one line per decision, which says what became of it and why."""

import asyncio
import io
import json
import logging

import pytest
import structlog

from tests.engine.engine_cluster import AGENT, SCHEDULER, Cluster, run
from tests.engine.late_links import Meanwhile
from tests.services.links import Link
from xchronos.engine import committer
from xchronos.errors import StoreUnavailable
from xchronos.logs import configure_logging
from xchronos.store.contract import Put, Txn

DECISIONS = ("placed", "waiting", "queued", "delayed", "ended", "asked to end", "refused", "unanswered")


@pytest.fixture
def level():
    """Puts the configuration of logging back as it was."""
    handlers, least, before = list(logging.root.handlers), logging.root.level, structlog.get_config()
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(least)
    structlog.configure(**before)


@pytest.fixture
def told(level):
    """The decisions in the log so far, each without what differs from run to run."""
    stream = io.StringIO()
    configure_logging("json", "debug", stream)

    def lines():
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [
            {key: value for key, value in line.items() if key not in ("timestamp", "level", "logger")}
            for line in found
            if line["event"] in DECISIONS and line["logger"] == "xchronos.engine.committer"
        ]

    return lines


def line(event, execution, machine, reason, **more):
    return {"event": event, "execution": execution, "machine": machine, "reason": reason, **more}


async def fails(spec, machine):
    return 1


async def lasts(spec, machine):
    await asyncio.sleep(1e9)


def test_an_execution_s_way_is_told_decision_by_decision(told):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles=SCHEDULER)
        await cluster.submit("a.service", "MaxAttempts=2")
        (execution,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(2)
        await cluster.start("m1", roles=AGENT)
        await cluster.sleep(60)
        (ended,) = await cluster.history("a.service")
        first, second = ended.attempts
        lines = told()
        assert lines == [
            line("waiting", execution, "", "1 unplaced: no machine is alive"),
            line("placed", execution, "m1", "it is due: manual"),
            line("delayed", execution, "", lines[2]["reason"]),
            line("placed", execution, "m1", f"attempt 1 on m1: failed, {first.reason}"),
            line("ended", execution, "", ended.reason),
        ]
        assert second.number == 2

    run(scenario, fails)


def test_fire_times_are_told_with_their_trigger_and_the_machine(told):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("a.service", "TriggerRepeatInterval=10s\nConcurrency=forbid")
        await cluster.sleep(25)
        first, second, *_ = told()
        assert first == line("placed", first["execution"], "m1", "it is due: simple")
        assert second["event"] == "ended"
        assert second["reason"] == f"Concurrency=forbid: {first['execution']} is still active"

    run(scenario, lasts)


def test_what_is_asked_to_end_is_not_called_placed(told):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("a.service", "TriggerRepeatInterval=1h")
        await cluster.sleep(5)
        await cluster.registry.destroy("a.service")
        await cluster.sleep(5)
        placed, asked, *_ = told()
        assert asked == line("asked to end", placed["execution"], "m1", "the unit was destroyed")

    run(scenario, lasts)


def test_a_decision_that_is_refused_is_told_as_such(told):
    async def scenario(cluster: Cluster) -> None:
        async def changes() -> None:
            (item,) = (await cluster.store.range(f"{cluster.keys.pending}a.service/")).items
            await cluster.store.commit(Txn((), (Put(item.key, item.value),)))

        link = Meanwhile(cluster.store, cluster.keys.placement("m1", "a.service/"), changes)
        await cluster.start("s", roles=SCHEDULER, store=link)
        await cluster.start("m1", roles=AGENT)
        await cluster.submit("a.service")
        (execution,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        assert link.happened
        assert told()[:2] == [
            line("refused", execution, "m1", "it is due: manual", decision="placed"),
            line("placed", execution, "m1", "it is due: manual"),
        ]

    run(scenario)


class Unanswered(Link):
    """The first placement that is written has no answer."""

    lost = False

    async def commit_many(self, txns):
        answers = await super().commit_many(txns)
        if not self.lost and any("/placements/" in operation.key for txn in txns for operation in txn.operations):
            self.lost = True
            raise StoreUnavailable("the connection is gone")
        return answers


def test_a_decision_without_an_answer_is_told_as_such(told):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("s", roles=SCHEDULER, store=Unanswered(cluster.store))
        await cluster.start("m1", roles=AGENT)
        await cluster.submit("a.service")
        (execution,) = await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        assert told() == [line("unanswered", execution, "m1", "it is due: manual", decision="placed")]
        assert [str(ended.outcome) for ended in await cluster.history("a.service")] == ["succeeded"]

    run(scenario)


def test_above_level_debug_no_line_is_made_ready(monkeypatch, level):
    async def scenario(cluster: Cluster) -> None:
        await cluster.start("m1")
        await cluster.submit("a.service")
        await cluster.registry.start("a.service", now=cluster.clock.now())
        await cluster.sleep(5)
        assert len(await cluster.history("a.service")) == 1

    def made(execution):
        raise AssertionError(f"a line about {execution.id} was made ready")

    stream = io.StringIO()
    monkeypatch.setattr(committer, "_reason", made)
    configure_logging("json", "info", stream)
    run(scenario)
    assert "scheduler has read the store" in stream.getvalue()
    assert "placed" not in stream.getvalue()
