"""What people and programs ask of the store, over a MemoryStore."""

import asyncio
from collections import Counter

import pytest

from xchronos.clock import to_datetime
from xchronos.errors import Conflict, NotFound, UnitFileError
from xchronos.limits import HEAVY_BYTES, UNIT_BYTES
from xchronos.model.records import Attempt, DropIn, Execution, Schedule, UnitRecord
from xchronos.registry.codec import encode
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.registry.transitions import put
from xchronos.registry.units import Loaded, UnitCache, Unreadable, text_of
from xchronos.store.contract import Delete, Put, Txn
from xchronos.store.memory import MemoryStore

TEXT = b"[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Chronos]\nExecutor=process\nTriggerCron=0 0 * * *\n"
CONTAINER = b"[Container]\nImage=busybox\n[X-Chronos]\nTriggerCron=0 0 * * *\n"
NOW = 1_900_000_000_000_000


class Meddling(MemoryStore):
    """Somebody else writes the same key right before the next commit, once."""

    meddle = None

    def __init__(self):
        super().__init__()
        self.asked = Counter()

    async def commit(self, txn):
        await self._meddle()
        self.asked["commit"] += 1
        return await super().commit(txn)

    async def commit_many(self, txns):
        await self._meddle()
        self.asked["commit"] += 1
        return await super().commit_many(txns)

    async def get(self, key):
        self.asked["get"] += 1
        return await super().get(key)

    async def range(self, prefix, **options):
        self.asked["range"] += 1
        return await super().range(prefix, **options)

    async def _meddle(self):
        if self.meddle is not None:
            other, self.meddle = self.meddle, None
            await super().commit(Txn((), (other,)))


def run(scenario):
    async def main():
        store = Meddling()
        await scenario(Registry(store, Keys()), store)
        await store.close()

    asyncio.run(main())


async def again(store, key):
    """Have the key rewritten, as it is, right before the next commit."""
    store.meddle = Put(key, (await store.get(key)).value)


def test_submit_says_what_became_of_it():
    async def scenario(registry, store):
        first = await registry.submit("a.service", TEXT, now=NOW, by="me", source="api")
        assert first.result == "created"
        assert (await registry.submit("a.service", TEXT, now=NOW, source="api")).result == "unchanged"
        await registry.set_desired("a.service", "paused")
        await again(store, registry.keys.job("a.service"))
        changed = await registry.submit("a.service", TEXT + b"# more\n", now=NOW, source="dir")
        assert changed.result == "changed"
        stored = await registry.unit("a.service")
        assert (stored.record.desired, stored.record.source, stored.schedule) == ("paused", "dir", None)
        dropped = await registry.submit(
            "a.service", TEXT, drop_ins=[DropIn("10.conf", "[Unit]\nDescription=x\n")], now=NOW
        )
        assert dropped.revision not in (first.revision, changed.revision)
        with pytest.raises(UnitFileError):
            await registry.submit("a.service", b"[Service]\nX-=\n[X-Chronos]\nNope=1\n", now=NOW)

    run(scenario)


def test_the_text_comes_back_byte_for_byte():
    async def scenario(registry, store):
        text = TEXT + b"# caf\xe9\n"
        await registry.submit("a.service", text, now=NOW)
        assert text_of((await registry.unit("a.service")).record) == text
        assert (await registry.submit("a.service", text, now=NOW)).result == "unchanged"

    run(scenario)


def test_what_a_file_would_bring_back_is_not_destroyed():
    async def scenario(registry, store):
        where = {"source": "directory:/etc/units", "by": "intake@m1", "path": "/etc/units/sub/a.service"}
        await registry.submit("a.service", TEXT, now=NOW, **where)
        with pytest.raises(
            Conflict, match=r"a\.service comes from the file /etc/units/sub/a\.service on m1, which would"
        ):
            await registry.destroy("a.service", keep_file=False)
        assert (await registry.unit("a.service")).record.file == "/etc/units/sub/a.service"
        assert await registry.destroy("a.service") == "the file /etc/units/sub/a.service on m1"
        # A record of an older version does not name the file.
        await registry.submit("a.service", TEXT, now=NOW, source="directory:/etc/units", by="ann")
        assert await registry.destroy("a.service") == "the file /etc/units/a.service"
        await registry.submit("a.service", TEXT, now=NOW, by="ann@m1")
        assert await registry.destroy("a.service", keep_file=False) == ""
        # What nobody can read comes from nowhere.
        await store.commit(Txn((), (Put(registry.keys.job("raw.service"), b"TEXT"),)))
        assert await registry.destroy("raw.service", keep_file=False) == ""

    run(scenario)


def test_pause_resume_destroy():
    async def scenario(registry, store):
        await registry.submit("a.service", TEXT, now=NOW, source="dir")
        key = registry.keys.job("a.service")
        await again(store, key)
        await registry.set_desired("a.service", "paused")
        await registry.set_desired("a.service", "paused")
        assert (await registry.unit("a.service")).record.desired == "paused"
        with pytest.raises(NotFound):
            await registry.destroy("a.service", source="api")
        await again(store, key)
        await registry.destroy("a.service", source="dir")
        for call in (registry.destroy, registry.unit, lambda name: registry.set_desired(name, "active")):
            with pytest.raises(NotFound, match=r"there is no unit a\.service"):
                await call("a.service")

    run(scenario)


def test_units_come_by_name_with_their_cursors():
    async def scenario(registry, store):
        names = [f"u{n:04d}.service" for n in range(1_205)]
        for name in names:
            await registry.submit(name, TEXT, now=NOW, source="odd" if name[4] == "1" else "")
        moment = to_datetime(NOW)
        for name in (names[3], names[1_100], "zzz.service"):
            schedule = Schedule(name, 1, "f", moment, moment)
            await store.commit(Txn((), (Put(registry.keys.schedule(name), encode(schedule)),)))
        found = [stored async for stored in registry.units()]
        assert [stored.name for stored in found] == names
        assert [stored.name for stored in found if stored.schedule is not None] == [names[3], names[1_100]]
        assert [stored.name async for stored in registry.units(start=names[5], limit=3)] == names[5:8]
        assert await registry.unit_names() == names
        assert await registry.unit_names(source="odd") == [name for name in names if name[4] == "1"]

    run(scenario)


def test_starting_by_hand():
    async def scenario(registry, store):
        await registry.submit("a.service", TEXT + b"Availability=300\n", now=NOW)
        ids = await registry.start("a.service", now=NOW, payload="p", by="me")
        assert len(ids) == 300
        execution = await registry.execution(ids[7])
        assert (execution.payload, execution.reason, execution.trigger) == ("p", "started by me", "manual")
        with pytest.raises(Conflict):
            await registry.start("a.service", now=NOW)
        await registry.submit("t@.service", TEXT, now=NOW)
        with pytest.raises(Conflict, match="template"):
            await registry.start("t@.service", now=NOW)
        with pytest.raises(NotFound, match=r"there is no unit b.service$"):
            await registry.start("b.service", now=NOW)
        with pytest.raises(NotFound, match=r"only its template t@.service: .* submit - --name t@b.service"):
            await registry.start("t@b.service", now=NOW)
        with pytest.raises(NotFound, match=r"there is no unit u@b.service$"):
            await registry.start("u@b.service", now=NOW)

    run(scenario)


def test_what_was_decided_upon_is_guarded():
    async def scenario(registry, store):
        await registry.submit("a.service", TEXT, now=NOW, expected=0)
        with pytest.raises(Conflict, match="changed by somebody else"):
            await registry.submit("a.service", TEXT, now=NOW, source="dir", expected=0)
        seen = (await registry.unit("a.service")).revision
        await again(store, registry.keys.job("a.service"))
        with pytest.raises(Conflict):
            await registry.submit("a.service", TEXT, now=NOW, source="dir", expected=seen)
        seen = (await registry.unit("a.service")).revision
        assert (await registry.submit("a.service", TEXT, now=NOW, source="dir", expected=seen)).result == "changed"

    run(scenario)


def test_a_unit_that_no_store_could_take_is_refused_with_words():
    async def scenario(registry, store):
        large = "#" + "\x01" * (UNIT_BYTES - 1)  # six bytes each in JSON
        await registry.submit("a.service", TEXT, drop_ins=[DropIn("10.conf", large)], now=NOW)
        dropins = [DropIn("10.conf", large), DropIn("20.conf", large)]
        with pytest.raises(UnitFileError, match=r"a.service: the unit is too large: .* 524288 are the most"):
            await registry.submit("a.service", TEXT, drop_ins=dropins, now=NOW)
        with pytest.raises(UnitFileError, match=r"a.service: the file has 70\d+ bytes: a unit file has at most 65536"):
            await registry.submit("a.service", TEXT + b"# more\n" * 10_000, now=NOW)

    run(scenario)


KEPT = b"[Service]\nExecStart=/bin/true\nRestart=always\n[X-Chronos]\nExecutor=process\nAvailability=2\n"


def test_a_unit_that_is_kept_running_is_started_only_where_it_does_not_run():
    async def scenario(registry, store):
        name, keys = "kept.service", registry.keys
        await registry.submit(name, KEPT, now=NOW)
        assert await registry.start(name, now=NOW) == [], "its acceptance begins it"
        await registry.set_desired(name, "paused")
        with pytest.raises(Conflict, match="resume it"):
            await registry.start(name, now=NOW)
        stored = await registry.unit(name)
        cursor = Schedule(name, stored.revision, "", to_datetime(NOW), to_datetime(NOW), fired=1)
        await store.commit(Txn((), (Put(keys.schedule(name), encode(cursor)), Put(keys.pulse("m1"), b"1"))))
        both = await registry.start(name, now=NOW + 1)
        assert len(both) == 2
        assert await registry.start(name, now=NOW + 50) == []

        assert await registry.stop(both[1], "by hand") == [both[1]]
        with pytest.raises(Conflict, match="still being stopped"):
            await registry.start(name, now=NOW + 50)
        await store.commit(Txn((), (Delete(keys.pending_execution(both[1])),)))
        await again(store, keys.job(name))
        (second,) = await registry.start(name, now=NOW + 50)
        assert second.endswith("/1")
        assert len(await registry.open_executions(name)) == 2

        await registry.destroy(name)
        await registry.submit(name, KEPT, now=NOW)
        for execution_id in (both[0], second):
            await store.commit(Txn((), (Delete(keys.pending_execution(execution_id)),)))
        assert await registry.start(name, now=NOW + 99) == [], "the cursor is that of its former life"

    run(scenario)


def test_of_two_who_start_what_is_kept_running_one_begins_it():
    async def scenario(registry, store):
        await registry.submit("kept.service", KEPT.replace(b"Availability=2", b"[X-Fleet]\nGlobal=true"), now=NOW)
        stored = await registry.unit("kept.service")
        cursor = Schedule("kept.service", stored.revision, "", to_datetime(NOW), to_datetime(NOW), fired=1)
        await store.commit(Txn((), (Put(registry.keys.schedule("kept.service"), encode(cursor)),)))
        begun = await asyncio.gather(*(registry.start("kept.service", now=NOW + 50 * n) for n in range(5)))
        assert sorted(map(len, begun)) == [0, 0, 0, 0, 1]

    run(scenario)


def test_stopping_and_finding_executions():
    async def scenario(registry, store):
        await registry.submit("a.service", TEXT, now=NOW)
        moment = to_datetime(NOW)
        running = Execution("a.service", moment, state="running", current=Attempt(1, "m1"))
        other = Execution("b.service", moment, state="running", current=Attempt(1, "m1"))
        waiting = Execution("a.service", moment, copy=1)
        ended = Execution("a.service", moment, copy=2, state="ended")
        keys = registry.keys
        await store.commit(Txn((), tuple(put(keys, execution) for execution in (running, other, waiting, ended))))
        assert [execution.id for execution in await registry.open_executions("a.service")] == [running.id, waiting.id]
        assert len(await registry.open_executions()) == 3
        for execution in (running, waiting, ended):
            assert await registry.execution(execution.id) == execution
        await again(store, keys.placement("m1", running.id))
        assert await registry.stop(running.id, "why") == [running.id]
        assert await registry.stop("a.service", "all") == [waiting.id]
        assert await registry.stop(running.id, "once more") == []
        assert (await registry.execution(running.id)).stop_requested == "why"
        assert await registry.stop(ended.id, "late") == []
        for unknown in ("c.service", running.id.replace("/0", "/9")):
            with pytest.raises(NotFound):
                await registry.stop(unknown, "why")

    run(scenario)


def test_the_cache_reads_what_it_lacks_and_believes_what_is_newer():
    async def scenario(registry, store):
        cache = UnitCache(store, registry.keys, size=2)
        for name in ("a.service", "b.service", "c.service"):
            await registry.submit(name, TEXT, now=NOW)
        first = await cache.get("a.service")
        assert await cache.get("a.service") is first
        old = await store.get(registry.keys.job("a.service"))
        await registry.set_desired("a.service", "paused")
        new = await store.get(registry.keys.job("a.service"))
        cache.changed("a.service", new)
        paused = cache.peek("a.service")
        assert isinstance(first, Loaded)
        assert isinstance(paused, Loaded)
        assert paused.record.desired == "paused"
        assert paused.unit is first.unit
        assert cache.learn("a.service", old) is paused
        assert (paused.revision, paused.created) == (new.mod_revision, new.create_revision)
        await cache.get("b.service")
        await cache.get("c.service")
        assert cache.peek("a.service") is None
        cache.forget("c.service")
        assert cache.peek("c.service") is None
        assert await cache.get("nothing.service") is None

    run(scenario)


def desired(cache: UnitCache, name: str) -> str:
    found = cache.peek(name)
    assert isinstance(found, Loaded)
    return found.record.desired


def test_the_cache_keeps_what_came_along_with_others():
    async def scenario(registry, store):
        names = [f"u{number:03d}.service" for number in range(400)]
        for name in names:
            await registry.submit(name, TEXT, now=NOW)
        asked = []
        read = store.range

        async def counted(*args, **options):
            asked.append(args)
            return await read(*args, **options)

        store.range = counted
        cache = UnitCache(store, registry.keys)
        mine = names[::2]
        for begin in range(0, 200, 20):
            assert list(await cache.get_many(mine[begin : begin + 20])) == mine[begin : begin + 20]
        assert len(asked) <= 4
        # What has changed, or is gone, since it came along is not believed.
        await registry.set_desired(names[1], "paused")
        cache.changed(names[1], await store.get(registry.keys.job(names[1])))
        assert desired(cache, names[1]) == "paused"
        cache.forget(names[3])
        assert cache.peek(names[3]) is None
        assert desired(cache, names[5]) == "active"

    run(scenario)


def test_the_cache_keeps_no_more_than_it_may_of_what_came_along(monkeypatch):
    async def scenario(registry, store):
        monkeypatch.setattr("xchronos.registry.units.NEAR", 10)
        names = [f"u{number:03d}.service" for number in range(100)]
        for name in names:
            await registry.submit(name, TEXT, now=NOW)
        cache = UnitCache(store, registry.keys)
        await cache.get_many(names[::4])
        assert sum(cache.peek(name) is not None for name in names if names.index(name) % 4) == 10

    run(scenario)


def test_a_unit_that_is_dear_to_compile_is_compiled_aside_and_never_on_a_look():
    dear = TEXT + b"# more\n" * (HEAVY_BYTES // 7 + 1)
    aside: list[str] = []

    async def offload(work):
        aside.append("compiled")
        await asyncio.sleep(0)
        return work()

    async def scenario(registry, store):
        await registry.submit("dear.service", dear, now=NOW)
        await registry.submit("light.service", TEXT, now=NOW)
        cache = UnitCache(store, registry.keys, offload=offload)
        found = await cache.get_many(["dear.service", "light.service"])
        assert all(isinstance(loaded, Loaded) for loaded in found.values())
        assert aside == ["compiled"]
        assert cache.peek("dear.service") is found["dear.service"]
        # Its record changes: the watch tells it, and only who can wait has it compiled.
        await registry.submit("dear.service", dear + b"# x\n", now=NOW)
        item = await store.get(registry.keys.job("dear.service"))
        cache.changed("dear.service", item)
        assert cache.peek("dear.service") is None
        loaded = await cache.get("dear.service")
        assert loaded.revision == item.mod_revision
        assert aside == ["compiled"] * 2
        assert cache.peek("dear.service") is loaded
        # One that does not compile is told as any other.
        bad = UnitRecord(dear.decode() + "[X-Chronos]\nNope=1\n", "bad")
        await store.commit(Txn((), (Put(registry.keys.job("bad.service"), encode(bad)),)))
        assert isinstance(await cache.get("bad.service"), Unreadable)

    run(scenario)
