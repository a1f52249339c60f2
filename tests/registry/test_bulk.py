"""Many units are submitted and destroyed with few requests, and what is accepted is compiled once."""

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.registry.test_registry import NOW, TEXT, again, run
from xchronos.errors import Conflict, NotFound
from xchronos.model.compile.unit import compile_unit
from xchronos.model.records import DropIn
from xchronos.registry import units
from xchronos.registry.units import Loaded, UnitCache
from xchronos.store.contract import Put

CONTAINER = b"[Container]\nImage=busybox\n[X-Chronos]\nTriggerCron=0 0 * * *\n"


def test_many_new_units_are_few_requests():
    async def scenario(registry, store):
        async def submit(text, **options):
            work = (registry.submit(f"u{n}.service", text, now=NOW, **options) for n in range(50))
            return Counter(done.result for done in await asyncio.gather(*work))

        assert (await registry.submit("first.service", CONTAINER, now=NOW)).result == "created"
        store.asked.clear()
        assert await submit(CONTAINER) == {"created": 50}
        assert store.asked == {"commit": 1}
        # What is there is found although it was taken for new, and after that it is looked for first.
        assert await submit(CONTAINER) == {"unchanged": 50}
        store.asked.clear()
        assert await submit(CONTAINER) == {"unchanged": 50}
        assert store.asked == {"get": 50}
        assert await submit(CONTAINER + b"# 2\n") == {"changed": 50}
        with pytest.raises(Conflict):
            await registry.submit("u1.service", CONTAINER, now=NOW, expected=0)
        assert (await registry.submit("u1.service", CONTAINER + b"# 2\n", now=NOW, expected=0)).result == "unchanged"

    run(scenario)


def test_what_may_be_refused_is_not_taken_for_new():
    async def scenario(registry, store):
        await registry.submit("first.service", CONTAINER, now=NOW)
        store.asked.clear()
        # A unit that not every scheduler reads, and one that may be larger than a record, stay as they are stored.
        await registry.submit("reads.service", CONTAINER + b"[Service]\nRestartSteps=3\n", now=NOW)
        assert store.asked["get"] == 1
        await registry.submit("large.service", CONTAINER, drop_ins=[DropIn("x.conf", "[Unit]\n")], now=NOW)
        assert store.asked["get"] == 2

    run(scenario)


def test_a_unit_that_is_accepted_is_compiled_once(monkeypatch):
    compiled = []

    def count(name, *rest, **options):
        compiled.append(name)
        return compile_unit(name, *rest, **options)

    monkeypatch.setattr(units, "compile_unit", count)

    async def scenario(registry, store):
        for name, text in (("once.service", TEXT), ("warned.service", TEXT + b"[Unit]\nNope=1\n")):
            await registry.submit(name, text, path=f"/etc/units/{name}", now=NOW)
        cache = UnitCache(store, registry.keys)
        found = await cache.get_many(["once.service", "warned.service"])
        # A warning names the file as whoever submits it calls it: a stored unit has no such name.
        assert compiled == ["once.service", "warned.service", "warned.service"]
        once, warned = (found[name] for name in ("once.service", "warned.service"))
        assert isinstance(once, Loaded)
        assert isinstance(warned, Loaded)
        assert warned.unit.warnings[0].file == "warned.service"

    run(scenario)


VARIABLE = CONTAINER.replace(b"Image=busybox", b"Image=busybox\nHostName=${NAME}")


@pytest.mark.parametrize("path", ["", "a.service", "/srv/a.service"])
@pytest.mark.parametrize(
    "text",
    [
        *(file.read_bytes() for file in sorted(Path(__file__).parents[2].glob("units/**/*.service"))),
        TEXT, CONTAINER, VARIABLE, TEXT + b"[Unit]\nNope=1\n", b"",
    ],
    ids=lambda text: str(len(text)),
)  # fmt: skip
def test_what_was_compiled_to_be_accepted_is_what_a_reader_compiles(text, path):
    def shape(unit):
        return msgspec.structs.replace(unit, triggers=tuple(map(repr, unit.triggers)))

    units._compiled.cache_clear()
    accepted = units.compile_new("a.service", text, [], path)
    assert accepted.name == "a.service"
    read = units.compile_record("a.service", units.record_of(text, accepted))
    assert shape(read) == shape(compile_unit("a.service", text, stored=True))
    assert not units._accepted


def test_many_units_are_destroyed_with_few_requests():
    async def scenario(registry, store):
        names = [f"u{n:03}.service" for n in range(300)]
        for name in names:
            await registry.submit(
                name, TEXT, now=NOW, by="intake@m1", source="directory:/etc/units" if name < "u002" else ""
            )
        store.asked.clear()
        answers = await registry.destroy_many([*names, "none.service", names[5]], keep_file=False)
        # Pages of 128, 256 and 512 keys, and 128 operations a Txn, all of them in one request.
        assert sum(store.asked.values()) <= 4
        assert [str(answer)[:30] for answer in answers[:2]] == [f"{name} comes from the fi" for name in names[:2]]
        assert {type(answer) for answer in answers[:2]} == {Conflict}
        assert answers[2:300] == [""] * 298
        assert [str(answer) for answer in answers[300:]] == [
            "there is no unit none.service", "there is no unit u005.service",
        ]  # fmt: skip
        assert await registry.unit_names() == names[:2]
        assert await registry.destroy_many([]) == []

    run(scenario)


def test_a_unit_that_changes_while_many_are_destroyed_is_looked_at_again():
    async def scenario(registry, store):
        names = [f"u{n}.service" for n in range(20)]
        for name in names:
            await registry.submit(name, TEXT, now=NOW, source="dir")
        await again(store, registry.keys.job("u7.service"))
        assert await registry.destroy_many(names, source="dir") == [""] * 20
        await registry.submit("a.service", TEXT, now=NOW, source="dir")
        await registry.submit("b.service", TEXT, now=NOW, source="api")
        theirs = await store.get(registry.keys.job("b.service"))
        store.meddle = Put(registry.keys.job("a.service"), theirs.value)
        (answer,) = await registry.destroy_many(["a.service"], source="dir")
        assert isinstance(answer, NotFound)
        assert await registry.unit_names() == ["a.service", "b.service"]

    run(scenario)
