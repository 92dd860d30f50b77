"""What is free, by kind and model of device and by how much: so that a fitting device is found without a search."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from terry.cluster.core.model import Device, DeviceKind

#: Kind and model.
Class = tuple[DeviceKind, str]


class FreeCapacity:
    """Devices with something free. The State keeps one; a plan works on a copy."""

    __slots__ = ("classes", "free")

    def __init__(self) -> None:
        self.free: dict[str, float] = {}  #: device id -> free share, where it is above zero
        self.classes: dict[Class, dict[float, list[str]]] = {}  #: class -> free share -> device ids, sorted

    def set(self, device: Device, free: float) -> None:
        """So much of the device is free now."""
        free = round(free, 9)  # sums of shares: 0.30000000000000004 is 0.3
        old = self.free.get(device.id, 0.0)
        if old == free:
            return
        key = (device.kind, device.model)
        if old:
            self._remove(key, old, device.id)
        if free > 0.0:
            self.free[device.id] = free
            insort(self.classes.setdefault(key, {}).setdefault(free, []), device.id)

    def _remove(self, key: Class, free: float, device_id: str) -> None:
        del self.free[device_id]
        buckets = self.classes[key]
        bucket = buckets[free]
        del bucket[bisect_left(bucket, device_id)]
        if not bucket:
            del buckets[free]
        if not buckets:
            del self.classes[key]

    def copy(self) -> FreeCapacity:
        """Another one that can be changed: costs as much as is free, not as there is."""
        twin = FreeCapacity()
        twin.free = dict(self.free)
        twin.classes = {key: {f: list(ids) for f, ids in buckets.items()} for key, buckets in self.classes.items()}
        return twin

    def has(self, kind: DeviceKind) -> bool:
        """True where something of the kind is free."""
        return any(key[0] is kind for key in self.classes)

    def fitting(self, key: Class, share: float) -> Iterator[tuple[float, list[str]]]:
        """Devices of the class with so much free, those that are left fullest first."""
        buckets = self.classes.get(key)
        for free in sorted(buckets or ()):
            if free >= share:
                yield free, buckets[free]  # type: ignore[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeCapacity) and (self.free, self.classes) == (other.free, other.classes)

    __hash__ = None  # type: ignore[assignment]
