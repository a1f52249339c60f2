"""One container's way through the engine: create or adopt it, start it once, wait for its end, remove it.

The connection or the engine may break at any point. What may have happened is then looked into before anything is done
again, and an end that may be the engine's doing and not the step's is a lost step (see `Keeper.result`).
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from xchronos.aio import cancel_and_wait, retry
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import FORBIDDEN, StepExit, StepSpec
from xchronos.executors.docker import images
from xchronos.executors.docker.client import NO_CONTENT, ConnectionLost, DockerClient, EngineRefusal
from xchronos.executors.docker.inspected import Config, HostConfig, Inspected, State, moment, refused_start
from xchronos.executors.docker.protections import ProtectionCheck
from xchronos.executors.docker.vanished import has_vanished, without_containerd
from xchronos.executors.hostfacts import boot_time, engine_started
from xchronos.executors.patience import SHORTEST_PAUSE, new_pauses
from xchronos.executors.signals import signal_number
from xchronos.hostfiles import HostFiles

PING_LIMIT = 5.0
"""Seconds that the answer to a ping on a new connection may take; an engine that shuts down gives none."""

MOST_CONFLICTS = 20
"""How often creation is tried again while the name is taken, but no container of that name can be seen."""

_VANISHED = (
    "the container's process is gone, but the engine shows it as running: containerd was away when it ended, and how "
    "it ended is not known"
)


def _ends_of_a_shutdown(found: Inspected) -> frozenset[int]:
    """The exit codes that this container may have because the engine ended it while the engine itself shut down."""
    if found.state.oom_killed:
        return frozenset()
    try:
        number = signal_number(found.config.stop_signal or "SIGTERM")
    except ValueError:
        number = signal.SIGTERM  # only the engine knows this stop signal
    return frozenset((128 + number, 128 + signal.SIGKILL))


def _shut_down(code: int) -> str:
    return f"the engine was shut down as the step ended (exit code {code} cannot be told from the engine's doing)"


class Keeper:
    """Carries containers through their lives on one engine.

    `gate` bounds how many are created and started at a time. About two per core saturate an engine, and more only wait
    longer (measured: 8 starts/s on two cores, whatever the number).
    """

    def __init__(self, engine: DockerClient, gate: asyncio.Semaphore, files: HostFiles) -> None:
        """`files` reads the credentials of registries."""
        self.engine = engine
        self._files = files
        self._gate = gate
        self._protections = ProtectionCheck(engine)

    async def find(self, name: str) -> Inspected | None:
        """The container of that name or id; None when there is none. Raises as `DockerClient.call` does."""
        try:
            answer = await self.engine.ask("GET", f"/containers/{name}/json")
        except EngineRefusal as refusal:
            if refusal.status == 404:
                return None
            raise
        return msgspec.convert(answer, Inspected)

    async def look(self, container: str) -> Inspected | None:
        """As `find`, but asks again until the engine answers."""
        return await retry(lambda: self.find(container), ExecutorUnavailable, new_pauses())

    async def create(
        self,
        name: str,
        body: Mapping[str, Any],
        mine: Callable[[Mapping[str, str]], bool],
        *,
        pull: str,
        platform: str,
        say: Callable[[str], None],
    ) -> Inspected:
        """Create the container, or find the one that an earlier call has created.

        Args:
            name: the container's; "": the engine chooses one.
            body: the create body.
            mine: tells by a container's labels whether it is the one to adopt.
            pull: when to pull the image: `missing`, `always`, `never`, `newer`.
            platform: the image's; "": the engine's own.
            say: is called with each line for the step's log.

        Raises:
            EngineRefusal: the engine refused; PullFailed: the image could not be pulled.
            ExecutorUnavailable: the engine does not answer.
        """
        image = str(body.get("Image", ""))
        params = {"name": name} if name else {}
        if platform:
            params["platform"] = platform
        if pull in ("always", "newer"):
            if name and (found := await self.find(name)) is not None and mine(found.labels):
                return found
            await self._pull_first(image, platform, say, must=pull == "always")
        pulled = pull != "missing"
        lost = False
        conflicts = new_pauses(2 * SHORTEST_PAUSE)
        while True:
            try:
                async with self._gate:
                    answer = await self.engine.ask("POST", "/containers/create", params=params, body=body)
                for warning in answer.get("Warnings") or ():
                    say(f"WARNING: {warning}")
                config = Config(body.get("Labels"), bool(body.get("Tty")))
                host = HostConfig((body.get("HostConfig") or {}).get("LogConfig"))
                return Inspected(answer["Id"], name, State("created"), config, host)
            except ConnectionLost:
                if lost or not name:
                    raise
                lost = True  # perhaps only a keep-alive connection was dead; the name makes it safe to ask again
            except EngineRefusal as refusal:
                # A taken name is status 409 with docker and 500 with podman, and a missing image hides it. So look for
                # our container first, whatever the status.
                found = await self.find(name) if name else None
                if found is not None and mine(found.labels):
                    return found
                if refusal.status == 409 and found is None and conflicts.tries < MOST_CONFLICTS:
                    # A name is taken a moment before its container can be seen, and a moment after it is removed.
                    await conflicts.pause()
                    continue
                if pulled or refusal.status != 404 or await images.exists(self.engine, image):
                    raise
                say(f"Unable to find image '{':'.join(images.split_reference(image))}' locally")
                await images.pull(self.engine, image, say, self._files, platform=platform)
                pulled = True

    async def _pull_first(self, image: str, platform: str, say: Callable[[str], None], *, must: bool) -> None:
        try:
            await images.pull(self.engine, image, say, self._files, platform=platform)
        except images.PullFailed as failure:
            if must or not await images.exists(self.engine, image):
                raise
            say(f"using the image that is here: {failure.message}")

    async def check(self, found: Inspected, body: Mapping[str, Any], say: Callable[[str], None]) -> None:
        """Refuse a created container from which the engine has left out what protects, and remove it.

        See `ProtectionCheck.missing`.
        """
        if missing := await self._protections.missing(found.id, body, say):
            await self.delete(found.id)
            raise EngineRefusal(NO_CONTENT, f"{missing}: the container is not started")

    async def start(self, found: Inspected, spec: StepSpec) -> StepExit | None:
        """Start a step's container that was created and never started. Returns None when it has started, or why not.

        - It never starts an ended container: docker would run it a second time
          (`test_a_lost_start_of_a_container_that_ended_is_not_repeated`).
        - It looks into a start that had no answer (`test_an_answer_that_never_comes_is_looked_into`).
        - It does not matter who has started the container.
        - A start for which the engine had no containerd is nobody's result: the container is started once there is one
          again, unless it has been by then (`test_a_start_without_a_containerd_is_nobodys_result`).

        Raises ExecutorUnavailable when the engine does not answer and nothing was started.
        """
        if found.state.status not in ("created", "configured", "initialized"):
            return None
        if (found.state.exit_code or found.state.error) and not without_containerd(found.state.error):
            return self._refused(found, found.state.error)  # an earlier start has failed
        pauses = new_pauses()
        while True:
            try:
                async with self._gate:
                    if spec.forbidden:
                        return StepExit(lost=True, reason=FORBIDDEN, container=found.id)
                    await self.engine.call("POST", f"/containers/{found.id}/start", timeout=None)
            except ConnectionLost:
                now = await self.look(found.id)
                if now is None:
                    return StepExit(lost=True, reason="the container vanished while it was started", container=found.id)
                if now.state.status != "created":
                    return None
                await pauses.pause()
            except ExecutorUnavailable:
                if not pauses.tries:
                    raise  # the request was never sent, so nothing was started
                await pauses.pause()
            except EngineRefusal as refusal:
                now = await self.look(found.id)
                if now is not None and now.state.status != "created" and moment(now.state.started_at) is not None:
                    return None  # it runs or has run: another start was quicker
                if refusal.status >= 500 and await self.outlast():
                    return StepExit(lost=True, reason=f"the engine was shut down: {refusal.message}")
                if refusal.status < 500 or not without_containerd(refusal.message):
                    return self._refused(now or found, refusal.message)
                await pauses.pause()
                now = await self.look(found.id)
                if now is None:
                    return StepExit(lost=True, reason="the container vanished while it was started", container=found.id)
                if moment(now.state.started_at) is not None:
                    return None
            else:
                return None

    @staticmethod
    def _refused(found: Inspected, message: str) -> StepExit:
        text = found.state.error or message
        return StepExit(code=refused_start(text, found.state.exit_code), reason=text, container=found.id)

    async def wait(self, container: str) -> tuple[int | None, bool]:
        """Wait until a started container has ended. Returns its exit code, and whether one wait held to its end.

        The code is None when the wait was cut and the container ended meanwhile, or when the container has lost its
        process although the engine shows it as running: only `result` can tell it then.
        """
        waiting = asyncio.create_task(self._wait(container))
        watching = asyncio.create_task(has_vanished(self.engine, container, self.look))
        try:
            await asyncio.wait((waiting, watching), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done() and await watching:
                return None, False
            return await waiting
        finally:
            await cancel_and_wait(waiting, watching)

    async def _wait(self, container: str) -> tuple[int | None, bool]:
        pauses = new_pauses()
        while True:
            try:
                answer = await self.engine.call("POST", f"/containers/{container}/wait", timeout=None)
            except ExecutorUnavailable:
                answer = None
            except EngineRefusal as refusal:
                if refusal.status == 404:
                    return None, False
                answer = None
            # An engine that stops gives an empty answer, which is no result.
            if isinstance(answer, dict) and "StatusCode" in answer:
                return int(answer["StatusCode"]), pauses.tries == 0
            await pauses.pause()
            found = await self.look(container)
            if found is None or found.state.ended:
                return None, False

    async def ended(self, found: Inspected) -> tuple[int | None, bool]:
        """As `wait`, for a container that was found: if it has ended already, nobody has waited for its end."""
        return (None, False) if found.state.ended else await self.wait(found.id)

    async def result(self, container: str, code: int | None, *, held: bool) -> StepExit:
        """How a container ended, by the answer of `wait` and by what the engine keeps of the container.

        An end that may be the engine's doing (it was shut down, or lost power) is a lost step: see `_suspicion` and
        `_distrust`.
        """
        leaving = held and bool(code) and await self.outlast()
        found = await self.look(container)
        if found is None:
            if code is not None and held and not leaving:
                return StepExit(code=code, container=container)  # the wait's answer stands for itself
            return StepExit(lost=True, reason="the container was removed by somebody else", container=container)
        state = found.state
        started, ended = moment(state.started_at), moment(state.finished_at)
        if started is not None and ended is not None:
            ended = max(started, ended)  # the engine may date the start of a short run a millisecond after its end
        if code is None and state.running:
            return StepExit(lost=True, reason=_VANISHED, started_at=started, container=found.id)
        code = state.exit_code if code is None else code
        if reason := self._suspicion(found, code) if leaving else self._distrust(found, code, held=held):
            return StepExit(lost=True, reason=reason, started_at=started, container=found.id)
        oom = state.oom_killed and code != 0  # a child may be killed for want of memory, and its parent end well
        return StepExit(
            code=code,
            oom_killed=oom,
            reason="out of memory" if oom else state.error,
            started_at=started,
            ended_at=ended,
            container=found.id,
        )

    async def outlast(self) -> bool:
        """Whether the engine is shutting down. If it is, returns only after the next engine answers.

        The old engine still takes requests, and ends what they start.
        """
        pauses = new_pauses()
        while not await self.engine.answers_anew(PING_LIMIT):
            await pauses.pause()
        return pauses.tries > 0

    def _up(self) -> float | None:
        """When the engine started, in seconds since the epoch; None when nobody can tell."""
        return None if self.engine.socket is None else engine_started(self.engine.socket)

    def _suspicion(self, found: Inspected, code: int) -> str:
        """Why an exit code is not the step's own, for a step that ended as the engine stopped answering; "" if it is.

        See `test_an_end_while_the_engine_shuts_down_is_not_the_steps`.
        """
        started, up = moment(found.state.started_at), self._up()
        if up is not None and started is not None and up < started.timestamp():
            return ""  # the same engine as before: it was busy
        return _shut_down(code)

    def _distrust(self, found: Inspected, code: int, *, held: bool) -> str:
        """Why an exit code is not the step's own; "" when it is.

        After a power cut of the machine or a kill of the engine, dockerd invents an end: code 255 (0 from 23.0 to
        24.0.2), dated at its next start (`test_a_power_cut_is_told_from_a_result`,
        `test_255_that_nobody_saw_is_distrusted_only_after_a_restart`). An engine that is shut down in order ends its
        containers by their stop signal, then by SIGKILL, and keeps these ends as if they were the containers' own
        (`test_an_end_that_nobody_saw_may_be_the_engines_doing`).
        """
        killed = code in _ends_of_a_shutdown(found)
        if held and not killed:
            return ""
        started, ended, up = moment(found.state.started_at), moment(found.state.finished_at), self._up()
        boot = boot_time()
        # Both times are of the wall clock. The minute's slack: a clock that is set at boot must not make a step lost.
        if self.engine.socket is not None and started is not None and started.timestamp() < boot - 60 and not held:
            if killed or code == 255 or ended is None or ended.timestamp() >= boot:
                return "the machine went down while the step ran"
            return ""
        if killed and ended is not None and up is not None and ended.timestamp() < up:
            return _shut_down(code)
        if held or code != 255 or (up is not None and started is not None and up < started.timestamp()):
            return ""
        return "the engine went down while the step ran (exit code 255 is its own, or cannot be told from it)"

    async def delete(self, container: str, *, force: bool = True) -> None:
        """End and remove a container and its anonymous volumes. One that is gone already, or going, is no error.

        Without `force` a container that runs is left alone.
        """
        path, params = f"/containers/{container}", {"force": str(int(force)), "v": "1"}
        if force and self.engine.podman:  # whose forced removal waits for the container's stop timeout
            await self.signal(container, "SIGKILL")
        try:
            try:
                await self.engine.call("DELETE", path, params=params)
            except ConnectionLost:
                await self.engine.call("DELETE", path, params=params)
        except EngineRefusal as refusal:
            # Whoever does not force it comes back with force: `release`.
            if force and refusal.status not in (404, 409):
                raise

    async def signal(self, container: str, signal: str) -> None:
        """Send a signal. Nothing happens when the container does not run (409; 500 with podman) or is gone (404)."""
        with suppress(EngineRefusal):
            await self.engine.call("POST", f"/containers/{container}/kill", params={"signal": signal})


def start_gate() -> asyncio.Semaphore:
    """A gate of two starts per core."""
    return asyncio.Semaphore(2 * (os.cpu_count() or 1))
