"""What is free, by class of device: exact fits count, and what is left of sums of floats does not."""

from __future__ import annotations

from terry.cluster.core.capacity import FreeCapacity
from terry.cluster.core.model import DeviceKind
from tests.helpers.queue_values import make_gpu

H100 = (DeviceKind.GPU, "NVIDIA H100")


def _some() -> FreeCapacity:
    capacity = FreeCapacity()
    for index, free in enumerate((0.5, 1.0, 0.25, 0.5)):
        capacity.set(make_gpu(index=index), free)
    return capacity


def test_those_that_are_left_fullest_come_first_and_an_exact_fit_fits() -> None:
    assert list(_some().fitting(H100, 0.5)) == [(0.5, ["quattro:0", "quattro:3"]), (1.0, ["quattro:1"])]
    assert list(_some().fitting(H100, 1.0)) == [(1.0, ["quattro:1"])]
    assert list(_some().fitting((DeviceKind.GPU, "NVIDIA A100"), 0.1)) == []


def test_a_sum_of_floats_is_the_share_that_it_means() -> None:
    capacity = FreeCapacity()
    capacity.set(make_gpu(index=0), 0.1 + 0.2)
    capacity.set(make_gpu(index=1), 0.3)
    assert list(capacity.fitting(H100, 0.3)) == [(0.3, ["quattro:0", "quattro:1"])]


def test_nothing_is_left_of_a_device_that_is_full() -> None:
    capacity = _some()
    for index in range(4):
        assert capacity.has(DeviceKind.GPU)
        capacity.set(make_gpu(index=index), 0.0)
    assert capacity == FreeCapacity()
    assert not capacity.has(DeviceKind.GPU)


def test_a_copy_goes_its_own_way() -> None:
    capacity = _some()
    twin = capacity.copy()
    assert twin == capacity
    twin.set(make_gpu(index=0), 0.0)
    assert capacity == _some() != twin
