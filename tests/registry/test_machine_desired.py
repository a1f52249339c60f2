"""What people want of machines: kept beside the machines' own records, and never apart from them."""

import asyncio
from datetime import UTC, datetime

import pytest

from xchronos.errors import Conflict, InvalidValue, NotFound
from xchronos.model.records import Machine, MachineWish
from xchronos.registry.codec import decode, encode
from xchronos.registry.keys import Keys
from xchronos.registry.machine_desired import wished
from xchronos.registry.registry import Registry
from xchronos.store.contract import Put, Txn
from xchronos.store.memory import MemoryStore

NOON = datetime(2030, 12, 1, 12, tzinfo=UTC)
KEYS = Keys()


class Fleet:
    """One machine, alive or not."""

    def __init__(self, store) -> None:
        self.store = store
        self.wishes = Registry(store, KEYS).wishes
        self.lease = 0

    async def join(self, machine: Machine) -> None:
        self.lease = await self.store.grant(60)
        wish = await self.wish(machine.id)
        await self.store.commit(Txn((), (Put(KEYS.machine(machine.id), encode(wished(machine, wish)), self.lease),)))

    async def leave(self) -> None:
        await self.store.revoke(self.lease)

    async def machine(self, name: str = "m1") -> Machine | None:
        item = await self.store.get(KEYS.machine(name))
        assert item is None or item.lease == self.lease
        return None if item is None else decode(item, Machine)

    async def wish(self, name: str = "m1") -> MachineWish | None:
        item = await self.store.get(KEYS.wish(name))
        return None if item is None else decode(item, MachineWish)


def run(scenario):
    async def main():
        store = MemoryStore()
        await scenario(Fleet(store))
        await store.close()

    asyncio.run(main())


def test_both_records_are_changed_together_and_the_lease_stays():
    async def scenario(fleet: Fleet) -> None:
        await fleet.join(Machine("m1", metadata={"region": "eu"}))
        before = (await fleet.store.range(KEYS.root)).revision
        await fleet.wishes.drain("m1", NOON, "new disk")
        assert (await fleet.store.range(KEYS.root)).revision == before + 1
        assert await fleet.wish() == MachineWish(cordoned=True, cordon_reason="new disk", drain_until=NOON)
        assert await fleet.machine() == Machine(
            "m1", metadata={"region": "eu"}, cordoned=True, cordon_reason="new disk", drain_until=NOON
        )
        assert await fleet.wishes.all() == {"m1": await fleet.wish()}
        # Saying it again writes nothing.
        await fleet.wishes.drain("m1", NOON, "new disk")
        assert (await fleet.store.range(KEYS.root)).revision == before + 1
        await fleet.wishes.cordon("m1", "still")
        assert (await fleet.machine()).drain_until == NOON
        await fleet.wishes.uncordon("m1")
        assert await fleet.wish() is None
        assert await fleet.machine() == Machine("m1", metadata={"region": "eu"})

    run(scenario)


def test_metadata_beside_and_instead_of_the_configuration():
    async def scenario(fleet: Fleet) -> None:
        await fleet.join(Machine("m1", metadata={"region": "eu", "disk": "hdd"}))
        await fleet.wishes.set_metadata("m1", {"disk": "ssd", "gpu": "1"}, ["region"])
        assert (await fleet.machine()).metadata == {"disk": "ssd", "gpu": "1"}
        assert (await fleet.machine()).configured == {"region": "eu", "disk": "hdd"}
        assert (await fleet.wish()).metadata == {"disk": "ssd", "gpu": "1", "region": None}
        # What the configuration says anyhow needs no wish.
        await fleet.wishes.set_metadata("m1", {"region": "eu", "disk": "hdd"}, ["gpu"])
        assert await fleet.wish() is None
        assert await fleet.machine() == Machine("m1", metadata={"region": "eu", "disk": "hdd"})

    run(scenario)


@pytest.mark.parametrize(
    ("values", "without", "words"),
    [
        ({"": "x"}, (), "neither empty"),
        ({"a": ""}, (), "neither empty"),
        ({"a=b": "c"}, (), "without any of"),
        ({"a>": "c"}, (), "without any of"),
        ({}, ("a ",), "without any of"),
        ({"a": "b"}, ("a",), "a is to be set and to be removed"),
    ],
)
def test_metadata_that_no_unit_could_ask_for(values, without, words):
    async def scenario(fleet: Fleet) -> None:
        await fleet.join(Machine("m1"))
        with pytest.raises(InvalidValue, match=words):
            await fleet.wishes.set_metadata("m1", values, without)
        assert await fleet.machine() == Machine("m1")

    run(scenario)


def test_a_machine_that_is_gone_keeps_its_wish_until_it_is_forgotten():
    async def scenario(fleet: Fleet) -> None:
        for refused in (fleet.wishes.cordon("m1"), fleet.wishes.uncordon("m1"), fleet.wishes.forget("m1")):
            with pytest.raises(NotFound, match="there is no machine m1"):
                await refused
        await fleet.join(Machine("m1"))
        await fleet.wishes.cordon("m1")
        await fleet.wishes.set_metadata("m1", {"a": "b"})
        with pytest.raises(Conflict, match="m1 is alive"):
            await fleet.wishes.forget("m1")
        await fleet.leave()
        assert await fleet.machine() is None
        await fleet.wishes.set_metadata("m1", {"c": "d"}, ["a"])
        assert await fleet.wish() == MachineWish({"a": None, "c": "d"}, cordoned=True)
        await fleet.join(Machine("m1", metadata={"a": "1", "e": "f"}))
        assert (await fleet.machine()).metadata == {"c": "d", "e": "f"}
        assert (await fleet.machine()).cordoned
        await fleet.leave()
        await fleet.wishes.forget("m1")
        assert (await fleet.store.range(KEYS.root)).items == []

    run(scenario)


class Interfering:
    """A store in which something happens right before every commit, once for each thing in `first`."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.first = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def commit(self, txn):
        if self.first:
            await self.first.pop(0)()
        return await self.inner.commit(txn)


def test_a_machine_that_comes_or_goes_meanwhile():
    async def main():
        inner = MemoryStore()
        fleet = Fleet(inner)
        store = Interfering(inner)
        wishes = Registry(store, KEYS).wishes
        await fleet.join(Machine("m1"))
        store.first = [fleet.leave, lambda: fleet.join(Machine("m1", metadata={"x": "y"}))]
        with pytest.raises(NotFound):
            await wishes.cordon("m1")
        await fleet.join(Machine("m1"))
        await wishes.cordon("m1")
        store.first = [fleet.leave, lambda: fleet.join(Machine("m1", metadata={"x": "y"}))]
        await wishes.set_metadata("m1", {"a": "b"})
        assert await fleet.machine() == Machine(
            "m1", metadata={"x": "y", "a": "b"}, configured={"x": "y"}, cordoned=True
        )
        await fleet.leave()
        store.first = [lambda: fleet.join(Machine("m1"))]
        with pytest.raises(Conflict):
            await wishes.forget("m1")
        await inner.close()

    asyncio.run(main())


def test_applying_a_wish_to_what_another_one_made_of_a_machine():
    machine = Machine("m1", metadata={"a": "1", "b": "2"})
    one = MachineWish({"a": None, "c": "3"}, cordoned=True, cordon_reason="x", drain_until=NOON)
    for other in (MachineWish(), one, MachineWish({"b": "9"}), None):
        assert wished(wished(machine, one), other) == wished(machine, other)


@pytest.mark.parametrize(
    ("pairs", "gone", "words"),
    [
        ({"a": "x" * 1025}, (), "its value has 1025 bytes, expected at most 1024"),
        ({"a": "ä" * 513}, (), "its value has 1026 bytes"),
        ({"k" * 256: "x"}, (), "its key has 256 bytes, expected at most 255"),
        ({}, ("k" * 256,), "its key has 256 bytes"),
        ({"a": "x\ny"}, (), "cannot be printed"),
        ({"a": "\udcff"}, (), "cannot be printed"),
        ({f"k{n}": "x" for n in range(64)}, (), "65 metadata of one machine: expected at most 64"),
    ],
)
def test_metadata_are_bounded(pairs, gone, words):
    async def scenario(fleet):
        await fleet.join(Machine("m1", metadata={"own": "x"}))
        with pytest.raises(InvalidValue) as caught:
            await fleet.wishes.set_metadata("m1", pairs, gone)
        assert words in str(caught.value)
        assert len(str(caught.value)) < 200
        assert await fleet.wish() is None

    run(scenario)


def test_reasons_are_bounded():
    async def scenario(fleet):
        await fleet.join(Machine("m1"))
        for ask in (fleet.wishes.cordon("m1", "x" * 1025), fleet.wishes.drain("m1", NOON, "x" * 1025)):
            with pytest.raises(InvalidValue, match="has 1025 bytes, expected at most 1024"):
                await ask
        assert await fleet.wish() is None

    run(scenario)


def test_more_metadata_than_may_be_can_still_be_taken_away():
    async def scenario(fleet):
        await fleet.join(Machine("m1", metadata={f"k{n}": "x" for n in range(70)}))
        await fleet.wishes.set_metadata("m1", {}, ["k0"])
        await fleet.wishes.set_metadata("m1", {"k1": "y"})
        machine = await fleet.machine()
        assert machine is not None
        assert (len(machine.metadata), machine.metadata["k1"]) == (69, "y")
        with pytest.raises(InvalidValue, match="70 metadata"):
            await fleet.wishes.set_metadata("m1", {"new": "y"})

    run(scenario)
