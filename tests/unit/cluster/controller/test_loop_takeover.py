"""The controller after whatever may have happened: another one, lost messages, dead nodes, a full disk."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from terry.cluster.controller.loop import Controller, ControllerHooks
from terry.cluster.core.model import AttemptEnd, EndReason, JobRecord, JobState, StopGoal
from terry.cluster.core.state_document import to_snapshot
from terry.cluster.errors import JournalDamaged, LostLease, UserError
from terry.cluster.files import inbox, lease, live
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from terry.cluster.ports import Appeared, LaunchOrder, Started
from tests.fakes.pool import FakeClock, FakePool
from tests.helpers.controller_bench import SUCCESS, Bench, FullDisk
from tests.helpers.queue_values import job_line, make_cpu, write_submission


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_new_controller_takes_running_jobs_over(bench: Bench) -> None:
    bench.submit("s-1", "s-2")
    bench.turn()
    before = bench.pool.running()
    bench.restart()
    assert bench.controller.state.epoch == 2
    bench.turn(2)
    assert bench.pool.running() == before
    bench.pool.end("s-1", SUCCESS)
    bench.turn()
    assert bench["s-1"].state is JobState.COMPLETED
    assert bench["s-1"].attempt == 1


def test_an_end_that_nobody_heard_of_is_read_from_the_folder(bench: Bench) -> None:
    bench.submit("s-1", "s-2")
    bench.turn()
    bench.controller.close()
    bench.pool.end("s-1", SUCCESS)
    bench.pool.kill_agent("here:cpu")
    bench.pool.restart_agent("here:cpu")
    bench.new_controller()
    bench.turn()
    assert bench["s-1"].state is JobState.COMPLETED
    assert bench["s-2"].attempts[0].end is not None
    assert bench["s-2"].attempts[0].end.reason is EndReason.AGENT_LOST
    assert bench["s-2"].attempt == 2


def test_an_end_on_disk_counts_even_if_the_node_died_after_it(bench: Bench) -> None:
    bench.submit("s-1", "s-2")
    bench.turn()
    bench.pool.end("s-1", SUCCESS)
    bench.pool.kill_node("here")
    bench.turn()
    assert bench["s-1"].state is JobState.COMPLETED
    assert bench["s-2"].state is JobState.PENDING
    assert bench["s-2"].attempts[0].end is not None
    assert bench["s-2"].attempts[0].end.reason is EndReason.NODE_LOST


def test_a_queue_that_was_lost_is_made_anew_and_its_attempts_are_not_touched(bench: Bench) -> None:
    bench.submit("s-1", "s-2")
    bench.controller.close()
    shutil.rmtree(bench.workspace.queue)
    for number in (1, 2, 11):
        bench.workspace.run("s-1").attempt(number).root.mkdir(parents=True, exist_ok=True)
    bench.pool = FakePool([make_cpu()])
    bench.new_controller()
    assert bench.ask(inbox.Submit(sweep="s")) == "added 2 jobs"
    bench.turn()
    assert (bench["s-1"].attempt, bench["s-2"].attempt) == (12, 2)
    bench.restart()
    bench.pool.end("s-1", SUCCESS)
    bench.turn()
    assert (bench["s-1"].attempt, bench["s-1"].state) == (12, JobState.COMPLETED)


def test_a_node_that_died_unheard_of_is_asked_for(bench: Bench) -> None:
    bench.submit("s-1")
    bench.turn()
    bench.controller.close()
    dead: list[str] = []
    pool = FakePool([make_cpu("elsewhere")])
    controller = Controller(bench.workspace, pool, bench.clock, node_is_dead=dead.__contains__)
    controller.recover()
    controller.turn(0)
    assert controller.state.jobs["s-1"].state is JobState.RUNNING
    dead.append("here@1")
    controller.turn(0)
    bench.clock.advance(60.0)
    controller.turn(0)
    assert controller.state.jobs["s-1"].attempts[0].end is not None
    assert controller.state.jobs["s-1"].allocation is not None
    assert controller.state.jobs["s-1"].allocation.device == "elsewhere:cpu"
    controller.close()


class _DeafPool(FakePool):
    """Loses what it is told, until it is repaired."""

    deaf = True

    def launch(self, order: LaunchOrder) -> None:
        if not self.deaf:
            super().launch(order)

    def stop(self, job_id: str, attempt: int, goal: StopGoal) -> None:
        if not self.deaf:
            super().stop(job_id, attempt, goal)


def test_a_launch_that_was_lost_is_ordered_again_with_the_same_attempt(tmp_path: Path) -> None:
    pool = _DeafPool([make_cpu()])
    bench = Bench(tmp_path, pool)
    bench.submit("s-1")
    assert bench["s-1"].state is JobState.STARTING
    pool.deaf = False
    bench.restart()
    bench.turn(2)
    assert bench["s-1"].state is JobState.RUNNING
    assert bench["s-1"].attempt == 1


def test_a_stop_that_was_lost_is_asked_for_again(tmp_path: Path) -> None:
    pool = _DeafPool([make_cpu()])
    pool.deaf = False
    bench = Bench(tmp_path, pool)
    bench.submit("s-1")
    bench.turn()
    pool.deaf = True
    bench.ask(inbox.Cancel(job_ids=("s-1",)))
    pool.deaf = False
    bench.restart()
    bench.turn(2)
    assert bench["s-1"].state is JobState.CANCELLED


def test_an_attempt_that_is_not_wanted_is_stopped(tmp_path: Path) -> None:
    stopped: list[tuple[str, int]] = []

    class Pool(FakePool):
        def stop(self, job_id: str, attempt: int, goal: StopGoal) -> None:
            stopped.append((job_id, attempt))

    bench = Bench(tmp_path, Pool([make_cpu()]))
    bench.turn()
    bench.pool._deliver(Appeared(device=bench.pool.devices[0], running=(("ghost", 3),)), None)
    bench.pool._deliver(Started(job_id="spook", attempt=1, pid=5), None)
    bench.turn()
    assert stopped == [("ghost", 3), ("spook", 1)]


class _StrictPool(FakePool):
    """Asks the disk, whatever it is told, whether that stands in the journal."""

    bench: Bench
    asked = 0

    def _check(self) -> None:
        self.asked += 1
        assert to_snapshot(read_state(self.bench.workspace)) == to_snapshot(self.bench.controller.state)

    def launch(self, order: LaunchOrder) -> None:
        self._check()
        super().launch(order)

    def stop(self, job_id: str, attempt: int, goal: StopGoal) -> None:
        self._check()
        super().stop(job_id, attempt, goal)

    def acknowledge(self) -> None:
        self._check()
        super().acknowledge()


def test_nothing_is_done_before_it_is_on_disk(tmp_path: Path) -> None:
    pool = _StrictPool([make_cpu()])
    bench = pool.bench = Bench(tmp_path, pool)
    bench.submit("s-1", "s-2")
    bench.turn()
    bench.ask(inbox.Cancel(job_ids=("s-1",)))
    bench.turn(3)
    assert pool.asked > 8


def test_a_request_waits_in_the_inbox_until_the_commit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    calls = bench.calls = FullDisk()
    bench.restart()
    write_submission(bench.workspace, "s", [job_line("s-1")])
    message = inbox.Submit(sweep="s")
    inbox.send(bench.workspace, message)
    calls.full = True
    with pytest.raises(OSError, match="No space left"):
        bench.turn()
    assert inbox.is_pending(bench.workspace, message.request)
    calls.full = False
    bench.restart()
    bench.turn()
    assert list(bench.controller.state.jobs) == ["s-1"]
    assert not inbox.is_pending(bench.workspace, message.request)


def test_what_follows_from_the_last_event_of_a_cut_journal_is_done(bench: Bench) -> None:
    write_submission(bench.workspace, "s", [job_line("s-1"), job_line("s-2", ["s-1"])])
    bench.ask(inbox.Submit(sweep="s"))
    bench.turn()
    bench.pool.end("s-1", SUCCESS)
    bench.turn()
    bench.controller.close()
    path = bench.workspace.journal / "00000001.jsonl"
    data = path.read_bytes()
    cut = data.index(b"DependenciesMet")
    path.write_bytes(data[:cut])
    assert read_state(bench.workspace).jobs["s-2"].state is JobState.WAITING
    shutil.rmtree(bench.workspace.run("s-2").root)  # what is not in the journal was not acted on
    bench.pool = FakePool([make_cpu()])
    bench.new_controller()
    bench.turn(3)
    assert bench["s-2"].state is JobState.RUNNING


def test_a_superseded_controller_stops_before_it_writes(bench: Bench) -> None:
    bench.turn()
    old = bench.controller
    old.turn(0)
    bench.new_controller()
    inbox.send(bench.workspace, inbox.Submit(sweep="none"))
    with pytest.raises(LostLease):  # by the commit: its heartbeat is not due yet
        old.turn(0)
    bench.turn()
    old.close()
    assert to_snapshot(read_state(bench.workspace)) == to_snapshot(bench.controller.state)


def test_epochs_go_on_when_the_lease_is_lost(bench: Bench) -> None:
    for _ in range(3):
        bench.restart()
    bench.workspace.lease.unlink()
    bench.restart()
    assert bench.controller.state.epoch == 5


def test_a_damaged_journal_refuses_to_start_and_is_named(bench: Bench) -> None:
    bench.submit("s-1", "s-2")
    bench.controller.close()
    path = bench.workspace.journal / "00000001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"garbage\n", *lines[2:]]))
    with pytest.raises(JournalDamaged, match=r"00000001\.jsonl:2: "):
        bench.new_controller()
    with pytest.raises(UserError, match=r"00000001\.jsonl:2: "):
        read_state(bench.workspace)


def test_a_journal_that_may_not_be_read_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(UserError, match=r"00000001\.jsonl: the queue cannot be read: permission denied"):
        read_state(bench.workspace)


def test_a_full_disk_ends_the_controller_and_the_next_one_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    calls = bench.calls = FullDisk()
    bench.restart()
    bench.submit("s-1")
    bench.turn()
    bench.pool.end("s-1", SUCCESS)
    calls.full = True
    with pytest.raises(OSError, match="No space left"):
        bench.turn()
    bench.controller.close()
    with pytest.raises(OSError, match="No space left"):
        bench.new_controller()
    bench.controller.close()
    calls.full = False
    bench.new_controller()
    bench.turn()
    assert bench["s-1"].state is JobState.COMPLETED


def test_what_may_fail_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Heartbeat, snapshot and live.json on a full disk; an error in a hook."""

    def broken(_: JobRecord) -> None:
        raise RuntimeError("the mail server is away")

    workspace = WorkspacePaths(tmp_path)
    clock, calls = FakeClock(), FullDisk()
    controller = Controller(
        workspace, FakePool([make_cpu()]), clock, hooks=ControllerHooks(finished=broken), calls=calls
    )
    controller.recover()
    write_submission(workspace, "s", [job_line("s-1", entrypoint="lab:succeed")])
    inbox.send(workspace, inbox.Submit(sweep="s"))
    for _ in range(5):
        controller.turn(0)
    assert controller.state.jobs["s-1"].state is JobState.COMPLETED
    assert "the mail server is away" in caplog.text
    calls.full = True
    clock.advance(100.0)
    controller.turn(0)
    assert "lease could not be renewed" in caplog.text
    assert "snapshot after event" in caplog.text
    controller.close()


# clocks


@pytest.mark.parametrize("step_s", [-3600.0, -25.0, 25.0, 3600.0])
def test_a_clock_that_is_set_stops_neither_heartbeat_nor_figures_nor_jobs(bench: Bench, step_s: float) -> None:
    bench.submit("s-1", "s-2")
    bench.turn(2)
    for _ in range(2):
        bench.pool.end("s-1", AttemptEnd(reason=EndReason.CRASHED, first_step_done=True))
        bench.turn()
    record = bench["s-1"]
    assert record.not_before is not None, "it backs off"
    bench.clock.step(step_s)
    beats, figures = set(), set()
    for _ in range(12):
        bench.turn()
        held, shown = lease.read(bench.workspace), live.read(bench.workspace)
        assert held is not None
        assert shown is not None
        beats.add(held.beat)
        figures.add(shown.time)
    assert len(beats) >= 11
    assert len(figures) >= 3
    assert bench["s-1"].attempt == 3
    assert bench["s-1"].state is JobState.RUNNING


@pytest.mark.parametrize("dies", ["node", "agent"])
def test_what_a_lost_attempt_has_saved_is_what_the_next_goes_on_from(bench: Bench, dies: str) -> None:
    """`explain` said "starts again", though the run went on from its checkpoint."""
    bench.submit("s-1")
    bench.turn()
    folder = bench.workspace.run("s-1").checkpoints
    for name in ("step-000000200-a0001", "step-000000360-a0001"):
        (folder / name).mkdir(parents=True)
    launch = bench.workspace.run("s-1").attempt(1).launch
    launch.parent.mkdir(parents=True, exist_ok=True)
    launch.write_text("{}")
    if dies == "node":
        bench.pool.kill_node("here")
    else:
        bench.pool.kill_agent("here:cpu")
        bench.pool.restart_agent("here:cpu")
    bench.turn()
    attempt = bench["s-1"].attempts[0]
    assert attempt.decision.startswith("goes on from step 360")
    assert attempt.end is not None
    assert attempt.end.reason.value == f"{dies}_lost"
