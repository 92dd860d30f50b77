"""Every durable write, failing or killed between any two of its system calls; the journal, cut at any byte.

The kills are real: a forked child sends itself SIGKILL, and the parent looks at what it left on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from terry.cluster.controller.loop import RETRY_S, Controller
from terry.cluster.core import events as e
from terry.cluster.core.model import JobState
from terry.cluster.core.state_document import to_snapshot
from terry.cluster.files import inbox, lease
from terry.cluster.files.durable import Calls, make_folder, publish_folder, remove_temporaries, write_bytes
from terry.cluster.files.journal import Journal, read, segments
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import Snapshots, load, read_state
from tests.fakes.pool import FakeClock, FakePool
from tests.helpers.queue_values import at, job_line, make_cpu, make_job, write_submission

_NAMES = [name for name in vars(Calls) if not name.startswith("_")]


@pytest.fixture(autouse=True)
def no_second_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is not on this disk comes no more: only SMB hides one for a while."""
    monkeypatch.setattr(lease, "_LOOK_AGAIN_S", 0.0)


class CountedCalls(Calls):
    """Counts system calls, and does something at one of them."""

    def __init__(self, at_call: int | None = None, action: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._at = at_call
        self._action = action

    def reached(self) -> bool:
        self.count += 1
        if self.count - 1 == self._at:
            self._action()
            return True
        return False


def _counted(name: str) -> Callable[..., Any]:
    real = getattr(Calls, name)

    def call(self: CountedCalls, *arguments: Any) -> Any:
        if name == "write" and len(arguments[1]) > 1:  # a write may stop half-way
            half = real(self, arguments[0], arguments[1][: len(arguments[1]) // 2])
            self.reached()
            return half + real(self, arguments[0], arguments[1][half:])
        self.reached()
        return real(self, *arguments)

    return call


for _name in _NAMES:
    setattr(CountedCalls, _name, _counted(_name))


class _Full(OSError):
    """A failure that we made, and no other."""


def _fail() -> None:
    raise _Full(errno.ENOSPC, "No space left on device")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _child() -> Iterator[bool]:
    """True in a forked child, which never leaves the block; False in the parent, once the child is gone."""
    pid = os.fork()
    if pid == 0:
        try:
            yield True
        finally:
            os._exit(3)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the child was to be killed, and exited with {os.WEXITSTATUS(status)}"
    assert os.WTERMSIG(status) == signal.SIGKILL
    yield False


@dataclass(frozen=True)
class Action:
    """Something durable that is done in a folder."""

    prepare: Callable[[Path], None]
    run: Callable[[Path, Calls], None]
    look: Callable[[Path], str]  #: what a reader sees: `before` or `after`; raises for anything else
    recover: Callable[[Path], None]  #: what the next start does


def _matrix(action: Action, folder: Path, *, kill: bool) -> None:
    folder.mkdir()
    action.prepare(folder)
    counted = CountedCalls()
    action.run(folder, counted)
    assert action.look(folder) == "after"
    assert counted.count >= 3
    for call in range(counted.count):
        place = folder.with_name(f"{folder.name}-{call}")
        place.mkdir()
        action.prepare(place)
        if kill:
            _killed(action, place, call)
        else:
            with pytest.raises(OSError, match="No space"):
                action.run(place, CountedCalls(call, _fail))
        seen = action.look(place)
        assert seen in {"before", "after"}, f"call {call}: {seen}"
        action.recover(place)
        assert action.look(place) == seen, f"call {call}: recovery changed what readers see"
        action.run(place, CountedCalls())
        assert action.look(place) == "after", f"call {call}: it cannot be done again"


def _killed(action: Action, place: Path, call: int) -> None:
    with _child() as is_child:
        if is_child:
            action.run(place, CountedCalls(call, _die))


# what is done


def _nothing(folder: Path) -> None:
    assert folder.is_dir()


def _look_at_file(folder: Path) -> str:
    names = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    assert names == ["file"]
    return {b"old": "before", b"new" * 1000: "after"}[(folder / "file").read_bytes()]


WRITE = Action(
    prepare=lambda folder: write_bytes(folder / "file", b"old"),
    run=lambda folder, calls: write_bytes(folder / "file", b"new" * 1000, calls=calls),
    look=_look_at_file,
    recover=remove_temporaries,
)


def _publish(folder: Path, calls: Calls) -> None:
    temporary = folder / "temporary"
    if not temporary.exists():
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "a").write_text("a")
        (temporary / "b").write_text("b")
    try:
        publish_folder(temporary, folder / "final", calls)
    except FileExistsError:
        assert (folder / "final" / "b").exists()


def _look_at_folder(folder: Path) -> str:
    final = folder / "final"
    if not final.exists():
        return "before"
    assert (final / "deep" / "a").read_text() + (final / "b").read_text() == "ab"
    return "after"


PUBLISH = Action(prepare=_nothing, run=_publish, look=_look_at_folder, recover=_nothing)

MAKE_FOLDER = Action(
    prepare=_nothing,
    run=lambda folder, calls: make_folder(folder / "a" / "b", calls) if not (folder / "a" / "b").exists() else None,
    look=lambda folder: "after" if (folder / "a" / "b").is_dir() else "before",
    recover=_nothing,
)


def _old_journal(folder: Path) -> None:
    journal = Journal.open(folder / "journal", epoch=1)
    journal.append([e.Released(time=at(0), job_id="old")])
    journal.commit()
    journal.close()


def _append(folder: Path, calls: Calls) -> None:
    journal = Journal.open(folder / "journal", epoch=2, calls=calls)
    try:
        journal.append([e.Released(time=at(1), job_id="new"), e.Released(time=at(1), job_id="new")])
        journal.commit()
    finally:
        journal.close()


def _look_at_journal(folder: Path) -> str:
    ids = [entry.event.job_id for entry in read(folder / "journal")]  # type: ignore[union-attr]
    assert ids[0] == "old"
    assert set(ids[1:]) <= {"new"}
    return "after" if len(ids) > 1 else "before"  # a part of a group counts: recovery completes what follows


JOURNAL = Action(
    prepare=_old_journal,
    run=_append,
    look=_look_at_journal,
    recover=lambda folder: Journal.open(folder / "journal", epoch=3).close(),
)


def _send(folder: Path, calls: Calls) -> None:
    inbox.send(WorkspacePaths(folder), inbox.Cancel(job_ids=("s-1",), request="r" * 32), calls)


def _look_at_inbox(folder: Path) -> str:
    letters = list(inbox.take(WorkspacePaths(folder)))
    assert {letter.message for letter in letters} <= {inbox.Cancel(job_ids=("s-1",), request="r" * 32)}
    assert list((folder / "queue" / "inbox" / "done").glob("*.bad")) == []
    return "after" if letters else "before"


SEND = Action(
    prepare=lambda folder: inbox.prepare(WorkspacePaths(folder)),
    run=_send,
    look=_look_at_inbox,
    recover=lambda folder: inbox.tidy(WorkspacePaths(folder), 0.0),
)


def _look_at_lease(folder: Path) -> str:
    held = lease.read(WorkspacePaths(folder))
    assert held is not None
    return "before" if held.epoch == 1 else "after"


LEASE = Action(
    prepare=lambda folder: lease.acquire(WorkspacePaths(folder), at(0)).close(),
    run=lambda folder, calls: lease.acquire(WorkspacePaths(folder), at(1), calls=calls).close(),
    look=_look_at_lease,
    recover=lambda folder: remove_temporaries(folder / "queue"),
)


def _with_jobs(folder: Path) -> None:
    workspace = WorkspacePaths(folder)
    write_submission(workspace, "s", [job_line(f"s-{i}") for i in range(3)])
    controller = Controller(workspace, FakePool([make_cpu()]), FakeClock())
    controller.recover()
    inbox.send(workspace, inbox.Submit(sweep="s"))
    controller.turn(0)
    controller.close()


@pytest.mark.parametrize("kill", [False, True], ids=["fails", "killed"])
@pytest.mark.parametrize(
    "action",
    [WRITE, PUBLISH, MAKE_FOLDER, JOURNAL, SEND, LEASE],
    ids=["write", "publish", "make_folder", "journal", "inbox", "lease"],
)
def test_every_durable_deed(action: Action, kill: bool, tmp_path: Path) -> None:
    _matrix(action, tmp_path / "x", kill=kill)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    counted = CountedCalls()
    write_bytes(tmp_path / "file", b"data", calls=counted)
    for call in range(counted.count):
        with pytest.raises(OSError, match="No space"):
            write_bytes(tmp_path / "file", b"data", calls=CountedCalls(call, _fail))
        assert [p.name for p in tmp_path.iterdir()] == ["file"], f"call {call}"


def test_the_journal_cut_at_every_byte_of_its_last_record(tmp_path: Path) -> None:
    events = [e.Submitted(time=at(i), job=make_job(f"s-{i}")) for i in range(3)]
    journal = Journal.open(tmp_path / "whole", epoch=1)
    # Of a commit that is torn nothing counts, so the last record is a commit of its own.
    for part in (events[:2], events[2:]):
        journal.append(part)
        journal.commit()
    journal.close()
    data = (tmp_path / "whole" / "00000001.jsonl").read_bytes()
    begin = data.rindex(b"\n", 0, -1) + 1
    assert len(data) - begin > 200
    for cut in range(begin, len(data)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "00000001.jsonl").write_bytes(data[:cut])
        assert [entry.event for entry in read(folder)] == events[:2], f"cut at byte {cut}"
        journal = Journal.open(folder, epoch=2)
        journal.append(events[2:])
        journal.commit()
        journal.close()
        assert [entry.event for entry in read(folder)] == events, f"cut at byte {cut}"


@pytest.mark.parametrize("kill", [False, True], ids=["fails", "killed"])
def test_a_controller_that_ends_at_any_system_call_is_followed_by_one_that_completes_everything(
    kill: bool, tmp_path: Path
) -> None:
    """Start, submission, placement, ends, snapshot: a whole life, ended at each of its system calls in turn."""
    counted = CountedCalls()
    _life(_workspace(tmp_path / "whole"), counted)
    assert counted.count >= 50
    for call in range(counted.count):
        workspace = _workspace(tmp_path / str(call))
        if kill:
            with _child() as is_child:
                if is_child:
                    _life(workspace, CountedCalls(call, _die))
        else:
            _life_that_fails(workspace, call)
        before = read_state(workspace)
        _life(workspace, CountedCalls())
        state = read_state(workspace)
        assert {r.state for r in state.jobs.values()} == {JobState.COMPLETED}, f"call {call}"
        assert len(state.jobs) == 3, f"call {call}"
        assert state.epoch > before.epoch, f"call {call}"


def _workspace(folder: Path) -> WorkspacePaths:
    workspace = WorkspacePaths(folder)
    write_submission(workspace, "s", [job_line(f"s-{i}", entrypoint="lab:succeed") for i in range(3)])
    inbox.send(workspace, inbox.Submit(sweep="s"))
    return workspace


def _life(workspace: WorkspacePaths, calls: Calls) -> None:
    """A controller on a node that starts with it."""
    clock = FakeClock()
    controller = Controller(workspace, FakePool([make_cpu()]), clock, calls=calls)
    try:
        controller.recover()
        for _ in range(8):
            controller.turn(0)
            clock.advance(RETRY_S[0])  # an order about files that are being removed is tried again by then
        inbox.send(workspace, inbox.Shutdown())
        while not controller.stopped:
            controller.turn(0)
    finally:
        controller.close()


def _life_that_fails(workspace: WorkspacePaths, call: int) -> None:
    """Where the failure is fatal the process ends; where it is not (heartbeat, snapshot), the life goes on."""
    with contextlib.suppress(_Full):
        _life(workspace, CountedCalls(call, _fail))


# orders of people about jobs that are there


@pytest.mark.parametrize("kill", [False, True], ids=["fails", "killed"])
def test_a_controller_that_ends_at_any_system_call_loses_and_doubles_no_order(kill: bool, tmp_path: Path) -> None:
    """Marks, changed terms, removals, a new series: accepted and not done yet, done and not said yet."""
    counted = CountedCalls()
    _life(_with_orders(tmp_path / "whole"), counted)
    _look_at_orders(WorkspacePaths(tmp_path / "whole"), "whole")
    for call in range(counted.count):
        workspace = _with_orders(tmp_path / str(call))
        if kill:
            with _child() as is_child:
                if is_child:
                    _life(workspace, CountedCalls(call, _die))
        else:
            _life_that_fails(workspace, call)
        _life(workspace, CountedCalls())
        _look_at_orders(workspace, f"call {call}")


def _with_orders(folder: Path) -> WorkspacePaths:
    """Four jobs that are completed, their files, and what somebody wants of them, one order after the other."""
    workspace = WorkspacePaths(folder)
    lines = [job_line(f"s-{i}", entrypoint="lab:succeed") for i in range(4)]
    held, longer = job_line("s-4", entrypoint="lab:succeed", held=True), job_line("s-5", entrypoint="lab:succeed")
    write_submission(workspace, "s", [*lines, held, longer])
    inbox.send(workspace, inbox.Submit(sweep="s"))
    _life(workspace, CountedCalls())
    for i in range(4):
        for name in ("step-000000001-a0001", "step-000000002-a0001"):
            (workspace.run(f"s-{i}").checkpoints / name).mkdir(parents=True)
            (workspace.run(f"s-{i}").checkpoints / name / "file").write_text("x")
    goes_on = job_line("s-5", entrypoint="lab:succeed", identity="1" * 64, former=["0" * 64])
    write_submission(workspace, "s", [goes_on], number=2)
    orders: list[inbox.Message] = [
        inbox.Submit(sweep="s"),
        inbox.Remove(job_ids=("s-0", "s-2")),
        inbox.Prune(job_ids=("s-1",), checkpoints={"s-1": ("step-000000001-a0001",)}),
        inbox.Resubmit(job_ids=("s-2",), from_scratch=True),
        inbox.Mark(job_ids=("s-3",), note="the one", add_tags=("paper",), archived=True),
        inbox.Change(job_ids=("s-4",), priority=3, retry={"crash": 9}),
    ]
    for order in orders:
        inbox.send(workspace, order)
    return workspace


def _look_at_orders(workspace: WorkspacePaths, when: str) -> None:
    state = read_state(workspace)
    jobs, folders = state.jobs, {path.name for path in workspace.runs.iterdir() if path.name[0] != "."}
    assert not state.removing, when
    assert jobs["s-0"].marks.removed_at is not None, when
    assert "s-0" not in folders, when
    assert [path.name for path in workspace.run("s-1").checkpoints.iterdir()] == ["step-000000002-a0001"], when
    assert (jobs["s-2"].state, jobs["s-2"].series) == (JobState.COMPLETED, 2), when
    assert jobs["s-2"].attempt >= 2, when  # an attempt that died with the controller's node is another one
    assert not workspace.run("s-2").checkpoints.exists(), when
    marks = jobs["s-3"].marks
    assert (marks.note, marks.tags, marks.archived) == ("the one", ("paper",), True), when
    assert len(list(workspace.run("s-3").checkpoints.iterdir())) == 2, when
    assert (jobs["s-5"].state, jobs["s-5"].series) == (JobState.COMPLETED, 2), when
    assert (jobs["s-5"].job.identity, jobs["s-5"].job.former) == ("1" * 64, ("0" * 64,)), when
    assert (jobs["s-4"].priority, jobs["s-4"].job.retry.crash) == (3, 9), when


def _saved(tmp_path: Path) -> tuple[WorkspacePaths, bytes]:
    """A workspace whose newest snapshot has all events of the journal; and the queue as it stood."""
    _with_jobs(tmp_path)
    workspace = WorkspacePaths(tmp_path)
    controller = Controller(workspace, FakePool([make_cpu()]), FakeClock())
    controller.recover()
    controller._snapshots.save(controller.state, controller._journal, controller._clock.monotonic())
    controller.turn(0)
    controller._snapshots.save(controller.state, controller._journal, controller._clock.monotonic())
    expected = to_snapshot(controller.state)
    controller.close()
    return workspace, expected


def test_a_journal_that_lost_what_the_snapshot_has_loses_nothing(tmp_path: Path) -> None:
    workspace, expected = _saved(tmp_path)
    newest = segments(workspace.journal)[-1][1]
    size = newest.stat().st_size
    for cut in (0, 1, size // 2, size - 1):
        with newest.open("r+b") as file:
            file.truncate(min(cut, newest.stat().st_size))
        journal, state = load(workspace)
        journal.close()
        assert to_snapshot(state) == expected
        assert journal.seq == state.seq
    shutil.rmtree(workspace.journal)
    controller = Controller(workspace, FakePool([make_cpu()]), FakeClock())
    for _ in range(2):  # what comes after it is read again, too
        controller.recover()
        controller.turn(0)
        expected = to_snapshot(controller.state)
        controller.close()
        assert to_snapshot(read_state(workspace)) == expected
        controller = Controller(workspace, FakePool([make_cpu()]), FakeClock())


def test_a_snapshot_of_a_superseded_controller_does_not_count(tmp_path: Path) -> None:
    workspace, _ = _saved(tmp_path)
    old = Controller(workspace, FakePool([make_cpu()]), FakeClock())
    old.recover()
    old.turn(0)
    held = old.state, old._journal
    old.close()
    new = Controller(workspace, FakePool([make_cpu("there")]), FakeClock())
    new.recover()
    new.turn(0)
    expected = to_snapshot(new.state)
    new.close()
    state, journal = held
    state.seq = new.state.seq - 1  # it went on by itself for a while
    Snapshots(workspace, 0, 0.0).save(state, journal, 0.0)
    assert workspace.snapshots()[-1][0] == state.seq
    assert to_snapshot(read_state(workspace)) == expected
    assert to_snapshot(load(workspace)[1]) == expected


def test_a_damaged_snapshot_is_passed_over(tmp_path: Path) -> None:
    workspace, expected = _saved(tmp_path)
    newest = workspace.snapshots()[-1][1]
    data = newest.read_bytes()
    for damaged in (b"", data[:-1], data.replace(b"s-1", b"s-7"), data.replace(b'"v":1', b'"v":2'), b"\xff\x00"):
        newest.write_bytes(damaged)
        assert to_snapshot(read_state(workspace)) == expected
