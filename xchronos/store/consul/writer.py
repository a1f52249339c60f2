"""The one task of a client that appends to Consul's log: whatever waits meanwhile becomes the next entry."""

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

_MAX_LEASES = MAX_CONSUL_OPERATIONS - 4  # that begin or end with one entry
_GROUP = 2 * PIECE  # bytes of an entry before it is packed
_CONTENDED = 0.5  # seconds for which a writer gives way after another was quicker


class _Request:
    """Something to do to a draft, and who waits for what comes of it. `size`: the bytes that it writes, roughly."""

    def __init__(self, work: Callable[[MirrorDraft], Any], size: int, *, expiry: bool) -> None:
        self.work = work
        self.size = size
        self.since = asyncio.get_running_loop().time()
        self.expiry = expiry
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settle(self, answer: Any) -> None:
        """Tell whoever waits."""
        if self.future.done():
            return
        if isinstance(answer, StoreError):
            self.future.set_exception(answer)
            self.future.exception()  # nobody may be waiting any more
        else:
            self.future.set_result(answer)


class ConsulWriter:
    """Gathers requests, and carries each out, or says why not once Consul has been silent for `timeout` seconds."""

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
        """Something is being written, and no other client has been quicker of late."""
        return not self._idle.is_set() and asyncio.get_running_loop().time() >= self._give_way_until

    def submit(self, work: Callable[[MirrorDraft], Any], size: int = 0, *, expiry: bool = False) -> asyncio.Future[Any]:
        """Queue some work; the future gets what it returned, or raised, once that is true of the store.

        An `expiry` is the end of a lease that has run out: it is given up (the answer is None) if it does not hold.
        """
        request = _Request(work, size, expiry=expiry)
        self._queue.append(request)
        self._idle.clear()
        self._news.set()
        return request.future

    async def answer(self, future: asyncio.Future[Any]) -> Any:
        """Wait for a submitted request while Consul answers those before it. A cancellation does not stop it."""
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
        """Tell everybody who still waits that nothing more is written."""
        while self._queue:
            self._queue.popleft().settle(error)
        self._idle.set()

    async def run(self) -> None:
        """Write, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                await self._carry_out()
            self._idle.set()

    async def _carry_out(self) -> None:
        """Make one entry of what is at the front of the queue, and append it."""
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
            # A lease was renewed in the last moment: whoever wanted it to end looks again.
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
        """Let another client write. Whoever came second has to read first, and would come second for ever."""
        self._log.heard.clear()
        with suppress(TimeoutError):  # the others had nothing to write; not all must find that out at once
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
        """Nothing is to be written, which is true only if the mirror is not behind."""
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
    """An exception of its own for each caller: a shared one would gather the tracebacks of all."""
    return StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else StoreError(str(error))
