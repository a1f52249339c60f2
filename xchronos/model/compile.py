"""From the text of a unit file to a Unit: everything that is wrong with it is said at once, each with its line."""

from collections.abc import Sequence
from functools import lru_cache

from xchronos.errors import InvalidValue, Problem, UnitFileError
from xchronos.model.compile_chronos import KNOWN_KEYS, Chronos, read_chronos
from xchronos.model.compile_container import read_container
from xchronos.model.compile_service import Commands, read_commands, read_service, with_image_command
from xchronos.model.policies import ExecutorName, OnPartition, Retry
from xchronos.model.reader import Reader, in_order
from xchronos.model.unit import Service, Unit
from xchronos.unitfile import UnitFile, UnitName, did_you_mean, lint, merge, parse, parse_timespan, suggest
from xchronos.unitfile.directives import check, meaning
from xchronos.unitfile.fleet import requirements

OWN_SECTIONS = ("X-Fleet", "X-Chronos", "Container")
SYSTEMD_SECTIONS = ("Unit", "Service", "Install")
DOCKER_SERVICE = "docker.service"
"""In After= and Requires=: the machine's Docker engine answers."""


def parse_unit(name: str, text: bytes | str, drop_ins: Sequence[tuple[str, bytes | str]] = (), path: str = "") -> UnitFile:
    """The file with its drop-ins, before anything is understood. Raises UnitFileError."""
    main = parse(text, path or name)
    return merge(main, [parse(content, dropin) for dropin, content in drop_ins])


def compile_unit(
    name: str, text: bytes | str, drop_ins: Sequence[tuple[str, bytes | str]] = (), path: str = ""
) -> Unit:
    """Compile a unit file.

    Args:
        name: The unit's name, `report.service`; instances (`report@eu.service`) are compiled from their template's text.
        text: The file.
        drop_ins: Name and text of each drop-in, in the order in which they count.
        path: What problems call the file; its name by default.

    Raises:
        UnitFileError: something in it is wrong. It carries all problems, warnings included.
    """
    problems: list[Problem] = []
    shown = path or name
    try:
        unit_name = UnitName.parse(name)
    except InvalidValue as error:
        raise UnitFileError([Problem(str(error), shown)]) from error
    if unit_name.suffix != ".service":
        message = f"a {unit_name.suffix} unit: xchronos runs .service units (what triggers them stands in [X-Chronos])"
        raise UnitFileError([Problem(message, shown)])
    file = parse_unit(name, text, drop_ins, path)
    revision = file.revision
    if file.masked:
        return Unit(name, revision, masked=True, warnings=(Problem("the file is empty: the unit is masked", shown, severity="warning"),))
    problems.extend(file.problems)
    _check_options(file, unit_name, problems)

    section = Reader(file, "Unit", problems)
    chronos = read_chronos(Reader(file, "X-Chronos", problems, marks=True), name)
    service_reader = Reader(file, "Service", problems)
    commands = read_commands(service_reader, unit_name)
    container = read_container(file, unit_name, service_reader, problems)
    if container is not None:
        commands = with_image_command(commands)
    asked, fleet_problems = requirements(name, file.section("X-Fleet"))
    problems.extend(fleet_problems)
    service = read_service(service_reader, commands, triggered=bool(chronos.triggers))
    problems.extend(lint(file))
    _check_whole(file, shown, chronos, commands, container is not None, problems)
    if any(problem.severity == "error" for problem in problems):
        raise UnitFileError(in_order(problems))

    after, requires = section.words("After"), section.words("Requires")
    keep_running = not chronos.triggers and service.restart == "always"
    executor: ExecutorName = chronos.executor or _default_executor(commands, container is not None)
    retry = chronos.retry or _restart_as_retry(section, service_reader, service)
    on_partition: OnPartition = chronos.on_partition or ("stop" if chronos.concurrency in ("forbid", "replace") else "continue")
    memory, cpus = _limits(container.body if container is not None else {})
    return Unit(
        name=name,
        revision=revision,
        description=" ".join(section.texts("Description")[-1:]),
        documentation=section.words("Documentation"),
        after=after,
        requires=requires,
        wants=section.words("Wants"),
        on_success=section.words("OnSuccess"),
        on_failure=section.words("OnFailure"),
        needs_docker=DOCKER_SERVICE in after or DOCKER_SERVICE in requires,
        triggers=chronos.triggers,
        fingerprint=chronos.fingerprint,
        time_zone=chronos.time_zone,
        start_delay=chronos.start_delay,
        not_before=chronos.not_before,
        not_after=chronos.not_after,
        max_runs=chronos.max_runs,
        ttl=chronos.ttl,
        randomized_delay=chronos.randomized_delay,
        misfire=chronos.misfire,
        start_deadline=chronos.start_deadline,
        concurrency=chronos.concurrency,
        retry=Retry(0, retry.delay, retry.backoff, retry.max_delay) if keep_running else retry,
        requirements=asked,
        availability=chronos.availability,
        load_balancing=chronos.load_balancing,
        priority=chronos.priority,
        on_partition=on_partition,
        executor=executor,
        service=service,
        container=container,
        artifact=chronos.artifact,
        artifact_sha256=chronos.artifact_sha256,
        payload=chronos.payload,
        history_limit=chronos.history_limit,
        job_store=chronos.job_store,
        keep_running=keep_running,
        template=unit_name.is_template,
        warnings=in_order(problems),
        memory=memory,
        cpus=cpus,
    )


def _check_options(file: UnitFile, name: UnitName, problems: list[Problem]) -> None:
    """Every key is known, every value of systemd's keys is one, every unknown section of ours is an error."""
    for header in file.headers:
        if header.name in SYSTEMD_SECTIONS or header.name in OWN_SECTIONS:
            continue
        near = suggest(header.name, (*OWN_SECTIONS, *SYSTEMD_SECTIONS))
        ours = header.name.startswith("X-") or near in OWN_SECTIONS
        hint = did_you_mean(header.name, (*OWN_SECTIONS, *SYSTEMD_SECTIONS))
        message = f"unknown section [{header.name}]{hint or ': it is not read'}"
        problems.append(Problem(message, header.file, header.line, severity="error" if ours else "warning"))
    type_option = file.last("Service", "Type")
    service_type = type_option.value if type_option is not None else ""
    for option in file.options:
        if option.section == "X-Chronos":
            _check_own(option.name, option.value, option.file, option.line, problems)
        elif option.section in SYSTEMD_SECTIONS and not option.name.startswith("X-"):
            outcome, message = _verdict(option.section, option.name, option.value, name, service_type)
            if outcome != "ok":
                severity = "error" if outcome == "refused" else "warning"
                problems.append(
                    Problem(message, option.file, option.line, option.section, option.name, severity)  # type: ignore[arg-type]
                )


@lru_cache(maxsize=4096)
def _verdict(section: str, key: str, value: str, name: UnitName, service_type: str) -> tuple[str, str]:
    """systemd's judgement of an assignment, and ours when systemd has nothing to say but the key does nothing here."""
    verdict = check(section, key, value, name=name, service_type=service_type)
    if verdict.outcome != "ok":
        return verdict.outcome, verdict.message
    if value and section != "Install" and meaning(section, key) == "ignored":
        return "warned", "has no meaning in xchronos: accepted and ignored"
    return "ok", ""


def _check_own(key: str, value: str, file: str, line: int, problems: list[Problem]) -> None:
    if key not in KNOWN_KEYS:
        hint = did_you_mean(key, KNOWN_KEYS)
        problems.append(Problem(f"unknown key{hint}", file, line, "X-Chronos", key))
    elif value.endswith(" (*)"):
        message = "the footnote mark (*) is not part of the value: dropped"
        problems.append(Problem(message, file, line, "X-Chronos", key, "warning"))


def _check_whole(
    file: UnitFile, shown: str, chronos: Chronos, commands: Commands, has_container: bool, problems: list[Problem]
) -> None:
    """What only the file as a whole can be wrong about."""
    if not commands.steps and not has_container:
        problems.append(Problem("nothing to run: expected ExecStart= in [Service], or a [Container] with Image=", shown))
    if chronos.executor in ("http", "python"):
        option = file.last("X-Chronos", "Executor")
        line = option.line if option is not None else 0
        problems.append(
            Problem(
                f"no machine of this version runs the {chronos.executor} executor: expected docker or process",
                shown, line, "X-Chronos", "Executor", "warning",
            )
        )  # fmt: skip


def _default_executor(commands: Commands, has_container: bool) -> ExecutorName:
    if has_container or any(step.docker for step in commands.steps):
        return "docker"
    return "process"


def _restart_as_retry(unit: Reader, service_reader: Reader, service: Service) -> Retry:
    """Restart=on-failure and its kin, without MaxAttempts, are attempts: StartLimitBurst of them, RestartSec apart."""
    if service.restart in ("no", "on-success", "on-watchdog"):
        return Retry()
    burst = 5
    for reader, key in ((service_reader, "StartLimitBurst"), (unit, "StartLimitBurst")):
        burst = reader.lenient(key, _count, burst)
    delay = service_reader.lenient("RestartSec", parse_timespan, 100_000)
    return Retry(max(burst, 1), delay if delay is not None else 100_000)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidValue(f"{text!r} is not a whole number")
    return int(text)


def _limits(body: "dict[str, object]") -> tuple[int, float]:
    """Memory in bytes and CPUs that an attempt may use: what it is counted with on its machine."""
    host = body.get("HostConfig")
    if not isinstance(host, dict):
        return 0, 0.0
    return int(host.get("Memory") or 0), (host.get("NanoCpus") or 0) / 1e9
