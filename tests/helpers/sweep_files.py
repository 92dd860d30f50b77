"""Sweep files for tests, on real disks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting.submission import Submission, SubmitOptions, prepare_submission

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

BASE = """\
name: demo
datasets:
  comments: {source: comments.csv, column: body}
run:
  model: {cell: gru, hidden_size: 32}
  optimizer: {name: adam, lr: 0.001}
"""


def folder(tmp_path: Path) -> Path:
    """A folder with the CSV that BASE names."""
    (tmp_path / "comments.csv").write_text("id,body\n1,Call me Ishmael. It was a dark night.\n")
    return tmp_path


def sweep_file(tmp_path: Path, text: str, name: str = "sweep.yaml") -> Path:
    """A sweep file in a folder with its data."""
    path = folder(tmp_path) / name
    path.write_text(text)
    return path


def planned(
    tmp_path: Path, text: str, *overrides: str, options: SubmitOptions | None = None, name: str = "sweep.yaml"
) -> Submission:
    """A submission of a sweep file into the workspace of the test."""
    path = sweep_file(tmp_path, text, name)
    return prepare_submission(workspace(tmp_path), path, overrides, options or SubmitOptions(), NOW, "ahab")


def workspace(tmp_path: Path) -> WorkspacePaths:
    """The workspace of the test."""
    root = tmp_path / "workspace"
    root.mkdir(exist_ok=True, mode=0o700)
    return WorkspacePaths(root)
