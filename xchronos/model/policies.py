"""The choices that a unit file makes, as closed vocabularies and small values."""

from enum import StrEnum
from typing import Literal

import msgspec

from xchronos.clock import SECOND, Micros

Concurrency = Literal["allow", "forbid", "replace", "queue"]
"""What happens to a fire time while an earlier execution of the unit is still active."""

LoadBalancing = Literal["workload", "random", "round-robin"]
"""How one of several suitable machines is chosen."""

OnPartition = Literal["continue", "stop"]
"""What a machine does with an attempt when it can no longer reach the store."""

ExecutorName = Literal["docker", "process", "http", "python"]
"""What runs a step that is not a docker command line."""

Backoff = Literal["constant", "exponential"]


class MisfirePolicy(StrEnum):
    """What becomes of fire times that were found too late (TIME.md 5). Quartz's words."""

    SMART = "SMART_POLICY"
    FIRE_NOW = "FIRE_NOW"
    IGNORE = "IGNORE_MISFIRE_POLICY"
    NEXT_WITH_EXISTING = "RESCHEDULE_NEXT_WITH_EXISTING_COUNT"
    NEXT_WITH_REMAINING = "RESCHEDULE_NEXT_WITH_REMAINING_COUNT"
    NOW_WITH_EXISTING = "RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT"
    NOW_WITH_REMAINING = "RESCHEDULE_NOW_WITH_REMAINING_REPEAT_COUNT"


class Outcome(StrEnum):
    """How an execution (or one attempt of it) ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    MISSED = "missed"
    SKIPPED = "skipped"


class Misfire(msgspec.Struct, frozen=True):
    """When a fire time is too late, and what happens then.

    A fire time is a misfire when it is found more than `threshold` microseconds late. `limit` bounds how many missed
    fire times IGNORE_MISFIRE_POLICY fires at once.
    """

    policy: MisfirePolicy = MisfirePolicy.SMART
    threshold: Micros = 60 * SECOND
    limit: int = 100


class Retry(msgspec.Struct, frozen=True):
    """How stubbornly one fire time is tried: at most `max_attempts`, `delay` microseconds apart.

    With exponential backoff the delay doubles from attempt to attempt, up to `max_delay`. `max_attempts` 0 means
    no limit (a unit that is kept running).
    """

    max_attempts: int = 1
    delay: Micros = 0
    backoff: Backoff = "constant"
    max_delay: Micros | None = None
