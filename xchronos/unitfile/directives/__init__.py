"""systemd's keys: which exist, how their values are read, and what they mean to xchronos.

`check` judges one assignment as `systemd-analyze verify` does, in the version of systemd that is asked for. `meaning`
says whether xchronos acts on a key. The compiler of units uses the `parse_*` functions: each returns a typed value or
raises InvalidValue.

To see how a key is judged, start in `table`. It maps every key to its *kind*, which is a function that judges values:

- `kinds` (single values), `lists`, `resources`, `sandbox`, `streams`: the kinds.
- `versions`: which version of systemd knows what. `verdict`: the type of the kinds' results.
- `scalars`, `signals`, `capabilities`: the parsers. `forms`: the spellings of systemd's output.
"""

from xchronos.unitfile.directives.capabilities import parse_capabilities
from xchronos.unitfile.directives.check import check, is_known
from xchronos.unitfile.directives.meanings import Meaning, meaning
from xchronos.unitfile.directives.resources import Amount, parse_cpu_quota, parse_memory, parse_tasks
from xchronos.unitfile.directives.scalars import (
    Rlimit,
    parse_bool,
    parse_integer,
    parse_mode,
    parse_percent,
    parse_rlimit,
    parse_size,
)
from xchronos.unitfile.directives.signals import (
    ExitNumbers,
    Signal,
    parse_exit_status,
    parse_exit_statuses,
    parse_signal,
)
from xchronos.unitfile.directives.verdict import DirectiveOutcome, DirectiveVerdict
from xchronos.unitfile.directives.versions import NEWEST, OLDEST

__all__ = [
    "NEWEST",
    "OLDEST",
    "Amount",
    "DirectiveOutcome",
    "DirectiveVerdict",
    "ExitNumbers",
    "Meaning",
    "Rlimit",
    "Signal",
    "check",
    "is_known",
    "meaning",
    "parse_bool",
    "parse_capabilities",
    "parse_cpu_quota",
    "parse_exit_status",
    "parse_exit_statuses",
    "parse_integer",
    "parse_memory",
    "parse_mode",
    "parse_percent",
    "parse_rlimit",
    "parse_signal",
    "parse_size",
    "parse_tasks",
]
