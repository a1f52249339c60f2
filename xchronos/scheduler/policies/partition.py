"""What may go on where nobody can see it: attempts whose machine has lost its lease."""

from xchronos.model.unit import Unit


def outlives_lease(unit: Unit) -> bool:
    """Whether an attempt of `unit` goes on after the store has given its machine up.

    `OnPartition=continue` says that it does: the work may be in its last minutes, and its real end is told later. A
    unit that is kept running has a successor elsewhere by then, and two of it must not run side by side.
    """
    return unit.on_partition == "continue" and not unit.keep_running
