"""The inbox: order, what cannot be read, and what is acted on twice."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.files import inbox
from terry.cluster.files.paths import WorkspacePaths


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    workspace = WorkspacePaths(tmp_path)
    inbox.prepare(workspace)
    return workspace


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_messages_come_in_the_order_of_sending(workspace: WorkspacePaths) -> None:
    sent = [inbox.Submit(sweep="s"), inbox.Cancel(job_ids=("a", "b")), inbox.Shutdown(), inbox.Drain(device="q:0")]
    for message in sent:
        inbox.send(workspace, message)
    letters = list(inbox.take(workspace))
    assert [letter.message for letter in letters] == sent
    assert {letter.uid for letter in letters} == {os.getuid()}
    assert len({message.request for message in sent}) == 4


def test_a_message_waits_until_it_was_acted_on(workspace: WorkspacePaths) -> None:
    message = inbox.Pause(job_ids=("a",))
    inbox.send(workspace, message)
    assert inbox.is_pending(workspace, message.request)
    (letter,) = inbox.take(workspace)
    (again,) = inbox.take(workspace)
    assert letter == again
    inbox.finish(workspace, letter)
    inbox.finish(workspace, letter)
    assert list(inbox.take(workspace)) == []
    assert not inbox.is_pending(workspace, message.request)
    assert _names(workspace.inbox / "done") == [letter.path.name]


def test_sending_makes_the_inbox(tmp_path: Path) -> None:
    workspace = WorkspacePaths(tmp_path / "new")
    inbox.send(workspace, inbox.Shutdown())
    assert len(list(inbox.take(workspace))) == 1


@given(noise=st.one_of(st.binary(max_size=40), st.just(b'{"type":"Cancel","job_ids":["a"'), st.just(b'{"type":"Rm"}')))
@settings(deadline=None, max_examples=50)
def test_what_cannot_be_read_is_moved_aside_and_stops_nobody(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    workspace = WorkspacePaths(tmp_path_factory.mktemp("w"))
    inbox.prepare(workspace)
    (workspace.inbox / "new" / "0-noise.json").write_bytes(noise)
    (workspace.inbox / "new" / "0-folder.json").mkdir()
    inbox.send(workspace, inbox.Shutdown())
    assert len(list(inbox.take(workspace))) == 1
    assert _names(workspace.inbox / "done") == ["0-folder.json.bad", "0-noise.json.bad"]


def test_no_message_can_be_sent_in_the_name_of_another(workspace: WorkspacePaths) -> None:
    """By a link to what the other one sent earlier; nor can a pipe block the controller."""
    inbox.send(workspace, inbox.Shutdown())
    (letter,) = inbox.take(workspace)
    inbox.finish(workspace, letter)
    sent = workspace.inbox / "done" / letter.path.name
    new = workspace.inbox / "new"
    (new / "0.json").symlink_to(sent)
    (new / "1.json").hardlink_to(sent)
    os.mkfifo(new / "2.json")
    assert list(inbox.take(workspace)) == []
    assert _names(new) == []


def test_a_bad_message_is_logged(workspace: WorkspacePaths, caplog: pytest.LogCaptureFixture) -> None:
    (workspace.inbox / "new" / "x.json").write_bytes(b"{}")
    assert list(inbox.take(workspace)) == []
    assert caplog.records[0].levelno == logging.ERROR
    assert "x.json" in caplog.text


def test_old_files_are_removed_and_new_ones_are_not(workspace: WorkspacePaths) -> None:
    for folder, name in (("done", "a.json"), ("tmp", "b.json"), ("tmp", ".c.json.1-0123abcd.tmp"), ("new", "d.json")):
        for age in ("old", "new"):
            path = workspace.inbox / folder / f"{name[:1] * (name[0] == '.')}{age}-{name}"
            path.touch()
            if age == "old":
                os.utime(path, (1000, 1000))
    now = 1000 + inbox.KEEP_DONE_S + 1
    for path in workspace.inbox.rglob("*new-*"):
        os.utime(path, (now, now))
    inbox.tidy(workspace, now)
    left = [p.name for p in workspace.inbox.rglob("*") if p.is_file()]
    assert sorted(left) == [".new-.c.json.1-0123abcd.tmp", "new-a.json", "new-b.json", "new-d.json", "old-d.json"]
