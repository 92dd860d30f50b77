"""Runs in a real MLflow store (sqlite), as MLflow's own client reads them."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from terry.cluster.errors import UserError
from terry.logs.trackers.content import Exported, TrackedRun, export
from tests.unit.logs.trackers.runs import a_run

pytest.importorskip("mlflow")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store: its tables take seconds to make."""
    from terry.logs.trackers.mlflow import Mlflow

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    Mlflow(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    shutil.copy(empty, tmp_path / "m.db")
    return f"sqlite:///{tmp_path / 'm.db'}"


def exported(uri: str, *runs: TrackedRun) -> Exported:
    from terry.logs.trackers.mlflow import Mlflow

    done, store = Exported(), Mlflow(uri)
    for run in runs:
        export(run, store, done)
    store.close()
    return done


def runs_in(uri: str, order: str = "") -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name("cells")
    return list(client.search_runs([found.experiment_id], order_by=[order] if order else None)) if found else []


def test_settings_curve_figures_and_times_are_there_once(uri: str) -> None:
    from mlflow import MlflowClient

    runs = [a_run(1), a_run(2)]
    assert exported(uri, *runs).new == ["cells-0001", "cells-0002"]
    assert exported(uri, *runs).unchanged == ["cells-0001", "cells-0002"]
    best, _ = runs_in(uri, "metrics.`final/best_loss` ASC")
    assert (best.info.run_name, best.info.status) == ("cells-0001", "FINISHED")
    assert (best.info.start_time, best.info.end_time) == (1_000_000, 1_200_000)
    assert best.data.params["optimizer.lr"] == "0.1"
    assert len(best.data.params["data.note"]) == 6000
    assert best.data.tags["cut.data.note"] == "7,000 characters"
    assert best.data.tags["final.reason"] == "completed"
    assert best.data.metrics["final/best_loss"] == 4.01
    history = MlflowClient(uri).get_metric_history(best.info.run_id, "loss")
    assert [(m.step, m.value, m.timestamp) for m in history] == [
        (row["step"], row["loss"], round(row["time"] * 1000)) for row in runs[0].curve
    ]


def test_a_run_that_has_changed_stands_there_once(uri: str) -> None:
    exported(uri, a_run())
    changed = replace(a_run(), state="failed", curve=a_run().curve[:3])
    assert exported(uri, changed).changed == ["cells-0001"]
    (found,) = runs_in(uri)
    assert (found.info.status, found.data.metrics["loss"]) == ("FAILED", 4.7)


def test_what_a_killed_export_has_left_is_written_anew(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from terry.logs.trackers.mlflow import Mlflow

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Mlflow, "_log", dies)
        with pytest.raises(KeyboardInterrupt):
            exported(uri, a_run())
    assert len(runs_in(uri)) == 1, "a part of it is there"
    exported(uri, a_run())
    (found,) = runs_in(uri)
    assert found.data.metrics["final/best_loss"] == 4.01


def test_infinities_are_told_and_win_no_sort(uri: str) -> None:
    curve = ({"step": 1, "loss": 2.0}, {"step": 2, "loss": math.inf}, {"step": 3, "loss": math.nan})
    bad = replace(a_run(2, curve), figures={"best_loss": -math.inf})
    exported(uri, a_run(1), bad)
    first, second = runs_in(uri, "metrics.`final/best_loss` DESC")
    assert (first.info.run_name, second.info.run_name) == ("cells-0001", "cells-0002")
    assert "final/best_loss" not in second.data.metrics
    assert second.data.tags["not_finite.final/best_loss"] == "-Infinity"
    assert second.data.tags["not_finite.loss"] == "Infinity at step 2, 2 in all"
    assert math.isnan(second.data.metrics["loss"]), "MLflow keeps NaN as it is"


def test_mistakes_are_named(uri: str) -> None:
    from mlflow import MlflowClient

    exported(uri, a_run())
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("cells")
    assert found is not None
    client.delete_experiment(found.experiment_id)
    with pytest.raises(UserError, match="was deleted: restore it"):
        exported(uri, a_run())
    with pytest.raises(UserError, match="MLflow cannot open nonsense://x"):
        exported("nonsense://x", a_run())
