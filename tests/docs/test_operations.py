"""What packaging/OPERATIONS.md tells an operator is so: settings, metrics, commands, and the restored backup."""

import asyncio
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from tests.docs.generated import ROOT
from tests.services.etcd import program
from xchronos import limits
from xchronos.agent.lease.lease_clock import KILL_AT, STOP_AT
from xchronos.agent.metrics import AgentMetrics
from xchronos.config import Settings, describe_settings
from xchronos.daemon.roles import show_zone_rules
from xchronos.daemon.watchdog import Watchdog
from xchronos.engine.metrics import SchedulerMetrics
from xchronos.registry.keys import SHARDS
from xchronos.scheduler.feasibility import ENOUGH_TO_BEGIN
from xchronos.store.contract import RENEWALS, Put, Txn
from xchronos.store.etcd.access import EtcdAccess
from xchronos.store.etcd.store import EtcdStore
from xchronos.store.sqlite.store import SqliteStore

TEXT = (ROOT / "packaging/OPERATIONS.md").read_text(encoding="utf-8")


def spans() -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))


def commands_below(words: str) -> str:
    """The first block of shell commands behind these words."""
    found = re.search(rf"{re.escape(words)}.*?```sh\n(.*?)```", TEXT, re.DOTALL)
    assert found, words
    return found[1]


def test_every_setting_that_is_named_exists():
    names = {row.name for row in describe_settings()}
    tables = {name.partition(".")[0] for name in names if "." in name}
    named = {span.partition(" ")[0] for span in spans()}
    dotted = {span for span in named if span.partition(".")[0] in tables and re.fullmatch(r"[a-z_]+\.[a-z_.]+", span)}
    assert dotted <= names
    assert {"etcd.history", "etcd.max_operations", "api.token", "log.limit"} <= dotted
    assert {"heartbeat_ttl", "machine_id", "state_directory"} <= named & names


def test_every_metric_that_is_named_exists():
    registry = CollectorRegistry()
    SchedulerMetrics(registry)
    AgentMetrics(registry)
    Watchdog(registry)
    show_zone_rules(registry, "2026f")
    told = generate_latest(registry).decode()
    named = {span for span in spans() if span.startswith("xchronos_")}
    assert named
    for name in named:
        assert name.removesuffix("_total") in told, name


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "packaging" / target).exists(), target


def test_the_margins_are_those_of_the_code():
    assert (STOP_AT, KILL_AT, RENEWALS) == (0.6, 0.8, 5)
    assert f"asked to stop after {STOP_AT} of the TTL, and killed after {KILL_AT}" in TEXT
    assert "renews it five times" in TEXT
    assert f"they add up to {SHARDS}" in TEXT
    assert Settings(state_directory=Path()).heartbeat_ttl == 10_000_000
    assert "`heartbeat_ttl` (10 s)" in TEXT
    assert f"{ENOUGH_TO_BEGIN} placements that it has not begun" in TEXT


def test_a_backup_of_a_running_sqlite_store_can_be_restored(tmp_path):
    statement = re.search(r'sqlite3 \S+/(\S+) "(VACUUM INTO) \'backup\.db\'"', TEXT)
    assert statement
    live, backup = tmp_path / statement[1], tmp_path / "backup.db"

    async def run() -> None:
        store = await SqliteStore.open(live)
        await store.commit(Txn((), (Put("/k", b"1"),)))
        connection = sqlite3.connect(live)
        connection.execute(f"{statement[2]} '{backup}'")
        connection.close()
        await store.commit(Txn((), (Put("/k", b"2"),)))
        await store.close()
        for path in tmp_path.glob(f"{live.name}*"):
            path.unlink()
        shutil.copy(backup, live)
        store = await SqliteStore.open(live)
        item = await store.get("/k")
        assert item is not None
        assert item.value == b"1"
        await store.close()

    asyncio.run(run())


@pytest.mark.etcd
def test_the_way_out_of_nospace_leads_out(make_etcd):
    script = commands_below("**etcd says NOSPACE**")
    etcd = make_etcd(arguments=("--quota-backend-bytes", str(16 << 20)))
    while etcd.ctl("put", "k", "x" * 100_000, check=False).returncode == 0:
        pass
    assert "NOSPACE" in etcd.ctl("alarm", "list").stdout
    environment = os.environ | {"ETCDCTL_ENDPOINTS": etcd.endpoints[0]}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environment, check=True)
    assert etcd.ctl("alarm", "list").stdout.strip() == ""
    etcd.ctl("put", "k", "y")


@pytest.mark.etcd
def test_a_snapshot_of_etcd_can_be_restored(make_etcd, tmp_path):
    (line,) = re.findall(r"^etcdutl snapshot restore .*?[^\\]$", TEXT, re.MULTILINE | re.DOTALL)
    etcd = make_etcd()
    (member,) = etcd.members
    member.ctl("put", "/xchronos/kept", "yes")
    member.ctl("snapshot", "save", str(tmp_path / "backup.db"))
    member.ctl("put", "/xchronos/since", "no")
    member.kill()
    shutil.rmtree(member.data)
    words = shlex.split(line.replace("\\\n", ""))
    ours = {
        "backup.db": str(tmp_path / "backup.db"),
        "e1": member.name,
        "/var/lib/etcd/default": str(member.data),
        "http://e1:2380": member.peer_url,
        "e1=http://e1:2380,e2=http://e2:2380,e3=http://e3:2380": f"{member.name}={member.peer_url}",
    }
    assert ours.keys() <= set(words)
    # 3.4 has the command in etcdctl.
    words = [program("etcdutl") or program("etcdctl"), *(ours.get(word, word) for word in words[1:])]
    subprocess.run(words, env=os.environ | {"ETCDCTL_API": "3"}, check=True, capture_output=True)
    member.start()
    member.wait()
    assert member.ctl("get", "--prefix", "/xchronos/").stdout.split() == ["/xchronos/kept", "yes"]


@pytest.mark.etcd
def test_the_user_of_xchronos_has_what_it_needs(make_etcd):
    script = commands_below("### Users and certificates")
    etcd = make_etcd()
    for command in ("user add root:secret", "user grant-role root root"):
        etcd.ctl(*command.split())
    etcdctl = Path(program("etcdctl") or "").parent
    environment = os.environ | {
        "ETCDCTL_API": "3",
        "ETCDCTL_ENDPOINTS": etcd.endpoints[0],
        "PATH": f"{etcdctl}:{os.environ['PATH']}",
    }
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environment, check=True, capture_output=True)
    etcd.ctl("auth", "enable")

    async def use() -> None:
        members = tuple(url.partition("//")[2] for url in etcd.endpoints)
        store = await EtcdStore.open(EtcdAccess(endpoints=members, user="runner", password="secret"))
        await store.commit(Txn((), (Put("/xchronos/k", b"1"),)))
        await store.close()

    asyncio.run(use())


def test_the_services_that_are_upgraded_by_compose_are_there():
    compose = yaml.safe_load((ROOT / "packaging/compose.yaml").read_text(encoding="utf-8"))
    numbers, kinds = re.search(r"for n in ([\d ]+); do docker compose .* --wait ((?:[a-z]\$n ?)+);", TEXT).groups()
    named = {kind.replace("$n", number) for kind in kinds.split() for number in numbers.split()}
    assert named == {name for name, service in compose["services"].items() if service["image"] == "xchronos"}


def test_the_limits_are_those_of_the_code():
    rows = re.findall(r"^\| .* \| ([\d,.]+)[^|]*\| `([A-Z_]+)` \|$", TEXT, re.MULTILINE)
    assert len(rows) > 10
    for number, name in rows:
        assert getattr(limits, name) == float(number.replace(",", "")), name
