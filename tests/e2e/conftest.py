from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A daemon that is not started yet; host processes are allowed."""
    found = House(tmp_path, "--allow-process")
    yield found
    found.close()
    if found.log.exists():
        print(found.log.read_text()[-6000:])
