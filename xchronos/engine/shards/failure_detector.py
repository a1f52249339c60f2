"""Schedulers that seem to be dead, before the store knows: their leases have not ended yet."""

from collections.abc import Mapping

from xchronos.clock import SECOND, Clock, Micros
from xchronos.registry.roster import Roster

MAY_STAY_FREE: Micros = SECOND // 2
"""How long a free shard may wait for the scheduler that should take it before others suspect that scheduler."""


class FailureDetector:
    """Members that were to take a shard, and did not.

    A scheduler that has died is a member until its lease ends. A shard that others leave meanwhile may be meant for it,
    and then nobody takes it. A suspected member is left out of account until it writes anything below
    `Keys.scheduling`. Only the balance of shards depends on suspicions: what is written is guarded by terms.
    """

    def __init__(self, clock: Clock, owner: str) -> None:
        self._clock = clock
        self._owner = owner
        self._since: dict[tuple[int, str], Micros] = {}
        self._short_since: Micros | None = None
        self._suspected: set[str] = set()

    def trusted(self, roster: Roster) -> list[str]:
        """The members that are not suspected."""
        self._suspected &= roster.members.keys()
        return [member for member in roster.members if member not in self._suspected]

    def heard(self, member: str) -> None:
        """It has written something."""
        self._suspected.discard(member)
        self._since = {who: since for who, since in self._since.items() if who[1] != member}

    @property
    def waiting(self) -> bool:
        """Whether there is anybody to lose patience with."""
        return bool(self._since)

    def look(self, roster: Roster, owners: Mapping[int, str]) -> bool:
        """See who lets a free shard wait. Whether somebody is newly suspected: then the owners are others."""
        now = self._clock.monotonic()
        free = {
            (number, owner) for number, owner in owners.items() if number not in roster.shards and owner != self._owner
        }
        self._since = {who: self._since.get(who, now) for who in free}
        late = {member for (_, member), since in self._since.items() if now - since >= MAY_STAY_FREE}
        self._suspected |= late
        return bool(late)

    def is_overlooked(self, roster: Roster, owners: Mapping[int, str]) -> bool:
        """Whether others have kept what this scheduler should have for so long that they seem to suspect it.

        Said once in a while; who is told has to write something.
        """
        short = any(
            owner == self._owner and number in roster.shards and roster.shards[number].owner != self._owner
            for number, owner in owners.items()
        )
        now = self._clock.monotonic()
        if not short:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        elif now - self._short_since >= 4 * MAY_STAY_FREE:
            self._short_since = now
            return True
        return False
