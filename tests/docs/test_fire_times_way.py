"""A fire time takes the way that packaging/CONTRIBUTING.md describes: a real daemon calls what is named, in that order."""

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest

from tests.docs.contributing import file_of, names, rows, section
from tests.docs.played import played, until

WAY = [names(place)[0] for _, _, place in rows(section("A fire time's way"))]


class Way:
    """How far the calls of this process have come along some places."""

    def __init__(self, places: list[str]) -> None:
        self._places = [(str(file_of(place)), place.partition(":")[2]) for place in places]
        self._known: dict[CodeType, frozenset[int]] = {}
        self._lock = threading.Lock()
        self.reached = 0

    def see(self, frame: FrameType, event: str, _: object) -> None:
        """A function is called, or a coroutine goes on."""
        if event == "call":
            code = frame.f_code
            found = self._known.get(code)
            if found is None:
                found = self._known[code] = self._numbers(code)
            if found:
                with self._lock:
                    if self.reached in found:
                        self.reached += 1

    def _numbers(self, code: CodeType) -> frozenset[int]:
        """The places that the code is, or a method of."""
        return frozenset(
            number
            for number, (file, name) in enumerate(self._places)
            if code.co_filename == file and (code.co_qualname == name or code.co_qualname.startswith(f"{name}."))
        )


@contextmanager
def watched(way: Way) -> Iterator[None]:
    """Calls are seen, of threads too that begin meanwhile."""
    before = sys.getprofile()
    threading.setprofile(way.see)
    sys.setprofile(way.see)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


async def test_a_fire_time_takes_that_way():
    assert len(WAY) > 30
    way = Way(WAY)
    with tempfile.TemporaryDirectory() as directory, watched(way):
        async with played(Path(directory)) as daemon:
            way.reached = 0
            daemon.drop_in()
            try:
                await until(lambda: way.reached == len(WAY))
            except AssertionError:
                pytest.fail(f"nobody called {WAY[way.reached]} after {WAY[way.reached - 1]}")


def test_the_order_counts():
    def first(): ...
    def second(): ...

    way = Way([])
    way._places = [(__file__, f"{test_the_order_counts.__qualname__}.<locals>.{name}") for name in ("first", "second")]
    with watched(way):
        second()
    assert way.reached == 0
    with watched(way):
        first()
        second()
    assert way.reached == 2
