"""The paths of a host that a unit has the daemon read, as far as its text tells: nothing is read here.

The setting `read_paths` is held against them before a step runs (`daemon/read_paths.py`). What a step is given of the
files `host_inputs` reads, anew for each step.
"""

import re
from collections.abc import Iterator
from glob import has_magic
from pathlib import Path
from urllib.parse import unquote, urlsplit

from xchronos.dockercli import Create, Exec, compile_docker
from xchronos.errors import InvalidValue
from xchronos.model.unit import Unit
from xchronos.unitfile import HostFacts, UnitName, expand

MAY_NAME = re.compile(r"EnvironmentFile|SeccompProfile|LabelFile|file:|--env-file|--label-file|seccomp", re.IGNORECASE)
"""A unit whose text has none of this names no file. It costs much less than to compile the unit."""


def static_paths(unit: Unit, facts: HostFacts) -> Iterator[tuple[str, Path]]:
    """What names each file, and its path on this host; of a pattern, the directory before its first wildcard.

    Relative paths are left out: they are the attempt's own files, or in a directory that the unit names.
    """
    name = UnitName.parse(unit.name)
    for what, text in _named(unit):
        try:
            path = Path(expand(text, name, facts))
        except InvalidValue:
            continue  # no step gets so far
        if has_magic(str(path)):
            path = next(parent for parent in path.parents if not has_magic(str(parent)))
        if path.is_absolute():
            yield what, path


def _named(unit: Unit) -> Iterator[tuple[str, str]]:
    for pattern, _ in unit.service.environment_files:
        yield "EnvironmentFile", pattern
    if unit.container is not None:
        extras = unit.container.extras
        for path in extras.env_files:
            yield "[Container] EnvironmentFile", path
        for path in extras.label_files:
            yield "label file", path
        if extras.seccomp_profile:
            yield "SeccompProfile", extras.seccomp_profile
    if unit.artifact.startswith("file:"):
        yield "Artifact", unquote(urlsplit(unit.artifact).path)
    for step in unit.service.steps:
        if step.docker:
            yield from _in_line(step.line.words)


def _in_line(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    try:
        command = compile_docker(("docker", *words[1:]), env={})
    except InvalidValue:
        return  # its variables decide what it is
    if isinstance(command, (Create, Exec)):
        for path in command.env_files:
            yield "--env-file", path
    if isinstance(command, Create):
        for path in command.label_files:
            yield "--label-file", path
        if command.seccomp_profile:
            yield "--security-opt seccomp", command.seccomp_profile
