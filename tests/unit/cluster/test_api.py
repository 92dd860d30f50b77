"""The Python API: what a notebook does with a workspace, against a real controller on fake devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from terry.cluster import Workspace
from terry.cluster.api import Jobs
from terry.cluster.core.model import DeviceKind, JobState
from terry.cluster.errors import UserError
from tests.helpers.world import World, busy
from tests.unit.cluster.conftest import Terry

SWEEP: dict[str, Any] = {
    "name": "cells",
    "run": {"entrypoint": "json:dumps", "resources": {"cpus": 1}},
    "sweep": {"grid": {"training.seed": [1, 2]}},
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace of `world`; no Ray is ever started."""
    monkeypatch.chdir(tmp_path)
    started: list[Path] = []
    monkeypatch.setattr("terry.cluster.lifecycle.up.ensure_up", lambda paths, **_: started.append(paths.root) or True)
    yield Workspace.open(tmp_path / "runs")
    assert set(started) <= {tmp_path / "runs"}


def test_the_workspace_is_found_as_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TERRY_WORKSPACE, the folder with a terry.yaml, ./terry-runs; opening makes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERRY_WORKSPACE", raising=False)
    assert Workspace.open().root == tmp_path / "terry-runs"
    (tmp_path / "terry.yaml").touch()
    assert Workspace.open().root == tmp_path
    monkeypatch.setenv("TERRY_WORKSPACE", "elsewhere")
    assert Workspace.open().root == tmp_path / "elsewhere"
    assert [path.name for path in tmp_path.iterdir()] == ["terry.yaml"]


def test_a_dict_is_a_sweep_like_the_same_file(lab: Workspace, tmp_path: Path, terry: Terry) -> None:
    """The same jobs, so that the second submission adds nothing; the file is kept as it would have been."""
    dry = lab.submit(SWEEP, dry_run=True)
    assert (dry.new, dry.submission, dry.ids) == (2, None, ["cells-0001", "cells-0002"])
    assert not lab.root.exists()
    first = lab.submit(SWEEP)
    assert (first.name, first.new, first.submission) == ("cells", 2, 1)
    assert first.device is DeviceKind.CPU
    kept = lab.paths.submission("cells", 1) / "sweep.yaml"
    (tmp_path / "again.yaml").write_bytes(kept.read_bytes())
    again = lab.submit("again.yaml")
    assert (again.new, again.ids) == (0, first.ids)
    assert terry("submit", "again.yaml", "--json").json["there_already"] == 2


def test_values_of_python_are_understood(lab: Workspace) -> None:
    """NumPy's numbers, tuples, ranges and paths; settings hold for every run; the caller's dict stays as it was."""
    sweep = {
        **SWEEP,
        "run": {**SWEEP["run"], "optimizer": {"lr": np.float32(0.5)}, "parameters": {"folder": Path("a/b")}},
        "sweep": {"grid": {"training.seed": range(1, 3), "model.hidden_size": (np.int64(8), 16)}},
    }
    before = repr(sweep)
    done = lab.submit(sweep, {"training.epochs": np.int64(7), "optimizer.lr": 1e-05, "model.cell": "lstm"})
    assert done.new == 4
    assert repr(sweep) == before
    jobs = (lab.paths.submission("cells", 1) / "jobs.jsonl").read_text().splitlines()
    config = json.loads(jobs[0])["config"]
    assert (config["training"]["epochs"], config["optimizer"]["lr"], config["model"]["cell"]) == (7, 1e-05, "lstm")
    assert config["parameters"] == {"folder": "a/b"}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({**SWEEP, "run": {"modle": {}}}, "the sweep: run.modle: unknown key; did you mean 'model'?"),
        ({**SWEEP, "run": {"model": object()}}, "the sweep: run.model: object is not for a sweep"),
        ({**SWEEP, "run": {1: 2}}, "the sweep: run: a key must be text, not 1"),
        ({**SWEEP, "sweep": {"grid": {}}}, "the sweep: sweep.grid: an empty grid varies nothing"),
        ({"run": {}}, "the sweep: a sweep needs a name"),
        ("nowhere.yaml", "nowhere.yaml: there is no such file"),
    ],
)
def test_mistakes_are_told_like_on_the_command_line(lab: Workspace, sweep: Any, message: str) -> None:
    """A ValueError that names what is wrong; nothing is written."""
    with pytest.raises(UserError) as error:
        lab.submit(sweep)
    assert message in str(error.value)
    assert not lab.root.exists()


def test_a_dict_that_contains_itself(lab: Workspace) -> None:
    """Is refused, not followed for ever."""
    endless: dict[str, Any] = {"name": "cells"}
    endless["run"] = {"parameters": endless}
    with pytest.raises(UserError, match="contains itself"):
        lab.submit(endless)


def test_relative_paths_of_a_dict_start_in_the_current_folder(lab: Workspace, tmp_path: Path) -> None:
    """Data and code of one's own."""
    (tmp_path / "words.txt").write_text("one two three\n" * 50)
    (tmp_path / "mine.py").write_text("def main(ctx): ...\n")
    lab.submit({"name": "a", "datasets": {"words": {"source": "words.txt"}}, "run": {}})
    lab.submit({"name": "b", "run": {"entrypoint": "mine:main"}})
    line = json.loads((lab.paths.submission("b", 1) / "jobs.jsonl").read_text())
    assert line["folder"] == str(tmp_path)
    assert (lab.root / line["source"] / "mine.py").is_file()


def test_jobs_are_what_status_prints(lab: Workspace, world: World, terry: Terry) -> None:
    """The same values; and the same table where they are displayed."""
    busy(world)
    jobs = lab.jobs("cells")
    assert [job.id for job in jobs] == [job["id"] for job in terry("status", "cells", "--json").json]
    assert [job.id for job in lab.jobs("state:failed")] == ["cells-0003"]
    assert jobs[0].state is JobState.COMPLETED
    shown = repr(lab.jobs("cells-0001", "cells-0002"))
    assert shown.splitlines()[0].split()[:2] == ["JOB", "STATE"]
    assert "1 restart" in shown
    assert repr(Jobs()) == "no jobs"
    assert "SIGSEGV in backward" in lab.explain("cells-0002")
    with pytest.raises(UserError, match="did you mean 'cells'"):
        lab.jobs("cels")


def test_results_as_any_kind_of_table(lab: Workspace, world: World) -> None:
    """The columns of `results --format csv`, the best run first."""
    world.submit("cells", 3)
    world.turn(times=3)
    world.finish("cells-0001", loss=3.0)
    world.finish("cells-0002", loss=2.0)
    frame = lab.results("cells")
    assert isinstance(frame, pl.DataFrame)
    assert frame["id"].to_list() == ["cells-0002", "cells-0001"]
    assert frame["loss"].dtype == pl.Float64
    panda = lab.results("cells", frame="pandas")
    assert isinstance(panda, pd.DataFrame)
    assert list(panda.columns) == frame.columns
    assert panda["loss"].tolist() == [2.0, 3.0]
    assert lab.results("cells", frame="rows")[0]["loss"] == 2.0
    with pytest.raises(UserError, match="must be 'polars', 'pandas' or 'rows'"):
        lab.results("cells", frame="excel")  # type: ignore[call-overload]


def test_no_pandas_is_said(lab: Workspace, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do instead."""
    world.submit("cells", 1)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        lab.results("cells", frame="pandas")


def test_metrics_of_several_attempts_are_one_series(lab: Workspace, world: World) -> None:
    """What a crashed attempt measured after its checkpoint is gone; of a run that has not begun there is nothing."""
    world.submit("cells", 3)
    world.turn(times=3)
    world.measure("cells-0001", 10, 90, start=-1)
    world.crash("cells-0001", step=90, checkpoint=50)
    world.turn(times=3)
    world.measure("cells-0001", 60, 70, start=50)
    frame = lab.metrics("cells")
    assert frame["id"].unique().to_list() == ["cells-0001"]
    assert frame["seed"].unique().to_list() == [1]
    assert frame["step"].to_list() == [10, 20, 30, 40, 50, 60, 70]
    assert lab.metrics("cells-0003", frame="rows") == []


def test_wait_until_all_have_ended(lab: Workspace, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tells what happens between two looks, and returns the jobs."""
    world.submit("cells", 2)
    world.turn(times=3)
    meanwhile = iter(
        [lambda: world.finish("cells-0001"), lambda: world.crash("cells-0002"), lambda: world.turn(times=4)]
    )
    last = iter([lambda: world.finish("cells-0002")])

    def news(*_: object) -> bool:
        (next(meanwhile, None) or next(last))()
        return True

    monkeypatch.setattr("terry.cluster.client.following.until_news", news)
    said: list[str] = []
    jobs = lab.wait("cells", notify=said.append)
    assert [job.state for job in jobs] == [JobState.COMPLETED, JobState.COMPLETED]
    assert [line.split()[1] for line in said][:2] == ["cells-0001", "cells-0002"]
    assert lab.wait("cells", timeout_s=0) == jobs


def test_wait_gives_up(lab: Workspace, world: World) -> None:
    """With Python's own error; the jobs go on."""
    world.submit("cells", 2)
    world.turn(times=3)
    world.finish("cells-0001")
    with pytest.raises(TimeoutError, match="1 of 2 jobs have not ended"):
        lab.wait("cells", timeout_s=0.01)


def test_cancel_and_resubmit(lab: Workspace, world: World) -> None:
    """Asked of the controller, for those jobs that it fits."""
    busy(world)
    assert lab.resubmit("cells") == ["cells-0003"]
    cancelled = lab.cancel("cells-0008", "cells-0001")
    assert cancelled == ["cells-0008"]
    world.turn(times=3)
    states = {job.id: job.state for job in lab.jobs()}
    assert states["cells-0008"] is JobState.CANCELLED
    assert states["cells-0003"] is not JobState.FAILED
    with pytest.raises(UserError, match="name the jobs"):
        lab.cancel()


# the second month


def test_what_is_asked_of_jobs_that_are_there(lab: Workspace, world: World) -> None:
    """The twins of the verbs, with the same answers."""
    busy(world)
    assert lab.change("cells-0004", settings={"priority": 9}) == ["cells-0004"]
    assert lab.pause("cells-0005") == ["cells-0005"]
    assert lab.note("cells-0001", text="the one") == lab.tag("cells-0001", add=["paper"]) == ["cells-0001"]
    assert lab.star("cells-0001") == ["cells-0001"]
    assert lab.archive("cells-0003") == ["cells-0003"]
    world.turn()
    assert world.record("cells-0004").priority == 9
    assert world.record("cells-0005").state is JobState.HELD
    assert lab.resume("cells-0005") == ["cells-0005"]
    (job,) = lab.jobs("tag:paper")
    assert (job.id, job.note, job.starred) == ("cells-0001", "the one", True)
    assert "cells-0003" not in lab.jobs().ids
    assert lab.archive("cells-0003", archived=False) == ["cells-0003"]
    assert lab.clean(older_than_s=0)["bytes"] == 0
    assert lab.du("cells-0001", frame="rows")[0]["files"] > 0
    assert lab.rm("cells-0003") == ["cells-0003"]
    world.turn()
    assert lab.jobs("is:removed").ids == ["cells-0003"]
    with pytest.raises(UserError, match="name the jobs"):
        lab.rm()
    assert lab.extend("cells-0001", settings={"training.epochs": 30}) == []
    assert lab.resubmit("cells-0001", "cells-0003", from_scratch=True) == ["cells-0001", "cells-0003"]


def test_runs_side_by_side_and_drawn(lab: Workspace, world: World, tmp_path: Path) -> None:
    """`compare` and `plot`; a measured rate is never in one column with the setting of that name."""
    busy(world)
    world.measure("cells-0002", 10, 100)
    found = lab.compare("cells-0001", "cells-0002")
    assert found["runs"] == ("cells-0001", "cells-0002") or found["runs"] == ["cells-0001", "cells-0002"]
    assert lab.plot("cells-0001", "cells-0002", file=tmp_path / "curves.svg").is_file()
    with pytest.raises(UserError, match="must end with"):
        lab.plot("cells", file=tmp_path / "curves.txt")
