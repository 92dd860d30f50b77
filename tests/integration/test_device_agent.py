"""The agent with real processes: forkserver, jobs, signals, deaths. No Ray."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from terry.cluster.agent.agent import DeviceAgent
from terry.cluster.agent.forkserver_link import JobProcesses
from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.agent.marks import AGENT_VARIABLE
from terry.cluster.agent.reports import StaleOrder
from terry.cluster.core.model import AttemptEnd, Device, DeviceKind, EndReason, StopGoal
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.processes import find, kill_all, with_environment
from terry.cluster.ports import Ended, LaunchOrder, Refused, Report, Started

HELPERS = Path(__file__).parents[1] / "helpers"
RUNTIME = JobRuntime(
    entry="job_entries:main",
    preload="job_entries:MODULES",
    environment={"PYTHONPATH": str(HELPERS)},
    grace_s=1.0,
)


class Harness:
    """A running agent, and what it has reported."""

    def __init__(self, root: Path, runtime: JobRuntime = RUNTIME) -> None:
        self.workspace = WorkspacePaths(root)
        self.workspace.queue.mkdir()
        self.mark = f"{self.workspace.id}/here:cpu"
        device = Device(id="here:cpu", node="here", node_id="n", kind=DeviceKind.CPU, capacity=2.0)
        environment = {k: v for k, v in os.environ.items() if k != AGENT_VARIABLE}
        log = root / "agent.log"
        processes = JobProcesses(runtime=runtime, environment=environment, log=log, mark=self.mark)
        self.agent = DeviceAgent(device, processes)
        self.incarnation = self.agent.hello(1).device.agent
        self.seen = 0
        self.reports: list[Report] = []
        self.thread = threading.Thread(target=self.agent.run)
        self.thread.start()

    def close(self) -> None:
        self.agent.close()
        self.thread.join(30.0)
        assert not kill_all(lambda: with_environment(AGENT_VARIABLE, self.mark), timeout_s=10.0)

    def launch(self, entrypoint: str, job: str = "job-1", attempt: int = 1, **more: float) -> None:
        self.agent.launch(self.order(entrypoint, job, attempt, **more))

    def order(self, entrypoint: str, job: str = "job-1", attempt: int = 1, **more: float) -> LaunchOrder:
        return LaunchOrder(
            epoch=1,
            job_id=job,
            sweep="s",
            attempt=attempt,
            entrypoint=entrypoint,
            workspace=str(self.workspace.root),
            spec_path="",
            spec_offset=0,
            spec_length=0,
            device_id="here:cpu",
            share=1.0,
            threads=1,
            **more,
        )

    def until(self, fits: Callable[[Report], bool], timeout_s: float = 60.0) -> Report:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for report in self.reports:
                if fits(report):
                    return report
            reply = self.agent.poll(1, self.incarnation, 0, self.seen, 1.0)
            self.reports += [r for n, r in reply.reports if n > self.seen]
            self.seen = max([self.seen, *(n for n, _ in reply.reports)])
        raise AssertionError(f"not reported: {self.reports}")

    def started(self, job: str = "job-1") -> int:
        report = self.until(lambda r: isinstance(r, Started) and r.job_id == job)
        assert isinstance(report, Started)
        return report.pid

    def ended(self, job: str = "job-1") -> AttemptEnd:
        report = self.until(lambda r: isinstance(r, Ended) and r.job_id == job)
        assert isinstance(report, Ended)
        on_disk = self.workspace.run(job).attempt(report.attempt).exit.read_bytes()
        assert msgspec.json.decode(on_disk, type=AttemptEnd) == report.end
        return report.end

    def until_step(self, job: str = "job-1") -> None:
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            reply = self.agent.poll(1, self.incarnation, 0, 10**9, 1.0)
            if any(p.job_id == job and p.step for p in reply.progress):
                return
        raise AssertionError("no progress")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    found = Harness(tmp_path)
    yield found
    found.close()


def test_a_job_runs_in_a_process_of_its_own_with_its_output_in_its_folder(harness: Harness) -> None:
    harness.launch("print")
    end = harness.ended()
    folder = harness.workspace.run("job-1").attempt(1)
    assert (end.reason, end.exit_code, end.step) == (EndReason.SUCCESS, 0, 3)
    assert end.max_rss_bytes > 1_000_000
    assert folder.stdout.read_text() == "to stdout job-1 1\n"
    pid, group = folder.stderr.read_text().split()[2:]
    assert pid == group == str(harness.started())
    assert folder.launch.exists()


def test_exit_codes_are_told(harness: Harness) -> None:
    harness.launch("print:7")
    assert (harness.ended().reason, harness.ended().exit_code) == (EndReason.EXCEPTION, 7)


def test_a_segmentation_fault_is_named_by_its_signal(harness: Harness) -> None:
    harness.launch("segfault")
    end = harness.ended()
    assert (end.reason, end.signal) == (EndReason.CRASHED, signal.SIGSEGV)
    assert end.message.startswith("SIGSEGV")


def test_sigkill_from_outside_is_not_called_a_crash_of_the_job(harness: Harness) -> None:
    harness.launch("wait")
    os.kill(harness.started(), signal.SIGKILL)
    assert harness.ended().reason is EndReason.KILLED


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        (StopGoal.CANCEL, EndReason.CANCELLED),
        (StopGoal.PAUSE, EndReason.PAUSED),
        (StopGoal.PREEMPT, EndReason.PREEMPTED),
    ],
)
def test_a_job_that_is_asked_to_stop_leaves_in_peace(harness: Harness, goal: StopGoal, reason: EndReason) -> None:
    harness.launch("wait")
    harness.until_step()
    harness.agent.stop(1, "job-1", 1, goal)
    assert (harness.ended().reason, harness.ended().exit_code) == (reason, 75)


def test_a_job_that_does_not_leave_is_killed_after_its_grace(harness: Harness) -> None:
    harness.launch("stubborn")
    harness.until_step()
    harness.agent.stop(1, "job-1", 1, StopGoal.CANCEL)
    assert (harness.ended().reason, harness.ended().signal) == (EndReason.CANCELLED, signal.SIGKILL)


def test_a_stopped_process_can_still_be_cancelled(harness: Harness) -> None:
    harness.launch("wait")
    harness.until_step()
    os.kill(harness.started(), signal.SIGSTOP)
    harness.agent.stop(1, "job-1", 1, StopGoal.CANCEL)
    assert harness.ended().reason is EndReason.CANCELLED


def test_a_job_without_a_sign_of_life_is_called_hung_and_shows_its_signal(harness: Harness) -> None:
    harness.launch("wait", hang_after_s=0.5)
    end = harness.ended()
    assert (end.reason, end.signal) == (EndReason.HUNG, signal.SIGABRT)


def test_a_time_limit_lets_the_job_write_its_checkpoint(harness: Harness) -> None:
    harness.launch("wait", time_limit_s=0.5)
    assert (harness.ended().reason, harness.ended().exit_code) == (EndReason.TIME_LIMIT, 75)


def test_what_a_job_leaves_behind_ends_with_it(harness: Harness) -> None:
    harness.launch("parent")
    harness.ended()
    pid = int((harness.workspace.run("job-1").root / "grandchild").read_text())
    process = find(pid)
    assert process is None or not process.alive


def test_the_forkservers_death_ends_its_jobs_and_is_reported_and_another_takes_over(harness: Harness) -> None:
    harness.launch("parent:stay")
    harness.until_step()
    forkserver = harness.agent.forkserver_pid
    assert forkserver is not None
    os.kill(forkserver, signal.SIGKILL)
    assert harness.ended().reason is EndReason.AGENT_LOST
    assert not [p for p in with_environment(AGENT_VARIABLE, harness.mark) if p.pid == harness.started()]
    pid = int((harness.workspace.run("job-1").root / "grandchild").read_text())
    process = find(pid)
    assert process is None or not process.alive
    harness.launch("print", job="job-2")
    assert harness.ended("job-2").reason is EndReason.SUCCESS


def test_an_order_given_twice_is_carried_out_once(harness: Harness) -> None:
    harness.launch("print")
    harness.launch("print")
    harness.ended()
    harness.launch("print")
    harness.launch("print", job="job-2")
    harness.ended("job-2")
    assert len([r for r in harness.reports if isinstance(r, Started) and r.job_id == "job-1"]) == 1


def test_an_attempt_that_was_started_by_another_agent_is_refused(harness: Harness) -> None:
    folder = harness.workspace.run("job-1").attempt(1)
    folder.root.mkdir(parents=True)
    folder.launch.write_text("{}")
    harness.launch("print")
    refused = harness.until(lambda r: isinstance(r, Refused))
    assert isinstance(refused, Refused)
    assert "started before" in refused.message


def test_an_older_controller_is_not_obeyed(harness: Harness) -> None:
    harness.agent.hello(5)
    with pytest.raises(StaleOrder):
        harness.launch("print")
    with pytest.raises(StaleOrder):
        harness.agent.poll(4, harness.incarnation, 0, 0, 1.0)


def test_another_controller_of_the_same_number_is_not_obeyed(harness: Harness) -> None:
    """That of a restored backup counts epochs from yesterday's, and comes to one that is in use."""
    harness.agent.hello(5, "today's")
    harness.agent.hello(5, "today's")
    with pytest.raises(StaleOrder, match="another controller of epoch 5"):
        harness.agent.hello(5, "yesterday's")
    harness.agent.hello(6, "yesterday's")


def test_a_time_limit_does_not_count_while_the_machine_stands_still(harness: Harness) -> None:
    harness.launch("wait", time_limit_s=60.0)
    harness.until_step()
    job, woke = harness.agent._outbox.job(("job-1", 1)), threading.Event()
    assert job is not None

    def pass_95_s(*, also_for_us: bool) -> None:
        job._started -= 95.0
        harness.agent._checked -= 95.0 if also_for_us else 0.0
        woke.set()

    harness.agent._post(lambda: pass_95_s(also_for_us=True))
    assert woke.wait(30.0)
    harness.agent.poll(1, harness.incarnation, 0, 10**9, 1.0)
    assert job._ended_for is None
    harness.agent._post(lambda: pass_95_s(also_for_us=False))
    assert harness.ended().reason is EndReason.TIME_LIMIT, "the machine ran: that is its time"


def test_an_agent_that_was_away_itself_does_not_call_its_jobs_hung(harness: Harness) -> None:
    """Both were frozen for 95 s (or the node was in a snapshot): the job has said nothing, and could not."""
    harness.launch("wait", hang_after_s=30.0)
    harness.until_step()
    job, woke = harness.agent._outbox.job(("job-1", 1)), threading.Event()
    assert job is not None

    def pass_95_s(*, also_for_us: bool) -> None:
        job._moved -= 95.0
        harness.agent._checked -= 95.0 if also_for_us else 0.0
        woke.set()

    harness.agent._post(lambda: pass_95_s(also_for_us=True))
    assert woke.wait(30.0)
    harness.agent.poll(1, harness.incarnation, 0, 10**9, 1.0)
    assert job in harness.agent._outbox.jobs
    assert job._ended_for is None
    harness.agent._post(lambda: pass_95_s(also_for_us=False))
    assert harness.ended().reason is EndReason.HUNG, "nobody was away: that is silence"


def test_reports_are_offered_until_they_are_acknowledged(harness: Harness) -> None:
    harness.launch("print")
    harness.ended()
    first = harness.agent.poll(1, harness.incarnation, 0, 0, 1.0).reports
    again = harness.agent.poll(1, harness.incarnation, 0, 0, 1.0).reports
    assert len(first) == 2
    assert first == again
    assert harness.agent.poll(1, harness.incarnation, first[0][0], 0, 0.0).reports == first[1:]


def test_a_controller_that_did_not_hear_the_acknowledged_reports_waits_for_new_ones(harness: Harness) -> None:
    """Its numbers begin at 0 again: that must not make the agent answer at once, for ever, with nothing."""
    harness.launch("print")
    harness.ended()
    heir = harness.agent.hello(2)
    harness.agent.poll(2, harness.incarnation, harness.seen, harness.seen, 0.0)
    assert heir.reports
    before = time.monotonic()
    assert harness.agent.poll(2, harness.incarnation, 0, 0, 0.5).reports == ()
    assert time.monotonic() - before >= 0.5


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Harness]:
    """With a small forkserver for light jobs beside the large one."""
    found = Harness(tmp_path, replace(RUNTIME, light_preload="job_entries:LIGHT_MODULES", draws=True))
    yield found
    found.close()


def test_a_light_job_is_forked_from_the_small_forkserver_and_any_other_from_the_large_one(two: Harness) -> None:
    two.launch("preloaded", "job-1", light=True)
    two.launch("preloaded", "job-2")
    for job, said in (("job-1", "small"), ("job-2", "large")):
        assert two.ended(job).reason is EndReason.SUCCESS
        assert two.workspace.run(job).attempt(1).stdout.read_text() == f"{said}\n"


def test_with_one_forkserver_the_jobs_of_both_are_lost_and_both_begin_anew(two: Harness) -> None:
    two.launch("wait", "job-1", light=True)
    two.launch("wait", "job-2")
    jobs = [two.started("job-1"), two.started("job-2")]
    two.until_step("job-1")
    two.until_step("job-2")
    lost = two.agent.forkserver_pid
    assert lost is not None
    os.kill(lost, signal.SIGKILL)
    assert {two.ended(job).reason for job in ("job-1", "job-2")} == {EndReason.AGENT_LOST}
    assert not any(process.alive for pid in jobs if (process := find(pid)) is not None)
    two.launch("preloaded", "job-3", light=True)
    two.launch("preloaded", "job-4")
    assert {two.ended(job).reason for job in ("job-3", "job-4")} == {EndReason.SUCCESS}


def test_pictures_are_left_until_the_device_is_idle(two: Harness) -> None:
    two.launch("print", "job-1", light=True)
    two.launch("print:7", "job-2")
    assert two.ended("job-1").reason is EndReason.SUCCESS
    assert two.ended("job-2").reason is EndReason.EXCEPTION
    drawn = two.workspace.root / "drawn-job-1"
    deadline = time.monotonic() + 60.0
    while not drawn.exists() and time.monotonic() < deadline:
        two.agent.poll(1, two.incarnation, 0, 10**9, 0.5)
    assert drawn.exists()
    assert not (two.workspace.root / "drawn-job-2").exists(), "it has failed"


def test_jobs_die_with_their_agent(tmp_path: Path) -> None:
    script = (
        "import sys, threading; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path; from tests.integration.test_device_agent import Harness\n"
        "h = Harness(Path(sys.argv[1])); h.launch('wait'); h.until_step()\n"
        "print(h.started(), flush=True); threading.Event().wait()\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as agent:
        assert agent.stdout is not None
        job = find(int(agent.stdout.readline()))
        assert job is not None
        fd = os.pidfd_open(job.pid)
        agent.kill()
        signalled = threading.Event()
        threading.Thread(target=lambda: (_wait_for(fd), signalled.set())).start()
        assert signalled.wait(10.0)
        os.close(fd)
    assert not with_environment(AGENT_VARIABLE, f"{WorkspacePaths(tmp_path).id}/here:cpu")


def _wait_for(pidfd: int) -> None:
    select.select([pidfd], [], [])
