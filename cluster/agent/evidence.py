"""Why an attempt ended: from exit status, stacks, the error it left, and counters; never from elapsed time alone."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from terry.cluster.agent.gpu import fault_of
from terry.cluster.core.model import SUCCESSES, AttemptEnd, EndReason, StopGoal
from terry.cluster.files.paths import AttemptFolder, Run, checkpoint_key

#: Exit code of a job that wrote its checkpoint and left because it was asked to (sysexits.h: EX_TEMPFAIL).
EXIT_STOPPED = 75
#: Exit code of a job that found no room on the disk, not even to say so (sysexits.h: EX_IOERR).
EXIT_DISK_FULL = 74
#: Exit code of a job that found its workspace's file system gone (sysexits.h: EX_OSFILE).
EXIT_DISK_LOST = 72

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: What file systems say that are gone: a network's, a broken disk's, one whose server has died. ETIMEDOUT (NFS mounted
#: `soft`) counts only where a file is named: sockets say it, too.
_DISK_LOST = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO})

_log = logging.getLogger(__name__)

_STOPPED = {
    StopGoal.CANCEL: EndReason.CANCELLED,
    StopGoal.PAUSE: EndReason.PAUSED,
    StopGoal.PREEMPT: EndReason.PREEMPTED,
}
#: A message is kept for ever in the journal: up to so many characters.
_MESSAGE = 2000
_NO_REPORT = "without an exception (os._exit, or exit() in a library); see stderr.log"
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>\S+)')
#: Frames of others' code, and of ours that every job has below its own.
_FOREIGN = re.compile(r"/site-packages/(?!terry/)|/lib/python3\.\d+/|^<")
_BELOW = re.compile(r"/(jobs/process/child|cluster/agent/forkserver)\.py$")


class ErrorReport(msgspec.Struct, frozen=True, kw_only=True):
    """error.json: what the process itself says about its failure; early.json: why it is done before its end."""

    reason: EndReason
    message: str = ""
    traceback: str = ""
    step: int | None = None
    first_step_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known when a process is gone."""

    status: int | None  #: wait status; None: the process was lost with its forkserver
    returned: bool = True  #: its entry point returned; else exit code 0 means nothing
    finished: bool = False  #: its result is on the disk
    ended_for: EndReason | None = None  #: we ended it for this: HUNG, TIME_LIMIT
    goal: StopGoal | None = None  #: it was asked to stop
    error: ErrorReport | None = None
    early: ErrorReport | None = None  #: it ended itself by its sweep's rule
    stack: str = ""  #: faulthandler's report
    out_of_memory_kills: int = 0  #: by the kernel in our memory cgroup while it ran
    step: int | None = None
    checkpoint_step: int | None = None
    max_rss_bytes: int = 0
    cpu_s: float = 0.0
    xids: tuple[int, ...] = ()  #: errors of the GPU meanwhile
    device_memory_bytes: int = 0


def judge(evidence: Evidence) -> AttemptEnd:
    """Name the reason. Pure."""
    reason, message = _judge(evidence)
    if evidence.finished and reason not in SUCCESSES:  # a result that was handed in is a result
        message = f"after its result was handed in: {message or reason}"
        reason = EndReason.SUCCESS if evidence.early is None else EndReason.STOPPED_EARLY
    if evidence.xids and reason not in SUCCESSES:
        message += f" (the GPU reported {', '.join(f'Xid {number}' for number in dict.fromkeys(evidence.xids))})"
    if len(message) > _MESSAGE:
        message = f"{message[:_MESSAGE]} ..."
    status = evidence.status
    error = evidence.early if reason is EndReason.STOPPED_EARLY else evidence.error
    return AttemptEnd(
        reason=reason,
        exit_code=os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
        signal=os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None,
        message=message,
        step=error.step if error and error.step is not None else evidence.step,
        device_fault="; ".join(filter(None, map(fault_of, dict.fromkeys(evidence.xids)))),
        checkpoint_step=evidence.checkpoint_step,
        first_step_done=bool(error and error.first_step_done) or (evidence.step or 0) > 0,
        max_rss_bytes=evidence.max_rss_bytes,
        cpu_s=evidence.cpu_s,
        device_memory_bytes=evidence.device_memory_bytes,
    )


def _judge(evidence: Evidence) -> tuple[EndReason, str]:
    if evidence.status is None:
        return EndReason.AGENT_LOST, "its forkserver died and the kernel ended it"
    if os.WIFSIGNALED(evidence.status):
        return _judge_signal(evidence, os.WTERMSIG(evidence.status))
    return _judge_exit(evidence, os.WEXITSTATUS(evidence.status))


def _judge_exit(evidence: Evidence, code: int) -> tuple[EndReason, str]:
    if code == 0:
        if not evidence.returned:
            return EndReason.EXCEPTION, f"it left with exit code 0 before its entry point returned, {_NO_REPORT}"
        return (EndReason.SUCCESS, "") if evidence.early is None else (EndReason.STOPPED_EARLY, evidence.early.message)
    if code == EXIT_STOPPED:
        if evidence.ended_for:
            return evidence.ended_for, "left as asked"
        if evidence.goal is None:
            return EndReason.PREEMPTED, f"it left with exit code {EXIT_STOPPED}, to go on later"
        return _STOPPED[evidence.goal], "left as asked"
    if evidence.error:
        return evidence.error.reason, evidence.error.message
    if code == EXIT_DISK_FULL:
        return EndReason.DISK_FULL, "no space left on the disk"
    if code == EXIT_DISK_LOST:
        return EndReason.DISK_LOST, "the workspace's file system was gone"
    return EndReason.EXCEPTION, f"it left with exit code {code}, {_NO_REPORT}"


def _judge_signal(evidence: Evidence, number: int) -> tuple[EndReason, str]:
    name = signal_name(number)
    if evidence.ended_for:
        return evidence.ended_for, f"ended with {name}{_where(evidence.stack)}"
    if evidence.goal:
        return _STOPPED[evidence.goal], f"did not leave in time, ended with {name}"
    if number == signal.SIGKILL and evidence.out_of_memory_kills > 0:
        return EndReason.HOST_OUT_OF_MEMORY, "SIGKILL by the kernel's out-of-memory killer"
    if number == signal.SIGKILL:
        return EndReason.KILLED, "SIGKILL from outside; no sign of memory pressure"
    return EndReason.CRASHED, name + _where(evidence.stack)


def signal_name(number: int) -> str:
    """SIGSEGV for 11; `signal 77` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _where(stack: str) -> str:
    """Where the thread that crashed was, as ` in forward (models/cells.py:41)`.

    The innermost Python frame; where that is a library's, the innermost that is not, too.
    """
    marked = stack.find("Current thread")  # faulthandler lists the others first
    frames = list(_FRAME.finditer(stack, max(0, marked)))
    if not frames:
        return ""
    own = next((f for f in frames if not _FOREIGN.search(f["file"]) and not _BELOW.search(f["file"])), frames[0])
    called = "" if own is frames[0] else f", called by {_place(own)}"
    return f" in {_place(frames[0])}{called}"


def _place(frame: re.Match[str]) -> str:
    path = Path(frame["file"])
    return f"{frame['function']} ({path.parent.name}/{path.name}:{frame['line']})"


def disk_reason(error: BaseException) -> EndReason | None:
    """DISK_FULL or DISK_LOST where that is what the error says of a file system; else None."""
    if not isinstance(error, OSError):
        return None
    if error.errno in _DISK_FULL:
        return EndReason.DISK_FULL
    lost = error.errno in _DISK_LOST or (error.errno == errno.ETIMEDOUT and error.filename is not None)
    return EndReason.DISK_LOST if lost else None


def blame_disk(end: AttemptEnd, error: OSError) -> AttemptEnd:
    """The end, judged again where exit.json cannot be written.

    If the disk is gone for the agent, too, a bus error (of a mapped file) and an exit without a report are its doing.
    """
    silent = end.reason is EndReason.EXCEPTION and end.message.endswith(_NO_REPORT)
    unexplained = silent or end.signal == signal.SIGBUS
    reason = disk_reason(error) if unexplained else None
    message = f"{end.message} (exit.json could not be written: {error.strerror})".strip()
    return replace(end, reason=reason or end.reason, message=message)


def read_stack(folder: AttemptFolder) -> str:
    """What faulthandler wrote; empty where it had no reason to, or where nothing can be read."""
    try:
        return folder.crash.read_text(encoding="utf-8", errors="replace")[-20_000:]
    except OSError as error:
        _report_unreadable(folder.crash, error)
        return ""


def _report_unreadable(path: Path, error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        _log.warning("%s cannot be read and is taken as absent: %s", path, error)


def read_error(folder: AttemptFolder) -> ErrorReport | None:
    """What the process said about its failure, if it lived to say it."""
    return read_report(folder.error)


def read_report(path: Path) -> ErrorReport | None:
    """What the process said of its end, if it lived to say it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ErrorReport)
    except msgspec.MsgspecError:
        return None
    except OSError as error:
        _report_unreadable(path, error)
        return None


def newest_checkpoint_step(run: Run, first_attempt: int = 1) -> int | None:
    """Step of the newest published checkpoint (its loader verifies the content) of `first_attempt` or a later one."""
    found = [key for name in _list(run.checkpoints) if (key := checkpoint_key(name)) is not None]
    return max((step for step, attempt, _ in found if attempt >= first_attempt), default=None)


def _list(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  (names are all we need)
    except OSError as error:
        _report_unreadable(folder, error)
        return []


def out_of_memory_kills() -> int:
    """Processes killed for memory in our cgroup (version 1 or 2) and on the node; only the growth matters."""
    groups = _read("/proc/self/cgroup")
    second = re.search(r"^0::(.*)$", groups, re.MULTILINE)
    first = re.search(r"^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$", groups, re.MULTILINE)
    texts = [_read("/proc/vmstat")]
    texts += [_read(f"/sys/fs/cgroup{second[1]}/memory.events")] if second else []
    texts += [_read(f"/sys/fs/cgroup/memory{first[1]}/memory.oom_control")] if first else []
    return sum(int(count) for text in texts for count in re.findall(r"^oom_kill (\d+)$", text, re.MULTILINE))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:  # not this kind of system
        return ""
