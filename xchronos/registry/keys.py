"""The keys of the store. This is the only module that spells them.

```
/xchronos/etc/jobs/<unit>                            UnitRecord
/xchronos/etc/executors/<machine>                    Machine           (lease)
/xchronos/etc/machines/<machine>                     MachineWish
/xchronos/var/scheduler/election                     the leader's machine id   (lease)
/xchronos/var/scheduler/shards/<n>                   the owner's machine id    (lease); its create revision is the term
/xchronos/var/scheduler/members/<machine>            SchedulerRecord   (lease)
/xchronos/var/pulse/scheduler/<machine>              a revision: how far its watch has come    (lease)
/xchronos/var/schedules/<unit>                       Schedule
/xchronos/var/pending/<unit>/<fire>/<copy>           Execution that waits, is queued, or is delayed
/xchronos/var/placements/<machine>/<unit>/<fire>/<copy>   Execution that a machine has
/xchronos/var/executions/<unit>/<fire>/<copy>        Execution that has ended
/xchronos/var/machines/<machine>                     KnownMachine
/xchronos/var/refused/<unit>/<machine>               RefusedFile       (lease)
```
`(lease)` says that the key is bound to the lease of the machine that wrote it, and disappears with it.

The keys of jobs, executors and the election, and their values, are those of the system that xchronos succeeds. They
must not change. A namespace is the same tree below `/xchronos/ns/<name>/`.
"""

import re
from functools import lru_cache
from hashlib import blake2b

from xchronos.errors import InvalidValue

SHARDS = 16
"""The number of shards into which units are divided. It decides which scheduler may write what, so it is fixed."""

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Keys:
    """The keys of one namespace; "" is the default one. Attributes are prefixes, except `namespace` and `election`.

    Raises InvalidValue for a name that is no namespace.
    """

    def __init__(self, namespace: str = "") -> None:
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise InvalidValue(
                f"namespace {namespace!r}: expected 1 to 63 letters, digits, '.', '_' or '-', "
                "the first a letter or digit"
            )
        self.namespace = namespace
        self.root = f"/xchronos/ns/{namespace}/" if namespace else "/xchronos/"
        self.jobs = self.root + "etc/jobs/"
        self.machines = self.root + "etc/executors/"
        self.wishes = self.root + "etc/machines/"
        self.scheduling = self.root + "var/scheduler/"
        """The common prefix of `election`, `shards` and `members`. A watch on it shows which machine schedules what."""
        self.election = self.scheduling + "election"
        self.shards = self.scheduling + "shards/"
        self.members = self.scheduling + "members/"
        self.schedules = self.root + "var/schedules/"
        self.pending = self.root + "var/pending/"
        self.placements = self.root + "var/placements/"
        self.executions = self.root + "var/executions/"
        self.known_machines = self.root + "var/machines/"
        self.refused = self.root + "var/refused/"
        self.pulses = self.root + "var/pulse/scheduler/"
        self.live = self.root + "var/p"
        """The common prefix of `pending`, `placements` and `pulses`. A watch on it shows executions' moves in order.

        A scheduler that watches it and sees its own pulse has seen everything that was written before the pulse.
        """

    def job(self, unit: str) -> str:
        """The key of a unit's record."""
        return self.jobs + unit

    def machine(self, machine: str) -> str:
        """The key of the record that a machine's agent writes."""
        return self.machines + machine

    def wish(self, machine: str) -> str:
        """The key of the record in which people say how a machine shall be."""
        return self.wishes + machine

    def shard(self, number: int) -> str:
        """The key of a shard's ownership."""
        return f"{self.shards}{number}"

    def member(self, machine: str) -> str:
        """The key of a living scheduler's record."""
        return self.members + machine

    def pulse(self, machine: str) -> str:
        """The key that a scheduler writes to see how far its own watch has come."""
        return self.pulses + machine

    def schedule(self, unit: str) -> str:
        """The key of a unit's cursor."""
        return self.schedules + unit

    def pending_execution(self, execution: str) -> str:
        """The key of an execution, given by its id, that no machine has."""
        return self.pending + execution

    def placement(self, machine: str, execution: str) -> str:
        """The key of an execution, given by its id, that `machine` has."""
        return f"{self.placements}{machine}/{execution}"

    def machine_placements(self, machine: str) -> str:
        """The prefix of all executions that `machine` has."""
        return f"{self.placements}{machine}/"

    def execution(self, execution: str) -> str:
        """The key of an execution, given by its id, that has ended."""
        return self.executions + execution

    def history(self, unit: str) -> str:
        """The prefix of a unit's ended executions. They sort by fire time."""
        return f"{self.executions}{unit}/"

    def locate(self, key: str) -> tuple[str, str]:
        """(machine, execution id) of a key below `pending` or `placements`. Below `pending` the machine is empty."""
        if key.startswith(self.pending):
            return "", key[len(self.pending) :]
        return self.split_placement(key)

    def location(self, machine: str, execution: str) -> str:
        """The key of an execution that `machine` has. If `machine` is empty, no machine has it."""
        return self.placement(machine, execution) if machine else self.pending + execution

    def split_placement(self, key: str) -> tuple[str, str]:
        """(machine, execution id) of a placement's key."""
        machine, _, execution = key[len(self.placements) :].partition("/")
        return machine, execution


@lru_cache(maxsize=1 << 16)
def shard_of(unit: str) -> int:
    """The shard of a unit: a hash of its name, the same on every machine and in every version.

    `test_the_shard_of_a_unit_never_changes` pins that.
    """
    return int.from_bytes(blake2b(unit.encode(), digest_size=4).digest(), "big") % SHARDS


def unit_of(execution: str) -> str:
    """The unit's name in an execution's id. Unit names have no slash."""
    return execution.partition("/")[0]
