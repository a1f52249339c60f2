"""Policy, as pure functions; the configured role `scheduler` is carried out by `engine/`, which asks this room.

Values go in, a decision with its reasons comes out. No I/O, no event loop, no clock, no randomness, no log.

| what is decided | function | asked by |
|---|---|---|
| what a new or changed unit begins with, and what ends | `acceptance.accept_change` | engine/reconcile/units |
| what due fire times become | `fire.fire` | engine/reconcile/fires |
| what becomes of an execution that no machine has | `pending.consider` | engine/reconcile/pending |
| what follows the end of an attempt | `completion.complete`, `completion.chain` | engine/reconcile/completions |
| what a lost machine's executions become | `completion.lose` | engine/reconcile/lost |
| what one that was not begun becomes, when it has to leave | `completion.take_back` | engine/reconcile/lost |
| what must not stay on its machine | `eviction.must_leave`, `eviction.moves_away` | engine/reconcile/evictions |
| whom a unit replaces on a machine | `eviction.whom_it_replaces` | engine/reconcile/evictions |
| what a start by hand or by another unit is made of | `starts.started`, `starts.lacking` | registry, completion |
| when a unit's TTL ends | `timing.schedule.expires_at` | engine/state/due_queue |
| which copies machines lack of a Global unit | `starts.spread` | engine/reconcile/global_units |
| which machines can, which are preferred | `feasibility`, `ranking`, `placement` | the deciders above |
| whether the cluster has room, or enough to begin | `feasibility.has_room`, `have_enough_to_begin` | engine/reconcile |
| whether a machine may still begin it | `feasibility.unfit`, `feasibility.crowded` | agent/admission |
| what goes on when its machine has lost its lease | `policies.partition.outlives_lease` | agent/placement |
| which scheduler owns which shard | `shards.assign` | engine/shards/ownership |
| why it does not run | `explain.explain`, by the same functions | api |

`view.View` is what a decision about one unit may read. `policies` has one function for what one key of a unit says, and
`timing` computes what is due when. `reasons` (of executions) and `rejections` (of machines) have every text.
"""
