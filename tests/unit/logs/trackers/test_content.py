"""A run as any tracker takes it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from terry.logs.trackers.content import Exported, TrackedRun, export
from terry.logs.trackers.mlflow import name
from tests.unit.logs.trackers.runs import a_run


class Shelf:
    """A tracker in memory, which can be killed while it writes."""

    def __init__(self) -> None:
        self.whole: dict[str, str] = {}
        self.dies = False

    def there(self, run: TrackedRun) -> str | None:
        return self.whole.get(run.key)

    def write(self, run: TrackedRun) -> None:
        if self.dies:
            raise KeyboardInterrupt
        self.whole[run.key] = run.fingerprint()

    def close(self) -> None:
        pass


def test_twice_exports_nothing_twice_and_what_changed_is_written_anew() -> None:
    shelf, run = Shelf(), a_run()
    first, second, third = Exported(), Exported(), Exported()
    export(run, shelf, first)
    export(run, shelf, second)
    export(replace(run, state="failed"), shelf, third)
    assert (first.new, second.unchanged, third.changed) == ([run.name], [run.name], [run.name])
    assert (first.changed, first.unchanged, second.new, second.changed, third.new) == ([], [], [], [], [])


def test_what_is_no_number_is_told_in_words() -> None:
    run = a_run(curve=({"step": 1, "loss": 2.0}, {"step": 2, "loss": math.inf}, {"step": 3, "loss": math.nan}))
    run = replace(run, figures={"loss": -math.inf, "reason": "diverged", "ok": True, "huge": 10**400})
    assert run.not_finite() == {"loss": "Infinity at step 2, 2 in all", "final/loss": "-Infinity"}
    assert run.numbers() == {"loss": -math.inf}
    assert [value for _, _, _, value in run.points()][:2] == [2.0, math.inf]


VALUES: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text())


@settings(deadline=None)
@given(st.dictionaries(st.text(), VALUES), st.lists(st.dictionaries(st.text(), VALUES)))
def test_whatever_a_run_has_measured_it_has_a_fingerprint(figures: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    curve = tuple({**row, "step": i} for i, row in enumerate(rows))
    run = a_run(curve=curve)
    assert replace(run, figures=figures).fingerprint() == replace(run, figures=dict(figures)).fingerprint()
    assert all(isinstance(value, float) for _, _, _, value in run.points())
    assert run.last_step >= len(rows) - 1


@settings(deadline=None)
@given(st.text(), st.text())
def test_names_of_mlflow_are_taken_by_it_and_stay_apart(one: str, other: str) -> None:
    for text in (one, other):
        parts = name(text).split("/")
        assert all(part not in {"", ".", ".."} for part in parts)
    if max(len(name(one)), len(name(other))) < 250 and ":" not in one + other:
        assert (name(one) == name(other)) == (one == other)
