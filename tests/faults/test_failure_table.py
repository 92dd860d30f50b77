"""Each row of the failure table, provoked for real: the evidence, what is done by default, and what `retry:` changes.

Jobs are real processes below a real agent; how each ended is then put through the state machine. GPUs are played by
the NVML port's fake.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from terry.cluster.agent import attempt as agent_job
from terry.cluster.agent import evidence
from terry.cluster.core import events as e
from terry.cluster.core.model import AttemptEnd, EndReason, JobRecord, JobState, RetryPolicy
from terry.cluster.ports import Blocked, Ended
from terry.jobs.process.checkpoints import CheckpointStore
from tests.fakes.pool import FakeGpu
from tests.faults.absent_disk import AbsentDisk
from tests.faults.agent_harness import LIGHT, AgentHarness
from tests.faults.frozen_disk import frozen_disk
from tests.faults.small_disk import SmallDisk, small_disk
from tests.helpers.queue_values import Queue, make_cpu, make_gpu

pytestmark = pytest.mark.timeout(180)

NEVER = RetryPolicy(crash=0, exception=0, device_out_of_memory=0, host_out_of_memory=0, launch=0, disk=0)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHarness]:
    found = AgentHarness(tmp_path_factory.mktemp("table"))
    yield found
    found.close()


def after(end: AttemptEnd, device: str = "here:cpu", **job: Any) -> JobRecord:
    """What becomes of a job whose first attempt ended so."""
    queue = Queue(make_cpu(), make_cpu("there"), make_gpu(), make_gpu(index=1))
    queue.submit("s-1", **job)
    queue.start("s-1", device)
    return hand_in(queue, "s-1", end)


def hand_in(queue: Queue, job: str, end: AttemptEnd) -> JobRecord:
    return queue.end(job, **{f.name: getattr(end, f.name) for f in dataclasses.fields(end)})


def never(end: AttemptEnd) -> JobRecord:
    """The same where `retry:` forgives nothing."""
    record = after(end, retry=NEVER)
    assert record.state is JobState.FAILED
    return record


# segfault, abort, bus error


@pytest.mark.parametrize(
    ("action", "number", "place"),
    [
        ("segfault", signal.SIGSEGV, "string_at"),
        ("abort", signal.SIGABRT, "asked (helpers/failing_jobs.py:"),
        ("bus_error", signal.SIGBUS, "_bus_error (helpers/chaotic_training.py:"),
    ],
)
def test_a_crash_is_named_by_signal_and_place_and_resumed(
    harness: AgentHarness, action: str, number: int, place: str
) -> None:
    harness.launch("failing_jobs:asked", f"{action}-1", parameters={"action": action})
    end = harness.ended(f"{action}-1")
    assert (end.reason, end.signal, end.step) == (EndReason.CRASHED, number, 7)
    assert signal.Signals(number).name in end.message
    assert place in end.message
    stack = harness.run(f"{action}-1").attempt(1).crash.read_text()
    assert "Current thread" in stack
    assert "failing_jobs.py" in stack
    assert after(end).state is JobState.PENDING
    assert after(end).not_before is None, "tried again at once"
    assert "crashed once" in never(end).reason


def test_a_crash_at_the_same_step_again_and_again_is_called_a_loop(harness: AgentHarness) -> None:
    queue = Queue(make_cpu(), make_cpu("there"))
    queue.submit("s-1")
    for attempt in (1, 2, 3):
        harness.launch("failing_jobs:asked", "loop-1", attempt, parameters={"action": "abort"})
        queue.start("s-1")
        record = hand_in(queue, "s-1", harness.ended("loop-1", attempt))
    assert "a crash loop: 3 times at step 7" in record.reason
    assert record.avoid_devices == ("here:cpu",), "after two on one device, another"


def test_the_step_of_a_crash_is_exact_however_fast_the_steps_are(harness: AgentHarness) -> None:
    for attempt in (1, 2):
        harness.launch("failing_jobs:crashes_at", "exact-1", attempt, parameters={"step": 54_321})
        assert harness.ended("exact-1", attempt).step == 54_321


def test_three_jobs_that_crash_on_a_device_drain_it(harness: AgentHarness) -> None:
    queue = Queue(make_cpu(), make_cpu("there"))
    for job in ("hurt-1", "hurt-2", "hurt-3"):
        harness.launch("failing_jobs:asked", job, parameters={"action": "segfault"})
        queue.submit(job)
        queue.start(job)
        hand_in(queue, job, harness.ended(job))
    assert queue.state.devices["here:cpu"].drained
    assert "3 different jobs crashed" in queue.state.devices["here:cpu"].drain_reason


# exceptions


def test_an_exception_before_the_first_step_is_a_bug(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:before_the_first_step", "bug-1")
    end = harness.ended("bug-1")
    assert (end.reason, end.message, end.first_step_done) == (EndReason.EXCEPTION, "KeyError: 'no such setting'", False)
    assert "before_the_first_step" in json.loads(harness.run("bug-1").attempt(1).error.read_bytes())["traceback"]
    assert "before the first step is a bug" in after(end).reason
    assert after(end).state is JobState.FAILED


@pytest.mark.parametrize("action", ["exception", "exit"])
def test_an_exception_later_gets_one_more_try(harness: AgentHarness, action: str) -> None:
    harness.launch("failing_jobs:asked", f"{action}-1", parameters={"action": action})
    end = harness.ended(f"{action}-1")
    assert (end.reason, end.step) == (EndReason.EXCEPTION, 7)
    assert after(end).state is JobState.PENDING
    never(end)


@pytest.mark.parametrize("code", [0, 3])
def test_a_library_that_ends_the_process_is_no_success_and_not_silent(harness: AgentHarness, code: int) -> None:
    harness.launch("failing_jobs:leaves", f"leaves-{code}", parameters={"code": code})
    end = harness.ended(f"leaves-{code}")
    assert (end.reason, end.exit_code, end.step) == (EndReason.EXCEPTION, code, 4)
    assert f"it left with exit code {code}" in end.message
    assert after(end).state is JobState.PENDING


# memory


def test_without_device_memory_it_gets_the_device_to_itself(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:asked", "cuda-1", parameters={"action": "device_memory"})
    end = harness.ended("cuda-1")
    assert end.reason is EndReason.DEVICE_OUT_OF_MEMORY
    assert "20.00 GiB" in end.message
    record = after(end)
    assert (record.state, record.exclusive) == (JobState.PENDING, True)
    assert "make the batch" in never(end).reason


def test_a_memory_error_is_the_hosts(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:asked", "host-1", parameters={"action": "host_memory"})
    end = harness.ended("host-1")
    assert end.reason is EndReason.HOST_OUT_OF_MEMORY
    assert after(end).exclusive
    assert "fewer jobs" in never(end).reason


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A memory cgroup (version 1 or 2) of 400 MiB; needs root."""
    own = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    first = next((path for kinds, path in own.items() if "memory" in kinds.split(",")), None)
    parent = Path("/sys/fs/cgroup", "memory" if first else "", (first or own.get("", "/")).lstrip("/"))
    group = parent / f"terry-test-{os.getpid()}"
    try:
        if not first:
            (parent / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(400 << 20))
    except OSError as error:
        pytest.skip(f"a memory cgroup cannot be made here: {error}")
    yield group
    with contextlib.suppress(OSError):
        group.rmdir()


def test_the_kernels_out_of_memory_killer_takes_the_job_and_is_named(memory_group: Path, tmp_path: Path) -> None:
    join = f"echo $$ > '{memory_group}/cgroup.procs' && exec \"$@\""
    program = [sys.executable, "-m", "tests.faults.agent_harness", str(tmp_path), "failing_jobs:takes_all_memory"]
    done = subprocess.run(
        ["sh", "-c", join, "sh", *program], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout)
    assert (end["reason"], end["signal"], end["step"]) == ("host_out_of_memory", signal.SIGKILL, 3)
    assert "out-of-memory killer" in end["message"]
    assert end["max_rss_bytes"] > 100 << 20


@pytest.mark.parametrize(("just_now", "reason"), [(False, EndReason.KILLED), (True, EndReason.HOST_OUT_OF_MEMORY)])
def test_what_the_kernel_killed_for_memory_long_ago_explains_nothing(
    harness: AgentHarness, monkeypatch: pytest.MonkeyPatch, *, just_now: bool, reason: EndReason
) -> None:
    kernel = SimpleNamespace(kills=7, looks=0)

    def count() -> int:
        kernel.looks += 1
        return int(kernel.kills)

    monkeypatch.setattr(agent_job, "COUNT_KILLS_S", 0.1)
    monkeypatch.setattr(evidence, "out_of_memory_kills", count)
    job = f"elsewhere-{int(just_now)}"
    harness.launch("failing_jobs:waits", job)
    harness.until_step(job)
    kernel.kills, looks = 8, kernel.looks  # on the same node, and nothing to do with it
    while kernel.looks < looks + 3:
        harness.poll()
    if just_now:
        monkeypatch.setattr(agent_job, "COUNT_KILLS_S", 1e9)
        kernel.kills = 9
    os.kill(harness.pid(job), signal.SIGKILL)
    assert harness.ended(job).reason is reason


# not finite


def test_nan_names_tensor_and_step_and_is_final(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:diverges", "nan-1")
    end = harness.ended("nan-1")
    assert (end.reason, end.step) == (EndReason.NOT_FINITE, 41)
    assert "decoder.weight" in end.message
    assert after(end).state is JobState.FAILED


# hangs, signals from outside


def test_a_call_that_does_not_come_back_is_ended_and_shows_where_it_stood(harness: AgentHarness) -> None:
    harness.run("hang-1").root.mkdir(parents=True)
    os.mkfifo(harness.run("hang-1").root / "fifo")
    harness.launch("failing_jobs:stands_still", "hang-1")
    harness.until_step("hang-1", 5)
    harness.call_it_hung_after(1.0, "hang-1")
    end = harness.ended("hang-1")
    assert (end.reason, end.signal, end.step) == (EndReason.HUNG, signal.SIGABRT, 5)
    assert "stands_still" in end.message
    assert after(end).state is JobState.PENDING
    never(end)


def test_a_job_that_is_at_work_without_doing_a_step_is_not_hung(harness: AgentHarness) -> None:
    begun = time.monotonic()
    harness.launch("failing_jobs:validates", "valid-1", parameters={"batches": 25})
    harness.until_step("valid-1", 9)
    harness.call_it_hung_after(0.8, "valid-1")
    assert harness.ended("valid-1").reason is EndReason.HUNG
    assert time.monotonic() - begun > 2.5, "not before it stood still"


def test_a_stopped_process_is_a_hang(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:waits", "stop-1")
    harness.until_step("stop-1")
    harness.call_it_hung_after(1.0, "stop-1")
    os.kill(harness.pid("stop-1"), signal.SIGSTOP)
    assert harness.ended("stop-1").reason is EndReason.HUNG


def test_sigkill_from_outside_is_tried_again_and_held_against_nobody(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:waits", "kill-1")
    harness.until_step("kill-1")
    os.kill(harness.pid("kill-1"), signal.SIGKILL)
    end = harness.ended("kill-1")
    assert end.reason is EndReason.KILLED
    assert after(end).state is JobState.PENDING
    never(end)


def test_sigterm_is_preemption_and_costs_nothing(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:waits", "term-1")
    harness.until_step("term-1")
    os.kill(harness.pid("term-1"), signal.SIGTERM)
    end = harness.ended("term-1")
    assert (end.reason, end.exit_code) == (EndReason.PREEMPTED, 75)
    for policy in (RetryPolicy(), NEVER):
        record = after(end, retry=policy)
        assert (record.state, record.budget.crash, record.not_before) == (JobState.PENDING, 0, None)


def test_a_lost_node_costs_nothing() -> None:
    queue = Queue(make_cpu(), make_cpu("there"))
    queue.submit("s-1", retry=NEVER)
    queue.start("s-1")
    queue.do(e.NodeLost(time=queue.now, node="here", node_id="here@1"))
    record = queue["s-1"]
    assert (record.state, record.attempts[-1].end and record.attempts[-1].end.reason) == (
        JobState.PENDING,
        EndReason.NODE_LOST,
    )


# devices


def test_a_gpu_that_torch_does_not_see_is_a_launch_error(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:wants_a_gpu", "unseen-1")
    end = harness.ended("unseen-1")
    assert end.reason is EndReason.LAUNCH_ERROR
    assert "torch" in end.message
    record = after(end, "quattro:0")
    assert (record.state, record.avoid_devices) == (JobState.PENDING, ("quattro:0",))
    never(end)


@pytest.fixture
def on_gpu(tmp_path: Path) -> Iterator[tuple[AgentHarness, FakeGpu]]:
    gpu = FakeGpu()
    found = AgentHarness(tmp_path, gpu, LIGHT)
    yield found, gpu
    found.close()


def test_a_gpu_that_somebody_else_uses_is_left_alone_and_costs_the_job_nothing(
    on_gpu: tuple[AgentHarness, FakeGpu],
) -> None:
    harness, gpu = on_gpu
    harness.launch("failing_jobs:waits", "mine-1")
    gpu.pids = frozenset({harness.pid("mine-1")})
    harness.launch("failing_jobs:waits", "mine-2")
    harness.until_step("mine-2")  # our own do not count
    gpu.pids |= {os.getpid()}
    harness.launch("failing_jobs:waits", "late-1")
    refused = harness.refusal("late-1")
    assert refused.blocked
    assert "in use by somebody else" in refused.message
    assert f"pid {os.getpid()} (" in refused.message, "with its name and its owner"
    told = harness.until(lambda r: isinstance(r, Blocked))
    assert harness.reports.index(told) < harness.reports.index(refused), "nothing must be placed on it between the two"
    gpu.pids -= {os.getpid()}
    assert harness.until(lambda r: isinstance(r, Blocked) and not r.reason), "and it is looked at again"
    harness.launch("failing_jobs:waits", "late-1", 2)
    harness.until_step("late-1")

    queue = Queue(make_gpu(), make_gpu(index=1))
    queue.submit("s-1")
    for _ in range(10):
        queue.place("s-1", "quattro:0")
        number = queue["s-1"].attempt
        failed = e.LaunchFailed(time=queue.now, job_id="s-1", attempt=number, message=refused.message, blocked=True)
        queue.do(failed)
    record = queue["s-1"]
    assert (record.state, record.avoid_devices, record.not_before) == (JobState.PENDING, (), None)
    assert record.budget.launch == 0


@pytest.mark.parametrize(("xid", "drained"), [(79, True), (31, False)])
def test_an_xid_error_is_told_and_drains_unless_programs_cause_it(
    on_gpu: tuple[AgentHarness, FakeGpu], xid: int, drained: bool
) -> None:
    harness, gpu = on_gpu
    harness.launch("failing_jobs:waits", "xid-1")
    harness.until_step("xid-1")
    gpu.used = 5 << 30
    harness.poll()
    gpu.pending.append(xid)
    os.kill(harness.pid("xid-1"), signal.SIGSEGV)
    end = harness.ended("xid-1")
    assert (end.reason, end.device_memory_bytes) == (EndReason.CRASHED, 5 << 30)
    assert f"Xid {xid}" in end.message
    queue = Queue(make_gpu(), make_gpu(index=1))
    queue.submit("s-1")
    queue.start("s-1", "quattro:0")
    hand_in(queue, "s-1", end)
    assert queue.state.devices["quattro:0"].drained is drained


# disk


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("disk"), 8 << 20) as found:
        yield found


@pytest.mark.parametrize("what", ["logs_for_ever", "prints_for_ever", "saves_for_ever"])
def test_on_a_full_disk_the_job_is_held_and_its_last_checkpoint_stays(disk: SmallDisk, what: str) -> None:
    (disk.folder / what).mkdir()
    harness = AgentHarness(disk.folder / what, runtime=LIGHT)
    try:
        harness.launch(f"failing_jobs:{what}")
        end = harness.ended()
        assert end.reason is EndReason.DISK_FULL, (end, harness.output())
        record = after(end, retry=NEVER)
        assert record.state is JobState.HELD
        assert "no space left" in record.reason.lower()
        assert "make room, then `resume`" in record.reason
        if what == "saves_for_ever":
            checkpoint = CheckpointStore(harness.run().checkpoints, 2).load_latest()
            assert checkpoint is not None
            assert checkpoint.model["weights"].numel() == 50_000 * checkpoint.step
        disk.fill()
        harness.launch("failing_jobs:waits", attempt=2)
        assert harness.ended(attempt=2).reason is EndReason.DISK_FULL, "nor can it be started"
        disk.free()
        shutil.rmtree(harness.run().attempt(1).root)
        harness.launch("failing_jobs:before_the_first_step", attempt=3)
        assert harness.ended(attempt=3).reason is EndReason.EXCEPTION, "with room again it is"
    finally:
        harness.close()
        disk.clear(what)


def test_while_the_disk_stands_still_nobody_is_called_hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_job, "SLOW_S", 0.5)
    with frozen_disk(tmp_path) as disk:
        harness = AgentHarness(disk.folder, runtime=LIGHT)
        try:
            harness.launch("failing_jobs:writes")
            harness.until_step(step=5)
            harness.call_it_hung_after(4.0)
            disk.freeze()
            harness.until_phase("waits for the disk")
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline:
                harness.poll()
            assert not [r for r in harness.reports if isinstance(r, Ended)], "its silence is the disk's"
            disk.thaw()
            harness.until_phase("training")
            harness.call_it_hung_after(60.0)  # at its end it draws its curve, which may take long here
            (harness.run().root / "enough").touch()
            end = harness.ended()
            assert end.reason is EndReason.SUCCESS, end
        finally:
            disk.thaw()
            harness.close()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[tuple[AgentHarness, AbsentDisk]]:
    (tmp_path / "w").mkdir()
    found, disk = AgentHarness(tmp_path / "w", runtime=LIGHT), AbsentDisk(tmp_path / "w")
    yield found, disk
    disk.lift()
    found.close()


def test_a_disk_that_is_gone_is_named_and_waited_for(mount: tuple[AgentHarness, AbsentDisk]) -> None:
    harness, disk = mount
    harness.launch("failing_jobs:looks")
    harness.until_step(step=5)
    hang(disk)
    disk.lose()
    end = harness.ended()
    assert end.reason is EndReason.DISK_LOST, end
    assert after(end, retry=NEVER).state is JobState.HELD, "never FAILED"
    assert after(end).state is JobState.PENDING
    order = harness.order("failing_jobs:looks", attempt=2, write=False)
    harness.agent.launch(order)
    assert harness.ended(attempt=2).reason is EndReason.DISK_LOST, "nor can it be started"
    disk.lift()
    (harness.run().root / "enough").touch()
    harness.launch("failing_jobs:looks", attempt=3)
    assert harness.ended(attempt=3).reason is EndReason.SUCCESS


def test_in_an_empty_mount_point_nothing_is_started(tmp_path: Path) -> None:
    harness = AgentHarness(tmp_path / "w", runtime=LIGHT)
    try:
        (tmp_path / "w").rename(tmp_path / "elsewhere")
        (tmp_path / "w").mkdir()
        harness.agent.launch(harness.order("failing_jobs:looks", write=False))
        end = harness.ended()
        assert end.reason is EndReason.DISK_LOST
        assert "is its file system mounted?" in end.message
        assert list((tmp_path / "w").iterdir()) == []
    finally:
        harness.close()


def hang(disk: AbsentDisk) -> None:
    if not disk.hang():
        pytest.skip("a FUSE file system cannot be mounted here: that needs root and /dev/fuse")


# stale attempts


@pytest.mark.parametrize("saves", [False, True])
def test_an_attempt_that_was_given_up_cannot_touch_its_successors_files(harness: AgentHarness, saves: bool) -> None:
    job = f"stale-{int(saves)}"
    harness.launch("failing_jobs:finishes_late", job, 1, parameters={"saves": saves})
    harness.until_step(job)
    harness.launch("failing_jobs:finishes_late", job, 2, parameters={"saves": False})
    run = harness.run(job)
    (run.root / "finish-2").touch()
    assert harness.ended(job, 2).reason is EndReason.SUCCESS
    before = {p: p.stat().st_mtime_ns for p in (run.result, *run.checkpoints.glob("*/*"))}
    (run.root / "finish-1").touch()
    end = harness.ended(job, 1)
    assert end.reason is EndReason.EXCEPTION
    assert "attempt 2 of" in end.message
    assert {p: p.stat().st_mtime_ns for p in (run.result, *run.checkpoints.glob("*/*"))} == before
    assert json.loads(run.result.read_bytes())["attempt"] == 2
