"""The cluster of the fixtures, come back: its machines' roles over the old keys, and processes that have lived on."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from tests.compatibility.old_data import copy_state, killed_at, rows, to_directory
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.clock import SECOND, Clock, to_datetime
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.model.records import Capacity, Execution
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.contract import Store
from xchronos.unitfile import HostFacts

OLD = rows("cluster")
KILLED = killed_at("cluster")
LINGERS = 20.0
"""How many seconds what ran goes on after it was found."""

FOR_EVER = ("everywhere", "kept")
EXIT_CODES = {"finishing": 4}


def old(key: str) -> dict[str, Any]:
    """An old record."""
    return next(row.record for row in OLD if row.key == f"/xchronos/{key}")


def executions_of(where: str, unit: str = "") -> dict[str, dict[str, Any]]:
    """Old executions by their identity: of a unit, or of all, under `executions`, `pending` or `placements`."""
    found = {}
    for row in OLD:
        if row.key.startswith(f"/xchronos/var/{where}/"):
            identity = "/".join(row.key.split("/")[-3:])
            if identity.startswith(f"{unit}.service/" if unit else ""):
                found[identity] = row.record
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class Steps:
    """A machine's processes. Those that an old journal has begun and not ended run already, and are found."""

    name = "process"
    recoverable = True

    def __init__(self, clock: Clock, attempts: Path) -> None:
        self.clock = clock
        self.began: Counter[tuple[str, int, str]] = Counter()
        self.began_at: dict[tuple[str, int, str], datetime] = {}
        self.found: list[tuple[str, int, str]] = []
        self.signals: list[tuple[str, str]] = []
        self._going: dict[tuple[str, int, str], asyncio.Future[StepExit]] = {}
        running = {to_directory(row): row for row in OLD}
        self.alive: set[tuple[str, int, str]] = set()
        for journal in attempts.glob("*/*/journal.json"):
            row = running[f"{journal.parent.parent.name}/{journal.parent.name}"]
            notes = msgspec.json.decode(journal.read_bytes())
            for step in notes["begun"].keys() - notes["ended"].keys():
                identity = "/".join(row.key.split("/")[-3:])
                self.alive.add((identity, row.record["current"]["number"], step))

    async def probe(self) -> str:
        return "6.1.0"

    async def run(self, spec: StepSpec) -> StepExit:
        unit = spec.execution.partition(".")[0]
        ending = self._going.setdefault(spec.identity, asyncio.get_running_loop().create_future())
        if spec.identity in self.alive:
            self.found.append(spec.identity)
            left, code = 1e9 if unit in FOR_EVER else LINGERS, EXIT_CODES.get(unit, 0)
        else:
            self.began[spec.identity] += 1
            self.began_at[spec.identity] = to_datetime(self.clock.now())
            left, code = (5.0 if unit == "queue" else 0.0), 0
        timer = asyncio.ensure_future(self.clock.sleep(round(left * SECOND)))
        both: list[asyncio.Future[Any]] = [timer, ending]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        now = to_datetime(self.clock.now())
        return ending.result() if ending.done() else StepExit(code, started_at=now, ended_at=now)

    async def stop(self, spec: StepSpec, signal: str) -> None:
        self.signals.append((spec.execution, signal))
        ending = self._going.get(spec.identity)
        if ending is not None and not ending.done():
            ending.set_result(StepExit(signal=signal, started_at=to_datetime(self.clock.now())))

    async def kill(self, spec: StepSpec) -> None:
        await self.stop(spec, "SIGKILL")

    async def started(self, spec: StepSpec) -> int:
        return 1

    async def left_behind(self, execution: str, attempt: int, signal: str = "") -> bool:
        return False

    async def release(self, execution: str, attempt: int) -> None:
        pass

    async def leftovers(self) -> list[Any]:
        return []

    async def remove(self, leftovers: Any) -> None:
        pass

    async def close(self) -> None:
        pass


class Later:
    """The two machines, come back over their old store."""

    def __init__(self, clock: Clock, store: Store, directory: Path) -> None:
        self.clock = clock
        self.store = store
        self.registry = Registry(store, Keys())
        self.steps = {name: Steps(clock, copy_state(name, directory)) for name in ("m1", "m2")}
        self.roles = [self._machine(name, zone, directory) for name, zone in (("m1", "a"), ("m2", "b"))]

    def _machine(self, name: str, zone: str, directory: Path) -> Roles:
        host = HostContext(name, HostFacts(hostname=name, machine_id=name), {}, directory / "secrets", 1 << 20)
        executors = {"process": self.steps[name]}
        return Roles(
            RolesContext(self.store, Keys(), self.clock, host, executors, directory / name),
            RolesOptions(
                instance=old(f"etc/executors/{name}")["instance"],
                metadata={"zone": zone, **({"spare": "yes"} if name == "m1" else {})},
                capacity=Capacity(slots=40),
                ttl=80 * SECOND,
            ),
        )

    async def __aenter__(self) -> Self:
        for roles in self.roles:
            await roles.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for roles in self.roles:
            await roles.stop(0)

    async def after(self, seconds: float) -> None:
        """Let time go on until so many seconds after the kill."""
        await self.clock.sleep(KILLED + round(seconds * SECOND) - self.clock.now())

    async def all_of(self, unit: str) -> list[Execution]:
        """Every execution of a unit, ended or not, by fire time and copy."""
        name = f"{unit}.service"
        found = {one.id: one for one in await self.registry.open_executions(name)}
        found |= {one.id: one for one in await self.registry.history(name)}
        return sorted(found.values(), key=lambda one: (one.fire_time, one.copy))

    async def only(self, unit: str) -> Execution:
        (found,) = await self.all_of(unit)
        return found

    async def cursor(self, unit: str) -> dict[str, Any]:
        item = await self.store.get(f"/xchronos/var/schedules/{unit}.service")
        return msgspec.json.decode(item.value)

    async def outcomes(self, unit: str) -> list[str | None]:
        return [one.outcome and one.outcome.value for one in await self.all_of(unit)]

    def begun(self, unit: str) -> list[tuple[str, int, str]]:
        """The steps of a unit that were started after the kill."""
        return [key for steps in self.steps.values() for key in steps.began if key[0].startswith(f"{unit}.service/")]

    def began_at(self, unit: str) -> list[datetime]:
        moments = [at for steps in self.steps.values() for key, at in steps.began_at.items() if key in self.begun(unit)]
        return sorted(moments)
