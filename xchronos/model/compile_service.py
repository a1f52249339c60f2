"""The `[Service]` section: the commands, and how they are run."""

from typing import cast, get_args

import msgspec

from xchronos.errors import InvalidValue
from xchronos.model.lifecycle import AttemptState
from xchronos.model.reader import Reader
from xchronos.model.unit import ExitStatuses, KillMode, Service, ServiceType, Step
from xchronos.unitfile import ExecLine, HostFacts, Option, UnitName, parse_environment, parse_exec, parse_timespan, parse_timeout, parse_variable_names
from xchronos.unitfile.directives import parse_bool, parse_exit_statuses, parse_signal
from xchronos.unitfile.directives.signals import signal_name
from xchronos.unitfile.dockercli import compile_docker, is_docker

PHASES: tuple[tuple[str, AttemptState], ...] = (
    ("ExecCondition", "condition"),
    ("ExecStartPre", "start-pre"),
    ("ExecStart", "start"),
    ("ExecStartPost", "start-post"),
    ("ExecStop", "stop"),
    ("ExecStopPost", "stop-post"),
)

_AS_SIMPLE = {"forking": "its main process is the command itself", "notify": "readiness is not waited for",
              "notify-reload": "readiness is not waited for", "dbus": "no bus name is waited for", "idle": ""}  # fmt: skip
_NOWHERE = HostFacts(**dict.fromkeys(HostFacts.__struct_fields__, "x"))
"""Stands in for the machine's facts while a docker line is checked at submit."""


class Commands(msgspec.Struct, frozen=True):
    """The commands of a unit, in the order of the phases, and the assignments they come from."""

    steps: tuple[Step, ...]


def read_commands(reader: Reader, name: UnitName) -> Commands:
    """Read every `Exec*=` line; a docker command line is compiled once here, to refuse what cannot be expressed."""
    environment = parse_environment(reader.texts("Environment"), name).values
    steps: list[Step] = []
    for key, phase in PHASES:
        number = 0
        found: list[tuple[ExecLine, Option]] = []
        for option in reader.all(key):
            try:
                parsed = parse_exec(option.value, name)
            except InvalidValue as error:
                reader.report(option, str(error))
                continue
            for warning in parsed.warnings:
                reader.report(option, warning, "warning")
            found.extend((line, option) for line in parsed.lines)
        for line, option in found:
            docker = is_docker(line.path)
            if docker:
                _check_docker(reader, option, line, name, environment)
            main = phase == "start" and number == len(found) - 1
            steps.append(Step(f"{phase}-{number}", phase, line, _shown(line), docker, main))
            number += 1
    return Commands(tuple(steps))


def with_image_command(commands: Commands) -> Commands:
    """The commands of a unit with a [Container]: without an ExecStart, the image's own command (or Exec=) is the main one."""
    if any(step.phase == "start" for step in commands.steps):
        return commands
    step = Step("start-0", "start", ExecLine("", "", ()), "the image's command", docker=False, main=True)
    return Commands((*commands.steps, step))


def _shown(line: ExecLine) -> str:
    """The command as people read it."""
    return " ".join((line.prefixes + line.program, *(line.words[1:] if not line.sets_argv0 else line.words)))


def _check_docker(reader: Reader, option: Option, line: ExecLine, name: UnitName, environment: dict[str, str]) -> None:
    """Refuse at submit what the Engine API cannot do; what only the machine can fill in is not held against the line."""
    open_ended = any("$" in word or "%" in word for word in line.words)
    try:
        command = line.resolve(name, _NOWHERE, environment)
        compiled = compile_docker(command.argv, env=environment)
    except InvalidValue as error:
        if open_ended:
            reader.report(option, f"cannot be checked before its variables are known: {error}", "warning")
        else:
            reader.report(option, str(error))
        return
    for warning in compiled.warnings:
        reader.report(option, warning, "warning")


def read_service(reader: Reader, commands: Commands, *, triggered: bool) -> Service:
    """Read the rest of the section. A value that systemd would ignore is ignored here too; `check` has warned."""
    said = reader.lenient("Type", _type, "")
    # systemd's default: simple with a main process, oneshot without one.
    one_shot_by_default = not said and not any(step.phase == "start" for step in commands.steps)
    kind = cast("ServiceType", said if said in get_args(ServiceType) else ("oneshot" if one_shot_by_default else "simple"))
    if said in _AS_SIMPLE:
        option = reader.last("Type")
        assert option is not None
        note = f" ({_AS_SIMPLE[said]})" if _AS_SIMPLE[said] else ""
        reader.report(option, f"Type={said} is run like simple{note}", "warning")
    steps = commands.steps
    starts = [step for step in steps if step.phase == "start"]
    if kind != "oneshot" and len(starts) > 1:
        option = reader.all("ExecStart")[-1]
        reader.report(option, f"{len(starts)} commands, but only Type=oneshot may have more than one")
    start_default = None if kind == "oneshot" else 90_000_000
    timeout_start = reader.lenient("TimeoutStartSec", lambda text: _timeout("TimeoutStartSec", text), start_default)
    timeout_stop = reader.lenient("TimeoutStopSec", lambda text: _timeout("TimeoutStopSec", text), 90_000_000)
    both = reader.last("TimeoutSec")
    if both is not None:
        try:
            length = parse_timeout("TimeoutSec", both.value)
        except InvalidValue:
            length = timeout_stop
        timeout_start = timeout_start if reader.last("TimeoutStartSec") else length
        timeout_stop = timeout_stop if reader.last("TimeoutStopSec") else length
    remain = reader.lenient("RemainAfterExit", parse_bool, False)
    if remain and triggered:
        option = reader.last("RemainAfterExit")
        assert option is not None
        reader.report(option, "has no effect on a unit with a trigger: each attempt ends with its main process", "warning")
    directory = reader.lenient("WorkingDirectory", str, "")
    return Service(
        type=kind,
        steps=steps,
        environment=tuple(option.value for option in reader.unit.get_all("Service", "Environment")),
        environment_files=tuple(
            (option.value.removeprefix("-"), option.value.startswith("-")) for option in reader.all("EnvironmentFile")
        ),
        pass_environment=parse_variable_names(reader.texts("PassEnvironment"))[0],
        unset_environment=parse_variable_names(reader.texts("UnsetEnvironment"), assignments=True)[0],
        working_directory=directory.removeprefix("-"),
        working_directory_optional=directory.startswith("-"),
        user=reader.lenient("User", str, ""),
        group=reader.lenient("Group", str, ""),
        timeout_start=timeout_start,
        timeout_stop=timeout_stop,
        runtime_max=reader.lenient("RuntimeMaxSec", parse_timespan, None),
        kill_signal=reader.lenient("KillSignal", lambda text: parse_signal(text).name, "SIGTERM"),
        kill_mode=cast("KillMode", reader.lenient("KillMode", _kill_mode, "control-group")),
        send_sigkill=reader.lenient("SendSIGKILL", parse_bool, True),
        remain_after_exit=remain and not triggered,
        success=_statuses(reader, "SuccessExitStatus"),
        restart=reader.lenient("Restart", _restart, "no"),
        restart_prevent=_statuses(reader, "RestartPreventExitStatus"),
        restart_force=_statuses(reader, "RestartForceExitStatus"),
    )


def _statuses(reader: Reader, key: str) -> ExitStatuses:
    codes: set[int] = set()
    signals: set[str] = set()
    for option in reader.all(key):
        try:
            statuses = parse_exit_statuses(option.value)
        except InvalidValue:
            continue
        codes |= statuses.codes
        signals |= {signal_name(number) for number in statuses.signals}
    return ExitStatuses(frozenset(codes), frozenset(signals))


def _timeout(key: str, text: str) -> int | None:
    return parse_timeout(key, text)


def _type(text: str) -> str:
    if text not in get_args(ServiceType) and text not in _AS_SIMPLE:
        raise InvalidValue(f"{text!r} is no service type")
    return text


def _kill_mode(text: str) -> str:
    if text not in get_args(KillMode):
        raise InvalidValue(f"{text!r} is no kill mode")
    return text


def _restart(text: str) -> str:
    if text not in ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"):
        raise InvalidValue(f"{text!r} is no restart policy")
    return text
