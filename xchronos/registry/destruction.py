"""Units are destroyed, one or many together with few requests; and the file of a directory that brings one back.

Whose file counts when two machines have one of the same name is decided by `intake.plan.judge`.
"""

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from xchronos.errors import Conflict, NotFound, StoreError, XchronosError
from xchronos.model.records import UnitRecord
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.store.batcher import CommonCommits
from xchronos.store.contract import Delete, Guard, KeyValue, Store, Txn
from xchronos.store.reading import read_some

DIRECTORY = "directory:"
"""How the source of a unit begins that comes from a directory; its path follows."""

DestroyAnswer: TypeAlias = str | XchronosError
"""What brings a destroyed unit back, in words: the file and its machine (empty: nothing does); or why it stays."""


async def destroy_units(
    store: Store, keys: Keys, commits: CommonCommits, names: Sequence[str], *, source: str | None, keep_file: bool
) -> list[DestroyAnswer]:
    """Remove units: what runs of them is stopped, their history goes with them.

    Args:
        store: The job store.
        keys: Its keys.
        commits: What commits, and bundles what is committed at the same time.
        names: The units. Of one that is named twice there is nothing left the second time.
        source: Only those that still come from there; None: wherever they come from.
        keep_file: Whether one is removed although a file in a directory brings it back.

    Returns:
        The answer for each name, in its place. It is NotFound for one that is not there, and Conflict for one that a
        file would bring back.

    Raises:
        StoreUnavailable: nobody knows which of them are removed.
    """
    answers: dict[str, DestroyAnswer] = {}
    left = [*dict.fromkeys(names)]
    while left:
        found = await read_some(store, keys.jobs, left)
        doomed: list[tuple[str, str, Txn]] = []
        for name in left:
            item = found.get(name)
            answer = _judged(name, item, source, keep_file=keep_file)
            if item is None or isinstance(answer, XchronosError):
                answers[name] = answer
            else:
                doomed.append((name, answer, Txn((Guard(item.key, item.mod_revision),), (Delete(item.key),))))
        done = await asyncio.gather(*(commits.commit(txn) for _, _, txn in doomed), return_exceptions=True)
        left = []
        for (name, answer, _), committed in zip(doomed, done, strict=True):
            if isinstance(committed, BaseException):
                raise committed
            if committed.succeeded:
                answers[name] = answer
            else:
                left.append(name)  # it has changed meanwhile, and may come from elsewhere now
    return [answers.pop(name) if name in answers else _gone(name) for name in names]


def _judged(name: str, item: KeyValue | None, source: str | None, *, keep_file: bool) -> DestroyAnswer:
    record = readable_record(item) if item is not None else UnitRecord()
    if item is None or (source is not None and record.source != source):
        return _gone(name)
    file = origin_of(name, record)
    if file and not keep_file:
        return Conflict(
            f"{name} comes from {file}, which would bring it back: remove it on every machine that has it, "
            "and the unit goes too; or destroy the unit and keep the file (--keep-file)"
        )
    return file


def _gone(name: str) -> NotFound:
    return NotFound(f"there is no unit {name}")


def readable_record(item: KeyValue) -> UnitRecord:
    """A unit's record; an empty one where it cannot be read, so that it can be removed."""
    try:
        return decode(item, UnitRecord)
    except StoreError:
        return UnitRecord()


def origin_of(name: str, record: UnitRecord) -> str:
    """The file of a directory that a unit comes from, and on which machine, in words; empty where it is none."""
    if not record.source.startswith(DIRECTORY):
        return ""
    file = record.file or f"{record.source.removeprefix(DIRECTORY)}/{name}"
    machine = record.submitted_by.removeprefix("intake@") if record.submitted_by.startswith("intake@") else ""
    return f"the file {file}" + (f" on {machine}" if machine else "")
