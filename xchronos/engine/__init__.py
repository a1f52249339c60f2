"""The engine: it carries out the configured role `scheduler`. Its policy is the pure room `xchronos.scheduler`'s.

It follows the store, loads what a decision needs, asks, and commits what was decided. From the bottom up:

- `state`: what is known, in memory; nothing there writes.
- `shards`: which units are this scheduler's to decide about.
- `committer`: decisions become writes, fenced, and are assumed in memory until the store has answered.
- `lost_machines`, `informer`, `adoption`: what the store's watches tell; and a shard that is new here.
- `reconcile`: one turn. `leader`: what one scheduler does for the whole cluster. `history_gc`: histories that are too
  long.
- `session`: from one reading of the store to the next. `engine`: the life of the role.
"""
