"""Every benchmark runs, at a size that measures nothing: one that is broken is found here, and not when it is needed."""

import importlib
import math

import pytest
import structlog

from tests.benchmarks.__main__ import NAMES, ROOT, main
from tests.benchmarks.bench_next_fire import EXPRESSIONS, START, steps
from tests.benchmarks.compare import by_key, rows_of
from xchronos.clock import to_instant
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.limits import LATEST
from xchronos.triggers.zones import zone

MODULES = {name: importlib.import_module(f"tests.benchmarks.bench_{name}") for name in NAMES}


def needing(*services: str) -> list[str]:
    return [name for name, module in MODULES.items() if getattr(module, "SERVICES", frozenset()) == set(services)]


def check(name: str) -> None:
    found = by_key(rows_of(ROOT, name, tiny=True))
    assert found
    for key, row in found.items():
        assert math.isfinite(row.value), key
        assert row.ratio is None or math.isfinite(row.ratio), key


@pytest.mark.slow
@pytest.mark.parametrize("name", needing())
def test_it_runs(name):
    check(name)


@pytest.mark.slow
@pytest.mark.etcd
@pytest.mark.usefixtures("make_etcd")
@pytest.mark.parametrize("name", needing("etcd"))
def test_it_runs_with_etcd(name):
    check(name)


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.usefixtures("busybox_image")
@pytest.mark.parametrize("name", needing("docker"))
def test_it_runs_with_docker(name):
    check(name)


def test_no_benchmark_is_left_out():
    assert sorted(needing() + needing("etcd") + needing("docker")) == NAMES
    assert {"cluster", "container", "next_fire", "store"} <= set(NAMES)


@pytest.fixture
def logging_as_before():
    """The command makes the log quiet for its own process, which is that of other tests here."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("logging_as_before")
def test_the_command_prints_the_table_of_the_one_that_is_named(capsys):
    assert main(["--tiny", "intake"]) == 0
    assert "20 files taken in, all new" in capsys.readouterr().out


@pytest.mark.parametrize(("expression", "zone_name"), EXPRESSIONS)
def test_no_cron_schedule_ends_before_its_last_step(expression, zone_name):
    trigger = parse_cron(expression, zone=zone(zone_name))
    assert trigger.count_between(to_instant(START), LATEST, 0) >= max(steps(expression))
