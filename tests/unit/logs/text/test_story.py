"""The words of `explain`, `status` and `results`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from terry.cluster.agent import evidence
from terry.cluster.agent.evidence import judge
from terry.cluster.core.model import AttemptEnd, EndReason, JobState
from terry.cluster.files.paths import Run
from terry.logs import plots
from terry.logs.plots import draw, draw_loss_curve
from terry.logs.records.curves import Curve, read_curve, smooth
from terry.logs.records.results import best_first, read_outcome, result_lines, result_row, typed
from terry.logs.text.curve import curve_lines
from terry.logs.text.story import AttemptEvidence, Story, advice, crashed_thread, story_lines
from terry.logs.view.timeline import end_in_words
from tests.helpers.job_records import NOW, attempt, record

STACK = """\
Fatal Python error: Bus error

Thread 0x1 (most recent call first):
  File "wait.py", line 1 in wait

Current thread 0x2 (most recent call first):
  File "cells.py", line 7 in forward
"""


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_end_has_words(reason: EndReason) -> None:
    """No reason is shown as a bare identifier."""
    assert end_in_words(reason)
    assert "{" not in advice("cells-0001", AttemptEnd(reason=reason))


def test_a_program_that_left_by_itself_is_not_said_to_have_raised_an_exception() -> None:
    """There is no traceback to look at."""
    end = judge(evidence.Evidence(status=9 << 8))
    left = record(1, JobState.FAILED, attempts=(attempt(1, end.reason, message=end.message),))
    told = "\n".join(story_lines(Story(record=left, now=NOW, run_dir="/r", evidence={})))
    assert "\n  it left with exit code 9, without an exception" in told
    assert "advice: Something in the program ended the process" in told


def test_only_the_thread_that_crashed_is_shown() -> None:
    """With the fault's name."""
    assert crashed_thread(STACK).splitlines() == [
        "Fatal Python error: Bus error",
        "Current thread 0x2 (most recent call first):",
        '  File "cells.py", line 7 in forward',
    ]
    assert crashed_thread("no report of faulthandler") == "no report of faulthandler"


def test_an_end_that_only_the_folder_knows_is_told() -> None:
    """The controller died before it heard: exit.json has it."""
    running = record(1, JobState.RUNNING)
    end = AttemptEnd(reason=EndReason.KILLED, signal=9, step=7)
    story = Story(
        record=running, now=NOW, run_dir="/r", evidence={1: AttemptEvidence(folder="/r/1", end=end, stderr="bye")}
    )
    told = "\n".join(story_lines(story))
    assert "was killed (SIGKILL), at step 7" in told
    assert "bye" in told


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.COMPLETED])
def test_what_the_guards_said_is_told_however_the_attempt_ended(state: JobState) -> None:
    ended = attempt(1, EndReason.SUCCESS if state is JobState.COMPLETED else None)
    found = AttemptEvidence(folder="/r/1", warnings=("step 2: the loss is inf; back to step 0",))
    told = story_lines(Story(record=record(1, state, attempts=(ended,)), now=NOW, run_dir="/r", evidence={1: found}))
    assert "  warning: step 2: the loss is inf; back to step 0" in told


def test_long_evidence_is_cut_and_says_where_the_rest_is() -> None:
    """The first lines of a stack, the last ones of a traceback."""
    crashed = record(1, JobState.FAILED, attempts=(attempt(1, EndReason.CRASHED),))
    found = AttemptEvidence(
        folder="/r/1", stack="\n".join(f"frame {i}" for i in range(40)), traceback="\n".join(f"t{i}" for i in range(40))
    )
    told = story_lines(Story(record=crashed, now=NOW, run_dir="/r", evidence={1: found}))
    assert "    frame 0" in told
    assert "    frame 39" not in told
    assert "    t39" in told
    assert "    t0" not in told
    assert sum("more line" in line for line in told) == 2
    assert "  all of it: /r/1" in told


# results


def write_metrics(run: Run, number: int, lines: list[dict[str, object]]) -> None:
    folder = run.attempt(number)
    folder.root.mkdir(parents=True, exist_ok=True)
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_figures_of_a_job_that_does_not_run(tmp_path: Path) -> None:
    """From its result; while it is paused from what it measured last, even if the file's end is torn."""
    run = Run(tmp_path)
    paused = record(1, JobState.HELD, attempts=(attempt(1, EndReason.PAUSED),))
    write_metrics(run, 1, [{"start": -1}, {"step": 5, "loss": 4.0, "epoch": 0.5}, {"step": 6, "valid_loss": 3.5}])
    with run.attempt(1).metrics.open("a") as stream:
        stream.write('{"step": 7, "lo')
    found = read_outcome(run, paused)
    assert (found.step, found.loss, found.valid_loss, found.epoch) == (6, 4.0, 3.5, 0.5)
    run.result.write_text(json.dumps({"step": 10, "train_loss": 2.0, "valid_loss": 2.1}))
    done = msgspec.structs.replace(paused, state=JobState.COMPLETED)
    found = read_outcome(run, done)
    assert (found.step, found.total_steps, found.loss) == (10, 10, 2.0)
    run.result.write_text("{torn")
    assert read_outcome(run, done).step == 6


def test_the_best_run_stands_first_and_a_broken_one_last() -> None:
    """By validation loss, else training loss; NaN is no loss."""
    done = [record(i, JobState.COMPLETED, attempts=(attempt(1, EndReason.SUCCESS),)) for i in range(1, 5)]
    figures: list[dict[str, object]] = [{"valid_loss": math.nan}, {"valid_loss": 2.5, "loss": 1.0}, {"loss": 2.0}, {}]
    rows = [result_row(r, dict(f)) for r, f in zip(done, figures, strict=True)]
    assert [row.id for row in best_first(rows)] == ["cells-0003", "cells-0002", "cells-0001", "cells-0004"]
    assert rows[1].figures["perplexity"] == pytest.approx(math.exp(2.5))
    lines = result_lines(rows)
    assert lines[0].split() == ["ID", "CELL", "LOSS", "VALID_LOSS", "PERPLEXITY", "SECONDS", "DEVICE", "RESTARTS"]
    assert result_lines([]) == []


def test_a_run_counts_by_its_best_weights_not_by_its_last() -> None:
    """They are what its perplexity is of, and what is sampled from; later it learnt the training text by heart."""
    done = [record(i, JobState.COMPLETED) for i in (1, 2)]
    figures: list[dict[str, object]] = [{"valid_loss": 4.6, "best_loss": 4.6}, {"valid_loss": 4.7, "best_loss": 4.0}]
    rows = [result_row(r, dict(f)) for r, f in zip(done, figures, strict=True)]
    assert [row.id for row in best_first(rows)] == ["cells-0002", "cells-0001"]


def test_the_figures_of_a_row_are_of_one_moment() -> None:
    """The perplexity is of the best validation: the last one's loss beside it would be taken for its logarithm."""
    found = {"train_loss": 3.0, "valid_loss": 4.7, "best_loss": 4.0, "perplexity": math.exp(4.0)}
    lines = result_lines([result_row(record(1, JobState.COMPLETED), dict(found))])
    assert lines[0].split()[2:4] == ["BEST_LOSS", "PERPLEXITY"]
    assert "LOSS" not in lines[0].split()
    assert "VALID_LOSS" not in lines[0].split()
    assert lines[1].split()[2:4] == ["4.0000", "54.5982"]


def test_figures_of_people_s_own_trainings_stand_in_the_table_and_no_perplexity_is_made_of_their_loss() -> None:
    """Whether it is in nats a token nobody knows."""
    done = record(1, JobState.COMPLETED)
    own = msgspec.structs.replace(done, job=replace(done.job, entrypoint="lab:train"))
    row = result_row(own, {"loss": 0.25, "accuracy": 0.875, "dataset": "mnist"})
    lines = result_lines([row])
    assert lines[0].split()[2:5] == ["LOSS", "SECONDS", "ACCURACY"]
    assert "0.8750" in lines[1]
    assert "perplexity" not in row.figures


def test_a_narrow_terminal_shows_the_figures_of_runs_with_long_names() -> None:
    done = [record(n, JobState.COMPLETED) for n in (1, 2)]
    rows = [result_row(r, {"best_loss": 4.0, "perplexity": 54.6, "step": 120_000}) for r in done]
    lines = result_lines([replace(row, id="x" * 50 + row.id, device="a-node-of-the-lab:0") for row in rows], width=60)
    assert {"BEST_LOSS", "PERPLEXITY"} <= set(lines[0].split())
    assert "54.6000" in lines[1]
    assert all(len(line) <= 60 for line in lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.004", 0.004), ("1e-05", 1e-5), ("2", 2), ("true", True), ("null", None), ("gru", "gru"), ("[1,2]", "[1,2]")],
)
def test_settings_are_numbers_again_in_tables(text: str, value: object) -> None:
    found = typed(text)
    assert (type(found), found) == (type(value), value)


def test_a_run_that_was_stopped_early_is_told_from_one_that_came_to_its_end() -> None:
    reasons = (EndReason.SUCCESS, EndReason.STOPPED_EARLY)
    done = [record(i, JobState.COMPLETED, attempts=(attempt(1, reason),)) for i, reason in enumerate(reasons, 1)]
    rows = [result_row(r, {"valid_loss": 2.0}) for r in done]
    lines = result_lines(rows)
    assert lines[0].split()[:2] == ["ID", "STATE"]
    assert ["completed" in lines[1], "stopped early" in lines[2]] == [True, True]
    assert [row.flat()["end_reason"] for row in rows] == ["success", "stopped_early"]


def test_a_setting_called_like_a_figure_is_told_apart() -> None:
    """In the flat rows of CSV and JSON."""
    plain = record(1, JobState.COMPLETED)
    job = msgspec.convert({**msgspec.to_builtins(plain.job), "labels": {"loss": "mse", "cell": "gru"}}, type(plain.job))
    row = result_row(msgspec.structs.replace(plain, job=job), {"loss": 2.0}).flat()
    assert row["loss"] == 2.0
    assert row["setting.loss"] == "mse"
    assert row["cell"] == "gru"


# curves


def test_smoothing_has_no_bias_and_ignores_nan() -> None:
    """A constant stays what it is from its first point on."""
    assert smooth([3.0] * 5, 0.9) == pytest.approx([3.0] * 5)
    assert smooth([1.0, 2.0], 0.0) == [1.0, 2.0]
    smoothed = smooth([1.0, math.nan, 1.0], 0.5)
    assert smoothed[0] == smoothed[2] == 1.0
    assert math.isnan(smoothed[1])
    with pytest.raises(ValueError, match="smoothing"):
        smooth([1.0], 1.0)


def test_a_curve_falls_from_the_upper_left_to_the_lower_right() -> None:
    """With its range at the side; nothing wider than asked."""
    lines = curve_lines(range(100), [5.0 - step / 50 for step in range(100)], 60, 10)
    assert len(lines) == 10
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].startswith("5.0000 ")
    assert lines[0].rstrip()[-1] != " "
    assert lines[8].startswith("3.0200 ")
    assert len(lines[0].rstrip()) < len(lines[8].rstrip())
    assert "no losses yet" in curve_lines([], [], 60, 5)[0]
    assert "no losses yet" in curve_lines([1], [math.nan], 60, 5)[0]


def test_a_picture_of_a_run_over_its_restarts(tmp_path: Path) -> None:
    """Written whole; restarts are known; a run without losses has no picture."""
    run = Run(tmp_path)
    assert draw_loss_curve(run) is None
    write_metrics(run, 1, [{"start": -1}, *({"step": s, "loss": 5.0 - s / 100} for s in range(100))])
    write_metrics(run, 2, [{"start": 50}, {"step": 51, "loss": 4.0}, {"step": 52, "loss": None, "valid_loss": 3.9}])
    curve = read_curve(run, "cells-0001")
    assert curve.steps[-3:] == (50, 51, 52)
    assert math.isnan(curve.losses[-1])
    assert curve.restarts == (50,)
    assert curve.valid_losses == (3.9,)
    assert draw_loss_curve(run) == run.loss_curve
    assert run.loss_curve.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OSError, match="nowhere"):
        draw([curve], tmp_path / "nowhere" / "x.png")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_prepared_figure_makes_the_same_picture_and_no_later_one(tmp_path: Path) -> None:
    curve = Curve(name="cells-0001", steps=(1, 2, 3), losses=(3.0, 2.0, 1.5))
    draw([curve], tmp_path / "plain.png", title="cells-0001")
    plots.prepare()
    draw([curve], tmp_path / "prepared.png", title="cells-0001")
    draw([curve], tmp_path / "after.png", title="cells-0001")
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in ("plain", "prepared", "after")]
    assert pictures[0] == pictures[1] == pictures[2]


def test_a_single_loss_is_no_curve(tmp_path: Path) -> None:
    run = Run(tmp_path)
    write_metrics(run, 1, [{"start": -1}, {"step": 1, "loss": 5.0}])
    assert draw_loss_curve(run) is None


def test_what_matplotlib_cannot_do_is_said_by_who_draws_not_by_who_prepares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib as mpl

    monkeypatch.setenv("PATH", str(tmp_path))  # no LaTeX there
    with mpl.rc_context({"text.usetex": True}):
        plots.prepare()
        with pytest.raises(RuntimeError, match="latex"):
            draw([Curve(name="x", steps=(1, 2), losses=(2.0, 1.0))], tmp_path / "x.png")
