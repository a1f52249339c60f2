"""What may go on where nobody can see it."""

import pytest

from xchronos.model.unit import Unit
from xchronos.scheduler.policies.partition import outlives_lease


@pytest.mark.parametrize(
    ("on_partition", "keep_running", "expected"),
    [("continue", False, True), ("continue", True, False), ("stop", False, False), ("stop", True, False)],
)
def test_only_what_is_done_once_and_may_continue_outlives_its_machines_lease(on_partition, keep_running, expected):
    unit = Unit("a.service", "r", on_partition=on_partition, keep_running=keep_running)
    assert outlives_lease(unit) is expected
