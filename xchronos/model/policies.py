"""The policies of a unit: closed vocabularies and small values, as its file chooses them."""

from enum import StrEnum
from typing import Literal

import msgspec

from xchronos.clock import SECOND, Micros

Concurrency = Literal["allow", "forbid", "replace", "queue"]
"""What happens to a fire time while an earlier execution of the unit is active.

`allow`: both run. `forbid`: the fire time is recorded as skipped. `replace`: the earlier one is stopped. `queue`: the
fire time waits for the end of the earlier one.
"""

LoadBalancing = Literal["workload", "random", "round-robin"]
"""How one of several suitable machines is chosen: the least loaded, by a hash of the execution's id, or in turn."""

OnPartition = Literal["continue", "stop"]
"""What a machine does with an attempt while it cannot reach the store.

`continue`: the attempt goes on, although another machine may start it again. `stop`: the machine ends the attempt
before another machine can start it.
"""

ExecutorName = Literal["docker", "process", "http", "python"]
"""What runs the steps that are no docker command lines."""

Backoff = Literal["constant", "exponential"]


class MisfirePolicy(StrEnum):
    """What becomes of *misfires*: fire times that are found more than the threshold late. The words are Quartz's.

    Each policy has two readings. For a trigger that is `restartable` (simple, one-shot, ISO 8601 with a count), the
    *count* is the number of fires still to come:

    - FIRE_NOW: a one-shot fires now. Others: as NOW_WITH_REMAINING.
    - IGNORE: every missed fire time fires immediately, in order, each for its own instant, up to the limit. The rest is
      recorded as missed.
    - NEXT_WITH_EXISTING: the next instant of the grid. Missed ones are not charged to the count, so the total is kept,
      if need be after the original last slot.
    - NEXT_WITH_REMAINING: the next instant of the grid. Missed ones are charged to the count.
    - NOW_WITH_EXISTING: the grid begins anew now, with the count not executed yet, so the total is kept.
    - NOW_WITH_REMAINING: the grid begins anew now. Missed ones are charged, and this fire stands for one of them.
    - SMART: a one-shot fires now, an endless trigger is as NEXT_WITH_REMAINING, others are as NOW_WITH_EXISTING.

    For all other triggers, FIRE_NOW, SMART and both NOW policies fire once for everything that was missed, and go on
    with the schedule. Both NEXT policies drop what was missed. IGNORE is the same as above.

    `xchronos.scheduler.policies.misfire` implements this.
    """

    SMART = "SMART_POLICY"
    FIRE_NOW = "FIRE_NOW"
    IGNORE = "IGNORE_MISFIRE_POLICY"
    NEXT_WITH_EXISTING = "RESCHEDULE_NEXT_WITH_EXISTING_COUNT"
    NEXT_WITH_REMAINING = "RESCHEDULE_NEXT_WITH_REMAINING_COUNT"
    NOW_WITH_EXISTING = "RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT"
    NOW_WITH_REMAINING = "RESCHEDULE_NOW_WITH_REMAINING_REPEAT_COUNT"


class Outcome(StrEnum):
    """How an execution, or one attempt of it, ended.

    `missed`: it was not started in time. `skipped`: a condition or Concurrency=forbid says that it shall not run.
    `lost`: its machine is gone, or what became of it cannot be known.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    MISSED = "missed"
    SKIPPED = "skipped"


class Misfire(msgspec.Struct, frozen=True):
    """When a fire time is a misfire, and what happens then."""

    policy: MisfirePolicy = MisfirePolicy.SMART
    threshold: Micros = 60 * SECOND
    """In microseconds. A fire time that is found later than this is a misfire; up to it, it fires normally."""
    limit: int = 100
    """The largest number of missed fire times that IGNORE_MISFIRE_POLICY fires, for the unit."""


class Retry(msgspec.Struct, frozen=True):
    """How often one fire time is tried, and the pauses between the attempts."""

    max_attempts: int = 1
    """The largest number of attempts. 0 means no limit; a unit that is kept running has none."""
    delay: Micros = 0
    """The pause between two attempts, in microseconds."""
    backoff: Backoff = "constant"
    """With `exponential`, the pause doubles from attempt to attempt."""
    max_delay: Micros | None = None
    """The longest pause, in microseconds, of a pause that grows. None: `model.unit.MAX_DELAY`, or a longer delay."""
    growth_steps: int = 0
    """RestartSteps=: the number of pauses in which `delay` grows to `max_delay`. 0: `backoff` says how it grows."""
    forced_only: bool = False
    """Whether only the ends that RestartForceExitStatus= lists are followed by another attempt."""
