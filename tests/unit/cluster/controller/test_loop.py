"""The controller: requests, reports, and taking over."""

from __future__ import annotations

import errno
import itertools
import logging
import os
from pathlib import Path

import pytest

from terry.cluster.controller import requests
from terry.cluster.controller.loop import Controller
from terry.cluster.core.model import AttemptEnd, EndReason, JobState
from terry.cluster.files import inbox, lease, live
from terry.cluster.files.durable import Calls
from terry.cluster.files.inbox import Letter
from terry.cluster.ports import LaunchOrder
from terry.cluster.scheduling.plan import why_waiting
from tests.fakes.pool import FakePool
from tests.helpers.controller_bench import SUCCESS, Bench
from tests.helpers.queue_values import NoSync, job_line, make_cpu, make_gpu, write_submission


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_from_submission_to_completion(bench: Bench) -> None:
    bench.submit("s-1", "s-2", "s-3")
    bench.turn()
    assert [bench[j].state for j in ("s-1", "s-2", "s-3")] == [JobState.RUNNING, JobState.RUNNING, JobState.PENDING]
    bench.pool.end("s-1", SUCCESS)
    bench.turn(2)
    assert [bench[j].state for j in ("s-1", "s-2", "s-3")] == [JobState.COMPLETED, JobState.RUNNING, JobState.RUNNING]
    assert [record.job.id for record in bench.finished] == ["s-1"]


def test_the_order_says_all_that_an_agent_needs(tmp_path: Path) -> None:
    orders: list[LaunchOrder] = []

    class Pool(FakePool):
        def launch(self, order: LaunchOrder) -> None:
            orders.append(order)

    bench = Bench(tmp_path, Pool([make_gpu(index=0), make_gpu(index=1), make_cpu(cores=8.0)]))
    lines = [
        job_line("s-1", resources={"gpus": 0.5}, time_limit_s=60.0),
        job_line("s-2", resources={"cpus": 3.0}),
        job_line("s-3", resources={"cpus": 0.5}, threads=2),
    ]
    write_submission(bench.workspace, "s", lines)
    bench.ask(inbox.Submit(sweep="s"))
    bench.turn()
    assert {o.job_id: o.threads for o in orders} == {"s-1": 4, "s-2": 3, "s-3": 2}
    order = next(o for o in orders if o.job_id == "s-2")
    path = bench.workspace.root / order.spec_path
    assert path.read_bytes()[order.spec_offset :][: order.spec_length] == lines[1].encode()
    assert (order.epoch, order.attempt, order.entrypoint, order.device_id) == (1, 1, "lab:wait", "here:cpu")
    assert order.workspace == str(bench.workspace.root)


def test_a_job_may_use_its_share_of_a_gpus_memory_and_all_of_it_once_it_has_the_gpu_to_itself(tmp_path: Path) -> None:
    orders: list[LaunchOrder] = []

    class Pool(FakePool):
        def launch(self, order: LaunchOrder) -> None:
            orders.append(order)
            super().launch(order)

    bench = Bench(tmp_path, Pool([make_gpu()]))
    bench.submit("s-1", resources={"gpus": 0.25, "mps": True})
    bench.turn()
    bench.pool.end("s-1", AttemptEnd(reason=EndReason.DEVICE_OUT_OF_MEMORY, first_step_done=True))
    bench.turn()
    assert [(o.attempt, o.share, o.memory_share, o.mps) for o in orders] == [
        (1, 0.25, 0.25, True),
        (2, 0.25, 1.0, True),
    ]


def test_a_grown_sweep_adds_only_what_is_new(bench: Bench) -> None:
    bench.submit("s-1")
    write_submission(bench.workspace, "s", [job_line("s-1"), job_line("s-2")], number=2)
    write_submission(bench.workspace, "s", [job_line("s-3")], number=3)
    assert bench.ask(inbox.Submit(sweep="s")) == "added 2 jobs"
    assert bench.ask(inbox.Submit(sweep="s")) == "added 0 jobs"
    assert list(bench.controller.state.jobs) == ["s-1", "s-2", "s-3"]
    assert bench.controller.state.submissions == {"s": 3}


def test_jobs_may_stand_before_what_they_depend_on(bench: Bench) -> None:
    lines = [job_line("s-1", ["s-3"]), job_line("s-2", ["s-1"]), job_line("s-3")]
    write_submission(bench.workspace, "s", lines)
    bench.ask(inbox.Submit(sweep="s"))
    assert [bench[j].state for j in ("s-1", "s-2", "s-3")] == [JobState.WAITING, JobState.WAITING, JobState.STARTING]


def test_jobs_in_a_circle_are_cancelled(bench: Bench) -> None:
    write_submission(bench.workspace, "s", [job_line("s-1", ["s-2"]), job_line("s-2", ["s-1"]), job_line("s-3")])
    bench.ask(inbox.Submit(sweep="s"))
    assert [bench[j].state for j in ("s-1", "s-2", "s-3")] == [
        JobState.CANCELLED,
        JobState.CANCELLED,
        JobState.STARTING,
    ]


@pytest.mark.parametrize(
    "bad",
    ["{", '{"job": {}}', '{"job": {"id": "../x"}}', job_line("../../etc"), job_line("s-1", resources={"cpus": "x"})],
)
def test_a_submission_that_cannot_be_read_is_left_out_whole_and_named(
    bench: Bench, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_submission(bench.workspace, "s", [job_line("s-0"), bad])
    assert bench.ask(inbox.Submit(sweep="s")) == "added 0 jobs"
    assert "jobs.jsonl:2: this is no job" in caplog.text
    bench.submit("s-7", number=2)
    assert list(bench.controller.state.jobs) == ["s-7"]


def test_a_submission_on_a_disk_that_is_away_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_submission(bench.workspace, "s", [job_line("s-1")])
    inbox.send(bench.workspace, inbox.Submit(sweep="s"))

    def away(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(requests, "read_jobs", away)
        bench.turn()
    assert bench.controller.state.jobs == {}
    bench.turn()
    assert list(bench.controller.state.jobs) == ["s-1"]


def test_cancel_pause_resume_resubmit_priority(bench: Bench) -> None:
    bench.submit("s-1", "s-2", "s-3", "s-4")
    bench.turn()
    assert bench.ask(inbox.Cancel(job_ids=("s-1", "s-3"))) == "cancelled 2 jobs"
    assert bench.ask(inbox.Pause(job_ids=("s-2", "s-4", "s-3"))) == "paused 2 jobs, 1 left as they were"
    bench.turn()
    states = [bench[j].state for j in ("s-1", "s-2", "s-3", "s-4")]
    assert states == [JobState.CANCELLED, JobState.HELD, JobState.CANCELLED, JobState.HELD]
    assert bench[("s-1")].attempts[-1].end == AttemptEnd(reason=EndReason.CANCELLED)
    assert bench.ask(inbox.SetPriority(job_ids=("s-4", "nobody"), priority=3)) == (
        "changed the priority of 1 jobs, 1 refused"
    )
    assert bench.ask(inbox.Resume(job_ids=("s-2", "s-4"))) == "resumed 2 jobs"
    assert bench.ask(inbox.Resubmit(job_ids=("s-1", "s-2"), from_scratch=True)) == (
        "resubmitted 1 jobs, 1 left as they were"
    )
    assert bench["s-1"].series == 2
    assert bench["s-1"].from_scratch


def test_resubmitting_brings_back_what_is_needed(bench: Bench) -> None:
    bench.submit("s-0")
    write_submission(bench.workspace, "s", [job_line("s-1", ["s-0"]), job_line("s-2", ["s-1"])], number=2)
    bench.ask(inbox.Submit(sweep="s"))
    bench.ask(inbox.Cancel(job_ids=("s-0",)))
    bench.turn()
    bench.ask(inbox.Resubmit(job_ids=("s-2",)))
    assert [bench[j].state for j in ("s-0", "s-1", "s-2")] == [JobState.STARTING, JobState.WAITING, JobState.WAITING]


def test_a_request_is_acted_on_once(bench: Bench) -> None:
    bench.submit("s-1")
    message = inbox.Cancel(job_ids=("s-1",))
    bench.ask(message)
    bench.turn()
    bench.ask(inbox.Resubmit(job_ids=("s-1",)))
    inbox.send(bench.workspace, message)  # as after a crash between the commit and the move to `done`
    bench.turn(2)
    assert bench["s-1"].state is JobState.RUNNING


def test_drain_moves_jobs_and_undrain_lets_them_back(bench: Bench) -> None:
    bench.submit("s-1")
    bench.turn()
    bench.ask(inbox.Drain(device="here:cpu"))
    bench.turn(2)
    assert bench["s-1"].state is JobState.PENDING
    bench.ask(inbox.Undrain(device="here:cpu"))
    bench.turn()
    assert bench["s-1"].state is JobState.RUNNING
    assert bench.ask(inbox.Drain(device="nowhere:0")) == "there is no device nowhere:0"


def test_a_job_on_a_device_that_others_take_waits_unharmed_and_other_controllers_know_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePool([make_gpu()]))
    bench.pool.block("quattro:0", "in use by bob")  # the queue has not heard of it when it places the job
    bench.submit("s-1", resources={"gpus": 1.0}, retry={"launch": 0})
    bench.turn(3)
    assert bench["s-1"].state is JobState.PENDING
    assert why_waiting(bench.controller.state, "s-1", bench.clock.now()) == "waits for a GPU: in use by bob"
    assert bench.controller.state.devices["quattro:0"].blocked == "in use by bob"
    tries = bench["s-1"].attempt
    bench.restart()
    bench.turn(3)
    assert (bench["s-1"].state, bench["s-1"].attempt) == (JobState.PENDING, tries), "the next one need not try it"
    bench.pool.block("quattro:0", "")
    bench.turn(3)
    assert bench["s-1"].state is JobState.RUNNING
    assert bench["s-1"].budget.launch == 0


def test_only_the_owner_of_a_job_or_of_the_workspace_may_ask(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.submit("s-1")
    stranger = 12345
    assert stranger not in {os.getuid(), bench.workspace.root.stat().st_uid}

    def note(message: inbox.Message, uid: int) -> str:
        letter = Letter(message=message, path=Path("x"), uid=uid)
        answer = requests.answer(bench.controller.state, bench.workspace, letter, bench.clock.now())
        try:
            while True:
                next(answer)
        except StopIteration as end:
            return str(end.value)

    assert note(inbox.Cancel(job_ids=("s-1",)), stranger) == "cancelled 0 jobs, 1 refused"
    assert note(inbox.Drain(device="here:cpu"), stranger).startswith("refused")
    assert note(inbox.Shutdown(), stranger).startswith("refused")
    letter = Letter(message=inbox.Shutdown(), path=Path("x"), uid=stranger)
    assert not requests.is_shutdown(bench.controller.state, bench.workspace, letter)
    monkeypatch.setattr(requests, "owner_name", lambda uid: bench["s-1"].job.owner if uid == stranger else "?")
    assert note(inbox.Cancel(job_ids=("s-1",)), stranger) == "cancelled 1 jobs"


def test_the_owner_of_a_job_is_who_wrote_the_submission(bench: Bench) -> None:
    bench.submit("s-1", owner="somebody-else")
    import pwd

    assert bench["s-1"].job.owner == pwd.getpwuid(os.getuid()).pw_name


def test_shutdown_preempts_and_ends_and_the_next_start_goes_on(bench: Bench) -> None:
    bench.submit("s-1", "s-2", "s-3")
    bench.turn()
    inbox.send(bench.workspace, inbox.Shutdown())
    while not bench.controller.stopped:
        bench.controller.turn(0)
    assert bench.pool.running() == {}
    found = lease.read(bench.workspace)
    assert found is not None
    assert found.stopped
    bench.new_controller()
    bench.turn(2)
    assert [bench[j].state for j in ("s-1", "s-2", "s-3")] == [JobState.RUNNING, JobState.RUNNING, JobState.PENDING]
    assert bench["s-1"].attempts[0].end == AttemptEnd(reason=EndReason.PREEMPTED)


def test_a_shutdown_that_was_meant_for_an_earlier_controller_is_not_obeyed(bench: Bench) -> None:
    bench.submit("s-1")
    epoch = bench.controller.state.epoch
    bench.new_controller()
    inbox.send(bench.workspace, inbox.Shutdown(epoch=epoch))
    bench.turn(3)
    assert not bench.controller.stopped
    assert bench["s-1"].state is JobState.RUNNING
    inbox.send(bench.workspace, inbox.Shutdown(epoch=bench.controller.state.epoch))
    while not bench.controller.stopped:
        bench.controller.turn(0)


def test_run_returns_after_a_shutdown(bench: Bench) -> None:
    bench.controller.close()
    inbox.send(bench.workspace, inbox.Shutdown())
    controller = Controller(bench.workspace, bench.pool, bench.clock)
    controller.run()
    assert controller.stopped


def test_progress_is_shown_of_what_runs_and_forgotten_after(bench: Bench) -> None:
    bench.submit("s-1")
    bench.turn(3)
    shown = live.read(bench.workspace)
    assert shown is not None
    assert [(p.job_id, p.attempt, p.step) for p in shown.progress] == [("s-1", 1, 1)]
    assert [d.device.id for d in shown.devices] == ["here:cpu"]
    bench.pool.end("s-1", SUCCESS)
    bench.turn(2)
    shown = live.read(bench.workspace)
    assert shown is not None
    assert shown.progress == ()


def test_back_off_ends_by_itself(bench: Bench) -> None:
    bench.submit("s-1", entrypoint="lab:crash")
    for _ in range(2):  # the first crash is followed by another attempt at once
        bench.controller.turn(0)
    assert bench["s-1"].state is JobState.PENDING
    assert bench["s-1"].attempt == 2
    assert bench.controller._poll_timeout(60.0) == 1.0
    bench.clock.advance(1.0)
    bench.turn()
    assert bench["s-1"].attempt == 3


def test_snapshots_are_taken_two_are_kept_and_the_journal_is_pruned(bench: Bench) -> None:
    bench.submit("s-1")
    for _ in range(6):
        bench.ask(inbox.SetPriority(job_ids=("s-1",), priority=bench["s-1"].priority + 1))
        bench.clock.advance(100.0)
    assert len(bench.workspace.snapshots()) == 2
    first = min(int(p.stem) for p in bench.workspace.journal.iterdir())
    assert first == bench.workspace.snapshots()[0][0] + 1
    bench.restart()
    bench.turn()
    assert bench["s-1"].priority == 6


def test_nothing_is_logged_as_an_error_in_a_quiet_life(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.submit("s-1", "s-2", entrypoint="lab:succeed")
    bench.turn(5)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert issubclass(NoSync, Calls)


def test_a_submission_that_cannot_be_read_is_tried_again_ever_later_and_taken_once_it_can_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member with umask 077: five tries a second filled the log, and other requests went on all the same."""
    tries: list[float] = []
    closed = [True]
    real = requests.read_jobs

    def read_jobs(workspace: object, folder: Path) -> object:
        if "closed" in str(folder):
            tries.append(bench.clock.monotonic())
            if closed[0]:
                raise PermissionError(errno.EACCES, "Permission denied", str(folder / "jobs.jsonl"))
        return real(workspace, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(requests, "read_jobs", read_jobs)
    write_submission(bench.workspace, "closed", [job_line("closed-1", sweep="closed")])
    inbox.send(bench.workspace, inbox.Submit(sweep="closed"), bench.calls)
    bench.turn(120)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses[:5] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert set(pauses[5:]) == {30.0}
    bench.submit("s-1")
    assert bench["s-1"].state is JobState.STARTING, "others do not wait for it"
    closed[0] = False
    bench.turn(31)
    assert "closed-1" in bench.controller.state.jobs


def test_a_sweep_whose_folder_is_closed_is_not_taken_for_an_empty_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a glob a folder that may not be read has nothing in it."""
    write_submission(bench.workspace, "closed", [job_line("closed-1", sweep="closed")])
    message = inbox.Submit(sweep="closed")
    inbox.send(bench.workspace, message, bench.calls)
    real = os.listdir

    def listdir(folder: Path) -> list[str]:
        if folder == bench.workspace.sweep("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return real(folder)

    with monkeypatch.context() as closed:
        closed.setattr(requests.os, "listdir", listdir)
        bench.turn(3)
    assert inbox.is_pending(bench.workspace, message.request)
    bench.turn(5)
    assert "closed-1" in bench.controller.state.jobs
