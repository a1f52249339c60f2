"""The intake's loop: look, plan, read, submit, destroy. It turns when something moves, and every so often besides."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from xchronos.aio import Backoff
from xchronos.clock import SECOND, Clock, Micros, to_datetime
from xchronos.errors import Conflict, NotReadByAll, StoreError, StoreUnavailable, UnitFileError
from xchronos.intake.files import Content, Found, Listing, source_of
from xchronos.intake.notebook import read_notes, write_notes
from xchronos.intake.options import USUAL_OPTIONS, IntakeOptions
from xchronos.intake.plan import CAREFUL, Known, Taken, Waiting, doubtful, judge, plan, recall
from xchronos.intake.problems import IntakeProblem, Problems
from xchronos.intake.reader import DirectoryReader
from xchronos.intake.stored import known_unit, known_units
from xchronos.intake.watch import DirectoryWatch
from xchronos.registry.registry import Registry

log = structlog.get_logger(__name__)

T = TypeVar("T")

SHORTEST_BACKOFF, LONGEST_BACKOFF = SECOND // 5, 10 * SECOND
"""The first and the longest pause before the next try while the store is away, in microseconds."""

NOTES_EVERY: Micros = 5 * SECOND
"""How often the notes are written, in microseconds."""

UNITS_PER_READ = 100
"""The units whose files are read in one visit to a thread."""

WORKERS = 8
"""The units that are submitted at a time: enough for a store to commit them together, few enough for the event loop."""

TAKEN_AWAY_TOGETHER = 100
"""The units that are destroyed together after their files are gone. Between a look at the first of these files and the
Txn nobody sees that it is back."""

SNAPSHOT_FROM = 50
"""From so many units to read on, all stored units are read together, to see which of them are unchanged."""


class Intake:
    """Keeps the units of some directories in the store as their files say.

    * A file that is new or changed is submitted when it has settled. A file that is removed takes its unit away.
    * A bad file is a problem, and its last good version stays in force.
    * While a directory cannot be read, nothing of it changes.
    * A unit that somebody else has submitted under a file's name stays as it is, and the file is a problem.
    * A unit that somebody else has destroyed (a person, its TTL) stays away until its file changes.

    Args:
        registry: Where the units go.
        clock: The time.
        directories: The directories. Of two files with one name, that in the earlier directory counts, as /etc counts
            before /usr/lib.
        options: What else the intake is told.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        directories: Sequence[str | Path],
        options: IntakeOptions = USUAL_OPTIONS,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._directories = tuple(dict.fromkeys(str(Path(directory).absolute()) for directory in directories))
        self._sources = frozenset(source_of(directory) for directory in self._directories)
        self._by = f"intake@{options.machine}" if options.machine else "intake"
        self._settle = options.settle
        self._rescan = options.rescan
        self._notes = options.notes
        self._problems = Problems()
        self._taken: dict[str, Taken] = {}
        self._waiting: dict[str, Waiting] = {}
        self._trusted: dict[str, tuple[int, int]] = {}
        self._lost: set[str] = set()
        self._again: set[str] = set()
        self._suspects: dict[str, Found] = {}
        self._dirty = False
        self._noted_at: Micros | None = None
        self._look_took: Micros = 0
        self._bulk = False
        self._stored: Mapping[str, Known] | None = None
        self._reader = DirectoryReader(self._directories)
        self._watch = DirectoryWatch(clock, self._directories)
        self.ready = asyncio.Event()
        """Set once, when all that was there at the start has been dealt with, but for files that do not settle."""

    def problems(self) -> list[IntakeProblem]:
        """What is wrong with files and directories now, by path."""
        return self._problems.all()

    async def run(self) -> None:
        """Work until cancelled; then write the notes."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(), name="intake watch")
            try:
                await self._loop()
            finally:
                self._remember()

    async def _loop(self) -> None:
        backoff = Backoff(self._clock, SHORTEST_BACKOFF, LONGEST_BACKOFF)
        recalled = full = False
        begun = last_full = self._clock.monotonic()
        while True:
            started = self._clock.monotonic()
            try:
                if not recalled:
                    await self._recall()
                    recalled = True
                wait = await self._turn(full=full)
                backoff.reset()
            except StoreUnavailable as error:
                pause = backoff.next()
                log.warning("store unavailable; the intake tries again", reason=str(error), seconds=pause / SECOND)
                await self._clock.sleep(pause)
                continue
            if full:
                last_full = started
            # A file that is written to without end must not keep the daemon from being ready (tests/intake/:
            # `test_a_file_that_never_settles_does_not_keep_the_intake_from_being_ready`).
            if wait is None or self._clock.monotonic() - begun > 2 * CAREFUL * self._settle:
                self.ready.set()
            # To look at many files takes time. It never takes more than a fifth of all time, however much changes.
            await self._clock.sleep(4 * self._look_took)
            left = last_full + self._rescan - self._clock.monotonic()
            await self._watch.changed(left if wait is None else min(wait, left))
            full = self._clock.monotonic() - last_full >= self._rescan

    async def _recall(self) -> None:
        remembered = await asyncio.to_thread(read_notes, self._notes) if self._notes is not None else {}
        stored = await known_units(self._registry)
        self._taken = recall(stored or {}, remembered, directories=self._directories, by=self._by)
        away = sorted(name for name, taken in self._taken.items() if taken.destroyed)
        if away:
            log.info("units that were destroyed stay away until their files change", units=away[:20], count=len(away))
        former = {
            known.source
            for known in (stored or {}).values()
            if known.by == self._by and known.source not in self._sources
        }
        if former:
            log.warning("units from directories that are not taken in any more stay in force", sources=sorted(former))

    async def _turn(self, *, full: bool) -> Micros | None:
        """Look once and act. Returns how long to wait before the next look if nothing moves; None: for the rescan."""
        if full:
            await self._reconsider()
        started = self._clock.monotonic()
        listings, selection = await self._reader.look()
        self._look_took = self._clock.monotonic() - started
        self._watch.follow([listing.identity for listing in listings])
        self._judge_directories(listings)
        self._problems.note(selection, listings, to_datetime(self._clock.now()))
        # The plan is pure, and with many units it takes so long that others would wait for it.
        planned = await asyncio.to_thread(
            plan,
            selection.units,
            self._taken,
            self._waiting,
            lost=self._lost,
            wall=self._clock.now(),
            monotonic=self._clock.monotonic(),
            settle=self._settle,
        )
        self._waiting = planned.waiting
        unsettled = await self._take_in(planned.read)
        await self._take_away(planned.gone)
        now = self._clock.monotonic()
        if self._noted_at is None or now - self._noted_at >= NOTES_EVERY:
            self._noted_at = now
            await asyncio.to_thread(self._remember)
        if unsettled:
            return self._settle if planned.wait is None else min(self._settle, planned.wait)
        return planned.wait

    def _judge_directories(self, listings: Sequence[Listing]) -> None:
        now = to_datetime(self._clock.now())
        readable = {
            listing.directory: (listing.identity, bool(listing.units)) for listing in listings if not listing.error
        }
        empty = doubtful(readable, self._trusted, self._taken)
        self._lost = empty | {listing.directory for listing in listings if listing.error}
        for listing in listings:
            about = f"/directory{listing.directory}"
            message = listing.error
            if listing.directory in empty:
                message = "is empty although units came from it (not mounted?)"
            if message:
                text = f"{message}: its units stay in force; to have them go, destroy them"
                self._problems.report(about, listing.directory, (text,), now)
                continue
            self._problems.solve(about)
            if listing.units:
                self._trusted[listing.directory] = listing.identity

    async def _take_in(self, units: Sequence[Found]) -> bool:
        """Read units and submit those that say something new. Returns whether some must be read again soon."""
        self._bulk = len(units) >= SNAPSHOT_FROM
        stored = self._stored = await known_units(self._registry) if self._bulk else None
        unsettled, submitted = False, 0
        for first in range(0, len(units), UNITS_PER_READ):
            contents = await self._reader.read(units[first : first + UNITS_PER_READ])
            todo: list[Content] = []
            for content in contents:
                known = (stored or {}).get(content.found.name)
                if content.moved:
                    unsettled = True
                elif content.error:
                    self._fail(content.found, (content.error,), again=True)
                elif known is not None and self._is_same(content, known):
                    self._settle_on(content.found, content.revision)
                else:
                    todo.append(content)
            unsettled |= not all(await self._each(todo, self._submit))
            submitted += len(todo)
        if self._bulk and submitted:
            log.info("many units taken in", units=submitted)
        return unsettled

    def _is_same(self, content: Content, known: Known) -> bool:
        return known.revision == content.revision and known.source == source_of(content.found.directory)

    async def _each(self, items: Iterable[T], act: Callable[[T], Awaitable[bool]]) -> list[bool]:
        """Do something for each item, for some at a time, until the store is away. Raises StoreUnavailable then."""
        queue, done = iter(items), list[bool]()
        outage: StoreUnavailable | None = None

        async def work() -> None:
            nonlocal outage
            for item in queue:
                # To compile a unit takes a while. Everything else in this process gets its turn between two of them.
                await asyncio.sleep(0)
                if outage is not None:
                    break
                try:
                    done.append(await act(item))
                except StoreUnavailable as error:
                    outage = error

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work())
        if outage is not None:
            raise outage
        return done

    async def _submit(self, content: Content) -> bool:
        """Store one unit. Returns False when it must be read again before anything is said about it."""
        found = content.found
        try:
            known = await self._known(found.name)
            verdict = judge(content, known, directories=self._directories, lost=self._lost, by=self._by)
            if verdict.action == "conflict":
                self._fail(found, (verdict.reason,), again=True, revision="")
                return True
            if verdict.action == "submit":
                done = await self._registry.submit(
                    found.name,
                    content.text,
                    drop_ins=content.drop_ins,
                    by=self._by,
                    source=source_of(found.directory),
                    path=found.path,
                    now=self._clock.now(),
                    expected=known.written if known is not None else 0,
                )
                say = log.debug if self._bulk else log.info
                say("taken in", unit=found.name, path=found.path, result=done.result, warnings=len(done.warnings))
        except UnitFileError as error:
            if self._is_fresh(found) and self._suspects.get(found.name) != found:
                self._suspects[found.name] = found
                return False
            self._fail(found, tuple(str(problem) for problem in error.problems), again=isinstance(error, NotReadByAll))
        except Conflict:
            return False
        except StoreUnavailable:
            raise
        except StoreError as error:
            self._fail(found, (f"the store refused it: {error}",), again=True)
        except Exception as error:
            # A fault of ours with one file must not keep the other files from being taken in
            # (`test_a_fault_of_ours_is_the_problem_of_that_file_alone` in tests/intake/test_intake_bad_files.py).
            log.exception("a unit file is more than xchronos can take", path=found.path)
            self._fail(found, (f"xchronos failed over it, which is a fault of xchronos: {error!r}",))
        else:
            self._settle_on(found, content.revision)
        return True

    def _is_fresh(self, found: Found) -> bool:
        """Whether it was written a moment ago: its writer may not have finished."""
        newest = max(stamp.mtime_ns for stamp in found.stamps) // 1_000
        return self._clock.now() - newest < CAREFUL * self._settle

    def _settle_on(self, found: Found, revision: str) -> None:
        self._taken[found.name] = Taken(found.directory, found.stamps, revision)
        self._dirty = True
        self._again.discard(found.name)
        self._suspects.pop(found.name, None)
        self._problems.solve(found.name)

    def _fail(
        self, found: Found, messages: tuple[str, ...], *, again: bool = False, revision: str | None = None
    ) -> None:
        """Report that a unit is not taken in.

        `again`: it may be taken in later although its file stays as it is. `revision` stays in force; None: the one of
        before does.
        """
        before = self._taken.get(found.name)
        in_force = revision if revision is not None else before.revision if before is not None else ""
        self._taken[found.name] = Taken(found.directory, found.stamps, in_force)
        self._dirty = True
        self._suspects.pop(found.name, None)
        (self._again.add if again else self._again.discard)(found.name)
        now = to_datetime(self._clock.now())
        self._problems.report(found.name, found.path, messages, now, unit=found.name, revision=in_force)

    async def _take_away(self, names: Sequence[str]) -> None:
        """Destroy the units of files that are gone, those that still come from one of our directories.

        Of a file that has come back since the look, the next look decides.
        """
        many = len(names) >= SNAPSHOT_FROM
        self._stored = await known_units(self._registry) if many else None
        for first in range(0, len(names), TAKEN_AWAY_TOGETHER):
            doomed: dict[str, list[str]] = {}
            await self._each(names[first : first + TAKEN_AWAY_TOGETHER], partial(self._doom, doomed))
            for source, units in doomed.items():
                for name, answer in zip(units, await self._registry.destroy_many(units, source=source), strict=True):
                    if not isinstance(answer, str):
                        log.info("destroyed by somebody else, or no longer the directory's", unit=name)
                    elif not many:
                        log.info("taken away", unit=name, source=source)
                    self._let_go(name)
        if many:
            log.info("many files are gone, and their units", files=len(names))

    async def _doom(self, doomed: dict[str, list[str]], name: str) -> bool:
        """Note by its source a unit that goes with its file. Returns False if the file is back."""
        known = await self._known(name)
        if await self._reader.is_back(name):
            return False
        if known is not None and self._taken[name].revision and known.source in self._sources:
            doomed.setdefault(known.source, []).append(name)
        else:
            self._let_go(name)
        return True

    async def _known(self, name: str) -> Known | None:
        """What is stored of a unit: as of when all were read together, if they were. Writes are guarded by it."""
        return self._stored.get(name) if self._stored is not None else await known_unit(self._registry, name)

    def _let_go(self, name: str) -> None:
        """The file is gone, and its unit is none of ours any more."""
        del self._taken[name]
        self._dirty = True
        self._again.discard(name)
        self._suspects.pop(name, None)
        self._problems.solve(name)

    async def _reconsider(self) -> None:
        """Find what only the store knows: problems that have gone by themselves, units that somebody else destroyed."""
        for name in self._again & self._taken.keys():
            self._taken[name] = msgspec.structs.replace(self._taken[name], stamps=())
        names = set(await self._registry.unit_names())
        for name, taken in self._taken.items():
            if taken.revision and not taken.destroyed and name not in names:
                log.info("destroyed by somebody else; it stays away until its file changes", unit=name)
                self._taken[name] = msgspec.structs.replace(taken, destroyed=True)
                self._dirty = True

    def _remember(self) -> None:
        if self._notes is None or not self._dirty:
            return
        self._dirty = False
        # A file with a problem is read again after a restart, so it is not noted.
        good = {name: taken for name, taken in self._taken.items() if name not in self._problems}
        write_notes(self._notes, good)
