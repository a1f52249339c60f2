"""From a TOML file, the environment and the command line to Settings."""

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xchronos.config.settings import PREFIX, SETTINGS, TABLES, Settings, file_name, flag_of, variable_of
from xchronos.errors import ConfigError, InvalidValue
from xchronos.unitfile.suggest import did_you_mean, suggest

_BY_FILE_NAME = {file_name(name): name for name in SETTINGS}
_VARIABLES = {variable_of(name): name for name in SETTINGS}
_OTHER_VARIABLES = frozenset(
    PREFIX + name for name in ("CONFIG", "UNIT", "EXECUTION", "FIRE_TIME", "ATTEMPT", "COPY", "MACHINE", "PAYLOAD")
)
"""The other variables of that prefix. A daemon may itself be a step of a unit, and then finds them."""


def config_files(explicit: Path | None, environ: Mapping[str, str], *, root: bool | None = None) -> list[Path]:
    """The files to load: the one that was named, else the usual one if it is there, else none.

    Args:
        explicit: The file that `--config` names; None: XCHRONOS_CONFIG may name one.
        environ: The environment.
        root: Whether the usual file is in /etc, or in the user's own configuration; None: the user decides that.
    """
    named = explicit or (Path(environ["XCHRONOS_CONFIG"]) if environ.get("XCHRONOS_CONFIG") else None)
    if named is not None:
        return [named]
    if os.geteuid() == 0 if root is None else root:
        usual = Path("/etc/xchronos/xchronosd.toml")
    else:
        home = _xdg(environ, "XDG_CONFIG_HOME", ".config")
        if home is None:
            return []
        usual = home / "xchronos/xchronosd.toml"
    return [usual] if usual.exists() else []


def load(
    flags: Mapping[str, object], environ: Mapping[str, str], files: Sequence[Path] = (), *, root: bool | None = None
) -> Settings:
    """The settings that are in force.

    Args:
        flags: The command line's values by the setting's name (`api_listen`). None and empty lists count as not given.
        environ: The environment. Besides variables that begin with XCHRONOS_, only XDG_STATE_HOME and HOME are read.
        files: TOML files, each of which must be there. A later one overrides an earlier one.
        root: Whether the state is in /var/lib, or in the user's home; None: the user decides that.

    Raises:
        ConfigError: with everything that is wrong, and where each of it was given.
    """
    problems: list[str] = []
    made: dict[str, Any] = {}
    for file in files:
        _take(_from_file(file, problems), made, problems)
    given = ((name, variable, environ.get(variable)) for variable, name in _VARIABLES.items())
    _take(((name, variable, value) for name, variable, value in given if value), made, problems)
    _take(_from_flags(flags, problems), made, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    if "state_directory" not in made:
        made["state_directory"] = _default_state(environ, root=os.geteuid() == 0 if root is None else root)
    return Settings(**made)


def misspelt_variables(environ: Mapping[str, str]) -> list[str]:
    """A warning for each variable that looks like a setting and is none, with the one that was probably meant."""
    found = []
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in _VARIABLES and variable not in _OTHER_VARIABLES:
            meant = suggest(variable.removeprefix(PREFIX).lower(), SETTINGS)
            if meant:
                found.append(f"{variable} is no setting, did you mean {variable_of(meant)}?")
    return found


def _take(given: Iterable[tuple[str, str, object]], made: dict[str, Any], problems: list[str]) -> None:
    """Read values into `made`; each comes with its setting's name and where it was given. Errors go to `problems`."""
    for name, origin, value in given:
        try:
            made[name] = SETTINGS[name].read(value)
        except InvalidValue as error:
            problems.append(f"{origin}: {error}")


def _from_flags(flags: Mapping[str, object], problems: list[str]) -> list[tuple[str, str, object]]:
    given: list[tuple[str, str, object]] = []
    for name, value in flags.items():
        if name not in SETTINGS:
            problems.append(f"{flag_of(name)}: no such setting{did_you_mean(name, SETTINGS)}")
        elif value is not None and value not in ((), []):
            given.append((name, flag_of(name), value))
    return given


def _from_file(file: Path, problems: list[str]) -> list[tuple[str, str, object]]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror}")
        return []
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{file}: {error}")
        return []
    written: list[tuple[str, object]] = []
    for key, value in content.items():
        if key not in TABLES:
            written.append((key, value))
        elif isinstance(value, dict):
            written.extend((f"{key}.{inner}", part) for inner, part in value.items())
        else:
            problems.append(f"{file}: {key}: {value!r}: expected a table, [{key}]")
    given: list[tuple[str, str, object]] = []
    for key, value in written:
        name = _BY_FILE_NAME.get(key)
        if name is not None:
            given.append((name, f"{file}: {key}", value))
            continue
        # Everywhere but in the file, the setting `listen` of `[api]` is called `api_listen`: hence the hint.
        hint = f", did you mean {file_name(key)}?" if key in SETTINGS else did_you_mean(key, _BY_FILE_NAME)
        problems.append(f"{file}: {key}: no such setting{hint}")
    return given


def _default_state(environ: Mapping[str, str], *, root: bool) -> Path:
    if root:
        return Path("/var/lib/xchronos")
    home = _xdg(environ, "XDG_STATE_HOME", ".local/state")
    if home is None:
        raise ConfigError("state_directory: there is no HOME to keep the state in: give --state-directory")
    return home / "xchronos"


def _xdg(environ: Mapping[str, str], variable: str, usual: str) -> Path | None:
    """An XDG base directory; None without a home. A relative one does not count, as their specification says."""
    given = environ.get(variable, "")
    if given.startswith("/"):
        return Path(given)
    home = environ.get("HOME", "")
    return Path(home) / usual if home else None
