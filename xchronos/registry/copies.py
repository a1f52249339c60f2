"""Which machines the copies of a fire time have had that have ended: the history knows."""

from xchronos.errors import StoreError
from xchronos.model.policies import Outcome
from xchronos.model.records import Execution
from xchronos.registry.codec import decode
from xchronos.registry.keys import Keys
from xchronos.store.contract import Store


async def ended_copies(store: Store, keys: Keys, prefix: str, *, lost: bool = True) -> dict[str, str]:
    """By execution id, the last machine of each ended copy of a fire time, whose ids begin with `prefix`.

    Without `lost`, copies that were lost are left out: their machines have not had them to the end.

    Raises StoreUnavailable.
    """
    page = await store.range(keys.execution(prefix))
    found: dict[str, str] = {}
    for item in page.items:
        try:
            execution = decode(item, Execution)
        except StoreError:
            # Somebody's unreadable record tells of no machine; who reads history says so.
            continue
        if execution.attempts and (lost or execution.outcome is not Outcome.LOST):
            found[execution.id] = execution.attempts[-1].machine
    return found
