"""A cursor that a refused write has left in doubt is read again before anything is decided about its unit."""

import asyncio
from types import SimpleNamespace
from typing import Any

from xchronos.engine import session
from xchronos.engine.reconcile.units import UnitChanges
from xchronos.engine.state.work_queue import WorkQueue
from xchronos.model.records import UnitRecord
from xchronos.model.unit import Unit
from xchronos.registry.keys import Keys
from xchronos.registry.units import Loaded
from xchronos.store.contract import Guard


def test_a_cursor_in_doubt_is_not_taken_for_none():
    """A new life that is accepted with none would pass for the first, and its starts for what the former has left."""
    work, unit = WorkQueue(), Loaded("a.service", UnitRecord("", "r"), Unit("a.service", "r"), 136, 136)

    async def load(names):
        return dict.fromkeys(names, unit)

    committer: Any = SimpleNamespace(
        full=False,
        work=work,
        cluster=SimpleNamespace(cursors=SimpleNamespace(known={})),
        fence=lambda _: Guard("shard", 1),
        load=load,
    )
    work.changed["a.service"] = None
    work.refused.add("a.service")
    # Without views: whoever decided here would need them.
    asyncio.run(UnitChanges(committer, None).accept_changed(1))
    assert list(work.changed) == ["a.service"], "it is looked at again"


async def test_what_is_refused_while_it_is_read_is_read_again(monkeypatch):
    """The answer is older than the refusal: a TTL that it tells would end the unit's new life, again and again."""
    asked: list[list[str]] = []
    told: list[str] = []
    work = WorkQueue()
    work.refused = {"again.service", "once.service"}

    async def read(_store, prefix, names):
        asked.append(list(names))
        if len(asked) == 1:
            work.refused.add("again.service")
        return {}

    monkeypatch.setattr(session, "read_some", read)
    one: Any = object.__new__(session.Session)
    one._work, one._store, one._keys = work, None, Keys()
    one._adoption = SimpleNamespace(fence=lambda _: "fence")
    one._cluster = SimpleNamespace(cursors=SimpleNamespace(known={}, set=lambda name, *_: told.append(name)))
    await one._read_refused()
    assert asked[0] == ["again.service", "once.service"]
    assert (work.gone, work.refused, told) == ({"once.service"}, {"again.service"}, [])
    await one._read_refused()
    assert asked[2] == ["again.service"]
    assert (work.gone, work.refused) == ({"again.service", "once.service"}, set())
