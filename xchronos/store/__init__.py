"""Where everything durable is kept: a narrow ordered key-value contract and the stores that serve it.

`contract` says what a store promises; `memory` is its plainest implementation, `sqlite` the embedded default.
"""

from xchronos.store.contract import (
    Committed,
    Delete,
    DeleteRange,
    Event,
    Guard,
    KeyValue,
    Operation,
    Page,
    Put,
    Store,
    Txn,
    WatchBatch,
)

__all__ = [
    "Committed",
    "Delete",
    "DeleteRange",
    "Event",
    "Guard",
    "KeyValue",
    "Operation",
    "Page",
    "Put",
    "Store",
    "Txn",
    "WatchBatch",
]
