"""A copy of a workspace on a computer without Ray, for somebody who may not write to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.trained_runs import train
from tests.helpers.world import World

pytestmark = pytest.mark.timeout(600)

#: Runs each verb in one process, and says what each came to.
_VERBS = """
import shlex, sys
from terry.cluster.cli.main import run
for line in sys.argv[1:]:
    print(f"== {line}", flush=True)
    print(f"== code {run(shlex.split(line))}", flush=True)
"""


def on_a_laptop(workspace: Path, place: Path, *verbs: str) -> str:
    """What the verbs say: Ray cannot be imported, and nothing of the workspace be written."""
    copy = place / "copy"
    shutil.copytree(workspace, copy, ignore=shutil.ignore_patterns("*.sock"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (place / "blocked/ray").mkdir(parents=True)
    (place / "blocked/ray/__init__.py").write_text('raise ImportError("there is no Ray here")\n')
    home = place / "home"
    home.mkdir()
    as_root = os.geteuid() == 0
    mortal = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--"] if as_root else []
    if as_root and shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing, and root may write everywhere")
    said = subprocess.run(
        [*mortal, sys.executable, "-c", _VERBS, *verbs],
        cwd=home,
        env={
            **os.environ,
            "PYTHONPATH": str(place / "blocked"),
            "HOME": str(home),
            "TERRY_WORKSPACE": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "80",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert "Traceback" not in said.stderr
    return said.stdout + said.stderr


def test_what_came_out_can_be_looked_at(world: World, tmp_path: Path) -> None:
    world.submit("cells", 2)
    world.turn(times=3)
    for number, loss in ((1, 3.0), (2, 2.0)):
        world.measure(f"cells-000{number}", 10, 400, start=-1)
        world.finish(f"cells-000{number}", loss=loss)
        world.turn(times=2)
    verbs = (
        *("status", "results", "results -o r.csv", "plot cells", "plot cells -o p.svg", "report -o r.html"),
        *("report cells -o t.tex", "explain cells-0001", "compare cells-0001 cells-0002", "logs cells-0001"),
    )
    said = on_a_laptop(world.workspace.root, tmp_path, *verbs)
    assert said.count("== code 0") == len(verbs), said
    assert sorted(path.name for path in (tmp_path / "home").glob("[!.]*.*")) == ["p.svg", "r.csv", "r.html", "t.tex"]


def test_models_write_texts_that_are_not_kept(tmp_path: Path) -> None:
    place = train(tmp_path, ("demo-prepare-long", "demo-0001"))
    said = on_a_laptop(place.root, tmp_path, "sample demo-0001 --count 2 --device cpu", "evaluate demo-0001")
    assert said.count("== code 0") == 2, said
    assert "not kept: the workspace cannot be written here" in said
