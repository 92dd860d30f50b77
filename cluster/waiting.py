"""A queue in order of place, from whose front is taken most often: that costs the same however long it is."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

#: Where a job stands in the queue: (-priority, order of submission, job id).
Place = tuple[int, int, str]

_COMPACT_FROM = 64


class Waiting:
    """Places in ascending order, without doubles."""

    __slots__ = ("_places", "_start")

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._start = 0  # what stands before it was taken out already

    def add(self, place: Place) -> None:
        """Put a place where it belongs."""
        if self._start and (self._start == len(self._places) or place < self._places[self._start]):
            self._start -= 1
            self._places[self._start] = place
        else:
            insort(self._places, place, lo=self._start)

    def remove(self, place: Place) -> None:
        """Take a place out. It must be there."""
        index = bisect_left(self._places, place, lo=self._start)
        assert self._places[index] == place, place
        if index != self._start:
            del self._places[index]
            return
        self._start += 1
        if self._start >= _COMPACT_FROM and 2 * self._start >= len(self._places):
            del self._places[: self._start]
            self._start = 0

    def __len__(self) -> int:
        return len(self._places) - self._start

    def __getitem__(self, index: int) -> Place:
        """The place at `index` from the front; not from the end."""
        return self._places[self._start + index]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._places[self._start :])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Waiting) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Waiting({list(self)})"
