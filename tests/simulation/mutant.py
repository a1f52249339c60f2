"""What a mutant is: a small mistake, as a patch, with the promise that it must be seen to break."""

from collections.abc import Callable

import pytest

from xchronos.store.contract import Txn

Mutants = dict[Callable[[pytest.MonkeyPatch], None], tuple[str, int]]
"""By mutant, what the violation must say (a regular expression), and within how many seeds."""


def without(txn: Txn, *numbers: int) -> Txn:
    """A Txn that lacks some of its guards."""
    return Txn(tuple(guard for number, guard in enumerate(txn.guards) if number not in numbers), txn.operations)
