"""Problems of the unit file as a whole: settings that contradict each other, and links to other units."""

from xchronos.errors import InvalidValue, Problem, Severity
from xchronos.limits import PLACEMENT_TERMS, TRIGGERS
from xchronos.model.compile.chronos import Chronos
from xchronos.model.compile.commands import PHASES, CompiledSteps
from xchronos.model.compile.reader import OptionReader, problem_at
from xchronos.model.unit import Container, Service, executor_missing
from xchronos.unitfile import UnitName, expand
from xchronos.unitfile.fleet.requirements import FleetRequirements

DOCKER_SERVICE = "docker.service"
"""The unit that, in After= and Requires=, means that the machine's Docker engine has to answer."""

_STARTS = ("OnSuccess", "OnFailure")
_INSTEAD = (
    f"OnSuccess= starts a unit after another, and {DOCKER_SERVICE} in After= or Requires= is the machine's engine"
)
_WITHOUT_EFFECT = {
    "After": f"not waited for: {_INSTEAD}",
    "Requires": f"not started along: {_INSTEAD}",
}
"""What keys of [Unit] do not do with other units."""
_ENGINE = frozenset((("After", DOCKER_SERVICE), ("Requires", DOCKER_SERVICE)))
_ABOUT_TRIGGERS = (
    "TimeZone", "NotBefore", "NotAfter", "MaxRuns", "RandomizedDelay", "MisfirePolicy", "MisfireThreshold",
    "MisfireLimit",
)  # fmt: skip


def depends(section: OptionReader, key: str, name: UnitName) -> tuple[str, ...]:
    """The units that a key of [Unit] names.

    A word that is no unit's name is passed over, as in systemd; `directives.check` warns about it. A template means its
    instance with this unit's own instance name, or with this unit's prefix if it has none.
    """
    found: list[str] = []
    for option in section.all(key):
        idle: list[str] = []
        for word in option.value.split():
            try:
                other = UnitName.parse(expand(word, name).replace("%%", "%") if "%" in word else word)
                if other.is_template:
                    other = other.with_instance(name.instance or name.prefix)
            except InvalidValue:
                continue
            if key in _STARTS:
                if other.suffix != ".service":
                    message = f"{other.full} is not started: only .service units are"
                    section.report(option, message, "warning")
                    continue
                if other == name:
                    section.report(option, f"{other.full} starts itself, again and again", "warning")
            if key in _WITHOUT_EFFECT and (key, other.full) not in _ENGINE:
                idle.append(other.full)
            found.append(other.full)
        if idle:
            section.report(option, f"{' '.join(idle)}: {_WITHOUT_EFFECT[key]}", "warning")
    return tuple(dict.fromkeys(found))


def check_whole(
    shown: str,
    readers: tuple[OptionReader, OptionReader],
    chronos: Chronos,
    commands: CompiledSteps,
    container: Container | None,
    service: Service,
    asked: FleetRequirements,
    problems: list[Problem],
) -> None:
    """Report settings that do not fit together.

    `shown` is what problems call the file. `readers` are those of [Service] and [X-Chronos]. Problems about no option
    are appended to `problems`.
    """
    section, own = readers
    refused = any(problem.severity == "error" and problem.key.startswith("Exec") for problem in problems)
    if not commands.steps and container is None and not refused:
        problems.append(_nothing_to_run(section, shown))
    _check_executor(section, own, chronos, commands, container)
    if container is not None:
        _check_container(section, commands, container, problems)
    if asked.is_global and chronos.availability > 1:
        option = own.last("Availability")
        assert option is not None
        own.report(option, "cannot be used with Global=true, which is one copy on every machine: expected one of them")
    if chronos.concurrency in ("forbid", "replace") and chronos.on_partition == "continue":
        message = (
            f"a machine that cannot reach the store goes on with an attempt that counts as lost: Concurrency="
            f"{chronos.concurrency} cannot keep the next one from running beside it"
        )
        own.warn("OnPartition", message)
    if not chronos.triggers and not any(problem.severity == "error" for problem in problems):
        for key in _ABOUT_TRIGGERS:
            own.warn(key, "does nothing in a unit without a trigger")
    if not chronos.triggers and service.restart == "always":
        own.warn("MaxAttempts", "does nothing in a unit that Restart=always keeps running: it is started anew for ever")
    elif service.restart == "on-success" or (service.restart == "always" and chronos.triggers):
        section.warn("Restart", "a success is not followed by another attempt: triggers say when the unit runs again")


def check_counts(shown: str, chronos: Chronos, asked: FleetRequirements, problems: list[Problem]) -> None:
    """Report lists that are longer than they may be: the scheduler works them off again and again."""
    if len(chronos.triggers) > TRIGGERS:
        message = f"the unit has {len(chronos.triggers)} triggers: {TRIGGERS} are the most"
        problems.append(Problem(message, shown, section="X-Chronos"))
    for key, values in asked.raw.items():
        if len(values) > PLACEMENT_TERMS:
            message = f"has {len(values)} values: {PLACEMENT_TERMS} are the most"
            problems.append(Problem(message, shown, section="X-Fleet", key=key))


def _nothing_to_run(section: OptionReader, shown: str) -> Problem:
    """The problem of a unit without commands, at the Exec line that gave none, if there is one."""
    empty = [option for key, _ in PHASES for option in section.all(key)]
    if empty:
        return problem_at(empty[0], "no command is left of it, and so there is nothing to run: expected a program")
    # systemd runs a unit without commands for its SuccessAction= alone. Here it succeeds immediately.
    severity: Severity = "warning" if section.unit.last("Unit", "SuccessAction") is not None else "error"
    message = "nothing to run: expected ExecStart= in [Service], or a [Container] with Image="
    return Problem(message, shown, severity=severity)


def _check_executor(
    section: OptionReader, own: OptionReader, chronos: Chronos, commands: CompiledSteps, container: Container | None
) -> None:
    option = own.last("Executor")
    docker_lines = [step for step in commands.steps if step.docker]
    others = len(commands.steps) - len(docker_lines)
    if option is None or chronos.executor is None:
        if docker_lines and others and container is None:
            key = next(key for key, phase in PHASES if any(s.phase == phase and not s.docker for s in commands.steps))
            message = (
                "a host process beside docker command lines: the unit needs a machine that allows both the docker "
                "and the process executor"
            )
            section.warn(key, message)
        return
    if chronos.executor in ("http", "python"):
        own.report(option, executor_missing(chronos.executor), "warning")
    if container is not None and chronos.executor != "docker":
        own.report(option, f"{chronos.executor} contradicts [Container], whose steps run in Docker: expected docker")
    elif chronos.executor == "docker" and container is None and not docker_lines and others:
        own.report(option, "nothing runs in Docker: expected a [Container] with Image=, or docker command lines")
    elif chronos.executor != "docker" and docker_lines:
        message = "docker command lines are performed through the machine's Docker engine all the same"
        own.report(option, message, "warning")


def _check_container(
    section: OptionReader, commands: CompiledSteps, container: Container, problems: list[Problem]
) -> None:
    """Warn about a container in which no step runs, and about an Exec= that ExecStart= hides."""
    header = next(header for header in section.unit.headers if header.name == "Container")
    for key, phase in PHASES:
        if any(step.line.sets_argv0 and not step.docker for step in commands.steps if step.phase == phase):
            section.warn(key, "the prefix '@' has no effect in a container, whose engine sets argv[0] itself")
    starts = [step for step in commands.steps if step.phase == "start"]
    if starts and all(step.docker for step in commands.steps):
        message = "the section does nothing: every command is a docker command line of its own"
        problems.append(Problem(message, header.file, header.line, "Container", severity="warning"))
    elif any(step.line.program and not step.docker for step in starts) and not container.body.get("Entrypoint"):
        option = section.unit.last("Container", "Exec")
        if option is not None and option.value:
            message = "does nothing beside ExecStart=, which is what the container runs"
            problems.append(Problem(message, option.file, option.line, "Container", "Exec", "warning"))
