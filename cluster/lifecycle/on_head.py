"""`up` and `down` on the node of Ray's head. Where that is another node, `lifecycle.up` calls this there."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from terry.cluster.agent.marks import AGENT_VARIABLE
from terry.cluster.config import terry_yaml as config
from terry.cluster.config.nodes import NodesConfig
from terry.cluster.errors import UserError
from terry.cluster.files import durable, inbox, lease, live, origin
from terry.cluster.files.lease import Liveness
from terry.cluster.files.origin import Standing
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from terry.cluster.host.locks import Lock, holder
from terry.cluster.host.processes import Process, find, kill, kill_all, with_environment_prefix
from terry.cluster.lifecycle.keeper import keeper_lock, last_line
from terry.cluster.lifecycle.liveness import liveness
from terry.cluster.lifecycle.providers import head_place
from terry.cluster.nodes.member import leave, read_record
from terry.cluster.ray.daemons import foreign_environment, runtime_folder
from terry.cluster.ray.head import end_head, is_well, read_head

_UP_TIMEOUT_S = 120.0
_DOWN_TIMEOUT_S = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """What serves a workspace just now, as seen from this node."""

    keeper_pid: int | None
    ray: bool  #: the head answers
    address: str | None
    controller: bool  #: its lease is alive
    at_work: bool  #: and it has read the queue
    epoch: int | None
    host: str | None


def cluster_status(workspace: WorkspacePaths) -> ClusterStatus:
    """Look at pids, a port and the lease; asks nobody and takes about a millisecond."""
    head, held, shown = read_head(workspace), lease.read(workspace), live.read(workspace)
    alive = liveness(workspace) is Liveness.ALIVE
    return ClusterStatus(
        keeper_pid=holder(keeper_lock(workspace)),
        ray=is_well(head),
        address=head.address if head else None,
        controller=alive,
        at_work=alive and held is not None and shown is not None and shown.epoch == held.epoch,
        epoch=held.epoch if held else None,
        host=held.host if held else None,
    )


def keeper_problem(workspace: WorkspacePaths) -> str:
    """What keeps the keeper from getting the cluster up, in its own last words; empty where nothing does."""
    try:
        with workspace.keeper_log.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - 8192))
            lines = log.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    said = [line for line in lines if re.match(r"\d{4}-\d\d-\d\d .* (INFO|WARNING|ERROR) ", line)]
    last = next((line for line in reversed(said) if not line.endswith("starting Ray")), "")
    return last.split(" ERROR ", 1)[1] if " ERROR " in last else ""


def ensure_up_on_head(
    workspace: WorkspacePaths, *, wait: bool, host: str | None = None, progress: Callable[[str], None] | None = None
) -> bool:
    """Make sure that a keeper runs on this node, and so Ray and a controller. True if a keeper was started.

    wait: return only when the controller is at work. host: what terry.yaml calls this node, where it does.
    Raises UserError if it is not within two minutes, and at once (JournalDamaged) where it could not read the queue,
    and for a mistake in terry.yaml.
    """
    nodes = config.read(workspace).nodes
    head_place(nodes, host)  # a mistake is better told here than in a log
    _check_openness(workspace, nodes)
    durable.make_folder(workspace.cluster)
    if not cluster_status(workspace).controller:
        read_state(workspace)
    started = holder(keeper_lock(workspace)) is None
    if started:
        _check_disk_space(workspace)
        _start_keeper(workspace, host)
    if wait:
        first = "starting Ray" if nodes.foreign is None else "asking the Ray cluster"
        _wait_for_controller(workspace, first, progress or (lambda _: None))
    return started


def _check_disk_space(workspace: WorkspacePaths) -> None:
    """Raise OSError where the disk has no room: a keeper could not even say so."""
    probe = workspace.cluster / ".room"
    durable.write_bytes(probe, bytes(1 << 16))
    probe.unlink()


def _check_openness(workspace: WorkspacePaths, nodes: NodesConfig) -> None:
    """Raise UserError where other nodes are to join a head that listens on its own node only."""
    head = read_head(workspace)
    if nodes.has_others and head is not None and not head.is_open and is_well(head):
        raise UserError(
            "other nodes cannot join: Ray was started for this node alone; "
            "`terry-cluster down`, then `terry-cluster up` (what runs goes on from its checkpoints)",
            file=workspace.config,
        )


def _start_keeper(workspace: WorkspacePaths, host: str | None) -> None:
    # Nothing of the terminal stays with it: no session, no standard files, no working folder.
    durable.make_way(workspace.keeper_log)
    with durable.opened_log(workspace.keeper_log) as log:
        # What the keeper before has said last is no problem of this one.
        log.write(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S},000 INFO a keeper is started\n".encode())
        log.flush()
        subprocess.Popen(
            [sys.executable, "-m", "terry.cluster.lifecycle.keeper", str(workspace.root), *([host] if host else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


def _wait_for_controller(workspace: WorkspacePaths, first: str, progress: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _UP_TIMEOUT_S
    reported: set[str] = set()
    while not (status := cluster_status(workspace)).at_work:
        now = "starting the controller" if status.ray else first
        if now not in reported:
            progress(now)
            reported.add(now)
        has_keeper = holder(keeper_lock(workspace)) is not None
        problem = "" if status.ray and has_keeper and not _is_foreign(workspace) else keeper_problem(workspace)
        if problem and not has_keeper:  # it has given up: waiting is no use
            raise UserError(problem)
        if problem and problem not in reported:
            progress(f"problem: {problem}")
            reported.add(problem)
        if time.monotonic() > deadline:
            raise UserError(
                f"no controller after {_UP_TIMEOUT_S:.0f} s; why is written here", file=workspace.keeper_log
            )
        time.sleep(0.05)


def _is_foreign(workspace: WorkspacePaths) -> bool:
    """Whether the Ray cluster is others': that it answers does not say that it takes us."""
    head = read_head(workspace)
    return head is not None and head.foreign


def take_down_on_head(workspace: WorkspacePaths, *, progress: Callable[[str], None] | None = None) -> bool:
    """End what serves the workspace on this node: jobs write a checkpoint first and go on after the next `up`.

    Returns False if nothing ran. The keeper ends first, so that nothing is started anew.
    """
    notify = progress or (lambda _: None)
    status = cluster_status(workspace)
    _end_keeper(workspace)
    _end_keeper_of_old_path(workspace)
    if status.controller:
        notify("jobs write their checkpoints")
        _ask_to_shut_down(workspace)
    _leave_foreign(workspace, notify)
    head = read_head(workspace)
    if head is not None and head.foreign:
        leave(workspace)  # this node may have joined theirs
    end_head(workspace)
    if read_record(workspace) is not None:  # it was a node of an earlier head; tidied, its remains would not be found
        leave(workspace)
    # The kernel ends agents' processes with their agents; whatever a job has started by itself may still be there.
    kill_all(lambda: _of_agents(workspace), timeout_s=10.0)
    _tidy_runtime(workspace)
    return status.controller or status.ray or status.keeper_pid is not None


#: In the node's own folder of a workspace: data sets that were sent here, of which another sweep may make use.
_LASTING = "away"


def _tidy_runtime(workspace: WorkspacePaths) -> None:
    """Leave nothing of a workspace that is down on this node's own disk: token, Ray's logs and sockets, locks."""
    folder = runtime_folder(workspace, make=False)
    lock = Lock.try_take(keeper_lock(workspace)) if folder.is_dir() else None
    if lock is None:  # somebody starts it again at this moment
        return
    for path in folder.iterdir():
        if path.is_dir() and path.name != _LASTING:
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file() and path != lock.path and (path.suffix != ".lock" or holder(path) is None):
            path.unlink(missing_ok=True)
    lock.path.unlink()
    lock.release()
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()


def _leave_foreign(workspace: WorkspacePaths, notify: Callable[[str], None]) -> None:
    """End our actors on a Ray cluster of others, which goes on."""
    head = read_head(workspace)
    if head is None or not head.foreign or not is_well(head):
        return
    command = [sys.executable, "-m", "terry.cluster.actors.driver", str(workspace.root), "end"]
    environment = foreign_environment(workspace, head.address, asks_token=head.asks_token)
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            timeout=_DOWN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        notify("problem: the Ray cluster does not answer; what runs for the workspace there could not be ended")
        return
    if done.returncode != 0:
        notify(f"problem: {last_line(done.stderr.decode(errors='replace'))}")


def _end_keeper(workspace: WorkspacePaths) -> None:
    path = keeper_lock(workspace)
    deadline = time.monotonic() + 10.0
    while (pid := holder(path)) is not None:
        if pid and (process := find(pid)):
            kill([process], signal.SIGTERM if time.monotonic() < deadline - 5 else signal.SIGKILL)
        if time.monotonic() > deadline:
            raise UserError(f"the keeper (pid {pid}) does not end")
        time.sleep(0.02)


def _end_keeper_of_old_path(workspace: WorkspacePaths) -> None:
    """A workspace that was moved while its cluster ran: its keeper waits where it stood before."""
    known = origin.read(workspace)
    if known is not None and origin.standing(workspace) is Standing.MOVED:
        before = WorkspacePaths(Path(known.path))
        if not before.exists and runtime_folder(before, make=False).is_dir():
            _end_keeper(before)
            kill_all(lambda: _of_agents(before), timeout_s=10.0)


def _ask_to_shut_down(workspace: WorkspacePaths) -> None:
    deadline = time.monotonic() + _DOWN_TIMEOUT_S
    asked = 0
    while time.monotonic() < deadline:
        held = lease.read(workspace)
        if held is None or held.stopped or not is_well(read_head(workspace)):
            return
        if held.epoch != asked:  # each controller is asked by name: no later `up` shall find the request and obey
            asked = held.epoch
            inbox.send(workspace, inbox.Shutdown(epoch=asked))
        time.sleep(0.05)


def _of_agents(workspace: WorkspacePaths) -> list[Process]:
    return with_environment_prefix(AGENT_VARIABLE, f"{workspace.id}/")
