"""The keeper, without Ray: when it has to leave the workspace to another, and what it says of why a program failed."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.processes import boot_id
from terry.cluster.lifecycle import keeper, up
from terry.cluster.lifecycle.keeper import Keeper, last_line
from terry.cluster.ray.head import Head


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    found = WorkspacePaths(tmp_path / "runs")
    found.cluster.mkdir(parents=True)
    return found


def head(incarnation: str, host: str = "") -> Head:
    return Head(
        host=host or socket.gethostname(),
        boot_id=boot_id(),
        address="127.0.0.1:1",
        incarnation=incarnation,
        started_at=datetime.now(UTC),
    )


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Incarnations of heads whose processes were ended."""
    found: list[str] = []
    monkeypatch.setattr(keeper, "end_processes", lambda given: found.append(given.incarnation))
    return found


def test_of_two_that_begin_at_once_the_one_whose_head_is_not_recorded_ends(
    workspace: WorkspacePaths, ended: list[str]
) -> None:
    """A submission in the seconds in which another member's cluster starts."""
    mine = Keeper(workspace)
    mine._head = head("mine")
    durable.write_json(workspace.head, head("mine"))
    mine._check_place()
    assert ended == []
    durable.write_json(workspace.head, head("theirs"))
    with pytest.raises(keeper._Superseded):
        mine._check_place()
    assert ended == ["mine"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives a file to another user")
def test_a_head_of_another_member_that_is_well_is_left_to_its_keeper(
    workspace: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "is_well", lambda _: True)
    durable.write_json(workspace.head, head("theirs"))
    assert Keeper(workspace)._ensure_head().incarnation == "theirs", "ours: a keeper before this one has started it"
    os.chown(workspace.head, 4711, 4711)
    with pytest.raises(keeper._Superseded, match="4711"):
        Keeper(workspace)._ensure_head()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives a file to another user")
@pytest.mark.parametrize(
    ("last", "starts"),
    [
        ("2026-11-29 13:00:00,000 INFO a keeper is started", True),
        ("2026-11-29 13:00:00,123 INFO keeping /srv/lab/runs", True),
        ("2026-11-29 13:00:01,123 INFO starting Ray", True),
        ("2026-11-29 13:00:09,123 INFO Ray runs at 127.0.0.1:6379", True),
        ("2026-11-29 13:00:12,123 INFO the controller runs", False),
        ("2026-11-29 13:00:12,123 ERROR ray start failed; next try in 1 s", False),
    ],
)
def test_a_submission_waits_for_a_cluster_that_another_member_is_starting(
    workspace: WorkspacePaths, last: str, starts: bool
) -> None:
    workspace.keeper_log.write_text(f"2026-11-29 12:00:00,000 INFO before\n{last}\n")
    assert up._other_starts(workspace) == "", "it is our own"
    os.chown(workspace.keeper_log, 4711, 4711)
    assert bool(up._other_starts(workspace)) is starts
    os.utime(workspace.keeper_log, (0, 0))
    assert up._other_starts(workspace) == "", "long ago"


def test_of_what_a_program_has_printed_the_last_line_is_told_whole() -> None:
    reason = "ConnectionError: " + "x" * 5000
    assert last_line(f"Traceback:\n  File a, line 1\n{reason}\n\n  \n") == reason
    assert last_line("") == "it has said nothing"
