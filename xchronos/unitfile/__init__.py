"""Unit files: text in, values out. Nothing here reads a file, a clock or the machine.

The rules are those of systemd 252 to 262: `directives.versions` says what differs between them. The package
`fleet` holds what fleet 1.0 read differently. Start with `syntax.parse`, which makes a
`document.UnitFile` of a file's text. All else reads the values of its options:

- `syntax`, `document`, `dropins`: the file, its options with their lines, and the merge with its drop-ins.
- `words`, `execline`, `environment`: how a value is split into words, commands and variables.
- `names`, `specifiers`: the name of a unit, and the `%` letters that stand for parts of it or of the machine.
- `timespan`: lengths of time.
- `directives`: every key that systemd knows, with a judge for its value.
- `lint`, `shell_syntax`, `suggest`, `glob`: hints for authors, the nearest known word, fleet's patterns of unit names.
"""

from xchronos.unitfile.document import Header, Option, UnitFile
from xchronos.unitfile.dropins import merge, select_dropins
from xchronos.unitfile.environment import (
    Environment,
    is_valid_variable,
    parse_env_file,
    parse_environment,
    parse_variable_names,
    unset_variables,
)
from xchronos.unitfile.execline import (
    SHELL,
    Command,
    ExecLine,
    ExecLines,
    expand_variables,
    misread_variable,
    parse_exec,
    variable_names,
)
from xchronos.unitfile.fleet.syntax import parse_fleet
from xchronos.unitfile.lint import lint
from xchronos.unitfile.names import UnitName, dropin_directories, escape, is_valid_name, mangle, unescape
from xchronos.unitfile.specifiers import HostFacts, expand, expand_fleet, needs_host
from xchronos.unitfile.suggest import did_you_mean, suggest
from xchronos.unitfile.syntax import parse
from xchronos.unitfile.timespan import format_timespan, parse_duration, parse_timeout, parse_timespan
from xchronos.unitfile.words import Escapes, split_words

__all__ = [
    "SHELL",
    "Command",
    "Environment",
    "Escapes",
    "ExecLine",
    "ExecLines",
    "Header",
    "HostFacts",
    "Option",
    "UnitFile",
    "UnitName",
    "did_you_mean",
    "dropin_directories",
    "escape",
    "expand",
    "expand_fleet",
    "expand_variables",
    "format_timespan",
    "is_valid_name",
    "is_valid_variable",
    "lint",
    "mangle",
    "merge",
    "misread_variable",
    "needs_host",
    "parse",
    "parse_duration",
    "parse_env_file",
    "parse_environment",
    "parse_exec",
    "parse_fleet",
    "parse_timeout",
    "parse_timespan",
    "parse_variable_names",
    "select_dropins",
    "split_words",
    "suggest",
    "unescape",
    "unset_variables",
    "variable_names",
]
