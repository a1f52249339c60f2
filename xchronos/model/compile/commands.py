"""The `Exec*=` lines of `[Service]` as steps. Docker command lines are checked against the Engine API."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from xchronos.dockercli import Create, DockerCommand, Run, compile_docker
from xchronos.dockercli.refusals import SEEN_ON
from xchronos.errors import InvalidValue
from xchronos.limits import EXPANDED_CHARACTERS, PORTS, STEPS, STORED_PORTS
from xchronos.model.compile.bounds import ELSEWHERE
from xchronos.model.compile.reader import OptionReader
from xchronos.model.lifecycle import AttemptState
from xchronos.model.unit import Step
from xchronos.unitfile import ExecLine, HostFacts, Option, UnitName, misread_variable, parse_environment, parse_exec

PHASES: tuple[tuple[str, AttemptState], ...] = (
    ("ExecCondition", "condition"),
    ("ExecStartPre", "start-pre"),
    ("ExecStart", "start"),
    ("ExecStartPost", "start-post"),
    ("ExecStop", "stop"),
    ("ExecStopPost", "stop-post"),
)
"""The keys of commands and their phases, in the order in which the phases run."""

_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_MEANINGLESS = re.compile(r"specifier (%[A-Za-z0-9]) in .* has no meaning here")


def _facts(word: str) -> HostFacts:
    """The facts of a machine for which every fact is this word. Facts that are paths are `/` and the word."""
    fields = msgspec.structs.asdict(HostFacts())
    return HostFacts(**{field: f"/{word}" if known.startswith("/") else word for field, known in fields.items()})


_SOMEWHERE, _ELSEWHERE = _facts("x"), _facts("y1")
"""Two machines that do not exist. Docker lines are checked with them at submit, before the machine is known."""


class CompiledSteps(msgspec.Struct, frozen=True):
    """The commands of a unit, in the order of the phases."""

    steps: tuple[Step, ...] = ()
    memory: int = 0
    """The largest memory limit of a `docker run`, in bytes. 0: there is none."""
    cpus: float = 0.0
    """The largest CPU limit of a `docker run`. 0: there is none."""


def read_commands(reader: OptionReader, name: UnitName, *, stored: bool = False) -> CompiledSteps:
    """Read every `Exec*=` line; of a `stored` unit more of them than new ones may have.

    A docker command line is compiled here, to refuse what the Engine API cannot do. The machine compiles it again when
    it runs the step.
    """
    environment = parse_environment(reader.texts("Environment"), name).values
    steps: list[Step] = []
    memory, cpus = 0, 0.0
    room = _Room(STORED_PORTS if stored else PORTS)
    for key, phase in PHASES:
        found = _lines(reader, key, name)
        if len(steps) + len(found) > STEPS and not stored:
            reader.report(found[0][1], f"the unit has more than {STEPS} commands: {ELSEWHERE}")
            break
        for number, (line, option) in enumerate(found):
            docker = posixpath.basename(line.path) == "docker"
            if docker and room.is_left():
                body = _check_docker(reader, option, line, name, environment, room)
                least, share = limits(body)
                memory, cpus = max(memory, least), max(cpus, share)
                if not room.is_left():
                    reader.report(option, f"the unit's docker command lines have {room.most} together: {ELSEWHERE}")
            main = phase == "start" and number == len(found) - 1
            steps.append(Step(f"{phase}-{number}", phase, line, _shown(line), docker, main))
    # No unit is ever reloaded. The lines are read because a line that systemd does not accept refuses the unit.
    _lines(reader, "ExecReload", name)
    return CompiledSteps(tuple(steps), memory, cpus)


class _Room:
    """What the docker command lines of one unit may still become. Each may be short, and become as much as one may."""

    def __init__(self, ports: int) -> None:
        self._characters = EXPANDED_CHARACTERS
        self._ports = self._most_ports = ports

    def take(self, argv: Sequence[str], command: DockerCommand | None = None) -> None:
        """Count a command line that was filled in, and its ports when it was compiled."""
        if command is None:
            self._characters -= sum(map(len, argv))
        elif isinstance(command, Create):
            self._ports -= max(len(command.body.get("ExposedPorts") or ()), _bindings(command.body))

    def is_left(self) -> bool:
        """Whether there is room."""
        return self._characters >= 0 and self._ports >= 0

    @property
    def most(self) -> str:
        """What there is no room for."""
        if self._ports < 0:
            return f"more than {self._most_ports} ports"
        return f"more than {EXPANDED_CHARACTERS} characters with their variables filled in"


def _bindings(body: Mapping[str, Any]) -> int:
    return sum(map(len, (body.get("HostConfig") or {}).get("PortBindings", {}).values()))


def _lines(reader: OptionReader, key: str, name: UnitName) -> list[tuple[ExecLine, Option]]:
    found: list[tuple[ExecLine, Option]] = []
    # An artifact lies in the working directory, and may be a program.
    artifact = reader.unit.last("X-Chronos", "Artifact")
    local = artifact is not None and bool(artifact.value)
    for option in reader.all(key):
        try:
            parsed = parse_exec(option.value, name, local=local)
        except InvalidValue as error:
            meant = _MEANINGLESS.match(str(error))
            reader.report(option, f"{error}: write %{meant[1]} for a literal {meant[1]}" if meant else str(error))
            continue
        for warning in parsed.warnings:
            reader.report(option, warning, "warning")
        for word in (word for line in parsed.lines if not line.no_variables for word in line.words[1:]):
            if meant_word := misread_variable(word):
                message = f"{word} is to systemd the name of one variable, and so the word is dropped"
                reader.report(option, f"{message}: expected {meant_word}", "warning")
        found.extend((line, option) for line in parsed.lines)
    return found


def with_image_command(commands: CompiledSteps) -> CompiledSteps:
    """The commands of a unit with a [Container]. Without an ExecStart, the container's own command is added as one."""
    if any(step.phase == "start" for step in commands.steps):
        return commands
    step = Step("start-0", "start", ExecLine("", "", ()), "the image's command", docker=False, main=True)
    return msgspec.structs.replace(commands, steps=(*commands.steps, step))


def _shown(line: ExecLine) -> str:
    """The command as people read it, with its prefixes."""
    if line.via_shell:
        return line.prefixes + " ".join(line.words)
    return " ".join((line.prefixes + line.program, *(line.words if line.sets_argv0 else line.words[1:])))


def _check_docker(
    reader: OptionReader, option: Option, line: ExecLine, name: UnitName, environment: Mapping[str, str], room: _Room
) -> Mapping[str, Any]:
    """The create body of a docker command line, {} if it has none.

    What the Engine API cannot do is an error. If the error may be due to a variable or a specifier of the machine, it
    is only a warning.
    """
    try:
        argv = line.resolve(name, _SOMEWHERE, environment).argv
        room.take(argv)
        command = _compiled(argv, environment)
        room.take(argv, command)
    except InvalidValue as error:
        if _is_open(str(error), line, name):
            reader.report(option, f"cannot be checked before its variables are known: {error}", "warning")
        else:
            reader.report(option, str(error))
        return {}
    for warning in _sure_warnings(command, line, name, environment):
        reader.report(option, warning, "warning")
    if isinstance(command, Run) and command.detach and option.name == "ExecStart":
        kind = reader.unit.last("Service", "Type")
        if kind is None or kind.value != "oneshot":
            message = "docker run -d returns at once, and with it the attempt ends: leave -d out"
            reader.report(option, message, "warning")
    return command.body if isinstance(command, Create) else {}


def _compiled(argv: Sequence[str], environment: Mapping[str, str]) -> DockerCommand:
    return compile_docker(("docker", *argv[1:]), env=environment)


def _is_open(error: str, line: ExecLine, name: UnitName) -> bool:
    """Whether an error may disappear when the variables and the machine are known.

    The line is compiled with another machine and other variables. If the error then differs, it depends on them.
    """
    text = " ".join(line.words)
    if "$" not in text and "%" not in text:
        return False
    try:
        others = dict.fromkeys(_VARIABLE.findall(text), "1")
        _compiled(line.resolve(name, _ELSEWHERE, others).argv, others)
    except InvalidValue as other:
        return str(other) != error
    return True


def _sure_warnings(
    command: DockerCommand, line: ExecLine, name: UnitName, environment: Mapping[str, str]
) -> Sequence[str]:
    """The warnings of a line, without those about the engine that other variables, or another machine, may mend."""
    text = " ".join(line.words)
    if ("$" not in text and "%" not in text) or not any(SEEN_ON in warning for warning in command.warnings):
        return command.warnings
    others = {**dict.fromkeys(_VARIABLE.findall(text), "/1"), **environment}
    try:
        there = _compiled(line.resolve(name, _ELSEWHERE, others).argv, others).warnings
    except InvalidValue:
        there = ()
    return [warning for warning in command.warnings if warning in there or SEEN_ON not in warning]


def limits(body: Mapping[str, Any]) -> tuple[int, float]:
    """The memory limit in bytes and the CPU limit of a create body. 0 is no limit."""
    host = body.get("HostConfig") or {}
    quota = max(host.get("CpuQuota") or 0, 0) / (host.get("CpuPeriod") or 100_000)
    return int(host.get("Memory") or 0), (host.get("NanoCpus") or 0) / 1e9 or quota
