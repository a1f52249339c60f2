"""The `[Service]` section without its commands: how they are run.

A bad value of systemd's keys is ignored here, as in systemd: `directives.check` warns about it. The rules that follow
from a unit as a whole are errors: the number of commands of each Type=, and what Type=oneshot does not allow.
"""

from typing import cast, get_args

from xchronos.clock import Micros
from xchronos.errors import InvalidValue
from xchronos.model.compile.commands import PHASES, CompiledSteps
from xchronos.model.compile.reader import OptionReader, one_of, whole
from xchronos.model.policies import Retry
from xchronos.model.unit import OWN_SETTINGS, ExitStatuses, KillMode, Service, ServiceType
from xchronos.unitfile import parse_timeout, parse_timespan, parse_variable_names
from xchronos.unitfile.directives import parse_bool, parse_signal
from xchronos.unitfile.directives.signals import exit_status_set, signal_name

_AS_SIMPLE = {
    "forking": "its main process is the command itself",
    "notify": "readiness is not waited for",
    "notify-reload": "readiness is not waited for",
    "dbus": "no bus name is waited for",
    "idle": "it does not wait for other units",
}
_TYPES = get_args(ServiceType)
_type_parser = one_of(*_TYPES, *_AS_SIMPLE)
_kill_mode_parser = one_of(*cast("tuple[KillMode, ...]", get_args(KillMode)))
_restart_parser = one_of("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
_burst_parser = whole(0, 2**32 - 1)

_START_LIMIT: Micros = 90_000_000
_RESTART_PAUSE: Micros = 100_000
_BURST = 5
_PAUSES = ("RestartSec", "RestartSteps", "RestartMaxDelaySec")
_LIMITS = ("StartLimitBurst", "StartLimitInterval", "StartLimitIntervalSec")

NO_ATTEMPT = ("no", "on-success", "on-watchdog")
"""The values of Restart= with which no failure is tried again."""


def read_service(reader: OptionReader, commands: CompiledSteps, *, triggered: bool, container: bool) -> Service:
    """Read the section without its commands. `triggered`: the unit has triggers. `container`: it has a [Container]."""
    said = reader.lenient("Type", _type_parser, "")
    steps = commands.steps
    starts = [step for step in steps if step.phase == "start"]
    # systemd's default is simple if there is an ExecStart, and oneshot if there is none.
    kind = cast("ServiceType", said if said in _TYPES else "simple" if said or starts else "oneshot")
    if said in _AS_SIMPLE:
        reader.warn("Type", f"Type={said} is run like simple: {_AS_SIMPLE[said]}")
    timeout_start, timeout_stop = _timeouts(reader, None if kind == "oneshot" else _START_LIMIT)
    remain = reader.lenient("RemainAfterExit", parse_bool, default=False)
    restart = reader.lenient("Restart", _restart_parser, "no")
    if remain and triggered:
        reader.warn("RemainAfterExit", "does nothing in a unit with a trigger: an attempt ends with its main process")
    for option in reader.all("PassEnvironment"):
        names, _ = parse_variable_names([option.value])
        own = [name for name in names if name.startswith(OWN_SETTINGS)]
        if own:
            message = f"{' '.join(own)} is not passed: a daemon keeps its own settings, passwords among them, to itself"
            reader.report(option, message, "warning")
    directory = reader.lenient("WorkingDirectory", str, "", resets=True)
    service = Service(
        type=kind,
        steps=steps,
        environment=tuple(option.value for option in reader.unit.get_all("Service", "Environment")),
        environment_files=_environment_files(reader),
        pass_environment=tuple(reader.texts("PassEnvironment")),
        unset_environment=tuple(reader.texts("UnsetEnvironment")),
        working_directory=directory.removeprefix("-"),
        working_directory_optional=directory.startswith("-"),
        user=reader.lenient("User", str, "", resets=True),
        group=reader.lenient("Group", str, "", resets=True),
        timeout_start=timeout_start,
        timeout_stop=timeout_stop,
        runtime_max=reader.lenient("RuntimeMaxSec", parse_timespan, None),
        kill_signal=reader.lenient("KillSignal", lambda text: parse_signal(text).name, "SIGTERM"),
        kill_mode=reader.lenient("KillMode", _kill_mode_parser, "control-group"),
        send_sigkill=reader.lenient("SendSIGKILL", parse_bool, default=True),
        remain_after_exit=remain and not triggered,
        success=_statuses(reader, "SuccessExitStatus"),
        restart=restart,
        restart_prevent=_statuses(reader, "RestartPreventExitStatus"),
        restart_force=_statuses(reader, "RestartForceExitStatus"),
    )
    _check_as_systemd(reader, service, said, container=container, remain=remain)
    return service


def _check_as_systemd(reader: OptionReader, service: Service, said: str, *, container: bool, remain: bool) -> None:
    """Report what systemd refuses in a service as a whole, if it makes no sense here either."""
    starts = service.phase("start")
    if service.type != "oneshot" and len(starts) > 1:
        option = reader.all("ExecStart")[-1]
        has = f"Type={said}" if said else "no Type="
        reader.report(option, f"{len(starts)} commands and {has}: expected Type=oneshot, or a single command")
    if not starts and service.steps and not container:
        option = next(found for key, _ in PHASES for found in reader.all(key))
        if service.type != "oneshot":
            reader.report(option, f"there is no ExecStart=, which only Type=oneshot may leave out, not Type={said}")
        elif not remain:
            reader.report(option, "there is no ExecStart=, which only a unit with RemainAfterExit=yes may leave out")
    if service.type == "oneshot":
        message = "systemd ignores it with Type=oneshot, while xchronos ends the step: TimeoutStartSec= does it in both"
        reader.warn("RuntimeMaxSec", message)
        forced = reader.all("RestartForceExitStatus")
        if forced:
            reader.report(forced[-1], "does not fit Type=oneshot: expected the line to go, or another Type=")
    if said == "dbus" and reader.last("BusName") is None:
        type_option = reader.last("Type")
        assert type_option is not None
        reader.report(
            type_option, "Type=dbus without BusName=: expected Type=simple here, as no bus name is waited for"
        )


def _timeouts(reader: OptionReader, start: Micros | None) -> tuple[Micros | None, Micros | None]:
    """TimeoutStartSec and TimeoutStopSec. TimeoutSec sets both, and the last line counts. `start` is the default."""
    stop: Micros | None = _START_LIMIT
    for option in reader.unit.section("Service"):
        if option.name not in ("TimeoutSec", "TimeoutStartSec", "TimeoutStopSec"):
            continue
        try:
            length = parse_timeout(option.name, option.value)
        except InvalidValue:
            continue
        if option.name != "TimeoutStopSec":
            start = length
        if option.name != "TimeoutStartSec":
            stop = length
    return start, stop


def _environment_files(reader: OptionReader) -> tuple[tuple[str, bool], ...]:
    """The paths, and whether each may be missing. A path that is not absolute is ignored; `directives.check` warns."""
    found = ((option.value.removeprefix("-"), option.value.startswith("-")) for option in reader.all("EnvironmentFile"))
    return tuple((path, optional) for path, optional in found if path.startswith(("/", "%")))


def _statuses(reader: OptionReader, key: str) -> ExitStatuses:
    codes: set[int] = set()
    signals: set[str] = set()
    for option in reader.all(key):
        # systemd reads it word by word. `directives.check` warns about words that are neither code nor signal.
        statuses, _ = exit_status_set(option.value.split())
        codes |= statuses.codes
        signals |= {signal_name(number) for number in statuses.signals}
    return ExitStatuses(frozenset(codes), frozenset(signals))


def restart_as_retry(unit: OptionReader, reader: OptionReader, service: Service) -> Retry:
    """The attempts of a unit without MaxAttempts=, from Restart=: StartLimitBurst= of them, RestartSec= apart.

    If no failure is followed by another attempt (`no`, `on-success`, `on-watchdog`), there is a single one, unless the
    main process ends as RestartForceExitStatus= lists. A burst or an interval of 0 is no limit, as in systemd. The test
    `test_is_understood_as_attempts` pins this.
    """
    never = service.restart in NO_ATTEMPT
    if never and service.restart_force == ExitStatuses():
        return Retry()
    burst, interval = _BURST, cast("Micros | None", 1)
    for section in (reader, unit):
        burst = section.lenient("StartLimitBurst", _burst_parser, burst)
        for key in ("StartLimitInterval", "StartLimitIntervalSec"):
            interval = section.lenient(key, parse_timespan, interval)
    pause: Micros | None = _RESTART_PAUSE
    pause = reader.lenient("RestartSec", parse_timespan, pause)
    steps = reader.lenient("RestartSteps", _burst_parser, 0)
    longest: Micros | None = None
    longest = reader.lenient("RestartMaxDelaySec", parse_timespan, longest)
    if not steps or longest is None:
        steps, longest = 0, None
    elif pause is None or longest < pause:
        pause = longest
    if pause is None:
        return Retry()
    return Retry(0 if interval == 0 else burst, pause, max_delay=longest, growth_steps=steps, forced_only=never)


def check_restart(
    unit: OptionReader, reader: OptionReader, service: Service, *, attempts: bool, kept_running: bool
) -> None:
    """Warn about what says how a unit is tried again and has no effect.

    `attempts`: MaxAttempts= says how often it is. `kept_running`: it is started anew for ever.
    """
    if service.restart == "on-watchdog":
        reader.warn("Restart", "no watchdog is watched here: it does not say when the unit is tried again")
    without: dict[str, str] = {}
    if attempts:
        why = "does nothing beside MaxAttempts=, with which TimeBetweenAttempts= goes"
        without = dict.fromkeys((*_PAUSES, *_LIMITS), why)
    elif service.restart in NO_ATTEMPT and service.restart_force == ExitStatuses():
        why = "does nothing without a Restart= that tries again, such as on-failure"
        without = dict.fromkeys((*_PAUSES, *_LIMITS, "RestartPreventExitStatus"), why)
    elif kept_running:
        without = dict.fromkeys(_LIMITS, "does nothing in a unit that Restart=always keeps running: it never gives up")
    for key, why in without.items():
        for section in (reader, unit):
            section.warn(key, why)
    if not without.keys() & {"RestartSteps"}:
        _check_steps(reader)


def _check_steps(reader: OptionReader) -> None:
    """Warn as systemd does about steps without an end, and about pauses that cannot grow."""
    pause: Micros | None = _RESTART_PAUSE
    pause = reader.lenient("RestartSec", parse_timespan, pause)
    longest: Micros | None = None
    longest = reader.lenient("RestartMaxDelaySec", parse_timespan, longest)
    if not reader.lenient("RestartSteps", _burst_parser, 0):
        reader.warn("RestartMaxDelaySec", "does nothing without RestartSteps=, the number of pauses that lead to it")
    elif longest is None:
        reader.warn("RestartSteps", "does nothing without RestartMaxDelaySec=, the longest pause")
    elif pause is None or longest < pause:
        reader.warn("RestartMaxDelaySec", "is shorter than RestartSec=: each pause is so long, as in systemd")
    elif pause == 0:
        reader.warn("RestartSteps", "a RestartSec= of 0 does not grow: each pause is 0, as in systemd")
