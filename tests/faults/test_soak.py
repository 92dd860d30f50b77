"""The short form of the soak: hundreds of tiny real jobs; nothing grows or is left over (benchmarks/soak.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import soak

#: In hundreds of jobs; a descriptor lost by each, or a few pages, is more.
MIB, DESCRIPTORS = 12.0, 5


@pytest.mark.timeout(600)
def test_after_hundreds_of_jobs_memory_and_descriptors_are_as_before_and_nothing_is_left(tmp_path: Path) -> None:
    samples, done, _, left = soak.run(tmp_path, jobs=600, minutes=8.0, every=0.5)
    assert done == 600
    assert left == []
    for role in ("controller", "agent", "forkserver", "keeper"):
        found = samples[role]
        memory, descriptors = found.ends(found.resident), found.ends(found.fds)
        assert memory[1] - memory[0] < MIB, f"{role}: {memory}"
        assert descriptors[1] - descriptors[0] <= DESCRIPTORS, f"{role}: {descriptors}"
