"""The `[Container]` section and the limits of `[Service]`, as one body that creates a container.

A value may have specifiers of the machine, which are unknown at submit. While a value is read, each of them is
*covered*: a stand-in of letters replaces it, which every key can read. Afterwards the result is *uncovered*. The tests
`test_the_names_are_filled_in_and_the_machines_stay` and `test_an_error_shows_it_as_it_was_written` pin this.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from xchronos.dockercli.body import empty_body
from xchronos.dockercli.options.resources import RESOURCE_KEYS, host_config_from_service
from xchronos.dockercli.quadlet.container import CONTAINER_KEYS, ContainerExtras, container_body
from xchronos.dockercli.quadlet.variables import Variables
from xchronos.errors import InvalidValue, Problem, Severity
from xchronos.model.compile.reader import problem_at
from xchronos.model.compile.refused import refused
from xchronos.model.unit import Container, ContainerOption
from xchronos.unitfile import (
    HostFacts,
    Option,
    UnitFile,
    UnitName,
    did_you_mean,
    expand,
    parse_environment,
    parse_variable_names,
    unset_variables,
)
from xchronos.unitfile.directives import is_known, meaning

CONTAINER_SECTION = "Container"

_SAME_SETTING = {
    "CPUs": "NanoCpus", "Memory": "Memory", "MemorySwap": "MemorySwap", "PidsLimit": "PidsLimit",
    "ReadOnly": "ReadonlyRootfs",
}  # fmt: skip
"""Keys of [Container] and the HostConfig field that they set.

Such a key overrules [Service] even if its value is the engine's default, which is not kept in the body.
"""

# A stand-in is a name, or for specifiers that are paths (`_PATHS`) an absolute path.
_SPECIFIER = re.compile(r"%([%A-Za-z0-9])")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_PATHS = frozenset("hsStCLETV")
_STAND_IN = re.compile(r"zq([0-9a-f]{2})qz|/zp([0-9a-f]{2})pz")


def read_container(file: UnitFile, name: UnitName, problems: list[Problem]) -> Container | None:
    """The unit's container. None if the file has no [Container].

    Specifiers of the name are filled in. Those of the machine stay as written. Problems are appended to `problems`.
    """
    if CONTAINER_SECTION not in file.sections:
        return None
    # Nearly no unit has specifiers here. Without any, there is nothing to uncover.
    covers = any("%" in option.value for option in file.options)
    uncovered: Callable[[Any], Any] = _uncover if covers else _as_is
    options: list[tuple[str, str, int]] = []
    places: dict[int, Option] = {}
    misread: set[str] = set()
    for number, option in enumerate(file.section(CONTAINER_SECTION), 1):
        try:
            options.append((option.name, _covered(option.value, name), number))
        except InvalidValue as error:
            problems.append(problem_at(option, str(error)))
            misread.add(option.name)
        places[number] = option
    variables = _variables(file, name)
    body, extras, found = container_body(options, variables, refused=misread)
    header = next(header for header in file.headers if header.name == CONTAINER_SECTION)
    for key, message, severity, number in found:
        place = places.get(number)
        if message.startswith("unknown key"):
            home = next((section for section in ("Unit", "Service") if is_known(section, key)), "")
            better = f": expected it in [{home}]" if home else did_you_mean(key, CONTAINER_KEYS, len(problems))
            message = f"unknown key{better}"  # noqa: PLW2901 - the same message, better
        problems.append(
            Problem(
                uncovered(message),
                place.file if place else header.file,
                place.line if place else header.line,
                CONTAINER_SECTION,
                key,
                severity,
            )
        )
    said = {key for key, value, _ in options if value}
    parts, service_problems = _of_service(file, name, said)
    problems.extend(problem_at(place, uncovered(message), severity) for place, message, severity in service_problems)
    merged = _merged(body, extras, parts)
    unknown = {key for key, value, _ in options if any(map(variables.is_open, _VARIABLE.findall(value)))}
    if not any(problem.severity == "error" for problem in problems):
        warned = refused(file, merged, unknown)
        problems.extend(problem_at(place, uncovered(message), "warning") for place, message in warned)
    made = Container(uncovered(extras.image), uncovered(merged), uncovered(extras))
    if not any("$" in value for _, value, _ in options):
        return made
    # A stand-in for a variable must not count as a limit, or as a file that the unit names.
    if unknown & {"EnvironmentFile", "SeccompProfile", "PodmanArgs"}:
        known = msgspec.structs.replace(made.extras, env_files=(), label_files=(), seccomp_profile="")
        made = msgspec.structs.replace(made, extras=known)
    if unknown:
        for limit in ("Memory", "NanoCpus"):
            made.body.get("HostConfig", {}).pop(limit, None)
    kept = tuple(
        ContainerOption(key, uncovered(value), f"{places[number].file}:{places[number].line}")
        for key, value, number in options
    )
    return msgspec.structs.replace(made, options=kept, service_parts=uncovered(parts))


def _variables(file: UnitFile, name: UnitName) -> Variables:
    """The variables of [Service] as far as they are known at submit, with the specifiers of the machine covered."""
    values = parse_environment([option.value for option in file.get_all("Service", "Environment")], name).values
    unset = [option.value for option in file.values("Service", "UnsetEnvironment")]
    values = unset_variables(values, parse_variable_names(unset, name, assignments=True)[0])
    more = any(file.values("Service", key) for key in ("EnvironmentFile", "PassEnvironment"))
    return Variables({key: _covered(value, name) for key, value in values.items()}, final=False, more=more)


def on_machine(container: Container, name: UnitName, facts: HostFacts, environment: Mapping[str, str]) -> Container:
    """The container as this machine creates it: variables expanded, then specifiers.

    A section with variables is read again, by the same rules as at submit. Raises InvalidValue, which names the key and
    its line, if a value is not valid once its variables are known.
    """
    if container.options:
        # What a variable holds is no specifier text.
        values = {key: value.replace("%", "%%") for key, value in environment.items()}
        numbered = enumerate(container.options)
        options = [(option.key, _covered(option.value, name), number) for number, option in numbered]
        body, extras, found = container_body(options, Variables(values))
        wrong = [
            f"{container.options[number].place}: [{CONTAINER_SECTION}] {key or 'as a whole'}: {_uncover(message)}"
            for key, message, severity, number in found
            if severity == "error"
        ]
        if wrong:
            raise InvalidValue("; ".join(wrong))
        merged = _merged(body, extras, container.service_parts)
        container = Container(_uncover(extras.image), _uncover(merged), _uncover(extras))
    specified: Container = _mapped(container, lambda text: expand(text, name, facts) if "%" in text else text)
    return specified


def _merged(body: dict[str, Any], extras: ContainerExtras, parts: dict[str, Any]) -> dict[str, Any]:
    """The parts of a body that are worth keeping, together with those of [Service]."""
    made = _without(body, empty_body(extras.image)) | {"Image": extras.image}
    _merge(made, parts)
    return made


def _without(body: dict[str, Any], baseline: dict[str, Any]) -> dict[str, Any]:
    """The parts of a body that differ from the baseline, which is what the docker client sends for a bare image.

    The engine's own defaults are the same, so the container is the same, and a Unit stays small.
    """
    kept: dict[str, Any] = {}
    for key, value in body.items():
        default = baseline.get(key, ...)
        if isinstance(value, dict) and isinstance(default, dict) and default:
            value = _without(value, default)  # noqa: PLW2901 - pruned
            default = {}
        if value != default or type(value) is not type(default):
            kept[key] = value
    return kept


def _of_service(
    file: UnitFile, name: UnitName, said: set[str]
) -> tuple[dict[str, Any], list[tuple[Option, str, Severity]]]:
    """The resource and sandbox keys of [Service] as parts of the body, and their problems.

    `said` are the keys that [Container] sets. The same settings of [Service] are left out.
    """
    values: dict[str, list[str]] = {}
    places: dict[str, Option] = {}
    problems: list[tuple[Option, str, Severity]] = []
    for option in file.section("Service"):
        if option.name not in RESOURCE_KEYS:
            continue
        try:
            value = _covered(option.value, name)
        except InvalidValue as error:
            problems.append((option, str(error), "error"))
            continue
        values.setdefault(option.name, []).append(value)
        places[option.name] = option
    if not values:
        return {}, problems
    parts, found = host_config_from_service(values)
    host = parts.get("HostConfig", {})
    for key in said & _SAME_SETTING.keys():
        host.pop(_SAME_SETTING[key], None)
    problems.extend((places[key], message, severity) for key, message, severity in found)
    return parts, problems


def _merge(body: dict[str, Any], parts: dict[str, Any]) -> None:
    """Add `parts` to `body`. Objects are merged, lists are extended, and a value that `body` has stays."""
    for key, value in parts.items():
        mine = body.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            _merge(mine, value)
        elif isinstance(mine, list) and isinstance(value, list):
            body[key] = [*mine, *(item for item in value if item not in mine)]
        else:
            body.setdefault(key, value)


def has_meaning(key: str, *, container: bool) -> bool:
    """Whether a key of [Service] has an effect on the step's container, or another module warns about it."""
    return container and (key in RESOURCE_KEYS or meaning("Service", key) == "container")


# -- specifiers of the machine -----------------------------------------------------------------------------------------


def _covered(value: str, name: UnitName) -> str:
    """The value with the name's specifiers filled in and the machine's covered. Raises InvalidValue."""
    if "%" not in value:
        return value
    return _SPECIFIER.sub(
        lambda found: f"/zp{ord(found[1]):02x}pz" if found[1] in _PATHS else f"zq{ord(found[1]):02x}qz",
        expand(value, name),
    )


def _as_is(value: Any) -> Any:
    return value


def _uncover(value: Any) -> Any:
    """The value with every stand-in replaced by its specifier, in all strings within it."""
    return _mapped(value, lambda text: _STAND_IN.sub(lambda found: "%" + chr(int(found[1] or found[2], 16)), text))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every string within it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_mapped(key, change): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_mapped(item, change) for item in value)
    if isinstance(value, msgspec.Struct):
        return type(value)(**{field: _mapped(getattr(value, field), change) for field in value.__struct_fields__})
    return value
