"""One seed from its beginning to its verdict: trouble for a while, then calm until all is at rest, then the verdict."""

import gc
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import structlog

from xchronos.clock import MILLISECOND, SECOND, Micros
from xchronos.testing.simulation.course import Course
from xchronos.testing.simulation.loop import SimulatedLoop, Stuck
from xchronos.testing.simulation.scenario import draw
from xchronos.testing.simulation.verdict import SeedVerdict
from xchronos.testing.simulation.world import World

CALM_WITHIN: Micros = 180 * SECOND
"""How long after the last fault everything must be at rest. Lease TTLs, retries and queues on few slots take time."""

TICK: Micros = 100 * MILLISECOND


class Report(msgspec.Struct, frozen=True):
    """What became of a seed.

    `hash` is a digest of everything that happened. `counts` says how often each kind of thing did, `seconds` how much
    cluster time passed, `turns` how many callbacks ran. `trace` is empty unless it was asked for.
    """

    seed: int
    violations: tuple[str, ...]
    hash: str
    counts: dict[str, int]
    seconds: float
    turns: int
    trace: tuple[str, ...] = ()


def simulate(seed: int, *, trace: bool = False) -> Report:
    """Run a seed. The same seed on the same code gives the same report, in any process.

    `test_a_seed_is_the_same_run_in_every_process` pins that.
    """
    loop = SimulatedLoop()  # type: ignore[abstract] # it has no files, sockets or signals: nothing here needs them
    with _quiet(loop.troubles), _directory() as directory:
        world = World(loop, draw(seed), directory, keep_trace=trace)
        try:
            loop.run(_run(world))
        except Stuck as stuck:
            world.violate(str(stuck))
        loop.close()
    for trouble in loop.troubles:
        world.violate(trouble)
    return Report(
        seed,
        tuple(world.violations),
        world.hash,
        dict(sorted(world.counts.items())),
        loop.elapsed / SECOND,
        loop.turns,
        tuple(world.trace or ()),
    )


@contextmanager
def _quiet(troubles: list[str]) -> Iterator[None]:
    """Log errors only, into `troubles`: nothing here may cause one. Turn the garbage collection off.

    A collection would run finalizers at moments that depend on more than the seed.
    """
    before, collecting = structlog.get_config(), gc.isenabled()

    def collect(_logger: object, _name: str, event: MutableMapping[str, Any]) -> NoReturn:
        if event.get("exc_info"):
            event = {**event, "exc_info": repr(sys.exc_info()[1])}
        troubles.append(f"logged as an error: {event}")
        raise structlog.DropEvent

    errors = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(processors=[collect], wrapper_class=errors, cache_logger_on_first_use=False)
    gc.disable()
    try:
        yield
    finally:
        structlog.configure(**before)
        if collecting:
            gc.enable()


@contextmanager
def _directory() -> Iterator[Path]:
    """A temporary directory for the agents' journals: in memory, if this machine has such a place."""
    memory = Path("/dev/shm")  # noqa: S108 - only as a parent
    directory = Path(tempfile.mkdtemp(prefix="xchronos-simulation-", dir=memory if memory.is_dir() else None))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _run(world: World) -> None:
    """Trouble, calm, verdict. Ends early when a promise is broken."""
    try:
        course = Course(world)
        await course.begin()
        await course.trouble()
        if not world.violations:
            await course.calm()
            if await _rest(world):
                _judge(world)
                if world.scenario.leave_nothing and not world.violations:
                    await _destroy_everything(world)
    finally:
        for member in world.members:
            if member.process is not None:
                await world.loop.end_process(member.process)
        await world.store.close()


async def _rest(world: World) -> bool:
    """Wait until nothing is left to do. False when that takes too long, or when a promise is broken."""
    until = world.loop.elapsed + CALM_WITHIN
    while restless := world.restless():
        if world.violations:
            return False
        if world.loop.elapsed >= until:
            world.violate(f"no rest within {CALM_WITHIN // SECOND} s of the last fault: {restless}")
            return False
        await world.sleep(TICK)
    return not world.violations


def _judge(world: World) -> None:
    monitor = world.monitor
    verdict = SeedVerdict(world.keys, world.store.rows(), monitor, world.violate, world.units.get)
    for name in sorted(monitor.living):
        eras = [era for era in monitor.eras[name] if era.life == monitor.lives[name]]
        verdict.fire_times(world.units[name], eras, world.texts[name])
    verdict.sink(world.sink.starts)


async def _destroy_everything(world: World) -> None:
    """Destroy all units and end all daemons. Then the store must be as empty as it was before."""
    for name in sorted(world.monitor.living):
        await world.destroy(name)
    if not await _rest(world):
        return
    for member in world.members:
        await world.leave(member, 0)
    # The leases of daemons that were killed lately have yet to end.
    await world.sleep(world.scenario.ttl + SECOND)
    if left := sorted(world.store.rows()):
        world.violate(f"everything is destroyed, and {len(left)} keys are left: {left[:5]}")
