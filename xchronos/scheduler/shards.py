"""Which scheduler should own which shard: balanced, the same for everybody who sees the same, with the fewest moves."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b

NOTHING: Mapping[str, Mapping[int, int]] = {}
"""Everybody can read everything."""


def assign(
    count: int, members: Collection[str], held: Mapping[int, str], lacks: Mapping[str, Mapping[int, int]] = NOTHING
) -> dict[int, str]:
    """The owner that each of the shards 0 to `count` - 1 should have, among the living schedulers `members`.

    Every member gets `count // len(members)` shards or one more. A shard that a member holds moves only when that
    member holds too many; what has to find an owner goes by rendezvous hash, to the member with the highest score for
    it that has room. So a scheduler that joins takes its share and no shard more changes hands, and one that leaves
    bequeaths what it had and nothing else.

    A shard of which some members cannot read as much as others goes to one of those that can read most of it, and
    stays there; who has got more than a share that way gets nothing else.

    It may be asked again at any point of the moves, when a shard has left one owner and has not reached the other yet:
    whatever the order, no shard changes hands twice, and what was to stay stays.

    Args:
        count: How many shards there are.
        members: The ids of the living schedulers; nobody owns anything when there are none.
        held: Who holds a shard now. A holder that is no member counts as none.
        lacks: By member and shard, how many units of the shard the member cannot read. What is missing is 0.
    """
    if not members:
        return {}
    owners = _pinned(count, members, held, lacks)
    pinned = Counter(owners.values())
    holdings: dict[str, list[int]] = {member: [] for member in members}
    for shard in range(count):
        holder = held.get(shard, "")
        if holder in holdings and shard not in owners:
            holdings[holder].append(shard)
    # Who holds most keeps one more than the others: fewer shards move.
    order = sorted(
        holdings, key=lambda member: (-len(holdings[member]) - pinned[member], -score(count, member), member)
    )
    room = _room(count, order, pinned)
    for member, shards in holdings.items():
        kept = sorted(shards, key=lambda shard: (-score(shard, member), shard))[: room[member]]
        owners.update((shard, member) for shard in kept)
        room[member] -= len(kept)
    pairs = sorted(
        (-score(shard, member), shard, member)
        for shard in range(count)
        if shard not in owners
        for member, free in room.items()
        if free
    )
    for _, shard, member in pairs:
        if shard not in owners and room[member]:
            owners[shard] = member
            room[member] -= 1
    return owners


def _pinned(
    count: int, members: Collection[str], held: Mapping[int, str], lacks: Mapping[str, Mapping[int, int]]
) -> dict[int, str]:
    """The owners of the shards that not every member can read equally well."""
    owners: dict[int, str] = {}
    for shard in sorted({shard for member in members for shard in lacks.get(member, {}) if shard < count}):
        unread = {member: lacks.get(member, {}).get(shard, 0) for member in members}
        least = min(unread.values())
        best = [member for member in members if unread[member] == least]
        if len(best) < len(members):
            holder = held.get(shard, "")
            owners[shard] = holder if holder in best else max(best, key=lambda member: (score(shard, member), member))
    return owners


def _room(count: int, order: Sequence[str], pinned: Mapping[str, int]) -> dict[str, int]:
    """How many of the other shards each member gets, so that all have as many as can be: the first have one more."""
    full: dict[str, int] = {}
    while True:
        rest = [member for member in order if member not in full]
        share, extra = divmod(count - sum(full.values()), len(rest))
        wanted = {member: share + (1 if rank < extra else 0) for rank, member in enumerate(rest)}
        over = {member: pinned[member] for member in rest if pinned[member] > wanted[member]}
        if not over:
            return {member: wanted[member] - pinned[member] if member in wanted else 0 for member in order}
        full |= over


@lru_cache(maxsize=4_096)
def score(shard: int, member: str) -> int:
    """How much a member is the right one for a shard: a stable hash of both, the same in every version."""
    return int.from_bytes(blake2b(f"{shard}/{member}".encode(), digest_size=8).digest(), "big")
