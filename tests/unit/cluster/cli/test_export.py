"""`export`: a workspace's runs in a tracker, written by a real library and read from its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.world import World
from tests.unit.cluster.conftest import Terry
from tests.unit.logs.trackers.wandb_file import read

pytest.importorskip("wandb")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]


def test_a_run_that_crashed_is_one_run_with_one_curve_as_results_has_it(
    terry: Terry, world: World, tmp_path: Path
) -> None:
    world.submit("cells", 2)
    world.turn(times=3)
    assert "none of these runs has ended yet" in terry("export", "cells", "--to", "wandb", "w").err
    world.measure("cells-0001", 10, 410, start=-1)
    world.crash("cells-0001")
    world.turn(times=4)
    world.measure("cells-0001", 410, 600, start=400)
    world.finish("cells-0001", loss=2.25)
    said = terry("--json", "export", "cells", "--to", "wandb", "w").json
    assert (said["new"], said["unchanged"]) == (["cells-0001"], [])
    assert terry("export", "cells", "--to", "wandb", "w").out == "wandb w: 0 new, 0 written anew, 1 there already\n"
    (file,) = (tmp_path / "w").glob("wandb/offline-run-*/*.wandb")
    found = read(file)
    assert [row["_step"] for row in found["history"]] == list(range(10, 601, 10))
    (row,) = terry("results", "cells", "--json").json
    for key in ("loss", "valid_loss", "steps", "seconds", "tokens_per_s"):
        assert found["summary"][key] == row[key]
    assert found["config"]["terry"]["restarts"] == "1"


def test_mistakes_are_named_before_anything_is_made(terry: Terry, world: World, tmp_path: Path) -> None:
    world.submit("cells", 1)
    world.turn(times=2)
    for arguments, message in (
        (("cells", "--to", "wandbb", "w"), "unknown tracker; did you mean 'wandb'?"),
        (("sells", "--to", "wandb", "w"), "sells"),
        (("cells", "--to", "wandb"), "requires 2 arguments"),
        (("cells",), "--to"),
    ):
        said = terry("export", *arguments)
        assert said.code == 2
        assert message in said.err
    assert not (tmp_path / "w").exists()
