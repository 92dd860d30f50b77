"""The actor of a workspace: hosts its controller, which knows nothing of Ray, and answers nodes far from its files."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import ray

from terry.cluster.actors.process import log_to, run_for_ever
from terry.cluster.agent.forkserver import load
from terry.cluster.agent.job_runtime import TERRY_JOBS, JobRuntime
from terry.cluster.away.home import Home
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.ports import LaunchOrder

_log = logging.getLogger(__name__)


def home_of(workspace: WorkspacePaths, runtime: JobRuntime = TERRY_JOBS) -> Home:
    """The workspace's side for nodes that do not see it."""

    def needed(root: str, order: LaunchOrder) -> list[str]:
        found: list[str] = load(runtime.needs)(root, order) if runtime.needs else []
        return found

    return Home(workspace, needed)


@ray.remote(concurrency_groups={"home": 4})  # type: ignore[call-overload]
class ControllerActor:
    """Hosts the controller of a workspace."""

    def __init__(self, workspace: str, namespace: str) -> None:
        self._state = "running"
        self._home = home_of(WorkspacePaths(Path(workspace)))
        run_for_ever("controller", lambda: self._serve(WorkspacePaths(Path(workspace)), namespace))

    def _serve(self, workspace: WorkspacePaths, namespace: str) -> None:
        from terry.cluster.actors.assembly import run_controller

        log_to(workspace.controller_log)
        self._state = run_controller(workspace, namespace)
        _log.info("the controller is %s", self._state)

    @ray.method(concurrency_group="home")
    def home(self, what: str, given: tuple[Any, ...]) -> Any:
        """A call of a WorkspaceHome, for nodes that do not see the workspace."""
        if what == "needs":
            return msgspec.json.encode(self._home.needs(msgspec.json.decode(given[0], type=LaunchOrder)))
        calls: dict[str, Callable[..., Any]] = {
            "read": self._home.read,
            "begin": self._home.begin,
            "append": self._home.append,
            "stage": self._home.stage,
            "publish": self._home.publish,
            "discard": self._home.discard,
        }
        return calls[what](*given)

    def ping(self) -> tuple[str, int, str]:
        """What it does (`running`, `stopped`: a shutdown was asked for, `superseded`), pid, version of Python."""
        return self._state, os.getpid(), sys.version.split()[0]
