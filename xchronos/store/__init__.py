"""Where everything durable is kept: a narrow, ordered key-value contract and the stores that serve it.

Start with `contract`: it says in words what a store promises. `memory` is its plainest implementation, and the one to
read beside it. `sqlite` is the embedded default (one daemon), `etcd` and `consul` are for clusters.

- `transactions` says what a Txn means; `paging`, `history`, `watching` and `leases` do the rest of the contract in
  memory. The embedded stores share all of them, and Consul's mirror most of them.
- `batcher` and `reading` are for the callers of any store: many small Txns in few requests, many keys in few pages.
- `recent` keeps in memory what was used last.
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
