"""`python -m terry.cluster.lifecycle.keeper WORKSPACE [HOST]`: keeps Ray's head and the controller alive here.

A small daemon in a session of its own: it outlives the terminal that started it. It waits for the death of the two
processes without which there is no cluster, ends what is left of it, and starts anew. Killing the keeper harms nothing:
the cluster goes on, and the next `up` or `submit` starts another keeper.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from terry.cluster.config import terry_yaml as config
from terry.cluster.errors import UserError
from terry.cluster.files import lease
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.disk import SLOW_S, DiskProbe
from terry.cluster.host.locks import Lock
from terry.cluster.host.processes import Process, find, kill, user_name
from terry.cluster.lifecycle.keeper_nodes import NodeCare
from terry.cluster.lifecycle.providers import head_place, own_nodes
from terry.cluster.lifecycle.searches import SearchCare
from terry.cluster.nodes.member import head_report
from terry.cluster.nodes.records import write_report
from terry.cluster.ports import ClusterView
from terry.cluster.ray.daemons import USER_ERROR, foreign_environment, ray_environment, runtime_folder
from terry.cluster.ray.head import (
    Head,
    adopt_head,
    end_head,
    end_processes,
    ensure_token,
    is_well,
    key_of,
    read_head,
    start_head,
)

_log = logging.getLogger("terry.cluster.lifecycle.keeper")

_DRIVER_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 5.0
_SILENT_S = 30.0  # Ray restarts a dead controller in about 2 s; after this long something is wrong with it
_PAUSE_MAX_S = 60.0
_LOCK_S = 2.0


def keeper_lock(workspace: WorkspacePaths) -> Path:
    """Held by the keeper as long as it lives."""
    return runtime_folder(workspace) / "keeper.lock"


class _Superseded(Exception):
    """Another node's head serves the workspace."""


class _NotAdmitted(Exception):
    """A person has to fix something in the environment that this keeper was started with: another one is needed."""


def _whose(workspace: WorkspacePaths) -> str:
    """Who else has recorded the head of a group's workspace; empty where we have."""
    try:
        owner = workspace.head.stat().st_uid
    except FileNotFoundError:
        return ""
    return "" if owner == os.getuid() else user_name(owner)


def last_line(text: str) -> str:
    """Why a program has failed: the last line that it has printed, whole."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it has said nothing")


class Keeper:
    """See the module."""

    def __init__(self, workspace: WorkspacePaths, host: str | None = None) -> None:
        """`host`: what terry.yaml calls this node, where it does."""
        self._workspace = workspace
        self._host = host
        self._nodes = NodeCare(workspace)
        self._searches = SearchCare(workspace)
        self._head: Head | None = None
        self._driver: _Driver | None = None
        self._failures = 0
        self._probe = DiskProbe(workspace.cluster)
        self._lease = lease.Watch()

    def run(self) -> None:
        """Until another node takes over. A failure is logged, and tried again after a pause that grows."""
        while True:
            try:
                self._require_workspace()
                self._check_place()
                head = self._head = self._ensure_head()
                self._join_others(head)
                self._ensure_controller(head)
                head = self._head = read_head(self._workspace) or head  # it may be known now that it asks for a token
                self._failures = 0
                self._watch(head)
            except _Superseded as other:
                _log.warning("%s serves the workspace now: ending what runs here", other)
                self._searches.end()
                return
            except _NotAdmitted as error:
                _log.error("%s", error)
                self._searches.end()
                return
            except (OSError, RuntimeError, UserError, subprocess.SubprocessError) as error:
                self._failures += 1
                self._end_driver()
                pause = min(_PAUSE_MAX_S, 2.0 ** (self._failures - 1))
                _log.error("%s; next try in %.0f s", error, pause)
                time.sleep(pause)

    def _require_workspace(self) -> None:
        """Nothing must be made in the empty mount point of a file system that is gone for the moment."""
        if not self._workspace.exists:
            raise RuntimeError(f"{self._workspace.root} is not there now; is its file system mounted?")

    def _ensure_head(self) -> Head:
        head = read_head(self._workspace)
        if head is not None and is_well(head) and not self._is_of_another_kind(head):
            if other := _whose(self._workspace):
                raise _Superseded(other)
            return head
        foreign = config.read_nodes(self._workspace).foreign
        end_head(self._workspace)
        if foreign is not None:
            _log.info("using the Ray cluster at %s", foreign.address)
            return adopt_head(self._workspace, foreign.address, before=head)
        _log.info("starting Ray")
        place = head_place(config.read_nodes(self._workspace), self._host)
        ensure_token(self._workspace)
        self._driver = _Driver(self._workspace, ray_environment(self._workspace, place.address))
        head = start_head(self._workspace, place)
        _log.info("Ray runs at %s", head.address)
        if head.is_open:
            write_report(self._workspace, head_report(self._workspace, head))
        return head

    def _join_others(self, head: Head) -> None:
        """On a Ray cluster of others: this node joins it where terry.yaml says so. A driver needs a node here."""
        nodes = config.read_nodes(self._workspace)
        own = own_nodes(self._workspace, nodes, self._host) if head.foreign else None
        if own is None:
            return
        for report in own.reconcile(ClusterView(key=key_of(self._workspace, head), members=frozenset())):
            write_report(self._workspace, report)
            if report.problem:
                _log.warning("this node: %s", report.problem)

    def _is_of_another_kind(self, head: Head) -> bool:
        """Whether terry.yaml asks for a Ray cluster of others instead of ours, or the other way round."""
        try:
            return head.foreign != (config.read_nodes(self._workspace).foreign is not None)
        except UserError:  # a mistake in it: what runs is left as it is
            return False

    def _check_place(self) -> None:
        """Where another head is recorded, ours was given up: two must not serve a workspace.

        On another node `up` has done so; on this one two people have begun at the same moment, and the other came last.
        """
        recorded = read_head(self._workspace)
        if self._head is None or recorded is None:
            return
        if not recorded.is_here or recorded.incarnation != self._head.incarnation:
            end_processes(self._head)
            raise _Superseded(recorded.host if not recorded.is_here else _whose(self._workspace))

    def _ensure_controller(self, head: Head) -> None:
        """Run the driver that makes sure of it. Returns at once where the head dies meanwhile: `_watch` will see it."""
        driver = self._driver = self._driver or _Driver(self._workspace, _environment(self._workspace, head))
        driver.go_on()
        try:
            ended = _first_to_end([driver.pid, *(p.pid for p in head.processes)], _DRIVER_TIMEOUT_S)
        finally:
            code, words = self._end_driver()
        if not all(p.alive for p in head.processes):
            return
        if ended is None:
            raise RuntimeError(f"the controller could not be started within {_DRIVER_TIMEOUT_S:.0f} s")
        if code != 0:
            if code == USER_ERROR:
                raise _NotAdmitted(last_line(words))
            raise RuntimeError(f"the controller could not be started: {last_line(words)}")
        _log.info("the controller runs")

    def _end_driver(self) -> tuple[int, str]:
        driver, self._driver = self._driver, None
        return (0, "") if driver is None else driver.end()

    def _watch(self, head: Head) -> None:
        """Return when the head's processes have died, or the controller has been silent for too long."""
        self._nodes.tend(head)
        self._searches.tend()
        pids = [p.pid for p in head.processes]
        while all(p.alive for p in head.processes) and _first_to_end(pids, _LOOK_EVERY_S) is None:
            if head.foreign and not self._is_served(head):
                _log.warning("the Ray cluster, or the controller on it, is gone")
                return
            self._check_place()
            self._nodes.tend(head)
            self._searches.tend()
            silent = self._silent_controller()
            if silent is not None and self._disk_answers():
                _log.warning("the controller has been silent for %.0f s: ending it", _SILENT_S)
                kill([silent])  # Ray starts the next; if it does not, we do
                return
        _log.warning("the Ray head has died")

    def _is_served(self, head: Head) -> bool:
        """Whether a foreign cluster answers and has a controller: nobody tells us of the death of its processes."""
        held = lease.read(self._workspace)
        return is_well(head) and (held is None or self._lease.look(held) is not lease.Liveness.DEAD)

    def _disk_answers(self) -> bool:
        """False where the controller's silence is its disk's: ending it would help nobody."""
        took = self._probe.ask(time.monotonic() - _LOOK_EVERY_S * 2)
        if took is None:
            time.sleep(1.0)
            took = self._probe.ask(time.monotonic() - _LOOK_EVERY_S * 2)
        if took is None or took > SLOW_S:
            _log.warning("the controller is silent, and so is its disk: waiting for both")
        return took is not None and took <= SLOW_S

    def _silent_controller(self) -> Process | None:
        """The controller's process on this node, if it lives and has not renewed its lease for too long."""
        held = lease.read(self._workspace)
        if held is None or not held.is_here or self._lease.look(held) is not lease.Liveness.ALIVE:
            return None
        return find(held.pid) if self._lease.silent_s(held) > _SILENT_S else None


class _Driver:
    """The program that makes sure of a controller. Begun beside Ray: its own imports take a second."""

    def __init__(self, workspace: WorkspacePaths, environment: dict[str, str]) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "terry.cluster.actors.driver", str(workspace.root), "early"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._printed,
            stderr=self._printed,
            cwd="/",
        )

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def go_on(self) -> None:
        """There is a cluster now."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its exit code tells
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Kill it if it lives: of a cluster that is not well it could hang for minutes. Exit code and last words."""
        self._process.kill()
        code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        with self._printed as printed:
            printed.seek(0)
            return code, printed.read().decode(errors="replace")


def _first_to_end(pids: Iterable[int], timeout_s: float) -> int | None:
    """Wait until one of these processes has ended, and say which; None where all live on for so long."""
    with contextlib.ExitStack() as stack:
        fds: dict[int, int] = {}
        for pid in pids:
            try:
                fds[os.pidfd_open(pid)] = pid
            except ProcessLookupError:
                return pid
            stack.callback(os.close, [*fds][-1])
        ended, _, _ = select.select([*fds], [], [], timeout_s)
        return fds[ended[0]] if ended else None


def _environment(workspace: WorkspacePaths, head: Head) -> dict[str, str]:
    if head.foreign:
        return foreign_environment(workspace, head.address, asks_token=head.asks_token)
    return ray_environment(workspace, head.address)


def _take_lock(workspace: WorkspacePaths) -> Lock | None:
    """The keeper's lock; None if another keeper has it. Whoever only looks at it holds it for a moment, too."""
    deadline = time.monotonic() + _LOCK_S
    while (lock := Lock.try_take(keeper_lock(workspace))) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return lock


def main() -> None:
    """Become the keeper, unless there is one."""
    workspace = WorkspacePaths(Path(sys.argv[1]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = _take_lock(workspace)
    if lock is None:
        _log.info("another keeper is at work")
        return
    _log.info("keeping %s", workspace.root)
    Keeper(workspace, sys.argv[2] if len(sys.argv) > 2 else None).run()


if __name__ == "__main__":
    main()
