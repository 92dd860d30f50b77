"""Every mistake is one clear line and exit code 2; nothing half-written is left."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from terry.cluster.cli.main import VERBS
from terry.cluster.files.paths import WorkspacePaths
from tests.helpers.world import World
from tests.unit.cluster.conftest import Terry

GOOD = """\
name: cells
run:
  model: {cell: gru}
  entrypoint: whaling:main
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stauts"], ["no verb 'stauts'", "did you mean 'status'"]),
        (["status", "--foo"], ["--foo", "terry-cluster status --help"]),
        (["submit"], ["FILE"]),
        (["submit", "nowhere.yaml"], ["there is no file nowhere.yaml"]),
        (["submit", "."], ["is a folder"]),
        (["status"], ["there is no workspace at", "submit FILE", "TERRY_WORKSPACE"]),
        (["wait"], ["SELECTOR"]),
        (["results", "--format", "xml"], ["xml", "parquet"]),
        (["-w"], ["-w"]),
        (["up", "extra"], ["extra"]),
    ],
)
def test_usage(terry: Terry, arguments: list[str], words: list[str]) -> None:
    """What is wrong, and what would be right."""
    said = terry(*arguments)
    assert said.code == 2
    assert said.out == ""
    for word in words:
        assert word in said.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", ["sweep.yaml:2", "not valid YAML"]),
        ("just text", ["must be a mapping"]),
        (GOOD.replace("cell: gru", "cel: gru"), ["sweep.yaml:3", "cel", "cell"]),
        (GOOD.replace("{cell: gru}", "{hidden_size: large}"), ["sweep.yaml:3", "hidden_size"]),
        (GOOD + "sweep: {grid: {model.cell: []}}", ["sweep.yaml:5", "empty"]),
        (GOOD.replace("name: cells", "name: ../../etc"), ["sweep.yaml:1", "../../etc"]),
        (GOOD.replace("whaling:main", "no.such:main"), ["there is no module 'no'"]),
        ("name: x\ndatasets: {t: {source: gone.csv, column: body}}\n", ["gone.csv", "no such file"]),
        ("\x00\x01", ["sweep.yaml"]),
    ],
)
def test_bad_sweep_files(terry: Terry, tmp_path: Path, text: str, words: list[str]) -> None:
    """With file and line; and no workspace appears."""
    (tmp_path / "sweep.yaml").write_text(text)
    said = terry("submit", "sweep.yaml")
    assert said.code == 2, said
    for word in words:
        assert word in said.err
    assert not (tmp_path / "runs").exists()


def test_another_experiment_under_an_old_name(terry: Terry, tmp_path: Path) -> None:
    """Two sweeps of one name with nothing in common: refused, unless --extend says that it is meant."""
    file = tmp_path / "sweep.yaml"
    file.write_text(GOOD)
    assert terry("submit", "sweep.yaml").code == 0
    file.write_text(GOOD.replace("gru", "lstm"))
    said = terry("submit", "sweep.yaml")
    assert said.code == 2
    assert "--extend" in said.err
    assert terry("submit", "sweep.yaml", "--extend").code == 0


def test_selectors(terry: Terry, world: World) -> None:
    """An unknown name says what there is, on every verb that takes one."""
    world.submit("cells", 2)
    for verb in ("status", "wait", "cancel", "pause", "resume", "resubmit", "explain", "logs", "plot", "results"):
        said = terry(verb, "cels")
        assert said.code == 2, verb
        assert "did you mean 'cells'" in said.err


def test_a_damaged_journal_names_file_and_line(terry: Terry, world: World) -> None:
    """Not a stack trace."""
    world.submit("cells", 2)
    world.turn()
    segment = max(world.workspace.journal.glob("*.jsonl"))
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([b"x" + lines[0][1:], *lines[1:]]))
    said = terry("status")
    assert said.code == 2
    assert f"{segment}:1" in said.err
    assert terry("doctor").code == 1


def test_the_workspace_is_a_file(terry: Terry, tmp_path: Path) -> None:
    """Somebody gave the wrong path."""
    (tmp_path / "sweep.yaml").write_text(GOOD)
    (tmp_path / "runs").write_text("not a folder")
    said = terry("submit", "sweep.yaml")
    assert said.code == 2
    assert "runs is a file" in said.err


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EROFS, "read-only"), (errno.ENOSPC, "the disk is full"), (errno.EACCES, "permission denied")],
)
def test_what_the_file_system_refuses(
    terry: Terry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    """Full, read-only, forbidden: said in words, with the path; no submission appears."""
    (tmp_path / "sweep.yaml").write_text(GOOD)
    terry("init")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "runs"))

    monkeypatch.setattr("terry.cluster.files.durable.publish_folder", refuse)
    said = terry("submit", "sweep.yaml")
    assert said.code == 2
    assert words in said.err
    assert str(tmp_path / "runs") in said.err
    assert WorkspacePaths(tmp_path / "runs").submissions("cells") == []


def test_a_bug_shows_its_stack_and_is_no_failed_job(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 70: scripts must not take it for 1, which says that a job failed."""
    from terry.cluster.cli.main import run

    monkeypatch.setattr("terry.cluster.client.setup.make_workspace", lambda *_: 1 / 0)
    assert run(["-w", str(tmp_path / "x"), "init"]) == 70
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_closed_pipe_is_silent(world: World) -> None:
    """`terry-cluster status --json | head -1`."""
    world.submit("cells", 400)
    command = f"{sys.executable} -m terry.cluster.cli.main -w {world.workspace.root} status --json | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "["
    assert done.stderr == ""


def test_interrupt(terry: Terry, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130, and a word that the jobs go on."""
    world.submit("cells", 1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("terry.cluster.client.reader.Reader.stamp", interrupt)
    said = terry("wait", "cells")
    assert said.code == 130
    assert "the jobs go on" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "state:runing"), "'runing' is no state; did you mean 'running'?"),
        (("results", "-o", "/nowhere/r.csv", "--format", "csv"), "there is no folder /nowhere"),
        (("compare", "cells-0001"), "that means cells-0001, which is not enough to compare"),
    ],
)
def test_what_is_wrong_and_what_would_be_right(
    terry: Terry, world: World, arguments: tuple[str, ...], words: str
) -> None:
    """One line, exit code 2."""
    world.submit("cells", 2)
    said = terry(*arguments)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert words in said.err


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_each_verb_has_an_example(verb: click.Command) -> None:
    """`--help` shows how it is used, in a line that can be copied."""
    assert re.search(rf"Example: terry-cluster (-w \S+ )?{verb.name}\b", verb.help or "")
