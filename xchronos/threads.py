"""Threads for work that may never end: a pool of its own, which no exit of the process waits for.

The event loop's own pool is for work whose end is certain. Everybody shares it, and the process does not exit before
its threads have ended: one file on a server that is gone would use it up, and keep the daemon from ending.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

IDLE = 10.0
"""Seconds without a call after which a thread ends."""

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(Executor):
    """Runs calls in threads that end with the process, whatever they wait for.

    For `loop.run_in_executor`. Threads are made when they are needed, and end when nobody has needed them for a while.
    A call that does not end keeps its thread.
    """

    def __init__(self, name: str, most: int) -> None:
        """`name` is that of the threads; there are at most `most` of them."""
        self._name = name
        self._most = most
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._open = 0
        """Calls that wait for a thread or run in one."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Have a thread call `fn`. A future that is cancelled before a thread is free is not called."""
        future: Future[T] = Future()
        with self._lock:
            self._open += 1
            if self._threads < min(self._open, self._most):
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name} {self._threads}", daemon=True).start()
            self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def _work(self) -> None:
        while True:
            try:
                future, call = self._calls.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    if self._calls.empty():
                        self._threads -= 1
                        return
                continue
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits for the future
                    self._ended()
                    future.set_exception(error)
                else:
                    self._ended()
                    future.set_result(result)
            else:
                self._ended()
            del future, call

    def _ended(self) -> None:
        with self._lock:
            self._open -= 1
