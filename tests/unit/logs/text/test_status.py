"""Tables of `status` and `nodes`, as wide as the terminal is."""

from __future__ import annotations

from dataclasses import replace

from terry.logs.text.status import device_lines
from tests.helpers.views import DEVICES

LONG = replace(DEVICES[0], model="NVIDIA RTX 6000 Ada Generation", jobs=tuple(f"cells-{n:04}" for n in range(9)))


def test_a_narrow_terminal_shows_state_and_jobs_of_a_device() -> None:
    lines = device_lines([LONG], width=80)
    assert lines[0].split()[-2:] == ["STATE", "JOBS"]
    assert "MODEL" not in lines[0]
    assert "online  cells-0000 cells-0001" in lines[1]
    assert all(len(line) <= 80 for line in lines)


def test_a_wide_one_shows_all() -> None:
    lines = device_lines([LONG], width=200)
    assert lines[0].split() == ["DEVICE", "KIND", "MODEL", "USED", "BUSY", "MEMORY", "TEMP", "STATE", "JOBS"]
    assert lines[1].endswith("cells-0008")
