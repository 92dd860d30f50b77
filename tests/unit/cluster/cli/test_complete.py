"""What the shell offers after TAB: asked as shells ask, and once in a real bash."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from terry.cluster.cli.main import run
from tests.helpers.world import World, busy

SWEEP = """\
name: cells
datasets:
  comments: {source: comments.csv}
  reviews: {source: reviews.csv}
"""


Offer = Callable[[str], list[str]]


@pytest.fixture
def offered(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Offer:
    """What is offered for a line, whose end is where the cursor stands; the workspace is `tmp_path/runs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERRY_WORKSPACE", str(tmp_path / "runs"))

    def offer(line: str) -> list[str]:
        monkeypatch.setenv("_TERRY_CLUSTER_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", f"terry-cluster {line}")
        monkeypatch.setenv("COMP_CWORD", "0")
        capfd.readouterr()
        with pytest.raises(SystemExit):
            run([])
        out, err = capfd.readouterr()
        assert err == ""
        return [piece.removeprefix("plain,") for piece in out.splitlines() if piece]

    return offer


def test_verbs_jobs_devices_and_states(offered: Offer, world: World) -> None:
    """Also where the workspace is named after the verb."""
    busy(world)
    assert offered("exp") == ["explain", "export"]
    assert offered("status cells-000")[:2] == ["cells-0001", "cells-0002"]
    assert offered("logs ce")[0] == "cells"
    assert offered("cancel cells state:f") == ["state:failed"]
    assert offered("drain ") == ["seawolf:cpu"]
    assert offered("undrain sea") == ["seawolf:cpu"]
    assert offered("plot cells --by ") == ["seed"]
    assert offered(f"status -w {world.workspace.root} cells-0008") == ["cells-0008"]
    assert offered("status -w /nowhere ce") == []


def test_settings_and_data_sets(offered: Offer, tmp_path: Path) -> None:
    """Settings with their choices; the data sets of a sweep file, and files first of all."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    assert "optimizer.name=adam" in offered("submit sweep.yaml optimizer.n")
    assert offered("submit sweep.yaml optimizer.mom") == ["optimizer.momentum="]
    assert offered("submit sw") == ["file,sw"]
    assert offered("prepare sweep.yaml ") == ["comments", "reviews"]
    assert offered("prepare sweep.yaml re") == ["reviews"]
    assert offered("prepare te") == ["file,te"]
    assert "level=word" in offered("prepare text.csv lev")


def test_nothing_is_made(offered: Offer, tmp_path: Path) -> None:
    """A workspace that is not there does not appear because somebody pressed TAB; and a bad file is no error."""
    (tmp_path / "sweep.yaml").write_text("datasets: [")
    assert offered("status ") == []
    assert offered("prepare sweep.yaml ") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep.yaml"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_in_a_real_bash(world: World) -> None:
    """The line that the manual gives; then `:` and `=` inside of words, which bash takes for their ends."""
    busy(world)
    where = Path(sys.executable).parent
    child = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], env={"PATH": f"{where}:/usr/bin:/bin", "PS1": "$ ", "TERM": "dumb"},
        timeout=60, dimensions=(40, 200), encoding="utf-8", cwd=str(world.folder),
    )  # fmt: skip
    child.sendline('eval "$(_TERRY_CLUSTER_COMPLETE=bash_source terry-cluster)"; echo rea""dy')
    child.expect("ready")
    for typed, complete in (
        ("expl", "explain "),
        ("status state:fai", "state:failed "),
        ("drain seawolf:", "seawolf:cpu "),
        ("submit x.yaml optimizer.mom", "optimizer.momentum="),
        ("submit x.yaml optimizer.name=ne", "optimizer.name=nesterov "),
    ):
        child.sendcontrol("u")
        child.send(f"terry-cluster -w {world.workspace.root} {typed}\t")
        child.expect_exact(typed.rpartition(" ")[0])
        child.expect_exact(complete)
    child.close(force=True)
