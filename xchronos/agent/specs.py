"""From a unit's step to what an executor runs: specifiers, environment, scratch directory, the create body.

Everything that speaks of this machine is filled in here, when the step is about to run.
"""

import asyncio
import glob
import pwd
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import msgspec

from xchronos.errors import InvalidValue, StartRefused
from xchronos.executors.contract import FORBIDDEN, Executor, HostExecutor, StepExit, StepSpec
from xchronos.executors.docker_body import read_assignments
from xchronos.model.records import Execution, fire_key
from xchronos.model.unit import Container, Step, Unit
from xchronos.unitfile import (
    HostFacts,
    UnitName,
    expand,
    parse_env_file,
    parse_environment,
    unset_variables,
)
from xchronos.unitfile.dockercli import compile_docker

SCRATCH = "/xchronos"
"""Where containers have the attempt's scratch directory: the working directory, unless the unit names one."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""systemd's default search path for programs."""


_named = lru_cache(maxsize=8_192)(UnitName.parse)

_are_hosts: dict[type, bool] = {}
"""Which classes of executors run processes of this machine: asking a runtime protocol takes as long as a small step."""


class Place:
    """This machine, as its steps see it. `secrets` is the directory of the machine's secrets."""

    def __init__(
        self, machine: str, facts: HostFacts, environ: Mapping[str, str], secrets: Path, log_limit: int
    ) -> None:
        self.machine = machine
        self.facts = facts
        self.environ = environ
        self.secrets = secrets
        self.log_limit = log_limit


class AttemptSteps:
    """Runs the steps of one attempt on this machine's executors."""

    def __init__(
        self,
        unit: Unit,
        execution: Execution,
        place: Place,
        executors: Mapping[str, Executor],
        directory: Path,
        permitted: Callable[[], bool] | None = None,
    ) -> None:
        if execution.current is None:
            raise ValueError(f"{execution.id} has no current attempt")
        self._unit = unit
        self._name = _named(unit.name)
        self._execution = execution
        self._attempt = execution.current.number
        self._place = place
        self._executors = executors
        self._directory = directory
        self._permitted = permitted
        self._specs: dict[str, StepSpec] = {}
        self._kinds = {self.executor_of(step) for step in unit.service.steps}

    def executor_of(self, step: Step) -> str:
        """The kind of executor that runs a step."""
        if step.docker:
            return "docker"
        if self._unit.executor == "docker":
            return "docker" if self._unit.container is not None else "process"
        return self._unit.executor

    @property
    def recoverable(self) -> bool:
        """Whether a restarted daemon finds every step of this attempt again."""
        return all(self._executors[kind].recoverable for kind in self._kinds if kind in self._executors)

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        """Run a step; what keeps it from being started is its end."""
        kind = self.executor_of(step)
        executor = self._executors.get(kind)
        if executor is None:
            return StepExit(reason=f"this machine does not run the {kind} executor")
        try:
            spec = self._spec(step, env, kind)
        except (InvalidValue, StartRefused, OSError) as error:
            return StepExit(reason=str(error))
        self._specs[step.name] = spec
        if spec.forbidden:
            return StepExit(lost=True, reason=FORBIDDEN)
        return await executor.run(spec)

    async def stop(self, step: Step, signal: str) -> None:
        """Send a signal to a step that was begun."""
        spec = self._specs.get(step.name)
        if spec is not None:
            await self._executors[self.executor_of(step)].stop(spec, signal)

    async def kill(self, step: Step) -> None:
        """End a step that was begun."""
        spec = self._specs.get(step.name)
        if spec is not None:
            await self._executors[self.executor_of(step)].kill(spec)

    async def started(self, step: Step) -> int | None:
        """Wait until the program runs: its pid on this machine, 0 if it has ended; None for containers and calls."""
        await asyncio.sleep(0)  # `run` of this very step has its turn first
        spec = self._specs.get(step.name)
        host = _host(self._executors.get(self.executor_of(step)))
        return None if spec is None or host is None else await host.started(spec)

    async def left_behind(self, signal: str = "") -> bool:
        """Whether steps that have ended left processes running on this machine; sends these a signal if given."""
        found = False
        for kind in self._kinds:
            host = _host(self._executors.get(kind))
            if host is not None:
                found |= await host.left_behind(self._execution.id, self._attempt, signal)
        return found

    async def end_all(self) -> bool:
        """Kill everything of the attempt, whatever its kill mode. Returns whether anything was still running."""
        ran = await self.left_behind("SIGKILL")
        for step in self._unit.service.steps:
            await self.kill(step)
        for kind in self._kinds:
            if kind in self._executors:
                left = [
                    one
                    for one in await self._executors[kind].leftovers()
                    if one.running and (one.execution, one.attempt) == (self._execution.id, self._attempt)
                ]
                await self._executors[kind].remove(left)
                ran |= bool(left)
        return ran

    async def release(self) -> None:
        """Remove what is left of the attempt, now that its result is durable."""
        for kind in self._kinds:
            if kind in self._executors:
                await self._executors[kind].release(self._execution.id, self._attempt)

    # -- specs --------------------------------------------------------------------------------------------------------

    def _spec(self, step: Step, extra: Mapping[str, str], kind: str) -> StepSpec:
        service = self._unit.service
        in_container = kind == "docker" and not step.docker
        env = {**self._base_environment(kind, in_container=in_container), **extra}
        if step.line.program:
            command = step.line.resolve(self._name, self._place.facts, env)
            program, argv = command.path, command.argv
        else:
            program, argv = "", ()
        spec = StepSpec(
            unit=self._unit.name,
            execution=self._execution.id,
            attempt=self._attempt,
            step=step.name,
            argv=argv,
            program=program,
            env=env,
            directory=self._directory,
            log=self._directory / f"{step.name}.log",
            log_limit=self._place.log_limit,
            user=self._expand(service.user),
            group=self._expand(service.group),
            working_directory=self._working_directory(),
            stop_signal=service.kill_signal,
            kill_mode=service.kill_mode,
            payload=self._execution.payload,
            on_partition=self._unit.on_partition,
            permitted=self._permitted,
        )
        if step.docker:
            return msgspec.structs.replace(spec, docker=compile_docker(("docker", *argv[1:]), env=env))
        if in_container and self._unit.container is not None:
            return self._in_container(spec, self._unit.container, step)
        return spec

    def _in_container(self, spec: StepSpec, container: Container, step: Step) -> StepSpec:
        extras = container.extras
        body: dict[str, Any] = _expand_all(container.body, self._name, self._place.facts)
        if step.line.program:
            if body.get("Entrypoint"):
                # The image's entry point was replaced in [Container]: the line is what it is given.
                body["Cmd"] = list(spec.argv)
            else:
                body["Entrypoint"], body["Cmd"] = [spec.program], list(spec.argv[1:])
        body["WorkingDir"] = body.get("WorkingDir") or SCRATCH
        host = body["HostConfig"] = dict(body.get("HostConfig") or {})
        host["Binds"] = [*(host.get("Binds") or ()), f"{self._directory / 'scratch'}:{SCRATCH}"]
        from_files: list[str] = []
        for file in extras.env_files:
            from_files += read_assignments(Path(self._expand(file)), spec.env)
        body["Env"] = [*from_files, *(body.get("Env") or ())]
        for file in extras.label_files:
            pairs = (pair.partition("=") for pair in read_assignments(Path(self._expand(file)), None))
            body["Labels"] = {**{key: value for key, _, value in pairs}, **(body.get("Labels") or {})}
        if extras.seccomp_profile:
            profile = Path(self._expand(extras.seccomp_profile)).read_text(encoding="utf-8")
            host["SecurityOpt"] = [*(host.get("SecurityOpt") or ()), f"seccomp={profile}"]
        present = [device for device in extras.optional_devices if Path(device["PathOnHost"]).exists()]
        if present:
            host["Devices"] = [*(host.get("Devices") or ()), *present]
        mounted: dict[str, str] = {}
        for secret in extras.secrets:
            text = self._secret(secret.name)
            if secret.kind == "env":
                body["Env"].append(f"{secret.target or secret.name}={text}")
            else:
                mounted[secret.target or secret.name] = text
        return msgspec.structs.replace(
            spec, body=body, pull=extras.pull, platform=extras.platform, networks=extras.networks, secrets=mounted
        )

    def _secret(self, name: str) -> str:
        if "/" in name or name.startswith("."):
            raise InvalidValue(f"secret {name!r}: expected the name of a file in {self._place.secrets}")
        try:
            return (self._place.secrets / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InvalidValue(f"secret {name!r}: there is no file {self._place.secrets / name}") from None

    def _base_environment(self, kind: str, *, in_container: bool) -> dict[str, str]:
        """The environment of a step. Files are read anew for each: systemd lets ExecStartPre write them."""
        # The image has its own PATH; a host process, and the reading of a docker line, begin with systemd's.
        env = {} if in_container else {"PATH": PATH, "LANG": "C.UTF-8"}
        if kind == "process":
            env |= self._user_environment()
        env |= self._read_environment()
        if self._unit.service.unset_environment:
            env = dict(unset_variables(env, self._unit.service.unset_environment))
        env |= self._own_environment()
        env["XCHRONOS_SCRATCH"] = SCRATCH if in_container else str(self._directory / "scratch")
        return env

    def _user_environment(self) -> dict[str, str]:
        """What systemd tells a process that runs as another user (User=) of that user."""
        user = self._expand(self._unit.service.user)
        if not user:
            return {}
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            return {}  # the step's own failure, with systemd's exit code 217
        return {"USER": entry.pw_name, "LOGNAME": entry.pw_name, "HOME": entry.pw_dir, "SHELL": entry.pw_shell}

    def _read_environment(self) -> dict[str, str]:
        service, facts = self._unit.service, self._place.facts
        env: dict[str, str] = {}
        for variable in service.pass_environment:
            if variable in self._place.environ:
                env[variable] = self._place.environ[variable]
        if service.environment:
            env |= parse_environment(service.environment, self._name, facts).values
        for pattern, optional in service.environment_files:
            wanted = self._expand(pattern)
            found = sorted(glob.glob(wanted)) if glob.has_magic(wanted) else [wanted]  # noqa: PTH207 - any absolute one
            if not found and not optional:
                raise InvalidValue(f"EnvironmentFile={wanted}: no file matches")
            for path in found:
                try:
                    env |= parse_env_file(Path(path).read_bytes()).values
                except OSError as error:
                    if not optional:
                        raise InvalidValue(f"EnvironmentFile={path}: {error.strerror}") from error
        return env

    def _own_environment(self) -> dict[str, str]:
        execution = self._execution
        env = {
            "XCHRONOS_UNIT": execution.unit,
            "XCHRONOS_EXECUTION": execution.id,
            "XCHRONOS_FIRE_TIME": execution.fire_time.isoformat().replace("+00:00", "Z"),
            "XCHRONOS_ATTEMPT": str(self._attempt),
            "XCHRONOS_COPY": str(execution.copy),
            "XCHRONOS_MACHINE": self._place.machine,
            "INVOCATION_ID": f"{fire_key(execution.fire_time)}-{execution.copy}-{self._attempt}",
        }
        if execution.payload:
            env["XCHRONOS_PAYLOAD"] = execution.payload
        return env

    def _working_directory(self) -> str:
        service = self._unit.service
        if not service.working_directory:
            return str(self._directory / "scratch")
        wanted = self._expand(service.working_directory)
        if wanted == "~":
            wanted = self._place.facts.home
        if service.working_directory_optional and not Path(wanted).is_dir():
            return str(self._directory / "scratch")
        return wanted

    def _expand(self, text: str) -> str:
        return expand(text, self._name, self._place.facts) if "%" in text else text


def _host(executor: Executor | None) -> HostExecutor | None:
    """The executor, if it runs processes of this machine."""
    kind = type(executor)
    if kind not in _are_hosts:
        _are_hosts[kind] = isinstance(executor, HostExecutor)
    return cast("HostExecutor", executor) if _are_hosts[kind] else None


def _expand_all(value: Any, name: UnitName, facts: HostFacts) -> Any:
    """Fill in the machine's specifiers wherever a string stands."""
    if isinstance(value, str):
        return expand(value, name, facts) if "%" in value else value
    if isinstance(value, dict):
        return {key: _expand_all(item, name, facts) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_all(item, name, facts) for item in value]
    return value
