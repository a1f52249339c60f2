"""Which scheduler should own which shard: balanced, the same for everybody who sees the same, with the fewest moves."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import blake2b


def assign(count: int, members: Collection[str], held: Mapping[int, str]) -> dict[int, str]:
    """The owner that each of the shards 0 to `count` - 1 should have, among the living schedulers `members`.

    Every member gets `count // len(members)` shards or one more. A shard that a member holds moves only when that
    member holds too many; what has to find an owner goes by rendezvous hash, to the member with the highest score for
    it that has room. So a scheduler that joins takes its share and no shard more changes hands, and one that leaves
    bequeaths what it had and nothing else.

    It may be asked again at any point of the moves, when a shard has left one owner and has not reached the other yet:
    whatever the order, no shard changes hands twice, and what was to stay stays.

    Args:
        count: How many shards there are.
        members: The ids of the living schedulers; nobody owns anything when there are none.
        held: Who holds a shard now. A holder that is no member counts as none.
    """
    if not members:
        return {}
    share, extra = divmod(count, len(members))
    holdings: dict[str, list[int]] = {member: [] for member in members}
    for shard in range(count):
        holder = held.get(shard, "")
        if holder in holdings:
            holdings[holder].append(shard)
    # Who holds most keeps one more than the others: fewer shards move.
    order = sorted(holdings, key=lambda member: (-len(holdings[member]), -score(count, member), member))
    room = {member: share + (1 if rank < extra else 0) for rank, member in enumerate(order)}
    owners: dict[int, str] = {}
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


@lru_cache(maxsize=4_096)
def score(shard: int, member: str) -> int:
    """How much a member is the right one for a shard: a stable hash of both, the same in every version."""
    return int.from_bytes(blake2b(f"{shard}/{member}".encode(), digest_size=8).digest(), "big")
