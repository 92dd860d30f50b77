"""Why an attempt ended, judged from evidence."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest

from terry.cluster.agent import evidence
from terry.cluster.agent.evidence import ErrorReport, Evidence, judge
from terry.cluster.core.model import EndReason, StopGoal
from terry.cluster.files.paths import WorkspacePaths

STACK = """Fatal Python error: Segmentation fault

Thread 0x00007f1111111111 (most recent call first):
  File "/lib/python3.11/threading.py", line 327 in wait

Current thread 0x00007f0000000000 (most recent call first):
  File "/site-packages/terry/models/cells.py", line 41 in forward
  File "/site-packages/terry/models/trainer.py", line 210 in _step
"""


def exited(code: int) -> int:
    return code << 8


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Evidence(status=exited(0)), EndReason.SUCCESS),
        (Evidence(status=exited(75), goal=StopGoal.CANCEL), EndReason.CANCELLED),
        (Evidence(status=exited(75), goal=StopGoal.PAUSE), EndReason.PAUSED),
        (Evidence(status=exited(75), goal=StopGoal.PREEMPT), EndReason.PREEMPTED),
        (Evidence(status=exited(75)), EndReason.PREEMPTED),
        (Evidence(status=exited(75), ended_for=EndReason.TIME_LIMIT), EndReason.TIME_LIMIT),
        (Evidence(status=exited(0), goal=StopGoal.CANCEL), EndReason.SUCCESS),
        (Evidence(status=exited(0), returned=False), EndReason.EXCEPTION),
        (Evidence(status=exited(74)), EndReason.DISK_FULL),
        (Evidence(status=exited(72)), EndReason.DISK_LOST),
        (Evidence(status=exited(1)), EndReason.EXCEPTION),
        (Evidence(status=exited(1), error=ErrorReport(reason=EndReason.NOT_FINITE)), EndReason.NOT_FINITE),
        (Evidence(status=signal.SIGSEGV), EndReason.CRASHED),
        (Evidence(status=signal.SIGABRT), EndReason.CRASHED),
        (Evidence(status=signal.SIGABRT, ended_for=EndReason.HUNG), EndReason.HUNG),
        (Evidence(status=signal.SIGKILL), EndReason.KILLED),
        (Evidence(status=signal.SIGKILL, out_of_memory_kills=1), EndReason.HOST_OUT_OF_MEMORY),
        (Evidence(status=signal.SIGKILL, goal=StopGoal.PAUSE), EndReason.PAUSED),
        (Evidence(status=signal.SIGKILL, goal=StopGoal.PAUSE, out_of_memory_kills=1), EndReason.PAUSED),
        (Evidence(status=None), EndReason.AGENT_LOST),
        (Evidence(status=signal.SIGSEGV, finished=True), EndReason.SUCCESS),
        (Evidence(status=signal.SIGABRT, ended_for=EndReason.HUNG, finished=True), EndReason.SUCCESS),
        (Evidence(status=exited(3), finished=True), EndReason.SUCCESS),
        (Evidence(status=exited(75), goal=StopGoal.CANCEL, finished=True), EndReason.SUCCESS),
        (Evidence(status=None, finished=True), EndReason.SUCCESS),
    ],
)
def test_the_reason(found: Evidence, reason: EndReason) -> None:
    assert judge(found).reason is reason


def test_an_end_after_the_result_is_told_but_is_no_failure() -> None:
    end = judge(Evidence(status=signal.SIGSEGV, stack=STACK, finished=True))
    assert end.message == "after its result was handed in: SIGSEGV in forward (models/cells.py:41)"


def test_a_crash_names_signal_and_place() -> None:
    end = judge(Evidence(status=signal.SIGSEGV, stack=STACK, step=41_200, checkpoint_step=41_000))
    assert end.message == "SIGSEGV in forward (models/cells.py:41)"
    assert (end.signal, end.step, end.checkpoint_step, end.exit_code) == (11, 41_200, 41_000, None)
    assert end.first_step_done


@pytest.mark.parametrize("ours", ["jobs/process/child.py", "cluster/agent/forkserver.py"])
def test_a_crash_in_a_librarys_code_names_who_called_it_too(ours: str) -> None:
    """Not what stands below every job."""
    assert (Path(__file__).parents[4] / ours).is_file()
    stack = f"""Fatal Python error: Segmentation fault

Current thread 0x00007f0000000000 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1751 in _call_impl
  File "/home/ahab/runs/a-1/source/lab.py", line 12 in look_up
  File "/venv/lib/python3.11/site-packages/terry/{ours}", line 71 in _run
"""
    message = judge(Evidence(status=signal.SIGSEGV, stack=stack)).message
    assert message == "SIGSEGV in string_at (ctypes/__init__.py:519), called by look_up (source/lab.py:12)"


def test_what_a_process_says_at_length_is_kept_in_short() -> None:
    """The journal keeps it for ever, and every controller reads it again."""
    report = ErrorReport(reason=EndReason.EXCEPTION, message=f"ValueError: {'x' * 5_000_000}")
    message = judge(Evidence(status=exited(1), error=report)).message
    assert message.startswith("ValueError: xxx")
    assert message.endswith(" ...")
    assert len(message) < 2100


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert judge(Evidence(status=40)).message == "signal 40"


def test_an_error_report_knows_its_own_step() -> None:
    report = ErrorReport(reason=EndReason.EXCEPTION, message="ValueError: no", step=7, first_step_done=True)
    end = judge(Evidence(status=exited(1), error=report, step=3))
    assert (end.step, end.message, end.exit_code) == (7, "ValueError: no", 1)


def test_a_run_that_its_sweeps_rule_ended_is_no_plain_success() -> None:
    early = ErrorReport(reason=EndReason.STOPPED_EARLY, message="place 7 of 9", step=40, first_step_done=True)
    end = judge(Evidence(status=exited(0), early=early, step=39))
    assert (end.reason, end.message, end.step) == (EndReason.STOPPED_EARLY, "place 7 of 9", 40)
    killed = judge(Evidence(status=9, early=early))
    assert killed.reason is EndReason.KILLED, "it had not left yet: another attempt will say it again"


GONE = OSError(errno.ENOTCONN, "Transport endpoint is not connected")


@pytest.mark.parametrize(
    ("found", "error", "reason"),
    [
        (Evidence(status=signal.SIGBUS), GONE, EndReason.DISK_LOST),
        (Evidence(status=exited(1)), GONE, EndReason.DISK_LOST),
        (Evidence(status=exited(1)), OSError(errno.ENOSPC, "No space left on device"), EndReason.DISK_FULL),
        (Evidence(status=signal.SIGBUS), OSError(errno.EACCES, "Permission denied"), EndReason.CRASHED),
        (Evidence(status=signal.SIGSEGV), GONE, EndReason.CRASHED),
        (
            Evidence(status=exited(1), error=ErrorReport(reason=EndReason.EXCEPTION, message="KeyError: 'x'")),
            GONE,
            EndReason.EXCEPTION,
        ),
        (Evidence(status=exited(0)), GONE, EndReason.SUCCESS),
    ],
)
def test_what_a_disk_that_is_gone_explains(found: Evidence, error: OSError, reason: EndReason) -> None:
    end = evidence.blame_disk(judge(found), error)
    assert end.reason is reason
    assert "exit.json could not be written" in end.message


def test_what_cannot_be_read_is_taken_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = WorkspacePaths(tmp_path).run("a-1")

    def gone(*_: object, **__: object) -> bytes:
        raise GONE

    for name in ("read_text", "read_bytes"):
        monkeypatch.setattr(Path, name, gone)
    monkeypatch.setattr("terry.cluster.agent.evidence.os.listdir", gone)
    assert evidence.read_error(run.attempt(1)) is None
    assert evidence.read_stack(run.attempt(1)) == ""
    assert evidence.newest_checkpoint_step(run) is None


def test_a_half_written_report_counts_as_none(tmp_path: Path) -> None:
    folder = WorkspacePaths(tmp_path).run("a-1").attempt(1)
    folder.root.mkdir(parents=True)
    assert evidence.read_error(folder) is None
    folder.error.write_text('{"reason": "exc')
    assert evidence.read_error(folder) is None
    assert evidence.read_stack(folder) == ""


def test_the_newest_checkpoint_counts(tmp_path: Path) -> None:
    run = WorkspacePaths(tmp_path).run("a-1")
    assert evidence.newest_checkpoint_step(run) is None
    for name in ("step-000000120-a0001", "step-000000090-a0002", ".step-000000500-a0002.ab12.tmp", "other"):
        (run.checkpoints / name).mkdir(parents=True)
    assert evidence.newest_checkpoint_step(run) == 120


def test_the_kernels_counters_only_grow() -> None:
    assert 0 <= evidence.out_of_memory_kills() <= evidence.out_of_memory_kills()
