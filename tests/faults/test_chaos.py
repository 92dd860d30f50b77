"""The short form of the chaos run: every kind of fault at least once (benchmarks/chaos.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import chaos


@pytest.mark.timeout(900)
def test_after_thirty_faults_all_runs_are_as_undisturbed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = chaos.run(tmp_path, faults=30, seed=4, epochs=8)
    assert code == 0, capfd.readouterr()
