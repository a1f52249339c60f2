"""`compile_unit`: from the text of a unit file to a Unit. All problems are reported together, each with its line."""

from collections.abc import Sequence

import msgspec

from xchronos.dockercli import ports_accepted_before
from xchronos.errors import InvalidValue, Problem, UnitFileError
from xchronos.model.compile.bounds import check_size, told
from xchronos.model.compile.chronos import read_chronos
from xchronos.model.compile.commands import CompiledSteps, limits, read_commands, with_image_command
from xchronos.model.compile.consistency import DOCKER_SERVICE, check_counts, check_whole, depends
from xchronos.model.compile.container import read_container
from xchronos.model.compile.options import Judgement, settle
from xchronos.model.compile.reader import OptionReader, in_order
from xchronos.model.compile.service import check_restart, read_service, restart_as_retry
from xchronos.model.conditions import read_conditions
from xchronos.model.features import needed, rules_text, zones_used
from xchronos.model.policies import ExecutorName, OnPartition
from xchronos.model.unit import Container, Unit
from xchronos.unitfile import UnitFile, UnitName, expand, merge, parse
from xchronos.unitfile.directives import NEWEST
from xchronos.unitfile.fleet.requirements import FLEET_SECTION, requirements


def parse_unit(
    name: str, text: bytes | str, drop_ins: Sequence[tuple[str, bytes | str]] = (), path: str = ""
) -> UnitFile:
    """The file merged with its drop-ins, parsed but not compiled.

    Raises UnitFileError, with the problems of all files.
    """
    files: list[UnitFile] = []
    problems: list[Problem] = []
    for file, content in ((path or name, text), *drop_ins):
        try:
            files.append(parse(content, file))
        except UnitFileError as error:
            problems.extend(error.problems)
    if problems:
        raise UnitFileError(problems)
    return merge(files[0], files[1:])


def compile_unit(
    name: str,
    text: bytes | str,
    drop_ins: Sequence[tuple[str, bytes | str]] = (),
    path: str = "",
    *,
    stored: bool = False,
    systemd: int = NEWEST,
) -> Unit:
    """Compile a unit file.

    Args:
        name: The unit's name, such as `report.service`. An instance (`report@eu.service`) is compiled from its
            template's text. A template (`report@.service`) is compiled as its instance `i`, as in systemd-analyze.
        text: The file.
        drop_ins: The name and text of each drop-in, in the order in which they are read.
        path: What problems call the file. The default is the unit's name.
        stored: Whether the text is that of a unit that was accepted before. It may be larger than one that is new, and
            have more commands, triggers, ports and values: earlier versions took more.
        systemd: The version of systemd by which its keys are judged. Only warnings depend on it.

    Raises:
        UnitFileError: the file has an error, or is too large. The exception carries the problems as `bounds.told` tells
            them, warnings included.
    """
    try:
        if not stored:
            check_size(((path or name, text), *drop_ins))
            unit = _of_text(name, text, drop_ins, path, systemd)
        else:
            with ports_accepted_before():
                unit = _of_text(name, text, drop_ins, path, systemd, stored=True)
    except UnitFileError as error:
        raise UnitFileError(told(error.problems)) from error
    return unit


def _of_text(
    name: str,
    text: bytes | str,
    drop_ins: Sequence[tuple[str, bytes | str]],
    path: str,
    systemd: int,
    *,
    stored: bool = False,
) -> Unit:
    shown = path or name
    unit_name = _name(name, shown)
    file = parse_unit(name, text, drop_ins, path)
    if file.masked:
        empty = Problem("the file is empty: the unit is masked, it cannot be started", shown, severity="warning")
        return Unit(name, file.revision, masked=True, warnings=(empty,))
    unit = _compile(file, unit_name, shown, systemd, stored=stored)
    return msgspec.structs.replace(unit, name=name, template=True) if name != unit.name else unit


def _name(name: str, shown: str) -> UnitName:
    """The unit's name, or for a template the name of its instance `i`. Raises UnitFileError."""
    try:
        found = UnitName.parse(name)
        if found.suffix == ".service":
            return found.with_instance("i") if found.is_template else found
    except InvalidValue as error:
        raise UnitFileError([Problem(str(error), shown)]) from error
    message = f"a {found.suffix} unit: xchronos runs .service units only; what triggers one stands in its [X-Chronos]"
    raise UnitFileError([Problem(message, shown)])


def _compile(file: UnitFile, name: UnitName, shown: str, systemd: int, *, stored: bool) -> Unit:
    problems: list[Problem] = list(file.problems)
    section = OptionReader(file, "Unit", problems)
    service_section = OptionReader(file, "Service", problems)
    own_section = OptionReader(file, "X-Chronos", problems, marks=True)
    chronos = read_chronos(own_section, name)
    commands = read_commands(service_section, name, stored=stored)
    container = read_container(file, name, problems)
    judgement = Judgement(file, name, container=container is not None, systemd=systemd)
    problems.extend(judgement.problems)
    asked, fleet_problems = requirements(name.full, file.section(FLEET_SECTION))
    # A key that belongs to another section is already reported.
    problems.extend(problem for problem in fleet_problems if (problem.file, problem.line) not in judgement.misplaced)
    service = read_service(
        service_section,
        commands if container is None else with_image_command(commands),
        triggered=bool(chronos.triggers),
        container=container is not None,
    )
    check_whole(shown, (service_section, own_section), chronos, commands, container, service, asked, problems)
    if not stored:
        check_counts(shown, chronos, asked, problems)
    need, (rules, zones) = needed(file), zones_used(chronos.triggers, chronos.time_zone)
    keep_running = not chronos.triggers and service.restart == "always"
    check_restart(
        section,
        service_section,
        service,
        attempts=own_section.last("MaxAttempts") is not None,
        kept_running=keep_running,
    )
    links = {key: depends(section, key, name) for key in ("After", "Requires", "OnSuccess", "OnFailure")}

    files = (file.path, *(drop_in.path for drop_in in file.dropins))
    said = in_order(settle(file, problems, judgement.verdicts), files)
    if any(problem.severity == "error" for problem in said):
        raise UnitFileError(said)

    retry = chronos.retry or restart_as_retry(section, service_section, service)
    on_partition: OnPartition = chronos.on_partition or (
        "stop" if chronos.concurrency in ("forbid", "replace") else "continue"
    )
    memory, cpus = limits(container.body) if container is not None else (0, 0.0)
    description = section.last("Description")
    return Unit(
        name=name.full,
        revision=file.revision,
        description=described(description.value, name) if description is not None else "",
        documentation=tuple(word for text in section.texts("Documentation") for word in text.split()),
        on_success=links["OnSuccess"],
        on_failure=links["OnFailure"],
        # Conditions are about the machine's files, which the steps in a container do not see.
        conditions=() if container is not None else read_conditions(file),
        needs_docker=DOCKER_SERVICE in links["After"] or DOCKER_SERVICE in links["Requires"],
        triggers=chronos.triggers,
        fingerprint=chronos.fingerprint,
        time_zone=chronos.time_zone,
        zones=zones,
        rules=rules_text(rules),
        level=need.level,
        level_because=need.because,
        start_delay=chronos.start_delay,
        not_before=chronos.not_before,
        not_after=chronos.not_after,
        max_runs=chronos.max_runs,
        ttl=chronos.ttl,
        randomized_delay=chronos.randomized_delay,
        misfire=chronos.misfire,
        start_deadline=chronos.start_deadline,
        concurrency=chronos.concurrency,
        retry=msgspec.structs.replace(retry, max_attempts=0) if keep_running else retry,
        requirements=asked,
        availability=chronos.availability,
        load_balancing=chronos.load_balancing,
        priority=chronos.priority,
        on_partition=on_partition,
        executor=chronos.executor or _default_executor(commands, container),
        service=service,
        container=container,
        artifact=chronos.artifact,
        artifact_sha256=chronos.artifact_sha256,
        payload=chronos.payload,
        history_limit=chronos.history_limit,
        job_store=chronos.job_store,
        keep_running=keep_running,
        warnings=told(said),
        memory=max(memory, commands.memory),
        cpus=max(cpus, commands.cpus),
    )


def _default_executor(commands: CompiledSteps, container: Container | None) -> ExecutorName:
    if container is not None or any(step.docker for step in commands.steps):
        return "docker"
    return "process"


def described(text: str, name: UnitName) -> str:
    """A description with the specifiers of the name filled in, or as it is written if one of them does not exist."""
    try:
        return expand(text, name).replace("%%", "%")
    except InvalidValue:
        return text
