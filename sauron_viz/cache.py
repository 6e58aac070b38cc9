"""What was read or computed last, as much of it as a page may hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

# What a kernel may hold beside its libraries, so that many pages fit into one machine.
CACHE_BYTES = 48 * 2**20

T = TypeVar("T")


class ByteCache:
    """Keeps what was used last, up to a number of bytes."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.used = 0
        self._items: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value of a key; `make` is called where it is not there, `size` tells its bytes."""
        if key in self._items:
            self._items.move_to_end(key)
            value: T = self._items[key][0]
            return value
        value = make()
        self._items[key] = (value, size(value))
        self.used += self._items[key][1]
        while self.used > self.limit and len(self._items) > 1:
            _, (_, freed) = self._items.popitem(last=False)
            self.used -= freed
        return value
