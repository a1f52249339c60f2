"""A cursor that a refused write has left in doubt is read again before anything is decided about its unit."""

import asyncio
from types import SimpleNamespace
from typing import Any

from xchronos.engine.reconcile.units import UnitChanges
from xchronos.engine.state.work_queue import WorkQueue
from xchronos.model.records import UnitRecord
from xchronos.model.unit import Unit
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
