"""Many units are destroyed with few requests."""

from tests.registry.test_registry import NOW, TEXT, again, run
from xchronos.errors import Conflict, NotFound
from xchronos.store.contract import Put


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
