"""Why an execution is as it is, and why a schedule has ended: a code for programs, and its phrase for people.

Every text that a decision of this room writes into a record is made here. (Why a *machine* is refused is in
`rejections`; why an attempt has ended, its agent says.) No decision depends on such a text, but on the records' other
fields. A record that says the same already is not written again, that is all.
"""

from typing import Literal

import msgspec

ReasonCode = Literal[
    "asked",
    "attempt",
    "attempt-ended",
    "attempt-lost",
    "attempt-not-begun",
    "attempt-taken-back",
    "availability",
    "chained",
    "crowd",
    "deadline",
    "destroyed",
    "drained",
    "every-machine",
    "exhausted",
    "exhausted-not-after",
    "exhausted-ttl",
    "follows-peer",
    "kept-everywhere",
    "kept-running",
    "last-fire-passed",
    "machine-gone",
    "machine-lost",
    "machine-refuses",
    "max-runs",
    "misfire",
    "misfire-paused",
    "no-machine",
    "no-restart",
    "overlap",
    "randomized-delay",
    "replaced-by-fire",
    "replaced-by-unit",
    "restart-prevented",
    "stands",
    "stands-for-nothing",
    "started-again",
    "started-anew",
    "started-by",
    "template",
]

_PHRASES: dict[ReasonCode, str] = {
    "asked": "{why}",  # the words of whoever asked for it
    "attempt": "{why}",  # the words of the attempt itself
    "attempt-ended": "attempt {number} {of}{ended}{because}",
    "attempt-lost": "attempt {number} {how} {machine}{because}",
    "attempt-not-begun": "attempt {number} was not begun: {why}",
    "attempt-taken-back": "attempt {number} was lost with {machine}",
    "availability": "Availability={count} now",
    "chained": "{outcome} of {by}",
    "crowd": "{count} executions of the unit wait for a machine already ({why})",
    "deadline": "StartDeadline passed while it waited: {waited_for}",
    "destroyed": "the unit was destroyed",
    "drained": "{machine} is being drained{why}",
    "every-machine": "every machine has its copy",
    "exhausted": "its triggers have no further fire time",
    "exhausted-not-after": "no fire time is left up to NotAfter={at}",
    "exhausted-ttl": "no fire time is left before its TTL ends at {at}",
    "follows-peer": "{peer} is on another machine now (MachineOf)",
    "kept-everywhere": "it is kept running on every machine",
    "kept-running": "it is kept running",
    "last-fire-passed": "the last fire time of its triggers has passed",
    "machine-gone": "{machine} is gone",
    "machine-lost": "the machine was lost",
    "machine-refuses": "{machine} {why}",
    "max-runs": "MaxRuns={count} is reached",
    "misfire": "{count} {times} found more than MisfireThreshold late ({policy})",
    "misfire-paused": "{count} {times} in a pause of the unit ({policy})",
    "no-machine": "{why}",  # the rejections, counted
    "no-restart": "{ended}, and Restart= does not apply{because}",
    "overlap": "Concurrency={policy}: {why}",
    "randomized-delay": "RandomizedDelay: starts at {at}",
    "replaced-by-fire": "replaced by {by}",
    "replaced-by-unit": "{by} replaces it (Replaces=)",
    "restart-prevented": "RestartPreventExitStatus= lists how it ended{because}",
    "stands": "every machine that fits has had its copy; one that comes to fit gets it, until this is stopped",
    "stands-for-nothing": "the unit is none any more whose starts stand for machines to come",
    "started-again": "the unit was started again, as {by}",
    "started-by": "started by {by}",
    "started-anew": "kept running: it {ended}{because}",
    "template": "a template does not run itself, only its instances do",
}


class Reason(msgspec.Struct, frozen=True):
    """One reason. `text` is what people read, and what is written into a record."""

    code: ReasonCode
    text: str


NONE = Reason("attempt", "")
"""Nothing is to be said: the attempt's own result says it all."""


def because(code: ReasonCode, **details: object) -> Reason:
    """The reason with this code; `details` fill its phrase. Raises KeyError when one of them is missing."""
    return Reason(code, _PHRASES[code].format(**details))
