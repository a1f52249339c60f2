"""The `[Container]` section, with the limits that `[Service]` puts on it, as one Engine API create body."""

from typing import Any

from xchronos.errors import InvalidValue, Problem
from xchronos.model.reader import Reader
from xchronos.model.unit import Container
from xchronos.unitfile import Option, UnitFile, UnitName, did_you_mean, expand
from xchronos.unitfile.directives import meaning
from xchronos.unitfile.dockercli.quadlet import KNOWN_KEYS, container_body
from xchronos.unitfile.dockercli.resources import host_config_from_service

SECTION = "Container"


def read_container(file: UnitFile, name: UnitName, service: Reader, problems: list[Problem]) -> Container | None:
    """The unit's container; None when it has no [Container]. The name's specifiers are filled in, the machine's stay."""
    if SECTION not in file.sections:
        return None
    options: list[tuple[str, str, int]] = []
    places: dict[tuple[str, int], Option] = {}
    for option in file.section(SECTION):
        try:
            value = expand(option.value, name)
        except InvalidValue as error:
            problems.append(_at(option, str(error)))
            continue
        options.append((option.name, value, option.line))
        places[option.name, option.line] = option
    body, extras, found = container_body(options)
    header = next(header for header in file.headers if header.name == SECTION)
    for key, message, severity, line in found:
        place = places.get((key, line))
        hint = did_you_mean(key, KNOWN_KEYS) if message.startswith("unknown key") else ""
        problems.append(
            Problem(message + hint, place.file if place else header.file, line or header.line, SECTION, key, severity)
        )
    _limit(body, file, problems)
    user, group = service.last("User"), service.last("Group")
    if user is not None and not body.get("User"):
        body["User"] = user.value + (f":{group.value}" if group is not None else "")
    directory = service.last("WorkingDirectory")
    if directory is not None and not body.get("WorkingDir"):
        body["WorkingDir"] = directory.value.removeprefix("-")
    return Container(extras.image, body, extras)


def _limit(body: dict[str, Any], file: UnitFile, problems: list[Problem]) -> None:
    """Put [Service]'s resource and sandbox keys into the body; what [Container] says itself wins."""
    values: dict[str, list[str]] = {}
    places: dict[str, Option] = {}
    for option in file.section("Service"):
        if meaning("Service", option.name) == "container":
            values.setdefault(option.name, []).append(option.value)
            places[option.name] = option
    if not values:
        return
    parts, found = host_config_from_service(values)
    for key, message, severity in found:
        place = places[key]
        problems.append(Problem(message, place.file, place.line, "Service", key, severity))
    merge_missing(body, parts)


def merge_missing(body: dict[str, Any], parts: dict[str, Any]) -> None:
    """Put `parts` below what `body` says already: an object is merged, a list extended, a set value stays."""
    for key, value in parts.items():
        mine = body.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            merge_missing(mine, value)
        elif isinstance(mine, list) and isinstance(value, list):
            body[key] = [*mine, *(item for item in value if item not in mine)]
        elif not mine:
            body[key] = value


def _at(option: Option, message: str) -> Problem:
    return Problem(message, option.file, option.line, option.section, option.name)
