"""What a node has, as the kernel says it."""

from __future__ import annotations

import psutil

from terry.cluster.host import hardware


def test_memory_is_what_psutil_finds() -> None:
    """Both read the same files of the kernel; between two looks other programs take and give back some."""
    assert hardware.memory_bytes() == psutil.virtual_memory().total
    assert abs(hardware.available_memory_bytes() - psutil.virtual_memory().available) < 2 << 30


def test_no_more_is_available_than_there_is() -> None:
    assert 0 < hardware.available_memory_bytes() <= hardware.memory_bytes()
