"""Metrics of several attempts read as one series, and as TensorBoard reads them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.files.paths import Run
from terry.logs.records.metrics import FROM_SCRATCH, MetricsWriter, read_series
from terry.logs.records.tensorboard import EventWriter


def attempt(run: Run, number: int, start: int, steps: list[int], *, factor: float = 1.0) -> Path:
    folder = run.attempt(number)
    folder.root.mkdir(parents=True)
    writer = MetricsWriter(folder.metrics)
    writer.start(start)
    for step in steps:
        writer.log(step, 1e9 + step, {"loss": step * factor})
    writer.sync()
    writer.close()
    return folder.metrics


def series(run: Run, first_attempt: int = 1) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_series(run, first_attempt)]


def test_a_later_attempt_replaces_what_it_does_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    attempt(run, 1, FROM_SCRATCH, [0, 10, 20, 30])
    attempt(run, 2, 15, [20, 30, 40], factor=2)
    assert series(run) == [(0, 0), (10, 10), (20, 40), (30, 60), (40, 80)]


def test_what_was_measured_after_the_checkpoint_is_void_before_it_is_measured_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    attempt(run, 1, FROM_SCRATCH, [10, 13, 20])
    attempt(run, 2, 10, [])
    assert series(run) == [(10, 10)]


def test_from_scratch_voids_all(tmp_path: Path) -> None:
    run = Run(tmp_path)
    attempt(run, 1, FROM_SCRATCH, [0, 10])
    attempt(run, 2, FROM_SCRATCH, [5])
    assert series(run) == [(5, 5)]


def test_attempts_before_the_first_that_counts_are_ignored(tmp_path: Path) -> None:
    run = Run(tmp_path)
    attempt(run, 1, FROM_SCRATCH, [0, 10])
    attempt(run, 2, 5, [20])
    assert series(run, first_attempt=2) == [(20, 20)]


def test_measurements_of_one_step_stand_together(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.attempt(1).root.mkdir(parents=True)
    writer = MetricsWriter(run.attempt(1).metrics)
    writer.start(FROM_SCRATCH)
    writer.log(10, 1.0, {"loss": 2.0})
    writer.log(10, 2.0, {"valid_loss": 3.0})
    writer.close()
    assert read_series(run) == [{"step": 10, "time": 2.0, "loss": 2.0, "valid_loss": 3.0}]


@pytest.mark.parametrize("tail", [b'{"step": 30, "lo', b"\0\0\0\0\n", b"[1]\n", b'{"step": "x"}\n'])
def test_a_torn_line_is_passed_over(tmp_path: Path, tail: bytes) -> None:
    run = Run(tmp_path)
    path = attempt(run, 1, FROM_SCRATCH, [10, 20])
    path.write_bytes(path.read_bytes() + tail)
    attempt(run, 2, 20, [30])
    assert series(run) == [(10, 10), (20, 20), (30, 30)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_lacks_is_kept(tmp_path: Path, value: float) -> None:
    run = Run(tmp_path)
    attempt(run, 1, FROM_SCRATCH, [1], factor=value)
    assert repr(series(run)) == repr([(1, value)])


@settings(max_examples=60, deadline=None)
@given(kills=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=5))
def test_however_often_it_is_killed_the_series_is_that_of_an_undisturbed_run(
    tmp_path_factory: pytest.TempPathFactory, kills: list[tuple[int, int]]
) -> None:
    """Each attempt does some steps from its checkpoint, publishes one, does a few more, and is killed."""
    run = Run(tmp_path_factory.mktemp("run"))
    checkpoint, number = FROM_SCRATCH, 0
    for number, (saved, lost) in enumerate(kills, 1):
        first = max(checkpoint, 0) + 1
        attempt(run, number, checkpoint, list(range(first, first + saved + lost)))
        checkpoint = max(checkpoint, 0) + saved if saved else checkpoint
    attempt(run, number + 1, checkpoint, list(range(max(checkpoint, 0) + 1, 50)))
    assert series(run) == [(step, step) for step in range(1, 50)]


def test_tensorboard_reads_what_we_write_and_forgets_what_is_void(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = EventWriter(tmp_path / "tb", 1, -1)
    for step in range(0, 300, 10):
        first.log(step, 1e9 + step, {"loss": step / 7, "valid_loss": 1.5})
    first.close()
    second = EventWriter(tmp_path / "tb", 2, 150)
    second.log(160, 2e9, {"loss": 99.0, "gone": math.inf, "nan": math.nan})
    second.close()
    accumulator = EventAccumulator(str(tmp_path / "tb")).Reload()
    scalars = [(e.step, e.value) for e in accumulator.Scalars("loss")]
    assert scalars == [(s, pytest.approx(s / 7)) for s in range(0, 151, 10)] + [(160, 99.0)]
    assert set(accumulator.Tags()["scalars"]) == {"loss", "valid_loss", "gone", "nan"}
    assert math.isnan(accumulator.Scalars("nan")[0].value)


def test_each_attempt_has_an_event_file_of_its_own(tmp_path: Path) -> None:
    for number in (1, 2):
        EventWriter(tmp_path / "tb", number, -1).close()
    assert sorted(p.name[-5:] for p in (tmp_path / "tb").iterdir()) == ["a0001", "a0002"]
