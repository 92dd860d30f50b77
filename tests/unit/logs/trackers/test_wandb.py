"""Runs in a folder of offline runs, written by the real library and read from its file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from terry.cluster.errors import UserError
from terry.logs.trackers.content import Exported, TrackedRun, export
from tests.unit.logs.trackers.runs import a_run
from tests.unit.logs.trackers.wandb_file import read

pytest.importorskip("wandb")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]


def exported(folder: Path, *runs: TrackedRun) -> Exported:
    from terry.logs.trackers.wandb import Wandb

    done, tracker = Exported(), Wandb(str(folder))
    for run in runs:
        export(run, tracker, done)
    tracker.close()
    return done


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


def test_runs_are_there_once_with_one_curve_and_the_figures_of_results(tmp_path: Path) -> None:
    curve = (*a_run().curve, {"step": 110, "loss": math.inf})
    runs = [a_run(1), replace(a_run(2, curve), state="failed", figures={"best_loss": 4.5, "loss": math.inf})]
    assert exported(tmp_path, *runs).new == ["cells-0001", "cells-0002"]
    assert exported(tmp_path, *runs).unchanged == ["cells-0001", "cells-0002"]
    one, other = sorted((read(path) for path in files(tmp_path)), key=lambda found: found["name"])
    assert [(row["_step"], row["loss"]) for row in one["history"]] == [(r["step"], r["loss"]) for r in a_run().curve]
    assert one["config"]["model.cell"] == "gru"
    assert (one["project"], one["exit"], other["exit"]) == ("cells", 0, 1)
    assert {key: one["summary"][key] for key in runs[0].figures} == runs[0].figures
    assert other["summary"]["loss"] == math.inf
    assert other["summary"]["not_finite/loss"] == "Infinity at step 110, 1 in all"
    assert exported(tmp_path, replace(runs[0], state="cancelled")).changed == ["cells-0001"]
    assert len(files(tmp_path)) == 2


def test_what_a_killed_export_has_left_is_written_anew(tmp_path: Path) -> None:
    exported(tmp_path, a_run())
    (tmp_path / "terry-export.json").unlink()  # it was killed before it had written this
    assert exported(tmp_path, a_run()).new == ["cells-0001"]
    assert len(files(tmp_path)) == 1


def test_mistakes_are_named(tmp_path: Path) -> None:
    from terry.logs.trackers.wandb import Wandb

    with pytest.raises(UserError, match="takes a folder, not https://"):
        Wandb("https://api.wandb.ai")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        Wandb(str(tmp_path / "file" / "x"))
    (tmp_path / "terry-export.json").write_text("[]")
    with pytest.raises(UserError, match="written anew"):
        Wandb(str(tmp_path))
