"""From a unit's step to what an executor runs: specifiers, environment, scratch directory, the create body.

Everything that depends on this machine is filled in here, when the step is about to run.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from hashlib import sha256
from typing import cast

import msgspec

from xchronos.agent.steps.host_inputs import NO_INPUTS, HostInputs, lets_in, needs_inputs, read_inputs, with_container
from xchronos.agent.steps.resolved_unit import ResolvedUnit
from xchronos.dockercli import compile_docker, ports_accepted_before
from xchronos.errors import InvalidValue, StartRefused
from xchronos.executors.contract import FORBIDDEN, HostExecutor, StepExit, StepSpec, TidyExecutor
from xchronos.executors.docker.body import assignments_in
from xchronos.model.compile.container import on_machine
from xchronos.model.records import Execution
from xchronos.model.unit import Container, Step
from xchronos.unitfile import SHELL, expand_variables

SCRATCH = "/xchronos"
"""Where a container has the attempt's scratch directory. It is the working directory, unless the unit names one."""


class AttemptSteps:
    """Runs the steps of one attempt on this machine's executors: a `Steps` (`attempt.interfaces`)."""

    def __init__(
        self, resolved: ResolvedUnit, execution: Execution, directory: str, permitted: Callable[[], bool] | None = None
    ) -> None:
        """`permitted` says whether a step may be started now; None: it always may. ValueError without an attempt."""
        if execution.current is None:
            raise ValueError(f"{execution.id} has no current attempt")
        self._resolved = resolved
        self._execution = execution
        self._id = execution.id
        self._attempt = execution.current.number
        self._directory = directory
        self._scratch = f"{directory}/scratch"
        self._permitted = permitted
        self._specs: dict[str, StepSpec] = {}
        self._ended: set[str] = set()
        """Steps that were asked to end. One whose program does not run by then is not started any more."""

    def call(self, step: Step, env: Mapping[str, str]) -> StepExit | None:
        """Run a step that is over when this returns. None: the step is of another kind, and is `run`'s."""
        kind = self._resolved.kind_of(step)
        direct = self._resolved.direct.get(kind)
        if direct is None or needs_inputs(self._resolved, kind):
            return None
        # Not kept: a spec refers to these steps, so only the collector could free the two; and it is over anyhow.
        spec = self._prepared(step, env, kind, NO_INPUTS)
        if isinstance(spec, StepExit):
            return spec
        return StepExit(lost=True, reason=FORBIDDEN) if spec.forbidden else direct.call(spec)

    async def run(self, step: Step, env: Mapping[str, str]) -> StepExit:
        """Run a step to its end. What keeps it from being started is its end, too."""
        kind = self._resolved.kind_of(step)
        executor = self._resolved.executors.get(kind)
        if executor is None:
            return StepExit(reason=f"this machine does not run the {kind} executor")
        spec = self._specs.get(step.name) or await self._prepare(step, env, kind)
        if isinstance(spec, StepExit):
            return spec
        self._specs[step.name] = spec
        # A step that was asked to end is not forbidden: it may run, and is found and waited for then.
        forbidden = self._permitted is not None and not self._permitted()
        return StepExit(lost=True, reason=FORBIDDEN) if forbidden else await executor.run(spec)

    async def stop(self, step: Step, signal: str) -> None:
        """Send a signal to a step that was begun."""
        self._ended.add(step.name)
        spec = self._specs.get(step.name)
        if spec is not None:
            await self._resolved.executors[self._resolved.kind_of(step)].stop(spec, signal)

    async def kill(self, step: Step) -> None:
        """End a step that was begun."""
        self._ended.add(step.name)
        spec = self._specs.get(step.name)
        if spec is not None:
            await self._resolved.executors[self._resolved.kind_of(step)].kill(spec)

    async def started(self, step: Step) -> int | None:
        """Wait until the program runs. Its pid on this machine; 0: it has ended; None: a container, or a call."""
        await asyncio.sleep(0)  # `run` of this step has its turn first
        spec = self._specs.get(step.name)
        executor = self._resolved.executors.get(self._resolved.kind_of(step))
        return await executor.started(spec) if spec is not None and isinstance(executor, HostExecutor) else None

    def leaves(self, step: Step) -> bool:
        """Whether the step's executor has something to remove after each step."""
        return isinstance(self._resolved.executors.get(self._resolved.kind_of(step)), TidyExecutor)

    def remembers(self, step: Step) -> bool:
        """See `Steps.remembers`: it is a promise of `HostExecutor`."""
        return isinstance(self._resolved.executors.get(self._resolved.kind_of(step)), HostExecutor)

    async def tidy(self, step: Step) -> None:
        """Have it removed: see `TidyExecutor.tidy`."""
        executor = self._resolved.executors.get(self._resolved.kind_of(step))
        if isinstance(executor, TidyExecutor):
            await executor.tidy(self._id, self._attempt, step.name)

    async def left_behind(self, signal: str = "") -> bool:
        """Whether steps that have ended left processes running on this machine; sends these a signal, if given."""
        found = False
        for executor in self._resolved.process_executors:
            found |= await executor.left_behind(self._id, self._attempt, signal)
        return found

    async def end_all(self) -> bool:
        """Kill everything of the attempt, whatever its kill mode says. Returns whether anything still ran."""
        ran = await self.left_behind("SIGKILL")
        for step in self._resolved.unit.service.steps:
            await self.kill(step)
        for kind in self._resolved.kinds:
            executor = self._resolved.executors.get(kind)
            if executor is not None:
                left = [
                    one
                    for one in await executor.leftovers()
                    if one.running and (one.execution, one.attempt) == (self._id, self._attempt)
                ]
                await executor.remove(left)
                ran |= bool(left)
        return ran

    async def release(self) -> None:
        """Remove what the executors have left of the attempt, now that its end is recorded."""
        for kind in self._resolved.kinds:
            executor = self._resolved.executors.get(kind)
            if executor is not None:
                await executor.release(self._id, self._attempt)

    # -- specs --------------------------------------------------------------------------------------------------------

    def _permits(self, step: Step) -> bool:
        return step.name not in self._ended and (self._permitted is None or self._permitted())

    async def _prepare(self, step: Step, env: Mapping[str, str], kind: str) -> StepSpec | StepExit:
        """Read what the step is given of this host, and work out what an executor needs, or why it cannot start."""
        try:
            inputs = await read_inputs(self._resolved, kind)
            container = self._resolved.unit.container
            if container is not None and kind == "docker" and not step.docker:
                here = self._container_here(container, env, inputs)
                inputs = await with_container(self._resolved, here, inputs)
        except (InvalidValue, StartRefused) as error:
            return StepExit(reason=str(error))
        return self._prepared(step, env, kind, inputs)

    def _prepared(self, step: Step, env: Mapping[str, str], kind: str, inputs: HostInputs) -> StepSpec | StepExit:
        """What an executor needs for a step, or why it cannot be started."""
        try:
            return self._spec(step, env, kind, inputs)
        except (InvalidValue, StartRefused) as error:
            return StepExit(reason=str(error))

    def _spec(self, step: Step, extra: Mapping[str, str], kind: str, inputs: HostInputs) -> StepSpec:
        resolved = self._resolved
        unit, host, service = resolved.unit, resolved.host, resolved.unit.service
        in_container = kind == "docker" and not step.docker
        env = resolved.environment(kind, in_container=in_container, user=inputs.user, files=inputs.variables)
        self._add_own_environment(env, in_container=in_container)
        env.update(extra)
        program, argv = "", cast("tuple[str, ...]", ())
        if step.line.program:
            command = resolved.command(step)
            program = command.program
            argv = command.argv if command.plain else expand_variables(command.argv, env)
            if step.line.via_shell:
                made = step.line.in_shell(argv, self._shell(inputs, in_container=in_container))
                program, argv = made.path, made.argv
        # `+` and `!` keep the daemon's identity. `!!` is ignored, as systemd does where the kernel is not an old one.
        keeps_identity = step.line.privilege in ("+", "!")
        spec = StepSpec(
            unit=unit.name,
            execution=self._id,
            attempt=self._attempt,
            step=step.name,
            argv=argv,
            program=program,
            env=env,
            directory=self._directory,
            log_path=f"{self._directory}/{step.name}.log",
            log_limit=host.log_limit,
            user="" if keeps_identity else resolved.expand(service.user),
            group="" if keeps_identity else resolved.expand(service.group),
            working_directory=self._working_directory(inputs),
            stop_signal=service.kill_signal,
            kill_mode=service.kill_mode,
            payload=self._execution.payload,
            on_partition=unit.on_partition,
            permitted=lambda: self._permits(step),
        )
        if step.docker:
            # A variable may become as many ports as its writer likes; what the text says by itself was accepted once.
            as_written = not any("$" in word for word in step.line.words)
            with ports_accepted_before() if as_written else nullcontext():
                return msgspec.structs.replace(spec, docker=compile_docker(("docker", *argv[1:]), env=env))
        if inputs.container is not None:
            return self._in_container(spec, inputs.container, step, inputs)
        return spec

    def _shell(self, inputs: HostInputs, *, in_container: bool) -> str:
        """The shell of the prefix `|`: the user's, or in a container its /bin/sh."""
        if in_container:
            return SHELL
        service, facts = self._resolved.unit.service, self._resolved.host.facts
        shell = inputs.user.get("SHELL", "") if service.user else facts.shell
        return shell if lets_in(shell) else SHELL

    def _container_here(self, container: Container, extra: Mapping[str, str], inputs: HostInputs) -> Container:
        """What [Container] is on this machine. Its variables are those that systemd has for podman's command line."""
        resolved = self._resolved
        env: dict[str, str] = {}
        if container.options:
            env = resolved.environment("docker", in_container=False, user=inputs.user, files=inputs.variables)
            self._add_own_environment(env, in_container=True)
            env.update(extra)
        return on_machine(container, resolved.name, resolved.host.facts, env)

    def _in_container(self, spec: StepSpec, container: Container, step: Step, inputs: HostInputs) -> StepSpec:
        body, extras = dict(container.body), container.extras
        if step.line.program:
            if body.get("Entrypoint"):
                # [Container] has replaced the image's entry point: the line is what that is given.
                body["Cmd"] = list(spec.argv)
            else:
                body["Entrypoint"], body["Cmd"] = [spec.program], list(spec.argv[1:])
        body["WorkingDir"] = body.get("WorkingDir") or SCRATCH
        host_config = body["HostConfig"] = dict(body.get("HostConfig") or {})
        host_config["Binds"] = [*(host_config.get("Binds") or ()), f"{self._scratch}:{SCRATCH}"]
        from_files: list[str] = []
        for path, text in inputs.env_files:
            from_files += assignments_in(text, path, spec.env)
        body["Env"] = [*from_files, *(body.get("Env") or ())]
        for path, text in inputs.label_files:
            pairs = (pair.partition("=") for pair in assignments_in(text, path, None))
            body["Labels"] = {**{key: value for key, _, value in pairs}, **(body.get("Labels") or {})}
        if inputs.seccomp:
            host_config["SecurityOpt"] = [*(host_config.get("SecurityOpt") or ()), f"seccomp={inputs.seccomp}"]
        if inputs.devices:
            host_config["Devices"] = [*(host_config.get("Devices") or ()), *inputs.devices]
        mounted: dict[str, str] = {}
        for secret in extras.secrets:
            text = inputs.secrets[secret.name]
            if secret.kind == "env":
                body["Env"].append(f"{secret.target or secret.name}={text}")
            else:
                mounted[secret.target or secret.name] = text
        return msgspec.structs.replace(
            spec,
            body=body,
            # Two containers of one attempt cannot have the same name: the main process's has it.
            container_name=(extras.name or "") if step.main else "",
            pull=extras.pull,
            platform=extras.platform,
            networks=extras.networks,
            secrets=mounted,
        )

    def _add_own_environment(self, env: dict[str, str], *, in_container: bool) -> None:
        execution, attempt = self._execution, self._attempt
        fire_time = execution.fire_time
        env["XCHRONOS_UNIT"] = execution.unit
        env["XCHRONOS_EXECUTION"] = self._id
        env["XCHRONOS_FIRE_TIME"] = fire_time.isoformat().replace("+00:00", "Z")
        env["XCHRONOS_ATTEMPT"] = str(attempt)
        env["XCHRONOS_COPY"] = str(execution.copy)
        env["XCHRONOS_MACHINE"] = self._resolved.host.machine
        # 128 bits in hex, as sd_id128 reads them: the same for all steps of the attempt, a restarted daemon's too.
        identity = f"{self._id} {attempt} {self._resolved.host.machine}"
        env["INVOCATION_ID"] = sha256(identity.encode()).hexdigest()[:32]
        if execution.payload:
            env["XCHRONOS_PAYLOAD"] = execution.payload
        env["XCHRONOS_SCRATCH"] = SCRATCH if in_container else self._scratch

    def _working_directory(self, inputs: HostInputs) -> str:
        service = self._resolved.unit.service
        if not service.working_directory or (service.working_directory_optional and not inputs.in_directory):
            return self._scratch
        return self._resolved.working_directory
