"""Runs one container to its end for a step: a [Container] step, or a `docker run` line."""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from xchronos.aio import cancel_and_wait
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.executors.docker import body
from xchronos.executors.docker.attachment.client import AttachedOutput
from xchronos.executors.docker.client import DockerClient, EngineRefusal
from xchronos.executors.docker.containers import Keeper
from xchronos.executors.docker.inspected import Inspected, refused_start
from xchronos.executors.docker.output import Output, OutputCopy, log_keeping
from xchronos.executors.hostfacts import engine_started
from xchronos.executors.logfile import BoundedLog
from xchronos.executors.patience import new_pauses, telling

_TAKEN = re.compile(r"already in use", re.IGNORECASE)
"""What docker and podman say of a name that another container has."""

MOST_LOOKS_AT_A_NAME = 12
"""How often a name is tried again while the container that has it is only to be removed: some 15 seconds in all."""

_TINI = re.compile(rb"^\[FATAL tini \(\d+\)\] exec (?P<program>.*) failed: (?P<why>.*)$", re.MULTILINE)
_CATATONIT = re.compile(rb"^ERROR \(catatonit:\d+\): failed to exec pid1: (?P<why>.*)$", re.MULTILINE)
_NO_INIT = re.compile(r"\binit binary\b|docker-init")


def line_writer(log: BoundedLog) -> Callable[[str], None]:
    """A function that writes a line of text into the log."""
    return lambda text: log.write(f"{text}\n".encode())


class ContainerRun:
    """One step's container. `name` and `labels` identify it, so that another run of the step adopts it."""

    def __init__(self, keeper: Keeper, spec: StepSpec, name: str, labels: Mapping[str, str]) -> None:
        self._keeper = keeper
        self._spec = spec
        self._name = name
        self._labels = labels

    def mine(self, labels: Mapping[str, str]) -> bool:
        """Whether a container with these labels is this step's."""
        return body.is_step(labels, self._labels)

    async def _labelled(self) -> Inspected | None:
        """The container that has all labels of the step, whatever its name; None when there is none."""
        filters = msgspec.json.encode({"label": [f"{key}={value}" for key, value in self._labels.items()]}).decode()
        listed = await self._keeper.engine.ask("GET", "/containers/json", params={"all": "1", "filters": filters})
        return await self._keeper.find(listed[0]["Id"]) if listed else None

    async def find(self) -> Inspected | None:
        """The step's container, or another one that has the name of its container. Raises as `Keeper.find`.

        A container that [Container] names is looked for by its labels first: a daemon that did not name it may have
        made it, and others may have the name.
        """
        if self._spec.container_name and (found := await self._labelled()) is not None:
            return found
        return await self._keeper.find(self._name)

    async def create(
        self, body: Mapping[str, Any], log: BoundedLog, *, pull: str, platform: str = "", quiet: bool = False
    ) -> Inspected:
        """Create the container, or adopt it.

        An ended container of an earlier attempt, of the same name given by the user, is removed to make room
        (`test_rm_waits_for_the_record_and_makes_room_for_the_next_attempt`). One that has not all protections that the
        body asks for is removed and refused. Raises EngineRefusal and ExecutorUnavailable.
        """
        found = await self._create(body, log, pull, platform, quiet)
        if found.state.status == "created":
            await self._keeper.check(found, body, log.note)
        return found

    async def _create(
        self, body: Mapping[str, Any], log: BoundedLog, pull: str, platform: str, quiet: bool
    ) -> Inspected:
        say = line_writer(log)

        async def create() -> Inspected:
            return await self._keeper.create(
                self._name, body, self.mine, pull=pull, platform=platform, say=(lambda _: None) if quiet else say
            )

        if self._spec.container_name and (found := await self._labelled()) is not None:
            return found
        pauses = new_pauses()
        while True:
            try:
                return await create()
            except EngineRefusal as refusal:
                if _NO_INIT.search(refusal.message) and self._init_is_ours(body):
                    # Podman asks for catatonit, a package that it only recommends, and for a pid namespace of its own.
                    log.note(f"the container runs without an init: {refusal.message}")
                    body = {**body, "HostConfig": {**body["HostConfig"], "Init": False}}
                    continue
                holder = await self._keeper.find(self._name)
                if holder is None:
                    # It may have been removed since.
                    if not (_TAKEN.search(refusal.message) and pauses.tries < MOST_LOOKS_AT_A_NAME):
                        raise
                    await pauses.pause()
                elif not holder.state.running and self._superseded(holder.labels):
                    await self._keeper.delete(holder.id)
                elif self._ends(holder) and pauses.tries < MOST_LOOKS_AT_A_NAME:
                    await pauses.pause()  # it is removed as soon as its end is recorded
                else:
                    raise self._taken(refusal, holder) from refusal

    def _init_is_ours(self, body: Mapping[str, Any]) -> bool:
        """Whether a create body has an init that the unit did not ask for."""
        asked = ((self._spec.body or {}).get("HostConfig") or {}).get("Init")
        return self._spec.docker is None and asked is None and bool(body["HostConfig"].get("Init"))

    def _ends(self, holder: Inspected) -> bool:
        """Whether a container that has our name has run for an execution of this daemon, and is only to be removed."""
        same = all(holder.labels.get(key) == self._labels[key] for key in (body.NAMESPACE, body.OWNER))
        over = holder.state.ended or holder.state.status == "removing"
        return bool(self._spec.container_name) and over and same and not holder.labels.get(body.KEEP)

    def _taken(self, refusal: EngineRefusal, holder: Inspected) -> EngineRefusal:
        """The refusal, and who has the name that [Container] wants."""
        if not self._spec.container_name:
            return refusal
        labels = holder.labels
        whose = f"execution {labels[body.EXECUTION]}" if body.EXECUTION in labels else "no unit of xchronos"
        message = (
            f"ContainerName={self._name} is taken: container {holder.id[:12]} of {whose} has it "
            f"({holder.state.status}); {refusal.message}"
        )
        return EngineRefusal(refusal.status, message)

    def _superseded(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are those of an earlier attempt of this step, to be removed.

        That attempt's result is durable, or this attempt would not run.
        """
        earlier = labels.get(body.ATTEMPT, "")
        return (
            earlier.isdecimal()
            and int(earlier) < self._spec.attempt
            and self.mine({**labels, body.ATTEMPT: str(self._spec.attempt)})
            and labels.get(body.KEEP) != body.KEEP_ALWAYS
        )

    async def equip(self, found: Inspected, networks: list[tuple[str, dict[str, Any]]], log: BoundedLog) -> None:
        """Do what comes between create and start: connect further networks, put secrets in. Raises EngineRefusal."""
        if found.state.status != "created":
            return
        for network, endpoint in networks:
            try:
                await self._keeper.engine.call(
                    "POST", f"/networks/{network}/connect", body={"Container": found.id, "EndpointConfig": endpoint}
                )
            except EngineRefusal as refusal:
                if "already exists" not in refusal.message:  # an earlier daemon has connected it
                    raise
        if self._spec.secrets:
            await self._put(found, body.secrets_archive(self._spec.secrets))
        if zone := self._zone():
            await self._bring_zone(found, zone, log)

    def _zone(self) -> str:
        """The time zone that a [Container] step's TZ names; "": none."""
        if self._spec.docker is not None:
            return ""
        written = {
            entry.partition("=")[0]: entry.partition("=")[2] for entry in (self._spec.body or {}).get("Env") or ()
        }
        zone: str = {**written, **self._spec.env}.get("TZ", "")
        return zone.removeprefix(":")

    async def _bring_zone(self, found: Inspected, zone: str, log: BoundedLog) -> None:
        """Put the rules of a time zone into an image that has none: programs would take UTC, and call it so.

        Podman brings the host's along. A container whose files may not be written has to have its own;
        if it has not, a line in the log says so.
        """
        engine, path = self._keeper.engine, f"{body.ZONES}/{zone}"
        rules = await asyncio.to_thread(body.zone_rules, zone)
        if not rules:
            return
        try:
            async with engine.stream("HEAD", f"/containers/{found.id}/archive", params={"path": path}):
                return  # the image has them
        except EngineRefusal as refusal:
            if refusal.status != 404:
                raise
        try:
            await self._put(found, body.secrets_archive({path: rules}))
        except EngineRefusal as refusal:
            log.note(f"the image has no rules of the time zone {zone}, so its programs may take UTC: {refusal.message}")

    async def _put(self, found: Inspected, archive: bytes) -> None:
        path = f"/containers/{found.id}/archive"
        async with self._keeper.engine.stream("PUT", path, params={"path": "/"}, data=archive) as response:
            await response.read()

    async def run(
        self,
        body: Mapping[str, Any],
        *,
        pull: str,
        platform: str = "",
        quiet: bool = False,
        networks: list[tuple[str, dict[str, Any]]] | None = None,
        complain: Callable[[str], str] = lambda text: text,
    ) -> StepExit:
        """Create or adopt the container and start it once. Returns after it has ended and its output is written.

        `complain` turns the engine's text into the line of the log when the engine refuses.
        """
        with BoundedLog(self._spec.log, self._spec.log_limit, resume=True) as log, telling(log.note):
            try:
                found = await self.create(body, log, pull=pull, platform=platform, quiet=quiet)
                fresh = found.state.status == "created"
                await self.equip(found, networks or [], log)
            except EngineRefusal as refusal:
                if refusal.status >= 500 and await self._keeper.outlast():
                    return StepExit(lost=True, reason=f"the engine was shut down: {refusal.message}")
                log.write(f"{complain(refusal.message)}\n".encode())
                return StepExit(code=125, reason=refusal.message)
            output = await output_of(self._keeper, found, log, fresh=fresh)
            refused = await self._keeper.start(found, self._spec)
            if refused is not None:
                if not refused.lost:
                    log.write(f"{complain(refused.reason)}\n".encode())
                return refused
            return _by_init(await attend(self._keeper, found, output, log), log, body)


def _was_away(engine: DockerClient, moment: datetime) -> bool:
    """Whether the engine has started after `moment`. Podman's containers keep their logs without it."""
    up = engine_started(engine.socket) if engine.socket is not None and not engine.podman else None
    return up is not None and moment.timestamp() < up


def _by_init(result: StepExit, log: BoundedLog, body: Mapping[str, Any]) -> StepExit:
    """The result, corrected for a program that the container's init (tini, catatonit) could not execute.

    It never started, and its code is the docker client's: 127 not found, 126 not runnable. catatonit says 1.

    Without an init the engine refuses to start such a container and says why. With an init the container starts, and
    only its last words tell a missing program from a program that has ended with 127 itself.
    """
    words = {126: _TINI, 127: _TINI, 1: _CATATONIT}.get(result.code if result.code is not None else 0)
    if words is None or (found := words.search(log.tail(4096))) is None:
        return result
    why = found["why"].decode(errors="replace").strip()
    if words is _TINI:
        program = found["program"].decode(errors="replace")
    else:  # catatonit does not name it
        program = str(next(iter([*(body.get("Entrypoint") or ()), *(body.get("Cmd") or ())]), "the program"))
    code = result.code if words is _TINI else refused_start(why, 0)
    return msgspec.structs.replace(result, code=code, reason=f"exec {program}: {why}", started_at=None)


async def output_of(keeper: Keeper, found: Inspected, log: BoundedLog, *, fresh: bool, since: str = "") -> Output:
    """What copies a container's output into the log; called before the container is started.

    The engine's log is read where it keeps as much as the step's log does. Otherwise another process is attached.
    `fresh` and `since` are `OutputCopy`'s.
    """
    engine, tty = keeper.engine, found.config.tty
    keeping = log_keeping(engine, found.host_config.log_config or {}, tty=tty)
    if keeping is not None and keeping.kept >= log.limit:
        return OutputCopy(engine, found.id, log, keeping, tty=tty, fresh=fresh, since=since)
    attached = AttachedOutput(engine, found.id, log, tty=tty)
    await attached.begin(started=not fresh)
    return attached


async def attend(keeper: Keeper, found: Inspected, output: Output, log: BoundedLog) -> StepExit:
    """Copy a running container's output and wait for its end. Cancelling this leaves the container running."""
    follower = asyncio.create_task(output.follow())
    try:
        code, held = await keeper.ended(found)
        result = await keeper.result(found.id, code, held=held)
        await output.finish(follower)
        if not held and result.ended_at is not None and _was_away(keeper.engine, result.ended_at):
            end = result.ended_at.isoformat().replace("+00:00", "Z")
            log.gap(f"the end of the output may be missing: the engine was away when the container ended, {end}")
        # What is recorded as ended may be removed: then the log is all that is left of the output.
        if log.written:
            await asyncio.to_thread(log.sync)
    finally:
        await cancel_and_wait(follower)
    return result
