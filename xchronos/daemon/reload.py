"""Reading the settings again while the daemon runs (SIGHUP): which of them are taken up, and which need a restart.

`TAKEN_UP` says which. `main._reload_on` hears the signal and reads, and when that fails, all settings stay as they are;
`Daemon.reload` applies each one that is taken up, by a line of its own
(`test_what_is_taken_up_changes_what_the_daemon_does`).
"""

from collections.abc import Sequence

import msgspec

from xchronos.config import Settings
from xchronos.config.settings import SETTINGS, file_name

TAKEN_UP = frozenset(
    (
        "metadata",
        "api_token",
        "read_paths",
        "api_token_file",
        "slots",
        "memory",
        "cpus",
        "shutdown_grace",
        "log_limit",
        "log_format",
        "log_level",
    )
)
"""The settings that a running daemon takes up. The others are what it was built of."""


class Reloaded(msgspec.Struct, frozen=True):
    """What came of reading the settings again.

    Attributes:
        settings: Those that are in force from now on.
        taken_up: The names of those that have changed, and are in force now.
        need_restart: The names of those that have changed, and stay as they were until the daemon is started anew.
    """

    settings: Settings
    taken_up: Sequence[str] = ()
    need_restart: Sequence[str] = ()


def merged(old: Settings, new: Settings) -> Reloaded:
    """What is in force when these settings are read while those are in force."""
    changed = [name for name in SETTINGS if getattr(new, name) != getattr(old, name)]
    taken = {name: getattr(new, name) for name in changed if name in TAKEN_UP}
    return Reloaded(
        msgspec.structs.replace(old, **taken),
        [file_name(name) for name in taken],
        [file_name(name) for name in changed if name not in TAKEN_UP],
    )
