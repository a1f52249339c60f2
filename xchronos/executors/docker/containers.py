"""One container's way through the engine: create or adopt, start once, wait for its end, whatever breaks in between."""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from xchronos.aio import retry
from xchronos.errors import ExecutorUnavailable
from xchronos.executors.contract import FORBIDDEN, StepExit, StepSpec
from xchronos.executors.docker import images
from xchronos.executors.docker.client import SHORTEST_PAUSE, ConnectionLost, DockerClient, EngineRefusal, new_pauses
from xchronos.executors.hostfacts import boot_time, engine_started
from xchronos.executors.signals import signal_number

PING_LIMIT = 5.0
"""Seconds in which an engine that is not shutting down answers a ping."""

MOST_CONFLICTS = 20
"""How often a container is asked for again whose name is taken by nobody that can be seen."""

_NOT_FOUND = re.compile(
    r"executable file not found|no such file or directory|system cannot find the file", re.IGNORECASE
)
_NOT_RUNNABLE = re.compile(r"permission denied|is a directory|exec format error", re.IGNORECASE)
_FRACTION = re.compile(r"\.(\d{1,6})\d*")
_NEVER = "0001-01-01"


class State(msgspec.Struct, rename="pascal"):
    """The engine's `State` of a container; times as the engine writes them."""

    status: str = ""
    running: bool = False
    exit_code: int = 0
    error: str = ""
    started_at: str = ""
    finished_at: str = ""
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")


class Config(msgspec.Struct, rename="pascal"):
    """What is needed of a container's `Config`. `stop_signal` is empty for SIGTERM."""

    labels: dict[str, str] | None = None
    tty: bool = False
    stop_signal: str = ""


class Inspected(msgspec.Struct, rename="pascal"):
    """What is needed of `GET /containers/<id>/json`."""

    id: str
    name: str = ""
    state: State = msgspec.field(default_factory=State)
    config: Config = msgspec.field(default_factory=Config)

    @property
    def labels(self) -> Mapping[str, str]:
        """The container's labels."""
        return self.config.labels or {}


def moment(text: str) -> datetime | None:
    """A time of the engine (nanoseconds are cut off); None for its zero time."""
    if not text or text.startswith(_NEVER):
        return None
    return datetime.fromisoformat(_FRACTION.sub(r".\1", text))


def seconds_text(text: str) -> str:
    """A time of the engine as its `since` parameter takes it, `seconds.nanoseconds`; "" for none."""
    at = moment(text)
    if at is None:
        return ""
    digits = re.search(r"\.(\d+)", text)
    return f"{int(at.timestamp())}.{(digits[1] if digits else '0').ljust(9, '0')}"


def refused_start(message: str, exit_code: int) -> int:
    """The docker client's exit code for a start that failed: 127 not found, 126 not runnable, else 125.

    dockerd knows it (State.ExitCode); podman leaves that 0, and only the text tells.
    """
    if exit_code in (126, 127):
        return exit_code
    if _NOT_FOUND.search(message):
        return 127
    return 126 if _NOT_RUNNABLE.search(message) else 125


def _ends_of_a_shutdown(found: Inspected) -> frozenset[int]:
    """The exit codes that an engine leaves that ends this container because it is shut down itself."""
    if found.state.oom_killed:
        return frozenset()
    try:
        number = signal_number(found.config.stop_signal or "SIGTERM")
    except ValueError:
        number = signal.SIGTERM  # of a kind that only the engine knows
    return frozenset((128 + number, 128 + signal.SIGKILL))


def _shut_down(code: int) -> str:
    return f"the engine was shut down as the step ended (exit code {code} cannot be told from the engine's doing)"


class Keeper:
    """Carries containers through their lives on one engine.

    `gate` bounds how many are created and started at a time: an engine is saturated by about two per core, more only
    wait longer (measured: 8/s on two cores, whatever the number).
    """

    def __init__(self, engine: DockerClient, gate: asyncio.Semaphore) -> None:
        self.engine = engine
        self._gate = gate

    async def find(self, name: str) -> Inspected | None:
        """The container of that name or id; None when there is none."""
        try:
            answer = await self.engine.call("GET", f"/containers/{name}/json")
        except EngineRefusal as refusal:
            if refusal.status == 404:
                return None
            raise
        return msgspec.convert(answer, Inspected)

    async def look(self, container: str) -> Inspected | None:
        """As `find`, asking again until the engine answers."""
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
        """Create the container, or find the one that an earlier call made (`mine` tells by its labels).

        `pull` is the policy: `missing`, `always`, `never`, `newer`. Raises EngineRefusal (PullFailed for the image)
        and ExecutorUnavailable; nothing was started then.
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
                    answer = await self.engine.call("POST", "/containers/create", params=params, body=body)
                for warning in answer.get("Warnings") or ():
                    say(f"WARNING: {warning}")
                return Inspected(
                    answer["Id"], name, State("created"), Config(body.get("Labels"), bool(body.get("Tty")))
                )
            except ConnectionLost:
                if lost or not name:
                    raise
                lost = True  # perhaps only a dead keep-alive connection; the name makes asking again safe
            except EngineRefusal as refusal:
                # A conflict is 409 with docker, 500 with podman, and hidden by a vanished image: look for ours first.
                found = await self.find(name) if name else None
                if found is not None and mine(found.labels):
                    return found
                if refusal.status == 409 and found is None and conflicts.tries < MOST_CONFLICTS:
                    # The name is taken before its container can be seen, and for a moment after its end.
                    await conflicts.pause()
                    continue
                if pulled or refusal.status != 404 or await images.exists(self.engine, image):
                    raise
                say(f"Unable to find image '{':'.join(images.split_reference(image))}' locally")
                await images.pull(self.engine, image, say, platform=platform)
                pulled = True

    async def _pull_first(self, image: str, platform: str, say: Callable[[str], None], *, must: bool) -> None:
        try:
            await images.pull(self.engine, image, say, platform=platform)
        except images.PullFailed as failure:
            if must or not await images.exists(self.engine, image):
                raise
            say(f"using the image that is here: {failure.message}")

    async def start(self, found: Inspected, spec: StepSpec) -> StepExit | None:
        """Start a step's container that was created and never started; None when it has started (by whomever).

        Never starts an ended one: docker would run it a second time. A start whose answer is missing is looked into.
        """
        if found.state.status not in ("created", "configured", "initialized"):
            return None
        if found.state.exit_code or found.state.error:
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
                    raise  # never sent: nothing was started
                await pauses.pause()
            except EngineRefusal as refusal:
                now = await self.look(found.id)
                if now is not None and now.state.status != "created" and moment(now.state.started_at) is not None:
                    return None  # it runs or ran: somebody else's start won
                if refusal.status >= 500 and await self.outlast():
                    return StepExit(lost=True, reason=f"the engine was shut down: {refusal.message}")
                return self._refused(now or found, refusal.message)
            else:
                return None

    @staticmethod
    def _refused(found: Inspected, message: str) -> StepExit:
        text = found.state.error or message
        return StepExit(code=refused_start(text, found.state.exit_code), reason=text, container=found.id)

    async def wait(self, container: str) -> tuple[int | None, bool]:
        """Wait until a started container has ended: (its exit code, whether the connection held all the way).

        The code is None when only inspecting tells: the wait was cut, and an end while nobody listened is final.
        """
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
            # An empty answer is what a stopping engine leaves behind: no result.
            if isinstance(answer, dict) and "StatusCode" in answer:
                return int(answer["StatusCode"]), pauses.tries == 0
            await pauses.pause()
            found = await self.look(container)
            if found is None or found.state.status in ("exited", "dead"):
                return None, False

    async def ended(self, found: Inspected) -> tuple[int | None, bool]:
        """As `wait`, for a container as it was found: one that has ended already was seen ending by nobody."""
        return (None, False) if found.state.status in ("exited", "dead") else await self.wait(found.id)

    async def result(self, container: str, code: int | None, *, held: bool) -> StepExit:
        """How a container ended, from the wait's answer and from what the engine keeps of it."""
        leaving = held and bool(code) and await self.outlast()
        found = await self.look(container)
        if found is None:
            if code is not None and held and not leaving:
                return StepExit(code=code, container=container)  # the wait's answer stands for itself
            return StepExit(lost=True, reason="the container was removed by somebody else", container=container)
        state = found.state
        started, ended = moment(state.started_at), moment(state.finished_at)
        if started is not None and ended is not None:
            ended = max(started, ended)  # the engine dates a short run's start after its end, by a millisecond
        code = state.exit_code if code is None else code
        if reason := self._suspicion(found, code) if leaving else self._distrust(found, code, held=held):
            return StepExit(lost=True, reason=reason, started_at=started, container=found.id)
        oom = state.oom_killed and code != 0  # a child may be killed for memory and its parent end well
        return StepExit(
            code=code,
            oom_killed=oom,
            reason="out of memory" if oom else state.error,
            started_at=started,
            ended_at=ended,
            container=found.id,
        )

    async def outlast(self) -> bool:
        """Whether the engine is shutting down. If so, wait for the next one: the old one still takes what it ruins."""
        pauses = new_pauses()
        while not await self.engine.answers_anew(PING_LIMIT):
            await pauses.pause()
        return pauses.tries > 0

    def _up(self) -> float | None:
        """When the engine started; None when that cannot be told."""
        return None if self.engine.socket is None else engine_started(self.engine.socket)

    def _suspicion(self, found: Inspected, code: int) -> str:
        """Why the exit code of a step is not its own that ended as the engine stopped answering; "" when it is."""
        started, up = moment(found.state.started_at), self._up()
        if up is not None and started is not None and up < started.timestamp():
            return ""  # the same engine as before: it was busy
        return _shut_down(code)

    def _distrust(self, found: Inspected, code: int, *, held: bool) -> str:
        """Why an exit code is not the step's own; "" when it is.

        After a power cut of the host or of the engine, dockerd invents an end: code 255 (0 from 23.0 to 24.0.2), dated
        when it came up again. An engine that is shut down in good order ends its containers by their stop signal, then
        by SIGKILL, and keeps these ends as if they were their own.
        """
        killed = code in _ends_of_a_shutdown(found)
        if held and not killed:
            return ""
        started, ended, up = moment(found.state.started_at), moment(found.state.finished_at), self._up()
        boot = boot_time()
        # Both times are the wall clock's; a minute's slack keeps a clock that was set at boot from inventing a loss.
        if self.engine.socket is not None and started is not None and started.timestamp() < boot - 60 and not held:
            if killed or code == 255 or ended is None or ended.timestamp() >= boot:
                return "the machine went down while the step ran"
            return ""
        if killed and ended is not None and up is not None and ended.timestamp() < up:
            return _shut_down(code)
        if held or code != 255 or (up is not None and started is not None and up < started.timestamp()):
            return ""
        return "the engine went down while the step ran (exit code 255 is its own, or cannot be told from it)"

    async def delete(self, container: str) -> None:
        """Remove a container and its anonymous volumes, ending it first; one that is gone, or going, is fine."""
        path, params = f"/containers/{container}", {"force": "1", "v": "1"}
        try:
            try:
                await self.engine.call("DELETE", path, params=params)
            except ConnectionLost:
                await self.engine.call("DELETE", path, params=params)
        except EngineRefusal as refusal:
            if refusal.status not in (404, 409):
                raise

    async def signal(self, container: str, signal: str) -> None:
        """Send a signal; nothing happens when the container does not run (409; 500 with podman) or is gone (404)."""
        with suppress(EngineRefusal):
            await self.engine.call("POST", f"/containers/{container}/kill", params={"signal": signal})


def start_gate() -> asyncio.Semaphore:
    """A gate of two starts per core."""
    return asyncio.Semaphore(2 * (os.cpu_count() or 1))
