"""A cache of what was used last: the stores' rows, the registry's units, where copies of a unit have been."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """The values that were put or got last, as many as fit. The one that was not used for longest goes first.

    Args:
        most: How much the values may weigh together.
        weigh: What a value weighs, always the same for the same value; None: each weighs 1, so `most` is a number.
    """

    def __init__(self, most: int, weigh: Callable[[V], int] | None = None) -> None:
        self._most = most
        self._weigh = weigh
        self._weight = 0
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value if it is here, else None. This counts as a use of it."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value, in the place of what the key had. One that is too heavy for the whole cache empties it."""
        values, weigh = self._values, self._weigh
        if weigh is None:
            # Stores keep every row that they write: this path is all that it costs.
            values[key] = value
            values.move_to_end(key)
            if len(values) > self._most:
                values.popitem(last=False)
            return
        before = values.pop(key, None)
        if before is not None:
            self._weight -= weigh(before)
        values[key] = value
        self._weight += weigh(value)
        while self._weight > self._most:
            self._weight -= weigh(values.popitem(last=False)[1])

    def pop(self, key: K) -> V | None:
        """Take a value away; None when it is not here."""
        value = self._values.pop(key, None)
        if value is not None and self._weigh is not None:
            self._weight -= self._weigh(value)
        return value

    def __contains__(self, key: K) -> bool:
        """Whether a value is here. This does not count as a use of it."""
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)
