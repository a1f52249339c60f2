"""The bodies of requests that ask for something to be done; a submission is in `messages`.

The CLI imports this module whenever it starts, so it imports little itself.
"""

from typing import Annotated

import msgspec

LONGEST_DRAIN = 366 * 86_400
"""The longest time that a drain may take, in seconds. Whoever wants longer wants a cordon."""


class StartRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How to start a unit by hand."""

    payload: str = ""
    """What its steps find in XCHRONOS_PAYLOAD; empty: what the unit itself says."""

    by: str = ""
    """Who starts it, for the record."""


class ResumeRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How to resume a paused unit."""

    skip_missed: bool = False
    """Whether the fire times that fell into the pause are only recorded as missed; else the misfire policy decides."""


class DestroyRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which units to destroy together."""

    units: tuple[str, ...]
    """Their names, at most `limits.UNITS_DESTROYED`."""

    keep_file: bool = False
    """Whether also those that come from a file of a directory, which may bring them back."""


class StopRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Why something is stopped."""

    reason: str = ""
    """The reason, for the record; empty: that `by` has stopped it."""

    by: str = ""
    """Who stops it."""


class CordonRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Why a machine is cordoned."""

    reason: str = ""
    """For people who look at the machine."""


class DrainRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a machine is drained."""

    seconds: Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": LONGEST_DRAIN})]
    """How long what it runs may still take, in seconds."""

    reason: str = ""
    """For people who look at the machine."""


class MetadataRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to change of a machine's metadata."""

    set: dict[str, str] = {}
    """Keys that it shall have, with their values."""

    unset: tuple[str, ...] = ()
    """Keys that it shall not have, its configuration's too."""
