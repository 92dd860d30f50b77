"""Runs side by side, as values."""

from __future__ import annotations

import math
from typing import Any

from terry.cluster.core.model import JobState
from terry.logs.records.results import ResultRow
from terry.logs.text.compare import Compared, compare, compare_lines


def run(number: int, settings: dict[str, Any], made_of: dict[str, Any] | None = None, **figures: Any) -> Compared:
    row = ResultRow(
        id=f"cells-000{number}",
        sweep="cells",
        state=JobState.COMPLETED,
        labels={},
        figures=figures,
        device="quattro:0",
        attempts=1,
        restarts=0,
    )
    return Compared(row=row, settings=settings, made_of=made_of or {})


def test_only_what_differs_is_told() -> None:
    """True and 1 are not alike, a setting that one run lacks is a difference, and so is a version."""
    versions = [
        {"version of torch": "2.6.0", "version of numpy": "2"},
        {"version of torch": "2.13.0+cpu", "version of numpy": "2"},
    ]
    found = compare([run(1, {"a": 1, "b": True, "c": "x"}, versions[0]), run(2, {"a": 1, "b": 1}, versions[1])])
    assert found.settings == {"b": [True, 1], "c": ["x", None]}
    assert found.alike == 1
    assert found.made_of == {"version of torch": ["2.6.0", "2.13.0+cpu"]}


def test_before_a_run_has_begun_nobody_knows_its_versions() -> None:
    """Then nothing is said of them, rather than that they differ."""
    assert compare([run(1, {}, {"version of torch": "2"}), run(2, {})]).made_of == {}


def test_the_table_marks_the_lowest_and_leaves_out_hashes() -> None:
    """NaN is never the best, hashes are for --json, and equal losses need no mark."""
    runs = [
        run(1, {}, loss=2.0, valid_loss=math.nan, sha="0" * 64, reason="completed", speed=10),
        run(2, {}, loss=2.0, valid_loss=3.0, sha="1" * 64, reason="pruned", speed=5),
        run(3, {}, loss=2.0, valid_loss=2.5, sha="2" * 64, reason="completed", speed=5),
    ]
    lines = {line.split()[0]: line.split()[1:] for line in compare_lines(compare(runs)) if line.strip()}
    assert lines["loss"] == ["2.0000"] * 3
    assert lines["valid_loss"] == ["NaN", "3.0000", "2.5000*"]
    assert lines["reason"] == ["completed", "pruned", "completed"]
    assert "sha" not in lines
    assert lines["0"] == ["settings", "are", "alike;", "the", "runs", "differ", "in", "no", "setting"]
