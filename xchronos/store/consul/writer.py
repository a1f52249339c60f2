"""The one task of a client that appends to Consul's log. All requests that wait meanwhile become the next entry.

Each turn of the task makes a draft of the requests at the front of the queue and tries to append it. If another client
was quicker, the requests stay in the queue and the next turn decides again on the newer mirror.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from xchronos.errors import LeaseLost, StoreError, StoreUnavailable
from xchronos.store.consul.http import MAX_CONSUL_OPERATIONS, Op
from xchronos.store.consul.layout import PIECE, LeaseRecord
from xchronos.store.consul.log import Appended, ConsulLog
from xchronos.store.consul.mirror import MirrorDraft

_MAX_LEASES = MAX_CONSUL_OPERATIONS - 4  # how many leases may begin or end in one entry
_GROUP = 2 * PIECE  # the most bytes of an entry, before compression
_CONTENDED = 0.5  # seconds that a writer gives way to others after another one was quicker


class _Request:
    """Something to do to a draft, and the future of whoever waits for the result.

    `size` is about how many bytes it writes. `since` is when it was submitted, in seconds of the event loop's clock.
    """

    def __init__(self, work: Callable[[MirrorDraft], Any], size: int, *, expiry: bool) -> None:
        self.work = work
        self.size = size
        self.since = asyncio.get_running_loop().time()
        self.expiry = expiry
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settle(self, answer: Any) -> None:
        """Set the future: a StoreError is raised to whoever waits, anything else is the result."""
        if self.future.done():
            return
        if isinstance(answer, StoreError):
            self.future.set_exception(answer)
            self.future.exception()  # perhaps nobody waits any more; asyncio would complain of an unread exception
        else:
            self.future.set_result(answer)


class ConsulWriter:
    """Gathers requests and carries out each, or says why not after Consul has been silent for `timeout` seconds."""

    def __init__(self, log: ConsulLog, timeout: float, stamp: Callable[[], str]) -> None:
        self._log = log
        self._timeout = timeout
        self._stamp = stamp
        self._queue: deque[_Request] = deque()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._give_way_until = 0.0
        self._answered = 0.0

    @property
    def alone(self) -> bool:
        """Whether something is being written and no other client has been quicker of late."""
        return not self._idle.is_set() and asyncio.get_running_loop().time() >= self._give_way_until

    def submit(self, work: Callable[[MirrorDraft], Any], size: int = 0, *, expiry: bool = False) -> asyncio.Future[Any]:
        """Queue some work. The future gets what the work returned or raised, after the log has it.

        An `expiry` is the end of a lease that has run out. It is dropped, with the answer None, if the lease was
        renewed or is gone.
        """
        request = _Request(work, size, expiry=expiry)
        self._queue.append(request)
        self._idle.clear()
        self._news.set()
        return request.future

    async def answer(self, future: asyncio.Future[Any]) -> Any:
        """Wait for a submitted request, for as long as Consul answers those before it. Raises StoreUnavailable.

        A long queue that moves is no silence (`test_a_long_queue_that_moves_is_no_silence`). A cancellation does not
        stop the request.
        """
        while True:
            try:
                async with asyncio.timeout(self._timeout * 1.2):
                    return await asyncio.shield(future)
            except TimeoutError as error:
                if self._silent_since(self._answered):
                    raise StoreUnavailable(
                        f"Consul has not answered a write within {self._timeout:.0f} s: it may or may not have happened"
                    ) from error

    async def drain(self) -> None:
        """Wait until nothing is left to write."""
        await self._idle.wait()

    def abandon(self, error: StoreError) -> None:
        """End every request that still waits with this error."""
        while self._queue:
            self._queue.popleft().settle(error)
        self._idle.set()

    async def run(self) -> None:
        """Write what is submitted, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                await self._carry_out()
            self._idle.set()

    async def _carry_out(self) -> None:
        """One turn: make an entry of the requests at the front of the queue, try to append it, settle them."""
        now = asyncio.get_running_loop().time()
        while self._queue and self._silent_since(max(self._queue[0].since, self._answered)):
            self._queue.popleft().settle(
                StoreUnavailable(f"Consul has not answered for {self._timeout:.0f} s: nothing was written")
            )
        group: list[_Request] = []
        try:
            if not self._log.mirror.head_index:
                await self._log.current()
            draft, group, answers = self._draft()
            if draft.empty:
                verdict = await self._confirm()
            else:
                verdict = await self._append(draft)
        except StoreError as error:
            for _ in range(min(max(len(group), 1), len(self._queue))):
                self._queue.popleft().settle(_copy(error))
            return
        self._answered = asyncio.get_running_loop().time()
        if verdict is Appended.NO:
            return
        if verdict is Appended.REFUSED:
            # A lease was renewed in the last moment, so the ends of leases are dropped. The reaper looks again.
            self._drop_expiries(group)
            return
        for request, answer in zip(group, answers, strict=True):
            self._queue.popleft()
            if verdict is Appended.UNKNOWN:
                answer = StoreUnavailable("Consul answered a write too late to know what became of it")  # noqa: PLW2901
            request.settle(answer)
        if now < self._give_way_until and not draft.empty:
            await self._give_way(asyncio.get_running_loop().time() - now)

    def _silent_since(self, moment: float) -> bool:
        return asyncio.get_running_loop().time() - moment > self._timeout

    async def _give_way(self, taken: float) -> None:
        """Let another client write, for about as long as our own write took.

        The client that came second has to read first, and so would come second again and again
        (`test_a_busy_client_does_not_shut_the_others_out`).
        """
        self._log.heard.clear()
        with suppress(TimeoutError):  # the others had nothing to write; a random time, so clients are not in step
            async with asyncio.timeout(taken * random.uniform(1, 2)):  # noqa: S311
                await self._log.heard.wait()

    def _draft(self) -> tuple[MirrorDraft, list[_Request], list[Any]]:
        draft = MirrorDraft(self._log.mirror)
        group: list[_Request] = []
        answers: list[Any] = []
        for request in self._queue:
            if group and (draft.size + request.size > _GROUP or len(draft.granted) + len(draft.ended) >= _MAX_LEASES):
                break
            group.append(request)
            try:
                answers.append(request.work(draft))
            except LeaseLost as error:
                answers.append(None if request.expiry else error)
            except StoreError as error:
                answers.append(error)
        return draft, group, answers

    async def _confirm(self) -> Appended:
        """The draft is empty. YES when the mirror was up to date, so that this is true; NO when it was not."""
        sequence = self._log.mirror.head.sequence
        await self._log.current()
        return Appended.YES if self._log.mirror.head.sequence == sequence else Appended.NO

    async def _append(self, draft: MirrorDraft) -> Appended:
        layout = self._log.layout
        others = [
            Op("set", layout.lease(lease), msgspec.json.encode(LeaseRecord(ttl, self._stamp())))
            for lease, ttl in draft.granted.items()
        ]
        for lease, index in draft.ended.items():
            key = layout.lease(lease)
            others.append(Op("delete-cas", key, None, index) if index else Op("delete", key))
        entry = draft.entry(self._log.new_writer())
        verdict = await self._log.append(entry, draft.head(), draft.changes, others)
        if verdict is Appended.NO:
            self._give_way_until = asyncio.get_running_loop().time() + _CONTENDED
        return verdict

    def _drop_expiries(self, group: list[_Request]) -> None:
        kept = []
        for request in group:
            self._queue.popleft()
            if request.expiry:
                request.settle(None)
            else:
                kept.append(request)
        if len(kept) == len(group):
            raise StoreError("Consul refused a write for no known reason")
        self._queue.extendleft(reversed(kept))


def _copy(error: StoreError) -> StoreError:
    """An exception of its own for each caller: one for all would gather the tracebacks of all."""
    return StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else StoreError(str(error))
