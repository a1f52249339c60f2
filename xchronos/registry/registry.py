"""What people and programs ask of the store: submit, destroy, pause, start, stop, and look.

Every method is a few requests to the store and no decision about time or place: those are the scheduler's, who learns
of what is written here by its watches.
"""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import msgspec

from xchronos.aio import Offload, inline
from xchronos.clock import SECOND, Instant, Micros, to_datetime
from xchronos.errors import Conflict, NotFound, Problem, StoreError, XchronosError
from xchronos.model.records import Desired, DropIn, Execution, KnownMachine, Machine, Schedule, UnitRecord
from xchronos.model.unit import Unit
from xchronos.registry.codec import BadRecord, decode, encode, readable
from xchronos.registry.destruction import DIRECTORY, DestroyAnswer, destroy_units
from xchronos.registry.finding import ExecutionFinder, Whereabouts
from xchronos.registry.judging import depends_on_machines, judge, offered_by
from xchronos.registry.keys import Keys
from xchronos.registry.machine_desired import DesiredMachines
from xchronos.registry.readers import asks_readers, refuse_unread
from xchronos.registry.roster import Roster, Share
from xchronos.registry.transitions import put
from xchronos.registry.units import (
    Stored,
    Submitted,
    compile_new,
    compile_record,
    record_of,
    refuse_large,
    stored_unit,
    wanted_of,
)
from xchronos.scheduler.reasons import because
from xchronos.scheduler.starts import lacking, off_the_grids, started
from xchronos.store.batcher import CommonCommits
from xchronos.store.contract import Guard, Put, Store, Txn
from xchronos.store.reading import snapshot
from xchronos.unitfile.names import UnitName, is_valid_name

Record = TypeVar("Record", Execution, Machine, Schedule, UnitRecord)

OFFER_HOLDS: Micros = SECOND
"""How long it is believed which executors the machines have, so that ten thousand files do not ask as often."""


class Registry:
    """The operations on one namespace of one store. `wishes` are those on what people want of machines.

    `whereabouts` is who may know at which machine an execution is; without it each machine is asked for it. `offload`
    is what compiles units.
    """

    def __init__(
        self, store: Store, keys: Keys, whereabouts: Whereabouts | None = None, offload: Offload = inline
    ) -> None:
        self.offload = offload
        self.store = store
        self.keys = keys
        self.wishes = DesiredMachines(store, keys)
        self._finder = ExecutionFinder(store, keys, whereabouts)
        self._commits = CommonCommits(store)
        self._new_ones = False
        self._offered: frozenset[str] | None = None
        self._offered_at: Instant = 0

    # -- units --------------------------------------------------------------------------------------------------------

    async def submit(
        self,
        name: str,
        text: bytes,
        *,
        drop_ins: Sequence[DropIn] = (),
        by: str = "",
        source: str = "",
        path: str = "",
        now: Instant,
        expected: int | None = None,
    ) -> Submitted:
        """Store a unit, or its new text; the same text again changes nothing. What was paused stays paused.

        Args:
            name: The unit's name.
            text: The file.
            drop_ins: In the order in which they count.
            by: Who submits it, for people.
            source: Where it comes from (a directory's intake owns what it has submitted).
            path: What problems call the file.
            now: When it is submitted.
            expected: The store's revision of the record that this is decided upon, 0 for none; None: whatever it is.

        Raises:
            UnitFileError: the file is refused. NotReadByAll: it is not when no older scheduler lives any more.
            Conflict: the record is not the `expected` one (any more).
        """
        unit = await self.offload(lambda: compile_new(name, text, drop_ins, path))
        warnings = await self.judge(unit, path, now=now)
        key = self.keys.job(name)
        # New units come in crowds: one that follows a new one is taken for new, unless more than its record says so.
        absent = (self._new_ones if expected is None else expected == 0) and not (drop_ins or asks_readers(unit))
        while True:
            item = None if absent else await self.store.get(key)
            absent = False
            old = decode(item, UnitRecord) if item is not None else None
            record = msgspec.structs.replace(
                record_of(text, unit, drop_ins),
                submitted_by=by,
                submitted_at=to_datetime(now),
                source=source,
                file=path if source.startswith(DIRECTORY) else "",
                **(wanted_of(old) if old is not None else {}),
            )
            if old is not None and old.revision == record.revision and old.source == source:
                self._new_ones = False
                return Submitted(name, unit.revision, "unchanged", warnings)
            if asks_readers(unit):
                refuse_unread(unit, path or name, await self.schedulers())
            written = item.mod_revision if item is not None else 0
            if expected not in (None, written):
                raise Conflict(f"{name} was changed by somebody else meanwhile: look at it again")
            value = encode(record)
            refuse_large(len(value), path or name)
            txn = Txn((Guard(key, written),), (Put(key, value),))
            if (await self._commits.commit(txn)).succeeded:
                self._new_ones = old is None
                return Submitted(name, unit.revision, "created" if old is None else "changed", warnings)

    async def verify(self, unit: Unit, path: str, *, now: Instant) -> tuple[Problem, ...]:
        """What `submit` would say to a unit that compiles and is not stored yet. Raises UnitFileError as that does."""
        warnings = await self.judge(unit, path, now=now)
        if asks_readers(unit):
            refuse_unread(unit, path or unit.name, await self.schedulers())
        return warnings

    async def judge(self, unit: Unit, path: str, *, now: Instant) -> tuple[Problem, ...]:
        """What is said to a unit that compiles. Raises UnitFileError, with all of it, if it is refused now."""
        offered = None
        if depends_on_machines(unit):
            if self._offered is None or now - self._offered_at > OFFER_HOLDS:
                self._offered, self._offered_at = offered_by(await self.machines()), now
            offered = self._offered
        return judge(unit, path, now=now, store=self.store.name, offered=offered)

    async def destroy(self, name: str, *, source: str | None = None, keep_file: bool = True) -> str:
        """Remove a unit: what runs of it is stopped, its history goes with it. The arguments are `destroy_units`'.

        Returns what brings it back, in words: the file and its machine. Empty: nothing does. Raises NotFound, and
        Conflict if a file would bring it back.
        """
        (answer,) = await self.destroy_many([name], source=source, keep_file=keep_file)
        if isinstance(answer, XchronosError):
            raise answer
        return answer

    async def destroy_many(
        self, names: Sequence[str], *, source: str | None = None, keep_file: bool = True
    ) -> list[DestroyAnswer]:
        """Remove units together: for each name what `destroy` returns or raises. See `destroy_units`."""
        parts = (self.store, self.keys, self._commits)
        return await destroy_units(*parts, names, source=source, keep_file=keep_file)

    async def set_desired(
        self, name: str, desired: Desired, *, now: Instant | None = None, skip_missed: bool = False
    ) -> None:
        """Pause or resume a unit's schedule; one that is so already stays as it is.

        Args:
            name: The unit.
            desired: How it is to be.
            now: When it is resumed, until which fire times fell into the pause. None: when its scheduler notices.
            skip_missed: Whether nothing of what fell into the pause is to start. Else the misfire policy decides.

        Raises NotFound.
        """
        while True:
            item = await self.store.get(self.keys.job(name))
            if item is None:
                raise NotFound(f"there is no unit {name}")
            record = decode(item, UnitRecord)
            if record.desired == desired:
                return
            resumed_at = to_datetime(now) if desired == "active" and now is not None else None
            fresh = encode(
                msgspec.structs.replace(record, desired=desired, resumed_at=resumed_at, skip_missed=skip_missed)
            )
            if (await self.store.commit(Txn((Guard(item.key, item.mod_revision),), (Put(item.key, fresh),)))).succeeded:
                return

    async def unit(self, name: str) -> Stored:
        """One unit. Raises NotFound."""
        item = await self.store.get(self.keys.job(name))
        if item is None:
            raise NotFound(f"there is no unit {name}{await self._template_hint(name)}")
        cursor = await self.store.get(self.keys.schedule(name))
        try:
            record = decode(item, UnitRecord)
        except StoreError as error:
            raise Conflict(f"{error}; 'xchronosctl destroy --unreadable {item.key}' removes it") from error
        bad: list[BadRecord] = []
        cursors = readable([cursor] if cursor is not None else [], Schedule, bad)
        problem = bad[0].reason if bad else ""
        return Stored(name, record, item.mod_revision, cursors[0][1] if cursors else None, problem)

    async def _template_hint(self, name: str) -> str:
        template = UnitName.parse(name).template if is_valid_name(name) else None
        if template is None or template == name or await self.store.get(self.keys.job(template)) is None:
            return ""
        return (
            f", only its template {template}: submit the instance, from the template's file or with "
            f"'xchronosctl cat {template} | xchronosctl submit - --name {name}'"
        )

    async def units(self, *, start: str = "", limit: int = 0) -> AsyncIterator[Stored]:
        """Every unit by name, from the name `start` on; at most `limit` of them (0: all)."""
        first = self.keys.job(start) if start else ""
        async for page in snapshot(self.store, self.keys.jobs, start=first, limit=limit):
            names = [item.key[len(self.keys.jobs) :] for item in page.items]
            if not names:
                return
            cursors = await self._cursors(names[0], names[-1])
            for name, item in zip(names, page.items, strict=True):
                yield stored_unit(name, item, cursors.get(name))

    async def unit_names(self, *, source: str | None = None) -> list[str]:
        """The names of all units, or of those that come from `source`."""
        names: list[str] = []
        async for page in snapshot(self.store, self.keys.jobs, keys_only=source is None):
            names.extend(
                item.key[len(self.keys.jobs) :]
                for item in page.items
                if source is None or any(record.source == source for _, record in readable([item], UnitRecord))
            )
        return names

    async def _cursors(self, first: str, last: str) -> dict[str, Schedule | BadRecord]:
        found: dict[str, Schedule | BadRecord] = {}
        end = self.keys.schedule(last)
        async for page in snapshot(self.store, self.keys.schedules, start=self.keys.schedule(first)):
            for item in page.items:
                if item.key > end:
                    return found
                bad: list[BadRecord] = []
                known = readable([item], Schedule, bad)
                found[item.key[len(self.keys.schedules) :]] = known[0][1] if known else bad[0]
        return found

    # -- executions ---------------------------------------------------------------------------------------------------

    async def start(self, name: str, *, now: Instant, payload: str = "", by: str = "") -> list[str]:
        """Run a unit once, now, beside its schedule: one execution per copy. Returns their ids.

        Of a unit that is kept running only those copies are begun that do not run: none, if all do or are about to.

        Raises NotFound, UnitFileError (the stored unit does not compile), and Conflict for a unit that cannot be.
        """
        stored = await self.unit(name)
        unit = await self.offload(lambda: compile_record(name, stored.record))
        if unit.masked or unit.template:
            raise Conflict(f"{name} is {'masked' if unit.masked else 'a template'}: it cannot be started")
        executions = started(unit, off_the_grids(now), now, "manual", because("started-by", by=by or "hand"))
        if payload:
            executions = [msgspec.structs.replace(execution, payload=payload) for execution in executions]
        if unit.keep_running:
            return await self._start_kept(unit, executions)
        await self._begin(executions)
        return [execution.id for execution in executions]

    async def _start_kept(self, unit: Unit, executions: Sequence[Execution]) -> list[str]:
        """Begin the copies that do not run; of a Global unit they all do as soon as one does."""
        name = unit.name
        while True:
            item = await self.store.get(self.keys.job(name))
            if item is None:
                raise NotFound(f"there is no unit {name}")
            cursor = await self.store.get(self.keys.schedule(name))
            schedule = decode(cursor, Schedule) if cursor is not None else None
            if schedule is None or not schedule.fired or schedule.unit_revision < item.create_revision:
                # Its scheduler begins it, when it accepts the unit.
                if decode(item, UnitRecord).desired == "paused":
                    raise Conflict(f"{name} is paused and was never begun: resume it, and it runs")
                return []
            found = [execution for _, execution in readable(await self._finder.of_unit(name), Execution)]
            begin = lacking(unit, executions, found)
            if any(not execution.stop_requested for execution in found):
                # What its changed Availability= adds to copies that run is begun by its scheduler, too.
                begin = [execution for execution in begin if execution.copy < (schedule.copies or unit.availability)]
            if not begin:
                return []
            if any(execution.stop_requested for execution in found):
                raise Conflict(f"{name} is still being stopped: start it when that has ended")
            # The record is written as it is: of two who start the unit at the same time, one comes to look again.
            guards = (Guard(item.key, item.mod_revision),)
            if await self._begin(begin, guards, (Put(item.key, item.value),)):
                return [execution.id for execution in begin]

    async def _begin(
        self, executions: Sequence[Execution], guards: tuple[Guard, ...] = (), also: tuple[Put, ...] = ()
    ) -> bool:
        """Write new executions, with something else in the first Txn. Whether its guards held."""
        # The absence of each key is guarded: an identity that exists already is never written twice.
        writes = [put(self.keys, execution) for execution in executions]
        room = self.store.max_operations - len(also)
        for first in range(0, len(writes), room):
            part = writes[first : first + room]
            absent = tuple(Guard(write.key, 0) for write in part)
            if not (await self.store.commit(Txn((*guards, *absent), (*also, *part)))).succeeded:
                if guards:
                    return False
                name = executions[0].unit
                raise Conflict(f"{name} was started at the very same instant by somebody else: try again")
            guards, also = (), ()
        return True

    async def stop(self, target: str, reason: str) -> list[str]:
        """Stop an execution (by id), or everything of a unit that has not ended. Returns the ids that were asked to.

        Raises NotFound when there is neither such a unit nor such an execution.
        """
        if "/" not in target:
            await self.unit(target)
        asked: list[str] = []
        left: set[str] | None = None
        while left is None or left:
            moved: set[str] = set()
            for item, execution in readable(await self._finder.open_items(target), Execution):
                if execution.stop_requested or not (left is None or execution.id in left):
                    continue
                wanted = encode(msgspec.structs.replace(execution, stop_requested=reason))
                txn = Txn((Guard(item.key, item.mod_revision),), (Put(item.key, wanted),))
                if (await self.store.commit(txn)).succeeded:
                    asked.append(execution.id)
                else:
                    moved.add(execution.id)  # or it was changed where it is: it is looked for again
            left = moved
        if "/" in target and not asked:
            await self.execution(target)
        return asked

    async def open_executions(self, target: str = "", unreadable: list[BadRecord] | None = None) -> list[Execution]:
        """Everything that has not ended: of one unit, one execution, or (empty) of all units; by fire time.

        Records that cannot be read are told of in `unreadable`.
        """
        items = await self._finder.open_items(target)
        found = [execution for _, execution in readable(items, Execution, unreadable)]
        return sorted(found, key=lambda execution: (execution.fire_time, execution.unit, execution.copy))

    async def history(self, name: str, limit: int = 0) -> list[Execution]:
        """The executions of a unit that have ended, oldest first; only the last `limit` of them unless that is 0."""
        start = ""
        if limit:
            # The keys are in order of fire times; only the values at the end are worth reading.
            last: deque[str] = deque(maxlen=limit)
            async for page in snapshot(self.store, self.keys.history(name), keys_only=True):
                last.extend(item.key for item in page.items)
            if not last:
                return []
            start = last[0]
        found: list[Execution] = []
        async for page in snapshot(self.store, self.keys.history(name), start=start):
            found.extend(execution for _, execution in readable(page.items, Execution))
        found.sort(key=lambda execution: (execution.fire_time, execution.copy))
        return found[-limit:] if limit else found

    async def execution(self, execution_id: str) -> Execution:
        """One execution, wherever it is. Raises NotFound."""
        item = await self._finder.find(execution_id)
        if item is None:
            raise NotFound(f"there is no execution {execution_id}")
        try:
            return decode(item, Execution)
        except StoreError as error:
            raise Conflict(f"{error}; 'xchronosctl destroy --unreadable {item.key}' removes it") from error

    # -- machines -----------------------------------------------------------------------------------------------------

    async def known_machines(self, name: str = "") -> dict[str, KnownMachine]:
        """The machines that the cluster has had, alive or not, by id: those whose id begins with `name`."""
        found: dict[str, KnownMachine] = {}
        async for page in snapshot(self.store, self.keys.known_machines + name):
            for item, machine in readable(page.items, KnownMachine):
                found[item.key[len(self.keys.known_machines) :]] = machine
        return found

    async def machines(self, unreadable: list[BadRecord] | None = None) -> list[Machine]:
        """The machines that are alive, by id. Records that cannot be read are told of in `unreadable`."""
        page = await self.store.range(self.keys.machines)
        return [machine for _, machine in readable(page.items, Machine, unreadable)]

    # -- schedulers ---------------------------------------------------------------------------------------------------

    async def schedulers(self) -> tuple[Share, ...]:
        """The living schedulers by id, each with the shards that it owns."""
        page = await self.store.range(self.keys.scheduling)
        return Roster(self.keys, page.items).shares()
