"""`python -m terry.cluster.slurm.worker WORKSPACE GROUP NODE SECONDS`: what a Slurm job runs that is a node.

It takes the node into the cluster and stays until nobody needs it. A cluster whose head has started anew is joined
again: a Slurm job may have waited for hours. Slurm sends SIGUSR1 some SECONDS before the job's end (time limit,
preemption; the same signal is used to let it go): its devices are drained, so that what runs there writes a checkpoint
and goes on elsewhere, at no cost; then it ends. SIGTERM: the same, in the seconds that are left until SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

from terry.cluster.config import terry_yaml as config
from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.errors import UserError
from terry.cluster.files import inbox, lease, live
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.locks import Lock, holder
from terry.cluster.nodes.hosts import order_of
from terry.cluster.nodes.join import MARK
from terry.cluster.nodes.member import end_reported, join, leave, read_record
from terry.cluster.nodes.records import read_members, write_report
from terry.cluster.nodes.remote import ThisNode
from terry.cluster.ports import NodeReport, NodeState
from terry.cluster.ray.daemons import INSTANCE_VARIABLE, instance, runtime_folder
from terry.cluster.ray.head import Head, key_of, read_head
from terry.cluster.slurm import notice as slurm_notice

#: Why its devices are drained; the next one of its name takes that back.
LEAVES = "its Slurm job ends"

_HEAD_WAIT_S = 180.0
_LOOK_S = 2.0
_LEAVE_LOOK_S = 0.3
_TRIES = 3
#: Held by the process of a node as long as it lives, in the node's folder.
_LOCK = "worker.lock"
_STARTING_S = 60.0
#: How long Ray may count it as dead, although it lives, before it joins anew.
_ABSENT_S = 30.0
#: What is left of the warning for ending Ray here.
_MARGIN_S = 5.0
#: Slurm's KillWait, the time from SIGTERM to SIGKILL, is 30 s where nobody has set it.
_KILL_WAIT_S = 20.0


class Worker:
    """See the module."""

    def __init__(self, workspace: WorkspacePaths, group: str, node: str, warning_s: float) -> None:
        self._workspace = workspace
        self._group = group
        self._node = node
        self._warning_s = warning_s
        self._leave_by: float | None = None  # monotonic; set once somebody wants us to go
        self._alarm, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._alarm, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGUSR1, self._warned)
        signal.signal(signal.SIGTERM, self._ended)

    def run(self) -> int:
        """Until nobody needs us. Returns the exit code."""
        lock = Lock.take(runtime_folder(self._workspace) / _LOCK, 0.0)
        clear_siblings(self._workspace)
        notice = slurm_notice.pass_on()
        code = 0
        try:
            while self._leave_by is None and (head := self._await_head()) is not None:
                report = self._join(head)
                if not report.is_in:
                    print(f"{report.problem} ({report.fix})", file=sys.stderr, flush=True)
                    code = 1
                    break
                self._stay(head)
        finally:
            if self._leave_by is not None:
                self._move_jobs_away()
            leave(self._workspace)
            if notice is not None:
                notice.kill()  # its step ends with the job
            lock.release()
            shutil.rmtree(runtime_folder(self._workspace), ignore_errors=True)
        if code == 0:
            write_report(self._workspace, end_reported(self._node))
        return code

    def _warned(self, _number: int, _frame: FrameType | None) -> None:
        self._leave_by = self._leave_by or time.monotonic() + max(0.0, self._warning_s - _MARGIN_S)

    def _ended(self, _number: int, _frame: FrameType | None) -> None:
        by = time.monotonic() + _KILL_WAIT_S
        self._leave_by = by if self._leave_by is None else min(by, self._leave_by)

    def _wait(self, seconds: float, *others: int) -> bool:
        """True if one of the other descriptors is ready; returns early for a signal, too."""
        ready, _, _ = select.select([self._alarm, *others], [], [], seconds)
        if self._alarm in ready:
            os.read(self._alarm, 4096)
        return any(each in ready for each in others)

    # in the cluster

    def _await_head(self) -> Head | None:
        """The head, once it can be reached; None where it has been away for too long, or we are to go."""
        deadline = time.monotonic() + _HEAD_WAIT_S
        while self._leave_by is None and time.monotonic() < deadline:
            head = read_head(self._workspace)
            if head is not None and head.is_open and _answers(head.address):
                return head
            self._wait(_LOOK_S)
        return None

    def _join(self, head: Head) -> NodeReport:
        group = self._settings()
        if group is None:
            return _unwanted(self._node, f"terry.yaml has no group {self._group} of kind slurm any more")
        self._take_back_drains()
        for tried in range(1, _TRIES + 1):
            order = order_of(ThisNode(name=self._node, setup=group), key_of(self._workspace, head))
            report = join(order, anew=True)
            if report.is_in or tried == _TRIES or self._leave_by is not None:
                break
            self._wait(_LOOK_S * tried)
            head = read_head(self._workspace) or head
        write_report(self._workspace, report)
        return report

    def _settings(self) -> SlurmGroup | None:
        with contextlib.suppress(OSError, UserError):
            found = config.read_nodes(self._workspace).groups
            return next((g for g in found if g.name == self._group and isinstance(g, SlurmGroup)), None)
        return None

    def _stay(self, head: Head) -> None:
        """Until Ray's daemon has died, Ray takes us for dead, or we are to go."""
        record = read_record(self._workspace)
        if record is None or not record.is_alive:
            return
        try:
            raylet = os.pidfd_open(record.process.pid)
        except ProcessLookupError:
            return
        seen = time.monotonic()
        try:
            while self._leave_by is None and not self._wait(_LOOK_S, raylet):
                members = read_members(self._workspace, head.incarnation)
                if members is None or self._node in members:
                    seen = time.monotonic()
                if time.monotonic() - seen > _ABSENT_S:
                    return
        finally:
            os.close(raylet)

    # out of it

    def _move_jobs_away(self) -> None:
        """Drain our devices, wait until nothing runs there. Gives up when the time is over; not tried after `down`."""
        asked: set[str] = set()
        while self._leave_by is not None and time.monotonic() < self._leave_by and not self._is_down():
            shown = live.read(self._workspace)
            mine = [d for d in shown.devices if d.device.node == self._node and d.online] if shown else []
            for known in mine:
                if not known.drained and known.device.id not in asked:
                    asked.add(known.device.id)
                    inbox.send(self._workspace, inbox.Drain(device=known.device.id, reason=LEAVES))
            idle = {load.device_id for load in shown.loads if load.idle_since is not None} if shown else set()
            if shown and all(known.drained and known.device.id in idle for known in mine):
                return
            self._wait(_LEAVE_LOOK_S)

    def _is_down(self) -> bool:
        """Whether the controller has ended on purpose: then jobs have written their checkpoints already."""
        held = lease.read(self._workspace)
        return held is None or held.stopped

    def _take_back_drains(self) -> None:
        """An earlier node of our name has left; we have come."""
        shown = live.read(self._workspace)
        for known in shown.devices if shown else ():
            if known.device.node == self._node and known.drained and known.drain_reason == LEAVES:
                inbox.send(self._workspace, inbox.Undrain(device=known.device.id))


def _unwanted(node: str, problem: str) -> NodeReport:
    return NodeReport(name=node, state=NodeState.UNFIT, problem=problem, fix="nothing: it ends")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=3.0):
            return True
    except OSError:
        return False


def clear_siblings(workspace: WorkspacePaths) -> None:
    """Remove the folders of Slurm jobs that were killed on this node before they could do it themselves."""
    own = runtime_folder(workspace)
    for folder in own.parent.glob(f"terry-{os.getuid()}-{workspace.id}-*"):
        job_id = folder.name.rpartition("-")[2]
        if folder != own and job_id.isdigit() and not _is_used(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_used(folder: Path) -> bool:
    """Whether the process of that Slurm job lives, or may have begun just now."""
    return holder(folder / _LOCK) is not None or time.time() - folder.stat().st_mtime < _STARTING_S


def main() -> None:
    """Be a node."""
    root, group, node, warning = sys.argv[1:5]
    os.environ[INSTANCE_VARIABLE] = os.environ["SLURM_JOB_ID"]
    # Without `gres` Slurm leaves it unset, and all GPUs of the node would be ours: those of others' jobs.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    workspace = WorkspacePaths(Path(root))
    print(f"{MARK.strip()} {node} of {instance(workspace)} on {socket.gethostname()}", flush=True)
    sys.exit(Worker(workspace, group, node, float(warning)).run())


if __name__ == "__main__":
    main()
