"""Whatever stands in a run's files: every view is drawn, and `doctor` names what is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from terry.cluster.api import _table
from terry.cluster.cli.results import _csv
from terry.cluster.core.model import EndReason, JobRecord, JobState, Progress
from terry.cluster.files.paths import Run
from terry.logs.dashboard.frame import Size, draw
from terry.logs.dashboard.screen import Mode, Screen, rows
from terry.logs.plots import draw as draw_plot
from terry.logs.records.curves import read_curve
from terry.logs.records.losses import LossHistory
from terry.logs.records.metrics import bad_lines, read_series
from terry.logs.records.results import columns_of, read_outcome, read_result, result_lines, result_row
from terry.logs.text.compare import Compared, compare, compare_lines
from terry.logs.text.curve import curve_lines
from terry.logs.text.status import status_lines
from terry.logs.view.build import ViewBuilder
from terry.logs.view.view import Detail
from tests.helpers.job_records import attempt, known, record

HUGE = 10**400
values: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([HUGE, -HUGE, 2**64, 1e308, -1e308])
)
values |= st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=2), values, max_size=2)
names = st.sampled_from(
    ["step", "loss", "start", "time", "valid_loss", "epoch", "tokens_per_s", "total_steps", "train_loss", "state", "id",
     "device", "best_loss", "perplexity", "seconds", "own"]
)  # fmt: skip
mappings = st.dictionaries(names, values, max_size=5)
lines = st.one_of(
    mappings.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"step": st.integers(0, 1 << 65), "loss": values}).map(lambda v: json.dumps(v).encode()),
    st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")),
    st.sampled_from(
        [
            b'{"loss": 1e400, "step": 1}',
            b"[" * 5000,
            b'{"step": 1, "loss": "\\ud800"}',
            b'{"step":1,"loss":' + b"9" * 5000 + b"}",
        ]
    ),
)


def view_of(run: Run, found: JobRecord, number: int = 1) -> None:
    """All that shows it."""
    outcome = read_outcome(run, found)
    history = LossHistory(run)
    losses = history.update(number)
    seen = ViewBuilder().view(known(found, outcomes={found.job.id: outcome}, losses={found.job.id: losses}))
    for width in (20, 80, 200):
        status_lines(seen, seen.jobs, width=width)
        curve_lines(history.steps, losses, width, 10, history.restarts)
    page = Detail(job_id=found.job.id, steps=history.steps, losses=losses, restarts=history.restarts, log=(), story=())
    for screen in (Screen(), Screen(mode=Mode.PAGE, cursor=found.job.id)):
        shown = msgspec_replace(seen, detail=page)
        draw(shown, screen, rows(shown, screen), Size(80, 24))
    msgspec.json.encode(seen.jobs)
    _tables(run, found)


def msgspec_replace(view: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(view, **changes)


def _tables(run: Run, found: JobRecord) -> None:
    row = result_row(found, read_result(run))
    result_lines([row], width=100)
    flat = [row.flat()]
    msgspec.json.encode(flat)
    _csv(flat).encode()
    compare_lines(compare([Compared(row=row, settings={}, made_of={})] * 2))
    series = read_series(run)
    for table in (flat, series):
        _table(table, columns_of(table), "polars").write_parquet(run.root / "x.parquet")


def fill(folder: Path, content: list[bytes], result: bytes) -> tuple[Run, JobRecord]:
    run = Run(folder)
    run.attempt(1).root.mkdir(parents=True, exist_ok=True)
    run.attempt(1).metrics.write_bytes(b"".join(line + b"\n" for line in content))
    run.result.write_bytes(result)
    return run, record(1, JobState.COMPLETED, attempts=(attempt(1, EndReason.SUCCESS),))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=6), st.one_of(mappings.map(lambda v: json.dumps(v).encode()), lines))
@example([b'{"step": 1, "loss": 1' + b"0" * 400 + b"}"] * 3, b'{"loss": 1' + b"0" * 400 + b"}")
@example([b'{"step": 1, "loss": 1e308}', b'{"step": 2, "loss": -1e308}', b'{"step": 3, "loss": 1e308}'], b"{}")
def test_every_view_is_drawn(tmp_path: Path, content: list[bytes], result: bytes) -> None:
    run, found = fill(tmp_path, content, result)
    view_of(run, found)
    view_of(run, record(1, JobState.FAILED, attempts=(attempt(1, EndReason.CRASHED),)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=6))
@example([b'{"step": 1, "loss": 1e308}', b'{"step": 2, "loss": -1e308}'])
def test_every_picture_is_drawn(tmp_path: Path, content: list[bytes]) -> None:
    run, _ = fill(tmp_path, content, b"{}")
    draw_plot([read_curve(run, "a")], tmp_path / "x.svg", smoothing=0.5)


figures = st.none() | st.integers() | st.floats() | st.sampled_from([HUGE, 2**63])


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: figures
            for name in Progress.__dataclass_fields__
            if name not in {"job_id", "attempt", "phase", "time"}
        },
    )
)
def test_live_figures_of_any_size_are_drawn(said: dict[str, Any]) -> None:
    running = record(1, JobState.RUNNING)
    progress = Progress(
        job_id=running.job.id,
        attempt=1,
        phase="a\x1b[2J",
        time=datetime(2026, 1, 2, tzinfo=UTC),
        **{**said, "step": said.get("step") or 0},
    )
    seen = ViewBuilder().view(known(running, progress={running.job.id: progress}))
    status_lines(seen, seen.jobs, width=80)
    draw(seen, Screen(), rows(seen, Screen()), Size(120, 30))


@pytest.mark.parametrize("line", [b'{"step": 1, "loss": [1]}', b"nothing", b'{"step": -1}', b'{"start": "x"}', b"[1]"])
def test_the_bad_line_is_named(tmp_path: Path, line: bytes) -> None:
    run, _ = fill(
        tmp_path, [b'{"start": -1}', b'{"step": 1, "loss": "NaN"}', line, b'{"step": 2, "loss": null}'], b"{}"
    )
    assert bad_lines(run.attempt(1).metrics) == [3]
