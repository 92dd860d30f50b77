"""The keeper's care for searches: while one is open, a process beside it asks what to try next."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.ray.daemons import runtime_folder

_log = logging.getLogger("terry.cluster.lifecycle.keeper")

#: What drives searches. By name: the runner knows nothing of what is searched.
_PROGRAM = "terry.cluster.client.searching"


def lock_of(workspace: WorkspacePaths) -> Path:
    """Held by the process that drives the workspace's searches here."""
    return runtime_folder(workspace) / "search.lock"


class SearchCare:
    """One process for all searches of the workspace. It ends with its keeper, and by itself when none is open."""

    def __init__(self, workspace: WorkspacePaths) -> None:
        self._workspace = workspace
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at: object = None  # what was submitted when it was started

    def tend(self) -> None:
        """See that it runs where it is needed. Never waits."""
        try:
            if self._process is not None and self._has_crashed(self._process):
                self._started_at = None
            submitted = self._submitted() if self._process is None else None
            # It is also started once after its own last submission: somebody else's may have come just then.
            if submitted and submitted != self._started_at:
                self._started_at, self._process = submitted, self._start()
        except OSError as error:
            _log.warning("searches are left as they are: %s", error)

    def _has_crashed(self, process: subprocess.Popen[bytes]) -> bool:
        code = process.poll()
        if code is None:
            return False
        self._process = None
        if code:
            _log.warning("what drives the searches has ended with %s; starting it anew", code)
        return code != 0

    def end(self) -> None:
        """End it, and wait for that."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _submitted(self) -> list[tuple[str, int]]:
        """Each sweep with a search, and its newest submission."""
        ws = self._workspace
        return [(name, max((n for n, _ in ws.submissions(name)), default=0)) for name in ws.searched_sweeps()]

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, str(self._workspace.root)],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # a question is small, and the cores are the runs'
            cwd="/",
        )
