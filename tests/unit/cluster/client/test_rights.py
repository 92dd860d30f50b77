"""What of a group's workspace others cannot read: who repairs it, and by which command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from terry.cluster.client import rights
from terry.cluster.client.setup import make_workspace
from terry.cluster.files.paths import WorkspacePaths


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    found = WorkspacePaths(tmp_path / "work space")
    make_workspace(found)
    for folder in (found.root, found.queue, found.sweeps, found.runs, found.datasets):
        folder.chmod(0o2770)
    return found


def put(path: Path, mode: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    path.chmod(mode)
    for folder in path.parents[:2]:
        folder.chmod(0o2770)
    return path


def said(workspace: WorkspacePaths) -> list[str]:
    return [finding.text for finding in rights.look(workspace) if not finding.good]


def test_each_sweep_and_run_with_closed_files_is_named_once_with_the_command(workspace: WorkspacePaths) -> None:
    put(workspace.submission("a", 1) / "sweep.yaml", 0o600)
    put(workspace.submission("a", 1) / "jobs.jsonl", 0o640)
    put(workspace.submission("b", 1) / "jobs.jsonl", 0o660)
    put(workspace.run("b-0001").root / "result.json", 0o600)
    first, second = said(workspace)
    assert f"{workspace.run('b-0001').root}/result.json cannot be read" in first
    assert f"chmod -R g+rwX '{workspace.root}/runs/b-0001'" in first
    assert " and 1 more cannot be read and written by the group" in second
    assert f"chmod -R g+rwX '{workspace.root}/sweeps/a'" in second


def test_what_the_command_repairs_is_named_no_more(workspace: WorkspacePaths) -> None:
    path = put(workspace.submission("a", 1) / "jobs.jsonl", 0o600)
    path.parent.chmod(0o700)
    assert len(said(workspace)) == 1
    subprocess.run(["chmod", "-R", "g+rwX", workspace.sweeps / "a"], check=True)
    assert said(workspace) == []


def test_a_private_workspace_has_no_group(workspace: WorkspacePaths) -> None:
    workspace.root.chmod(0o700)
    put(workspace.submission("a", 1) / "jobs.jsonl", 0o600)
    assert said(workspace) == []


def test_a_workspace_that_anybody_may_write_is_told(workspace: WorkspacePaths) -> None:
    workspace.root.chmod(0o777)
    assert "anybody may write here" in said(workspace)[0]
