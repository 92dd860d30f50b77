"""Links in a group's workspace: whose are followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from terry.cluster.files import inbox, run_folder
from terry.cluster.files.links import owner_name, planted, refuse_planted
from terry.cluster.files.paths import WorkspacePaths

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files to another user")


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    found = WorkspacePaths(tmp_path / "workspace")
    for folder in (found.sweeps, found.runs, found.queue):
        folder.mkdir(parents=True)
    return found


def plant(path: Path, target: Path, uid: int = 4711) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    os.lchown(path, uid, uid)
    return path


def test_a_link_of_ones_own_is_followed(workspace: WorkspacePaths, tmp_path: Path) -> None:
    workspace.runs.rmdir()
    (tmp_path / "large").mkdir()
    workspace.runs.symlink_to(tmp_path / "large")
    assert planted(workspace.runs / "a-0001" / "attempts", workspace.root) is None


@as_root
@pytest.mark.parametrize("deep", ["", "attempts/0001"])
def test_one_of_another_member_is_not(workspace: WorkspacePaths, tmp_path: Path, deep: str) -> None:
    link = plant(workspace.runs / "a-0001", tmp_path)
    assert planted(link / deep, workspace.root) == link
    with pytest.raises(OSError, match="4711 has put there"):
        refuse_planted(link / deep, workspace.root)


@as_root
def test_it_is_the_owners_where_the_owner_of_the_workspace_has_made_it(
    workspace: WorkspacePaths, tmp_path: Path
) -> None:
    os.chown(workspace.root, 4711, 4711)
    assert planted(plant(workspace.runs / "a-0001", tmp_path), workspace.root) is None


@as_root
@pytest.mark.parametrize("name", ["", "attempts", "checkpoints", "source", "tb", "samples"])
def test_no_attempt_begins_in_it(workspace: WorkspacePaths, tmp_path: Path, name: str) -> None:
    plant(workspace.run("a-0001").root / name, tmp_path)
    with pytest.raises(OSError, match="is not followed"):
        run_folder.claim(workspace.run("a-0001"), "4e2a")


@as_root
@pytest.mark.parametrize("name", ["sweeps/a", "sweeps/a/submission-0001"])
def test_no_submission_is_read_through_it(workspace: WorkspacePaths, tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs" / "submission-0001").mkdir(parents=True)
    plant(workspace.root / name, tmp_path / "theirs")
    assert workspace.submissions("a") == []


@as_root
@pytest.mark.parametrize("name", ["new", "tmp", "done"])
def test_no_request_goes_through_it(workspace: WorkspacePaths, tmp_path: Path, name: str) -> None:
    plant(workspace.inbox / name, tmp_path)
    with pytest.raises(OSError, match="is not followed"):
        inbox.send(workspace, inbox.Submit(sweep="a"))
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".json"]


@as_root
def test_no_request_is_taken_from_it(workspace: WorkspacePaths, tmp_path: Path) -> None:
    inbox.prepare(workspace)
    (workspace.inbox / "new").rmdir()
    plant(workspace.inbox / "new", tmp_path)
    (tmp_path / "00000000000000000001-x.json").write_text('{"type":"Submit","sweep":"a"}')
    assert list(inbox.take(workspace)) == []


def test_a_user_without_a_name_has_a_number() -> None:
    assert owner_name(0) == "root"
    assert owner_name(4711) == "4711"
