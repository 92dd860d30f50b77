"""`results`, `plot`, and the verbs about workspaces: `submit`, `init`, `doctor`, `nodes`."""

from __future__ import annotations

import csv
import io
import stat
from pathlib import Path

import polars as pl
import pytest

from terry.cluster.core.model import AttemptEnd, EndReason
from terry.cluster.files import durable
from tests.helpers.world import World, busy, device
from tests.unit.cluster.conftest import Terry

# results and plots


def test_results(terry: Terry, world: World, tmp_path: Path) -> None:
    """The best first; the same rows as table, CSV, JSON and Parquet."""
    world.submit("cells", 3)
    world.turn(times=3)
    world.finish("cells-0001", loss=3.0)
    world.finish("cells-0002", loss=2.0)
    world.turn(times=2)
    world.crash("cells-0003")
    world.turn(times=4)
    world.finish("cells-0003", loss=2.5)
    table = terry("results", "--each").out.splitlines()
    assert table[0].split()[:3] == ["ID", "SEED", "LOSS"]
    assert [line.split()[0] for line in table[1:]] == ["cells-0002", "cells-0003", "cells-0001"]
    assert [row["id"] for row in csv.DictReader(io.StringIO(terry("results", "--format", "csv").out))] == [
        "cells-0002",
        "cells-0003",
        "cells-0001",
    ]
    document = terry("results", "cells", "--json").json
    assert document[0]["loss"] == 2.0
    assert document[1]["restarts"] == 1
    assert "perplexity" not in document[0], "of people's own losses nobody knows whether they are nats a token"
    terry("results", "--format", "parquet", "-o", "r.parquet")
    frame = pl.read_parquet(tmp_path / "r.parquet")
    assert frame["id"].to_list() == ["cells-0002", "cells-0003", "cells-0001"]
    assert frame["loss"].to_list() == [2.0, 2.5, 3.0]
    assert frame["seed"].dtype.is_numeric()
    assert terry("results", "-o", "r.csv").err == "wrote r.csv\n"  # by its ending
    assert (tmp_path / "r.csv").read_text().startswith("id,sweep,state,")
    assert "must end with .csv, .json, .parquet or .txt" in terry("results", "-o", "r.xlsx").err


def test_runs_that_differ_in_their_seed_are_one_row_with_an_interval(terry: Terry, world: World) -> None:
    """In the table for people; a file has all runs unless it is asked otherwise."""
    world.submit("cells", 3)
    world.turn(times=3)
    for number, loss in enumerate((3.0, 2.0, 2.5), 1):
        world.finish(f"cells-000{number}", loss=loss)
        world.turn(times=2)
    table = terry("results").out.splitlines()
    assert table[0].split()[:3] == ["PLACE", "SWEEP", "N"]
    assert table[1].split() == ["1", "cells", "3", "2.6000", "1.3579", "to", "3.8421", "0.5000", "2.1000", "3.1000"]
    (row,) = terry("results", "--seeds", "--json").json
    assert (row["n"], round(row["mean"], 9), row["figure"]) == (3, 2.6, "valid_loss")
    (highest,) = terry("results", "--by", "loss", "--highest", "--json").json
    assert highest["best"] == 3.0
    assert "too narrow" in terry("results", "--bootstrap", "7").out
    assert "they do nothing with --each" in terry("results", "--each", "--highest").err
    assert "no run has a figure 'los'; they have: loss" in terry("results", "--by", "los").err


def test_compare_says_how_surely_configurations_differ(terry: Terry, world: World) -> None:
    """Seeds of one sweep beside those of another; a single configuration shows its runs, as ever."""
    for sweep, losses in (("cells", (3.0, 2.9, 3.1)), ("other", (2.0, 2.1, 1.9))):
        world.submit(sweep, 3)
        world.turn(times=3)
        for number, loss in enumerate(losses, 1):
            world.finish(f"{sweep}-000{number}", loss=loss)
            world.turn(times=2)
    text = terry("compare", "cells", "other").out
    assert text.startswith("first: cells")
    assert "-1" in text
    assert "lower" in text
    assert "Compared seed by seed" in text
    assert terry("compare", "cells", "other", "--json").json["differences"][0]["verdict"] == "lower"
    assert "cells-0001" in terry("compare", "cells", "other", "--each").out
    assert "cells-0001" in terry("compare", "cells").out
    assert "none of these has two or more" in terry("compare", "cells-0001", "other-0001", "--by", "loss").err


def test_plot_in_the_terminal_and_as_pictures(terry: Terry, world: World, tmp_path: Path) -> None:
    """PNG and SVG by the file's ending; a setting gives colours."""
    busy(world)
    drawn = terry("plot", "cells-0001").out
    assert "cells-0001: loss" in drawn
    assert any(0x2800 <= ord(character) <= 0x28FF for character in drawn)
    assert terry("plot", "cells-0001", "-o", "a.png").code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert terry("plot", "cells", "--by", "seed", "--smooth", "0.9", "-o", "a.svg").code == 0
    assert "<svg" in (tmp_path / "a.svg").read_text()
    assert terry("plot", "cells", "-o", "a.pdf").code == 0
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert "must end with .png, .svg or .pdf" in terry("plot", "cells", "-o", "a.gif").err
    assert terry("plot", "cells", "--by", "training.seed", "-o", "b.svg").code == 0  # as a sweep file has it
    assert "they differ in: seed" in terry("plot", "cells", "--by", "colour", "-o", "a.png").err
    assert "has measured a loss" in terry("plot", "cells-0008").err


def test_seeds_are_drawn_as_a_band(terry: Terry, world: World, tmp_path: Path) -> None:
    world.submit("cells", 3)
    world.turn(times=3)
    world.measure("cells-0001", 10, 400, start=-1)
    world.measure("cells-0002", 10, 400, start=-1)
    together = terry("plot", "cells").out
    assert together.startswith("loss: mean of n seeds, shaded its 95% interval\ncells (n = 2)\n")
    assert together.count("step ") == 1
    assert terry("plot", "cells", "--each").out.count("step ") == 2
    for ending in ("png", "svg", "pdf"):
        assert terry("plot", "cells", "-o", f"a.{ending}").code == 0
    picture = (tmp_path / "a.svg").read_text()
    assert "mean, 95% interval" in picture
    assert "cells (n = 2)" in picture
    terry("plot", "cells", "--each", "-o", "b.svg")
    assert "95% interval" not in (tmp_path / "b.svg").read_text()


# workspaces


def test_a_new_workspace_is_private(terry: Terry, world: World, tmp_path: Path) -> None:
    """0700 all over."""
    del world
    said = terry("-w", "mine", "init", "--json")
    assert said.json == {"workspace": str(tmp_path / "mine"), "made": True, "group": None}
    for path in (tmp_path / "mine", *(tmp_path / "mine").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert terry("-w", "mine", "init", "--json").json["made"] is False


def test_a_workspace_for_a_group(terry: Terry, tmp_path: Path) -> None:
    """Its members may write, files stay the group's; others see nothing."""
    import grp
    import os

    group = grp.getgrgid(os.getgid()).gr_name
    assert terry("-w", "ours", "init", "--group", group).code == 0
    for path in (tmp_path / "ours", *(tmp_path / "ours").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o2770
    assert "there is no group 'no-such-group'" in terry("-w", "x", "init", "--group", "no-such-group").err


def test_submit_says_what_it_decided(terry: Terry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New jobs, device, workspace; again: nothing new. A dry run leaves nothing on disk."""
    monkeypatch.setattr("terry.jobs.sweeps.spec.local_gpus", lambda: 0)
    (tmp_path / "sweep.yaml").write_text(
        "name: cells\nrun: {entrypoint: 'whaling:main'}\nsweep: {grid: {training.seed: [1, 2]}}\n"
    )
    dry = terry("submit", "sweep.yaml", "--dry-run")
    assert "cells-0002" in dry.out
    assert "whaling:main" in dry.out
    assert not (tmp_path / "runs").exists()
    first = terry("submit", "sweep.yaml").out.splitlines()
    assert first[0] == "cells: 2 new jobs"
    assert first[1].startswith("device: CPU (the file leaves it open, and no GPU is known here")
    assert first[2] == f"workspace: {tmp_path / 'runs'}"
    again = terry("submit", "sweep.yaml", "training.seed=1", "--json")
    assert again.code == 0
    assert again.json["new"] == 0
    assert again.json["jobs"] == ["cells-0001"]
    grown = terry("submit", "sweep.yaml", "sweep.grid.training.seed=[1, 2, 3]", "--json").json
    assert (grown["new"], grown["there_already"]) == (1, 2)


def test_doctor_finds_what_is_wrong(terry: Terry, world: World) -> None:
    """Nothing in a sound workspace; then a torn checkpoint, a strange folder, an open door."""
    busy(world)
    sound = terry("doctor")
    assert sound.code == 0, sound.out
    run = world.workspace.run("cells-0002")
    checkpoint = run.checkpoints / "step-000000400-a0001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"abc")
    manifest = {"files": {"model.safetensors": {"bytes": 4, "sha256": ""}}}
    durable.write_json(checkpoint / "MANIFEST.json", manifest)
    world.workspace.run("stranger").root.mkdir()
    world.workspace.root.chmod(0o777)
    said = terry("doctor")
    assert said.code == 1
    assert "has 3 bytes where 4 belong" in said.out
    assert "stranger" in said.out
    assert "anybody may write here" in said.out


def test_two_devices(tmp_path: Path, terry: Terry) -> None:
    """`nodes` shows what runs where."""
    world = World(tmp_path, device("seawolf:cpu", 1.0), device("quattro:cpu", 1.0))
    world.submit("cells", 2)
    world.turn(times=3)
    found = {d["id"]: d["jobs"] for d in terry("nodes", "--json").json}
    assert sorted(found.values()) == [["cells-0001"], ["cells-0002"]]
    world.pool.end("cells-0001", AttemptEnd(reason=EndReason.SUCCESS))
    world.controller.close()


def test_compare(terry: Terry, world: World) -> None:
    """Differing settings and figures; two runs with how far they lie apart, many below each other."""
    world.submit("cells", 6)
    world.turn(times=3)
    world.finish("cells-0001", loss=3.0)
    world.finish("cells-0002", loss=2.0)
    world.turn(times=3)
    lines = terry("compare", "cells-0001", "cells-0002").out.splitlines()
    assert lines[0].split() == ["cells-0001", "cells-0002", "DIFFERENCE"]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["training.seed"] == ["1", "2"]
    assert rows["loss"] == ["3.0000", "2.0000*", "-33.3%"]
    assert "model.cell" not in rows
    assert lines[-1].endswith("settings are alike")
    document = terry("compare", "cells-0001", "cells-0002", "--json").json
    assert document["settings"] == {"training.seed": [1, 2]}
    assert document["figures"]["loss"] == [3.0, 2.0]
    many = terry("compare", "cells").out.splitlines()
    assert many[0].split()[:3] == ["STATE", "TRAINING.SEED", "LOSS"]
    assert [line.split()[0] for line in many[1:7]] == [f"cells-000{i}" for i in range(1, 7)]
    assert "PERPLEXITY" not in many[0]  # of the validation set for some, of nothing for others


def test_compare_needs_two(terry: Terry, world: World) -> None:
    """One run is said to be too few, and what would be enough."""
    world.submit("cells", 2)
    said = terry("compare", "cells-0001")
    assert (said.code, said.out) == (2, "")
    assert "name two or more runs, or a whole sweep" in said.err
    damaged = next(iter(world.workspace.submissions("cells")))[1] / "jobs.jsonl"
    damaged.write_bytes(damaged.read_bytes().replace(b'"config"', b'"confid"'))
    said = terry("compare", "cells")
    assert said.code == 2
    assert f"{damaged}: the line of cells-0001 cannot be read" in said.err


def test_report_writes_a_page_and_the_tables_of_papers(terry: Terry, world: World, tmp_path: Path) -> None:
    """What was run, what came of it, what went wrong, and how to get each row again."""
    assert "there is nothing to report" in terry("report").err
    world.submit("cells", 3)
    world.turn(times=3)
    world.finish("cells-0001", loss=3.0)
    world.finish("cells-0002", loss=2.0)
    world.turn(times=2)
    world.crash("cells-0003")
    world.turn(times=4)
    world.finish("cells-0003", loss=2.5)
    world.turn(times=2)
    assert terry("report", "cells", "-o", "r.html").out == "wrote r.html\n"
    text = (tmp_path / "r.html").read_text()
    assert "crashed" in text
    assert "terry-cluster submit cells-001.yaml" in text
    assert terry("report", "cells", "-o", "r.tex").code == 0
    assert r"\toprule" in (tmp_path / "r.tex").read_text()
    assert terry("report", "-o", "r.md", "--json").json["runs"] == ["cells-0002", "cells-0003", "cells-0001"]
    assert "must end with .html, .tex or .md" in terry("report", "-o", "r.doc").err
    assert "there is no folder /nowhere" in terry("report", "-o", "/nowhere/r.html").err
