"""Jobs that wait, in the order in which they go: taking from the front costs the same however long a queue is."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator

#: Where a job stands in its lane: (-rank, order of submission, job id).
Place = tuple[int, int, str]
#: Priority and sweep.
LaneKey = tuple[int, str]

_COMPACT_FROM = 64


class Waiting:
    """Places in ascending order, without doubles."""

    __slots__ = ("_places", "_start")

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._places = sorted(places)
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


class Owned:
    """Waiting jobs of one user with equal demands: a lane for each priority and sweep."""

    __slots__ = ("lanes", "priorities", "since")

    def __init__(self) -> None:
        self.lanes: dict[LaneKey, Waiting] = {}
        self.priorities: dict[int, int] = {}  #: priority -> lanes
        self.since: OrderedDict[str, float] = OrderedDict()  #: job id -> when it began to wait; the oldest first

    def add(self, key: LaneKey, place: Place, since: float, *, sort: bool = True) -> None:
        """A job begins to wait. sort=False: `sort` is called once all are there."""
        self._enter(key, place)
        newest = next(reversed(self.since.values()), since)
        self.since[place[2]] = since
        if sort and since < newest:  # the clock was set back, or a recovery made up for an event
            self.sort()

    def sort(self) -> None:
        """Put the oldest first."""
        self.since = OrderedDict(sorted(self.since.items(), key=lambda entry: entry[1]))

    def remove(self, key: LaneKey, place: Place) -> None:
        """A job waits no longer."""
        del self.since[place[2]]
        self._leave(key, place)

    def move(self, old: LaneKey, new: LaneKey, place: Place) -> None:
        """A waiting job changes its lane, and has waited for as long as before."""
        if old != new:
            self._leave(old, place)
            self._enter(new, place)

    def _enter(self, key: LaneKey, place: Place) -> None:
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Waiting()
            self.priorities[key[0]] = self.priorities.get(key[0], 0) + 1
        lane.add(place)

    def _leave(self, key: LaneKey, place: Place) -> None:
        lane = self.lanes[key]
        lane.remove(place)
        if not lane:
            del self.lanes[key]
            self.priorities[key[0]] -= 1
            if not self.priorities[key[0]]:
                del self.priorities[key[0]]

    @property
    def oldest(self) -> float:
        """When the job that has waited longest began to. There must be one."""
        return next(iter(self.since.values()))

    @property
    def highest(self) -> int:
        """The highest priority of any of its jobs."""
        return max(self.priorities)

    def __len__(self) -> int:
        return len(self.since)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Owned):
            return False
        mine, theirs = dict(self.since), dict(other.since)  # among jobs of one moment the order does not matter
        in_order = list(mine.values()) == list(theirs.values())
        return in_order and (self.lanes, self.priorities, mine) == (other.lanes, other.priorities, theirs)

    __hash__ = None  # type: ignore[assignment]
