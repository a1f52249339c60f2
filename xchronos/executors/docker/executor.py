"""The Docker executor: containers of [Container] units, and docker command lines, through the Engine API.

A step's container has a deterministic name and deterministic labels. That makes a crash harmless: the next call of
`run` tries to create a container of the same name, is told that it exists, and adopts it. The engine never removes a
container by itself (AutoRemove is off). The executor removes it when the attempt is released, after its result is
durable.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from xchronos.aio import cancel_and_wait
from xchronos.dockercli import Create, DockerCommand, Run, Start
from xchronos.errors import ExecutorUnavailable, StartRefused
from xchronos.executors.contract import Leftover, StepExit, StepSpec
from xchronos.executors.docker import body as bodies
from xchronos.executors.docker.client import ConnectionLost, DockerClient, EngineRefusal
from xchronos.executors.docker.commands import DockerCommandRun
from xchronos.executors.docker.containers import Keeper, start_gate
from xchronos.executors.docker.journal import StepJournal
from xchronos.executors.docker.output import log_config
from xchronos.executors.docker.run import ContainerRun, attend, output_of
from xchronos.executors.logfile import BoundedLog
from xchronos.executors.patience import new_pauses, telling
from xchronos.hostfiles import HostFiles

PROBE_LIMIT = 10.0
"""Seconds that an engine has to say its version. After that it does not answer, and nothing new is placed there."""

MOST_START_LOOKS = 100
"""How often `stop` looks whether a container that is about to be started has started."""

START_LOOK_INTERVAL = 0.1
"""Seconds between two of these looks."""


class _Active(msgspec.Struct, eq=False):
    """A step that this executor is busy with, and what a signal to the step reaches.

    `work` is the task that runs it. `commands` is set for docker commands other than `run` and `create`. `signal` is
    the name of the signal that made the executor give the step up; "" before that.
    """

    work: asyncio.Task[StepExit] | None = None
    commands: DockerCommandRun | None = None
    signal: str = ""

    def give_up(self, signal: str) -> None:
        """Cancel the work; the step ends by this signal."""
        self.signal = signal
        if self.work is not None:
            self.work.cancel()


def _complain(message: str) -> str:
    """The line that the docker client prints when the engine refuses to run a container."""
    return f"docker: Error response from daemon: {message}"


class DockerExecutor:
    """Steps in containers of one engine. `host` has the form of DOCKER_HOST, which is its default.

    `namespace` is the cluster's. `owner` is this machine's identity in it, which the state directory holds. Containers
    of others on the same engine are never touched
    (`test_daemons_that_share_an_engine_leave_each_others_containers_alone`). When the state directory is lost, nobody
    owns its containers any more.
    """

    name = "docker"
    recoverable = True

    def __init__(
        self, namespace: str = "default", host: str | None = None, owner: str = "", files: HostFiles | None = None
    ) -> None:
        """`files` reads the files of this host that docker lines name; None: any of them."""
        self._namespace = namespace
        self._owner = owner
        self._files = files or HostFiles()
        self._engine = DockerClient(host)
        self._keeper = Keeper(self._engine, start_gate(), self._files)
        self._active: dict[tuple[str, int, str], _Active] = {}
        self._left: dict[tuple[str, int, str], str] = {}
        """The container that an ended step of this process has left; "": none that is ours."""

    @property
    def host(self) -> str:
        """The engine's address, in the form of DOCKER_HOST."""
        return self._engine.host

    async def probe(self) -> str:
        """The engine's version."""
        try:
            answer = await self._engine.ask("GET", "/version", timeout=PROBE_LIMIT)
        except EngineRefusal as refusal:
            raise ExecutorUnavailable(
                f"{self._engine.named} does not answer as a Docker engine: {refusal}"
            ) from refusal
        return str(answer["Version"])

    def _run_of(self, spec: StepSpec) -> ContainerRun:
        return ContainerRun(self._keeper, spec, self._name_of(spec), self._labels_of(spec))

    def _labels_of(self, spec: StepSpec) -> dict[str, str]:
        return bodies.labels_of(spec, self._namespace, self._owner)

    def _name_of(self, spec: StepSpec) -> str:
        written = spec.docker.name if isinstance(spec.docker, Create) else None
        return written or spec.container_name or bodies.container_name(spec, self._owner)

    async def run(self, spec: StepSpec) -> StepExit:
        """Run the step, or adopt it. See `Executor.run`."""
        active = self._active[spec.identity] = _Active()
        work = active.work = asyncio.create_task(self._run(spec, active))
        try:
            result = await work
        except asyncio.CancelledError:
            if active.signal:
                return StepExit(signal=active.signal, reason="given up before it had an end of its own")
            raise
        else:
            self._left[spec.identity] = result.container if bodies.is_removed_after(spec) else ""
            return result
        finally:
            if self._active.get(spec.identity) is active:
                del self._active[spec.identity]
            await cancel_and_wait(work)

    async def _run(self, spec: StepSpec, active: _Active) -> StepExit:
        command = spec.docker
        await self._engine.identify()  # what it is decides how it keeps output
        if command is None:
            keeping = log_config(self._engine, spec.log_limit, tty=bool((spec.body or {}).get("Tty")))
            labels = {**self._labels_of(spec), bodies.NAME: self._name_of(spec)}
            body = bodies.step_body(spec, labels, keeping)
            if self._engine.podman:
                bodies.seccomp_as_paths(body, spec)
            networks = bodies.further_networks(spec.networks, spec.body or {})
            return await self._run_of(spec).run(body, pull=spec.pull, platform=spec.platform, networks=networks)
        if isinstance(command, Create):
            try:
                return await self._run_line(spec, command)
            except StartRefused as refusal:
                with BoundedLog(spec.log, spec.log_limit, resume=True) as log:
                    log.write(f"docker: {refusal}\n".encode())
                return StepExit(code=125, reason=str(refusal))
        return await self._perform(spec, command, active)

    async def _run_line(self, spec: StepSpec, command: Create) -> StepExit:
        """A `docker run` or `docker create` line."""
        run = self._run_of(spec)
        detached = not isinstance(command, Run) or command.detach
        removes = isinstance(command, Run) and command.remove
        labels = {**self._labels_of(spec), bodies.NAME: self._name_of(spec)}
        if detached:
            labels[bodies.KEEP] = bodies.KEEP_RUNNING if removes else bodies.KEEP_ALWAYS
        elif not removes and command.name:
            labels[bodies.KEEP] = bodies.KEEP_ALWAYS  # the user gave it a name, to come back to it
        keeping = log_config(self._engine, spec.log_limit, tty=bool(command.body.get("Tty")))
        body = await bodies.command_body(spec, command, labels, self._files, detached=detached, log_config=keeping)
        if self._engine.podman:
            bodies.seccomp_as_paths(body, spec)
        networks = bodies.further_networks(command.networks, command.body)
        if not detached and not command.cidfile:
            return await run.run(
                body, pull=command.pull, platform=command.platform, quiet=command.quiet, networks=networks,
                complain=_complain,
            )  # fmt: skip
        with BoundedLog(spec.log, spec.log_limit, resume=True) as log, telling(log.note):
            try:
                found = await run.create(body, log, pull=command.pull, platform=command.platform, quiet=command.quiet)
                await run.equip(found, networks, log)
            except EngineRefusal as refusal:
                log.write(f"{_complain(refusal.message)}\n".encode())
                return StepExit(code=125, reason=refusal.message)
            if command.cidfile:
                path = bodies.named_path(spec, command.cidfile)
                await self._files.ask(lambda: bodies.write_id(path, found.id), f"container ID file {path}")
            fresh = found.state.status == "created"
            output = await output_of(self._keeper, found, log, fresh=fresh) if not detached else None
            if isinstance(command, Run):
                refused = await self._keeper.start(found, spec)
                if refused is not None:
                    log.write(f"{_complain(refused.reason)}\n".encode())
                    return refused
            if output is None:
                log.write(f"{found.id}\n".encode())
                return StepExit(code=0, container=found.id)
            return await attend(self._keeper, found, output, log)

    async def _perform(self, spec: StepSpec, command: DockerCommand, active: _Active) -> StepExit:
        """Any other docker command. It begins again when the engine went away in the middle."""
        journal = StepJournal(spec)
        await self._engine.ping()  # while the engine does not answer, nothing is begun and nothing written down
        await journal.begin()
        pauses = new_pauses()
        # What `start -a` has printed stays: it knows how far it has read the container's output.
        attaches = isinstance(command, Start) and command.attach
        with (
            BoundedLog(spec.log, spec.log_limit, resume=attaches and journal.again) as log,
            telling(log.note),
        ):
            while True:
                commands = active.commands = DockerCommandRun(self._keeper, spec, log, journal, self._files)
                try:
                    return await commands.perform(command)
                except ConnectionLost:
                    journal.again = True
                except ExecutorUnavailable:
                    pass  # nothing was sent, so `again` stays as it is
                if not attaches and log.written:
                    log.restart()  # before the pause, which may leave a line there
                await pauses.pause()

    async def stop(self, spec: StepSpec, signal: str) -> None:
        """Signal the step's container, as the docker client passes signals on.

        A command without a container is given up. So is a container that does not exist yet, because its image is being
        pulled (`test_a_stop_in_the_middle_of_a_pull_starts_nothing`).
        """
        active = self._active.get(spec.identity)
        if spec.docker is not None and not isinstance(spec.docker, Create):
            if active is not None and (
                active.commands is None or not await active.commands.signal(spec.docker, signal)
            ):
                active.give_up(signal)
            return
        for _ in range(MOST_START_LOOKS):
            run = self._run_of(spec)
            found = await run.find()
            if found is None:
                if active is not None:
                    active.give_up(signal)
                return
            if not run.mine(found.labels):
                return
            if found.state.status != "created" or self._active.get(spec.identity) is None:
                await self._keeper.signal(found.id, signal)
                return
            # A signal before the start would be lost (`test_a_stop_waits_for_a_start_that_takes_its_time`).
            await asyncio.sleep(START_LOOK_INTERVAL)

    async def kill(self, spec: StepSpec) -> None:
        """SIGKILL the step's container. A command without a container is given up."""
        await self.stop(spec, "SIGKILL")

    async def _list(self, *labels: str) -> list[dict[str, Any]]:
        wanted = [f"{bodies.NAMESPACE}={self._namespace}", f"{bodies.OWNER}={self._owner}", *labels]
        filters = msgspec.json.encode({"label": wanted}).decode()
        found: list[dict[str, Any]] = await self._engine.ask(
            "GET", "/containers/json", params={"all": "1", "filters": filters}
        )
        images: dict[str, Mapping[str, str]] = {}
        mine = []
        for item in found:
            if _users(item) or not bodies.is_ours(item["Labels"], item["Names"]):
                continue
            # A name that we have drawn cannot be taken by chance; one that a unit chose can.
            if not item["Names"][0].startswith("/xc-") or bodies.NAME not in item["Labels"]:
                image = str(item.get("ImageID", ""))
                if image not in images:
                    images[image] = await self._labels_of_image(image)
                if bodies.is_inherited(item["Labels"], images[image]):
                    continue
            mine.append(item)
        return mine

    async def _labels_of_image(self, image: str) -> Mapping[str, str]:
        """An image's own labels; none when it is gone, or has none."""
        try:
            found = await self._engine.ask("GET", f"/images/{image}/json")
        except EngineRefusal as refusal:
            if refusal.status == 404:
                return {}
            raise
        labels: Mapping[str, str] | None = (found.get("Config") or {}).get("Labels")
        return labels or {}

    async def tidy(self, execution: str, attempt: int, step: str) -> None:
        """Remove an ended step's container, unless it is the user's. See `TidyExecutor.tidy`."""
        container = self._left.pop((execution, attempt, step), None)
        if container is not None:
            containers = [container] if container else []
        else:
            labels = (f"{bodies.EXECUTION}={execution}", f"{bodies.ATTEMPT}={attempt}", f"{bodies.STEP}={step}")
            containers = [item["Id"] for item in await self._list(*labels)]
        for container in containers:
            await self._keeper.delete(container, force=False)

    async def release(self, execution: str, attempt: int) -> None:
        """Remove the attempt's containers, except those that are the user's."""
        for identity in [identity for identity in self._left if identity[:2] == (execution, attempt)]:
            del self._left[identity]
        mine = await self._list(f"{bodies.EXECUTION}={execution}", f"{bodies.ATTEMPT}={attempt}")
        await asyncio.gather(*(self._keeper.delete(item["Id"]) for item in mine))

    async def leftovers(self) -> list[Leftover]:
        """Every container of this owner that is not the user's."""
        found = []
        for item in await self._list():
            labels = item["Labels"]
            with suppress(ValueError, KeyError):  # somebody else has written labels with our names
                found.append(
                    Leftover(
                        execution=labels[bodies.EXECUTION],
                        attempt=int(labels[bodies.ATTEMPT]),
                        step=labels[bodies.STEP],
                        running=item["State"] in ("running", "paused", "restarting"),
                        what=f"container {item['Id'][:12]} ({item['Names'][0].lstrip('/')})",
                    )
                )
        return found

    async def remove(self, leftovers: Collection[Leftover]) -> None:
        """End and remove these."""
        wanted = {(left.execution, str(left.attempt), left.step) for left in leftovers}
        if not wanted:
            return
        mine = [
            item["Id"]
            for item in await self._list()
            if tuple(item["Labels"].get(key) for key in (bodies.EXECUTION, bodies.ATTEMPT, bodies.STEP)) in wanted
        ]
        await asyncio.gather(*(self._keeper.delete(container) for container in mine))

    async def close(self) -> None:
        """Close every connection. Containers go on."""
        await self._engine.close()


def _users(item: dict[str, Any]) -> bool:
    keep: str | None = item["Labels"].get(bodies.KEEP)
    return keep == bodies.KEEP_ALWAYS or (keep == bodies.KEEP_RUNNING and str(item["State"]) == "running")
