"""Things made from an object, kept as long as that object lives."""

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class WeakCache(Generic[T]):
    """Caches by object *identity* and a key: a `StaticWorld` holds arrays, so it has no hash of its own.

    At most `keep` keys per owner are kept; the oldest goes first.
    """

    def __init__(self, keep: int = 4) -> None:
        self.keep = keep
        self._made: dict[int, dict[object, T]] = {}

    def get(self, owner: object, key: object, make: Callable[[], T]) -> T:
        """The thing for (owner, key), made at the first call. It must not refer to the owner."""
        kept = self._made.get(id(owner))
        if kept is None:
            kept = self._made[id(owner)] = {}
            weakref.finalize(owner, self._made.pop, id(owner), None)
        if key not in kept:
            while len(kept) >= self.keep:
                del kept[next(iter(kept))]
            kept[key] = make()
        return kept[key]
