"""Performs docker commands other than `run` and `create` through the Engine API, with the docker client's output.

Exit codes are the client's too. After a crash the whole command is performed again. What an earlier call may have done
already then counts as done: a refusal that only says that the wanted state is there (`rm`: no such container) is
success. What must not happen twice (a start, an exec) is looked into first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from xchronos import dockercli as cli
from xchronos.dockercli.templates import parse_template, render
from xchronos.errors import InvalidValue, StartRefused
from xchronos.executors.contract import StepExit, StepSpec
from xchronos.executors.docker import images
from xchronos.executors.docker.body import read_assignments
from xchronos.executors.docker.client import EngineRefusal
from xchronos.executors.docker.containers import Keeper
from xchronos.executors.docker.execs import RunningExec
from xchronos.executors.docker.inspected import seconds_text
from xchronos.executors.docker.journal import StepJournal
from xchronos.executors.docker.messages import Demultiplexer
from xchronos.executors.docker.run import attend, line_writer, output_of
from xchronos.executors.logfile import BoundedLog
from xchronos.executors.signals import signal_number
from xchronos.hostfiles import HostFiles

_GONE = (404,)
_THERE = (409,)


def flag(value: bool) -> str:
    """A boolean as the engine's query strings write it."""
    return "1" if value else "0"


class DockerCommandRun:
    """One step's docker command. `journal` tells whether an earlier call may have performed it already."""

    def __init__(self, keeper: Keeper, spec: StepSpec, log: BoundedLog, journal: StepJournal, files: HostFiles) -> None:
        self._keeper = keeper
        self._files = files
        self._engine = keeper.engine
        self._spec = spec
        self._log = log
        self._say = line_writer(log)
        self._journal = journal
        self._running: RunningExec | None = None

    async def signal(self, command: cli.DockerCommand, signal: str) -> bool:
        """Pass a signal on as the docker client would. False when the signal would end the client's command itself."""
        if isinstance(command, cli.Start) and command.attach:
            await self._keeper.signal(command.containers[0], signal)
            return True
        if self._running is not None and self._running.id:
            return await self._running.signal(signal_number(signal))
        return False

    async def perform(self, command: cli.DockerCommand) -> StepExit:
        """Carry the command out. Raises ExecutorUnavailable; ConnectionLost when parts of it may have happened."""
        handlers: dict[type, Callable[[Any], Awaitable[StepExit | int]]] = {
            cli.Pull: self._pull, cli.Kill: self._kill, cli.Rm: self._rm, cli.Stop: self._stop,
            cli.Restart: self._restart, cli.Start: self._start, cli.Wait: self._wait, cli.Pause: self._pause,
            cli.Unpause: self._unpause, cli.Rename: self._rename, cli.Exec: self._exec, cli.Logs: self._logs,
            cli.Inspect: self._inspect, cli.Query: self._query, cli.NetworkCreate: self._network_create,
            cli.NetworkRm: self._network_rm, cli.NetworkConnect: self._network_connect,
            cli.NetworkDisconnect: self._network_disconnect, cli.VolumeCreate: self._volume_create,
            cli.VolumeRm: self._volume_rm, cli.ImageRm: self._image_rm, cli.Tag: self._tag, cli.Prune: self._prune,
        }  # fmt: skip
        try:
            result = await handlers[type(command)](command)
        except EngineRefusal as refusal:
            return StepExit(code=1, reason=self._error(refusal))
        except StartRefused as refusal:
            self._say(f"docker: {refusal}")
            return StepExit(code=125, reason=str(refusal))
        return StepExit(code=result) if isinstance(result, int) else result

    def _error(self, refusal: EngineRefusal) -> str:
        text = f"Error response from daemon: {refusal.message}"
        self._say(text)
        return text

    async def _each(
        self, names: tuple[str, ...], action: Callable[[str], Awaitable[Any]], done: tuple[int, ...] = ()
    ) -> StepExit:
        """Make one call for every name, and print the name or the error. The exit code is 1 when any was refused.

        An action that returns False has done nothing, and its name is not printed.
        `done` has the statuses that mean, after an earlier call of this step, that it has done this already.
        """
        reasons = []
        for name in names:
            try:
                acted = await action(name)
            except EngineRefusal as refusal:
                if not (self._journal.again and refusal.status in done):
                    reasons.append(self._error(refusal))
                    continue
                acted = True
            if acted is not False:
                self._say(name)
        return StepExit(code=1 if reasons else 0, reason="\n".join(reasons))

    async def _post(self, path: str, params: dict[str, str] | None = None, body: Any = None) -> Any:
        return await self._engine.call("POST", path, params=params, body=body, timeout=None)

    async def _pull(self, command: cli.Pull) -> int:
        say = (lambda _: None) if command.quiet else self._say
        platform, all_tags = command.platform, command.all_tags
        await images.pull(self._engine, command.image, say, self._files, platform=platform, all_tags=all_tags)
        self._say(command.image)
        return 0

    async def _kill(self, command: cli.Kill) -> StepExit:
        params = {"signal": command.signal}
        return await self._each(
            command.containers, lambda name: self._post(f"/containers/{name}/kill", params), (404, 409)
        )

    async def _rm(self, command: cli.Rm) -> StepExit:
        params = {"force": flag(command.force), "v": flag(command.volumes), "link": flag(command.link)}

        async def remove(name: str) -> bool:
            # Find it first: a DELETE that is sent a second time answers 404 when the first one has done its work.
            if await self._keeper.find(name) is not None:
                if command.force and self._engine.podman:  # its removal waits for the container's stop timeout
                    await self._keeper.signal(name, "SIGKILL")
                try:
                    await self._engine.call("DELETE", f"/containers/{name}", params=params, timeout=None)
                except EngineRefusal as refusal:
                    if refusal.status != 404:
                        raise
                return True
            missing = EngineRefusal(404, f"No such container: {name}")
            if not command.force:
                raise missing
            self._error(missing)  # printed, but no failure: -f asks for that
            return False

        return await self._each(command.containers, remove, _GONE)

    def _stop_params(self, command: cli.Stop) -> dict[str, str]:
        params = {} if command.timeout is None else {"t": str(command.timeout)}
        if command.signal:
            params["signal"] = command.signal
        return params

    async def _stop(self, command: cli.Stop) -> StepExit:
        params = self._stop_params(command)
        return await self._each(command.containers, lambda name: self._post(f"/containers/{name}/stop", params), _GONE)

    async def _restart(self, command: cli.Restart) -> StepExit:
        params = self._stop_params(command)
        return await self._each(
            command.containers, self._once(lambda name: self._post(f"/containers/{name}/restart", params))
        )

    def _once(self, action: Callable[[str], Awaitable[Any]]) -> Callable[[str], Awaitable[None]]:
        """An action that starts a container; skipped when the container was started since the journal was begun."""

        async def act(name: str) -> None:
            found = await self._keeper.find(name)
            before = await self._journal.remember(name, found.state.started_at if found else "")
            if found is None or found.state.started_at == before:
                await action(name)

        return act

    async def _start(self, command: cli.Start) -> StepExit:
        start = self._once(lambda name: self._post(f"/containers/{name}/start"))
        if not command.attach:
            return await self._each(command.containers, start)
        name = command.containers[0]
        # The output begins at a time of the engine's own clock: a container's StartedAt may be after its first output.
        clock = str((await self._engine.ask("GET", "/info"))["SystemTime"])
        since = await self._journal.remember("clock", clock)
        before = await self._keeper.find(name)
        if before is None:
            raise EngineRefusal(404, f"No such container: {name}")
        output = await output_of(
            self._keeper, before, self._log, fresh=not self._journal.again, since=seconds_text(since)
        )
        await start(name)
        found = await self._keeper.look(name)
        if found is None:
            return StepExit(lost=True, reason=f"the container {name} vanished while it was started")
        return await attend(self._keeper, found, output, self._log)

    async def _wait(self, command: cli.Wait) -> StepExit:
        async def code_of(name: str) -> StepExit | EngineRefusal:
            found = await self._keeper.find(name)
            if found is None:
                return EngineRefusal(404, f"No such container: {name}")
            if found.state.status == "created":  # it has not run yet, and a plain wait would answer 0 immediately
                path = f"/containers/{found.id}/wait"
                answer = await self._engine.ask("POST", path, params={"condition": "next-exit"}, timeout=None)
                return StepExit(code=int(answer["StatusCode"]))
            code, held = await self._keeper.wait(found.id)
            return await self._keeper.result(found.id, code, held=held)

        results = await asyncio.gather(*(code_of(name) for name in command.containers))
        reasons = []
        for result in results:
            if isinstance(result, EngineRefusal):
                reasons.append(self._error(result))
            elif result.lost:
                return result
            else:
                self._say(str(result.code))
        return StepExit(code=1 if reasons else 0, reason="\n".join(reasons))

    async def _pause(self, command: cli.Pause) -> StepExit:
        return await self._each(command.containers, lambda name: self._post(f"/containers/{name}/pause"), (409, 500))

    async def _unpause(self, command: cli.Unpause) -> StepExit:
        return await self._each(command.containers, lambda name: self._post(f"/containers/{name}/unpause"), (409, 500))

    async def _rename(self, command: cli.Rename) -> int:
        if self._journal.again and await self._keeper.find(command.container) is None:
            return 0 if await self._keeper.find(command.name) is not None else 1
        await self._post(f"/containers/{command.container}/rename", {"name": command.name})
        return 0

    async def _exec(self, command: cli.Exec) -> StepExit:
        if self._journal.again:
            return StepExit(lost=True, reason="an exec was begun before, and an exec cannot be found again")
        self._running = RunningExec(self._engine, command)
        read = partial(read_assignments, self._files, own=Path(self._spec.directory))
        return await self._running.run(self._spec, self._log, read)

    async def _logs(self, command: cli.Logs) -> int:
        found = await self._keeper.find(command.container)
        if found is None:
            raise EngineRefusal(404, f"No such container: {command.container}")
        frames = Demultiplexer()
        path = f"/containers/{found.id}/logs"
        async with self._engine.stream("GET", path, params=command.params) as response:
            async for chunk in response.content.iter_any():
                for piece in (memoryview(chunk),) if found.config.tty else frames.feed(chunk):
                    self._log.write(piece)
        return 0

    async def _inspect(self, command: cli.Inspect) -> StepExit:
        places = {"container": "/containers/{}/json", "image": "/images/{}/json", "network": "/networks/{}",
                  "volume": "/volumes/{}"}  # fmt: skip
        kinds = [command.kind] if command.kind else list(places)
        params = {"size": "1"} if command.size else None
        found, missing = [], []
        for name in command.names:
            for kind in kinds:
                try:
                    found.append(await self._engine.ask("GET", places[kind].format(name), params=params))
                    break
                except EngineRefusal as refusal:
                    if refusal.status != 404:
                        raise
            else:
                missing.append(f"Error: No such {command.kind or 'object'}: {name}")
        missing += self._print_all(found, command.template)
        for text in missing:
            self._say(text)
        return StepExit(code=1 if missing else 0, reason="\n".join(missing))

    def _print_all(self, found: list[Any], template: str) -> list[str]:
        """Print what was found as the client does. Returns what cannot be printed by the template, and why."""
        if template in ("", "json"):
            self._say(_pretty(found) if not template else msgspec.json.encode(found).decode())
            return []
        nodes = parse_template(template)
        failed = []
        for item in found:
            try:
                self._say(render(nodes, item))
            except InvalidValue as error:
                failed.append(f"template parsing error: {error}")
        return failed

    async def _query(self, command: cli.Query) -> StepExit | int:
        answer = await self._engine.ask("GET", command.path, params=command.params, timeout=None)
        if command.template:
            # The client's version is an object of its own beside the engine's.
            whole = {"Server": answer} if command.path == "/version" else answer
            failed = self._print_all([whole], "{{json .}}" if command.template == "json" else command.template)
            for text in failed:
                self._say(text)
            return StepExit(code=1 if failed else 0, reason="\n".join(failed))
        if not command.quiet:
            self._say(_pretty(answer))
            return 0
        if isinstance(answer, dict):  # the answer about volumes is an object around the list
            answer = answer.get("Volumes") or []
        for item in answer:
            value = str(item.get(command.quiet, ""))
            self._say(value.removeprefix("sha256:")[:12] if command.quiet.lower() == "id" else value)
        return 0

    async def _network_create(self, command: cli.NetworkCreate) -> int:
        try:
            answer = await self._post("/networks/create", body=command.body)
        except EngineRefusal as refusal:
            if not (self._journal.again and refusal.status in _THERE):
                raise
            answer = await self._engine.ask("GET", f"/networks/{command.name}")
        self._say(_told(answer, "Id", command.name))
        return 0

    async def _network_rm(self, command: cli.NetworkRm) -> StepExit:
        return await self._remove_all("/networks/", command.networks, {}, force=command.force)

    async def _remove_all(self, root: str, names: tuple[str, ...], params: dict[str, str], *, force: bool) -> StepExit:
        async def remove(name: str) -> None:
            try:
                await self._engine.call("DELETE", root + name, params=params)
            except EngineRefusal as refusal:
                if not (force and refusal.status == 404):
                    raise

        return await self._each(names, remove, _GONE)

    async def _network_connect(self, command: cli.NetworkConnect) -> int:
        try:
            await self._post(
                f"/networks/{command.network}/connect", body={"Container": command.container, **command.body}
            )
        except EngineRefusal as refusal:
            if not (self._journal.again and "already exists" in refusal.message):
                raise
        return 0

    async def _network_disconnect(self, command: cli.NetworkDisconnect) -> int:
        body = {"Container": command.container, "Force": command.force}
        try:
            await self._post(f"/networks/{command.network}/disconnect", body=body)
        except EngineRefusal as refusal:
            if not (self._journal.again and "is not connected" in refusal.message):
                raise
        return 0

    async def _volume_create(self, command: cli.VolumeCreate) -> int:
        # A volume of that name and driver that is there already is no error.
        answer = await self._post("/volumes/create", body=command.body)
        self._say(_told(answer, "Name", str(command.body.get("Name", ""))))
        return 0

    async def _volume_rm(self, command: cli.VolumeRm) -> StepExit:
        return await self._remove_all("/volumes/", command.volumes, {"force": flag(command.force)}, force=command.force)

    async def _image_rm(self, command: cli.ImageRm) -> StepExit:
        params = {"force": flag(command.force), "noprune": flag(not command.prune)}
        reasons = []
        for image in command.images:
            try:
                removed = await self._engine.call("DELETE", f"/images/{image}", params=params, timeout=None)
            except EngineRefusal as refusal:
                if not (refusal.status == 404 and (self._journal.again or command.force)):
                    reasons.append(self._error(refusal))
                continue
            for event in removed or ():
                for what, name in event.items():
                    self._say(f"{what}: {name}")
        return StepExit(code=1 if reasons else 0, reason="\n".join(reasons))

    async def _tag(self, command: cli.Tag) -> int:
        await self._post(f"/images/{command.source}/tag", {"repo": command.repository, "tag": command.tag})
        return 0

    async def _prune(self, command: cli.Prune) -> int:
        reclaimed = 0
        for kind in command.kinds:
            filters = command.filters.get(kind, "")
            answer = await self._post(f"/{kind}/prune", {"filters": filters} if filters else None) or {}
            reclaimed += int(answer.get("SpaceReclaimed") or 0)
            for key, value in answer.items():
                for item in value if isinstance(value, list) else ():
                    self._say(f"{key}: {item}" if isinstance(item, str) else f"{key}: {' '.join(item.values())}")
        self._say(f"Total reclaimed space: {reclaimed}B")
        return 0


def _told(answer: Any, key: str, otherwise: str) -> str:
    """What an engine says that it has made; an engine that says nothing has made what was asked for."""
    return str(answer[key]) if isinstance(answer, dict) and answer.get(key) else otherwise


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=4).decode()
