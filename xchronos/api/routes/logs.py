"""The output of an attempt: read from this machine's files, or passed on from the machine that has it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from xchronos.api import peers
from xchronos.api.context import Context
from xchronos.api.logfiles import Follower, followers
from xchronos.api.views import attempts_of
from xchronos.errors import ApiError, NotFound, StoreUnavailable
from xchronos.model.records import Attempt, Execution

LOOK_AGAIN_SECONDS = 0.2
"""How long a live stream rests before it looks for more output."""

SHUT_DOWN = b"[xchronos: the daemon shuts down; the output goes on where it is kept]\n"
"""The last line of a live stream that the server's end cuts short, so that nobody takes it for the whole output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which output of an execution is asked for."""

    step: str = ""
    """The name of one step (`start-0`); empty: every step."""

    attempt: int = 0
    """The number of an attempt, from 1; 0: the latest."""

    follow: bool = False
    """Whether the answer goes on until the attempt has ended."""

    tail: int | None = None
    """How many lines at the end of what there is come first; None: all of them."""

    forwarded: bool = False
    """Whether another daemon passes the request on. It is not passed on a second time."""


EVERYTHING = LogQuery()


class LogRequest:
    """One request for the output of an execution, and the state of its answer."""

    def __init__(self, context: Context, execution: Execution, query: LogQuery = EVERYTHING) -> None:
        self._context = context
        self._execution = execution
        self._step = query.step
        self._attempt = query.attempt
        self._follow = query.follow
        self._tail = query.tail
        self._forwarded = query.forwarded

    async def open(self) -> AsyncIterator[bytes]:
        """The output, in parts.

        What is wrong with the request is raised here, while the answer can still have another status. What goes wrong
        later is told in the output.

        Raises:
            NotFound: the attempt has not run, or the step has no output.
            ApiError: another machine has the output, and its daemon refuses or does not answer.
        """
        found = self._find()
        if found is None:
            if not self._follow or self._execution.state == "ended":
                raise NotFound(self._nothing())
            return self._wait()
        return await self._of(found)

    def _find(self) -> Attempt | None:
        attempts = attempts_of(self._execution)
        if not self._attempt:
            return attempts[-1] if attempts else None
        return next((attempt for attempt in attempts if attempt.number == self._attempt), None)

    def _nothing(self) -> str:
        execution = self._execution
        which = f"attempt {self._attempt} of " if self._attempt else ""
        why = execution.outcome.value if execution.outcome is not None else execution.state
        return f"{which}{execution.id} has not run: it is {why}{f' ({execution.reason})' if execution.reason else ''}"

    async def _of(self, attempt: Attempt) -> AsyncIterator[bytes]:
        if attempt.machine == self._context.services.machine_id:
            return await self._local(attempt)
        if self._forwarded:
            raise ApiError(f"attempt {attempt.number} ran on {attempt.machine}, not here", 409)
        query = {"attempt": str(attempt.number), "follow": str(self._follow).lower()}
        if self._step:
            query["step"] = self._step
        if self._tail is not None:
            query["tail"] = str(self._tail)
        path = peers.execution_path(self._execution) + "/logs"
        body = peers.relay(self._context, attempt.machine, path, query)
        await anext(body)
        return _to_its_end(body) if self._follow else body

    async def _wait(self) -> AsyncIterator[bytes]:
        """Wait until an attempt runs, then read its output."""
        registry = self._context.services.registry
        try:
            while not await self._pause():
                try:
                    self._execution = await registry.execution(self._execution.id)
                except StoreUnavailable:
                    continue  # what runs goes on without the store, and so does this
                found = self._find()
                if found is not None:
                    async for part in await self._of(found):
                        yield part
                    return
                if self._execution.state == "ended":
                    yield f"[xchronos: {self._nothing()}]\n".encode()
                    return
        except (NotFound, ApiError) as error:
            yield f"[xchronos: {error}]\n".encode()
            return
        yield SHUT_DOWN

    async def _local(self, attempt: Attempt) -> AsyncIterator[bytes]:
        logs = dict(await self._logs(attempt))
        if self._step and not self._follow and self._step not in logs:
            have = f"it has {', '.join(logs)}" if logs else "no step has output"
            raise NotFound(f"attempt {attempt.number} of {self._execution.id} has no output of {self._step}: {have}")
        names = [name for name in logs if self._step in ("", name)]
        readers = dict(zip(names, followers([logs[name] for name in names], self._tail), strict=True))
        return self._read(attempt, readers)

    async def _logs(self, attempt: Attempt) -> list[tuple[str, Path]]:
        execution = self._execution
        steps = self._context.services.steps
        return await steps.logs(execution.unit, execution.fire_time, execution.copy, attempt.number)

    async def _read(self, attempt: Attempt, readers: dict[str, Follower]) -> AsyncIterator[bytes]:
        try:
            while True:
                # This is asked before the reading, so that everything that the attempt wrote before its end is read
                # (`test_until_the_attempt_has_ended_with_steps_that_begin_meanwhile` in tests/api/test_logs_api.py).
                over = not self._follow or await self._is_over(attempt)
                for name, path in await self._logs(attempt) if self._follow else ():
                    if name not in readers and self._step in ("", name):
                        readers[name] = Follower(path)
                for reader in readers.values():
                    while data := await asyncio.to_thread(reader.read):
                        yield data
                if over:
                    return
                if await self._pause():
                    yield SHUT_DOWN
                    return
        finally:
            for reader in readers.values():
                reader.close()

    async def _is_over(self, attempt: Attempt) -> bool:
        services = self._context.services
        running = await services.steps.progress(self._execution.id)
        if running is not None and running.number == attempt.number:
            return False
        try:
            execution = await services.registry.execution(self._execution.id)
        except NotFound:
            return True
        except StoreUnavailable:
            return False  # nobody can tell now, and it is asked again
        current = execution.current
        has_it = current is not None and current.number == attempt.number
        return not has_it or execution.state not in ("placed", "running")

    async def _pause(self) -> bool:
        """Rest for a moment. Returns True when the server shuts down."""
        try:
            await asyncio.wait_for(self._context.closing.wait(), LOOK_AGAIN_SECONDS)
        except TimeoutError:
            return False
        return True


async def _to_its_end(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A live stream of another machine, to its end. When that machine fails, the last line says how."""
    try:
        async for part in body:
            yield part
    except ApiError as error:
        yield f"[xchronos: {error}]\n".encode()
