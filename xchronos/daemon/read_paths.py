"""Which files of this host units may have the daemon read: the setting, its default, and what an upgrade does."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from xchronos.agent.steps.static_paths import MAY_NAME, static_paths
from xchronos.aio import Offload
from xchronos.clock import MINUTE, Clock, Micros
from xchronos.config import Settings
from xchronos.durable import write_whole
from xchronos.errors import Problem, StoreError, UnitFileError
from xchronos.hostfiles import HostFileRefused, HostFiles, ReadPaths
from xchronos.limits import OUTSIDE_TOLD
from xchronos.model.unit import Unit
from xchronos.registry.registry import Registry
from xchronos.registry.units import Stored, compile_record
from xchronos.unitfile import HostFacts

log = structlog.get_logger(__name__)

LOOK_EVERY: Micros = 60 * MINUTE
"""How often the stored units are looked at, in microseconds. What runs in between is told as it runs."""

TOLD_AT_ONCE = 5
"""The units and files that one notice names."""

USUAL = Path("/etc/xchronos")
"""Where units may have files read from, besides the unit directories, unless the setting names other directories."""

MARK = "read-paths"
"""The file of a state directory whose units are held to the default. One from before there was a default has none."""


def mark_new(state: Path) -> None:
    """Note in a state directory that is new that its units are held to the default. To be called before it is used.

    An upgraded one has no such mark: units of it may name any file by now, and none of them is to fail for an upgrade.
    """
    if not (state / "instance").exists():
        write_whole(state / MARK, b"units are held to read_paths\n", "file")


def read_paths_of(settings: Settings, sources: Sequence[Path]) -> ReadPaths:
    """What the settings say of it. `sources` are the files that they were read from: they may hold secrets."""
    state = settings.state_directory
    secrets = (
        settings.api_token_file,
        settings.etcd_password_file,
        settings.etcd_key,
        settings.consul_token_file,
        settings.consul_key,
    )
    return ReadPaths(
        roots=settings.read_paths or (USUAL, *settings.units),
        private=(state, *sources, *(file for file in secrets if file is not None)),
        told_only=not settings.read_paths and not (state / MARK).exists(),
    )


def _roots(paths: ReadPaths) -> str:
    return ", ".join(map(str, paths.roots))


async def read_warnings(unit: Unit, files: HostFiles, facts: HostFacts) -> tuple[Problem, ...]:
    """A warning for each file that a unit names, and may not have read on this machine."""
    found = []
    for what, path in static_paths(unit, facts):
        with suppress(HostFileRefused):
            if not await files.is_open(path):
                effect = "it is read until read_paths is named" if files.paths.told_only else "its steps fail here"
                found.append(
                    Problem(
                        f"{what} {path} is outside of what units may have read on this machine "
                        f"({_roots(files.paths)}; see read_paths): {effect}",
                        unit.name,
                        severity="warning",
                    )
                )
    return tuple(found)


class StoredReads:
    """Knows which stored units name files that they may not, before their steps run, for the status to tell."""

    def __init__(self, registry: Registry, files: HostFiles, facts: HostFacts, clock: Clock, offload: Offload) -> None:
        self._registry = registry
        self._files = files
        self._facts = facts
        self._clock = clock
        self._offload = offload
        self._found: dict[str, str] = {}

    async def run(self) -> None:
        """Look at the stored units now and then, until cancelled."""
        while True:
            try:
                self._found = await self._look()
            except StoreError as error:
                log.info("the stored units are looked at later", reason=str(error))
            await self._clock.sleep(LOOK_EVERY)

    async def _look(self) -> dict[str, str]:
        found: dict[str, str] = {}
        async for stored in self._registry.units():
            texts = (stored.record.text, *(drop_in.text for drop_in in stored.record.drop_ins))
            if len(found) < OUTSIDE_TOLD and any(MAY_NAME.search(text) for text in texts):
                for what, path in await self._named(stored):
                    with suppress(HostFileRefused):  # a path that does not answer tells nothing
                        if not await self._files.is_open(path):
                            found[stored.name] = f"{what} {path}"
            await asyncio.sleep(0)
        return found

    async def _named(self, stored: Stored) -> list[tuple[str, Path]]:
        try:
            unit = await self._offload(partial(compile_record, stored.name, stored.record))
        except UnitFileError:
            return []  # what cannot be read by this version names nothing here
        return list(static_paths(unit, self._facts))

    def notes(self) -> list[str]:
        """A sentence for the status; none when no unit names what it may not."""
        paths = self._files.paths
        told = [f"{unit} ({named})" for unit, named in sorted(self._found.items())]
        told += [f"{what.partition(':')[0]}" for path, what in sorted(self._files.outside.items())]
        if not told:
            return []
        names = ", ".join(told[:TOLD_AT_ONCE])
        more = f" and {len(told) - TOLD_AT_ONCE} more" if len(told) > TOLD_AT_ONCE else ""
        effect = "which are read until the setting read_paths is named" if paths.told_only else "which are not read"
        return [f"units name files outside of {_roots(paths)}, {effect}: {names}{more}"]
