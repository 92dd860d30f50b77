"""Tell people: a command of theirs is run when a sweep has ended or a job has failed for good.

What happened comes as variables (TERRY_EVENT, TERRY_SWEEP, ...) and, whole, as JSON on standard input: never as a part
of the command, so that no name can become code. The command runs in a thread, one at a time, for a limited time; what
goes wrong with it is logged, and harms nothing. An event may be lost with the controller; none is told twice by one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from terry.cluster.config import terry_yaml as config
from terry.cluster.config.terry_yaml import Notify, Occasion
from terry.cluster.core.model import JobRecord, JobState
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths

#: So many events wait at most: a command that hangs shall not fill the memory.
WAITING = 1000

_log = logging.getLogger(__name__)


class Occurrence(msgspec.Struct, frozen=True, kw_only=True):
    """What happened: the JSON on the command's standard input."""

    event: Occasion
    workspace: str
    sweep: str
    time: datetime
    state: JobState  #: of the job; of a sweep: completed, failed (any job did) or cancelled
    job: str = ""  #: the job that failed; empty for a sweep's end
    reason: str = ""
    counts: dict[str, int]  #: jobs of the sweep in each state

    def variables(self) -> dict[str, str]:
        """The same for the command's environment."""
        return {
            "TERRY_EVENT": self.event,
            "TERRY_WORKSPACE": self.workspace,
            "TERRY_SWEEP": self.sweep,
            "TERRY_STATE": self.state,
            "TERRY_JOB_ID": self.job,
            "TERRY_REASON": self.reason.replace("\0", ""),
            "TERRY_COMPLETED": str(self.counts.get(JobState.COMPLETED, 0)),
            "TERRY_FAILED": str(self.counts.get(JobState.FAILED, 0)),
            "TERRY_CANCELLED": str(self.counts.get(JobState.CANCELLED, 0)),
        }


class Notifier:
    """`finished` is a controller's hook: it never waits and never raises."""

    def __init__(
        self,
        workspace: WorkspacePaths,
        counts: Callable[[str], Mapping[JobState, int]],
        environment: Mapping[str, str],
    ) -> None:
        self._workspace = workspace
        self._counts = counts  #: jobs of a sweep in each state
        self._environment = dict(environment)
        self._notified: dict[str, datetime] = {}  #: sweep -> when the job finished whose end was the sweep's
        self._queue: queue.Queue[Occurrence] = queue.Queue(maxsize=WAITING)
        self._thread: threading.Thread | None = None

    def finished(self, record: JobRecord) -> None:
        """A job reached COMPLETED, FAILED or CANCELLED."""
        for occurrence in self._occurrences(record):
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
                self._thread.start()
            try:
                self._queue.put_nowait(occurrence)
            except queue.Full:
                _log.error("nobody is told of %s of %s: %d others wait", occurrence.event, occurrence.sweep, WAITING)

    def wait(self) -> None:
        """Until all that was to be told is told."""
        self._queue.join()

    def _occurrences(self, record: JobRecord) -> list[Occurrence]:
        sweep = record.job.sweep
        counts = {state.value: number for state, number in self._counts(sweep).items() if number}
        ended = Occurrence(
            event=Occasion.SWEEP,
            workspace=str(self._workspace.root),
            sweep=sweep,
            time=record.finished_at or datetime.now(UTC),
            state=_state_of(counts),
            counts=counts,
        )
        found = []
        if record.state is JobState.FAILED:
            about = {"event": Occasion.FAILURE, "job": record.job.id, "state": record.state, "reason": record.reason}
            found.append(msgspec.structs.replace(ended, **about))
        # Several jobs may end in one turn, and each finds the sweep over.
        if all(JobState(state).is_final for state in counts) and self._notified.get(sweep) != ended.time:
            self._notified[sweep] = ended.time
            found.append(ended)
        return found

    def _work(self) -> None:
        while True:
            occurrence = self._queue.get()
            try:
                self._notify(occurrence)
            except Exception:
                _log.exception("nobody could be told of %s of %s", occurrence.event, occurrence.sweep)
            finally:
                self._queue.task_done()

    def _notify(self, occurrence: Occurrence) -> None:
        try:
            notify = config.read(self._workspace).notify
        except (UserError, OSError) as error:
            _log.error("nobody is told of %s of %s: %s", occurrence.event, occurrence.sweep, error)
            return
        if notify is not None and occurrence.event in notify.occasions:
            _run(notify, occurrence, {**self._environment, **occurrence.variables()})


def _state_of(counts: Mapping[str, int]) -> JobState:
    for state in (JobState.FAILED, JobState.CANCELLED):
        if counts.get(state):
            return state
    return JobState.COMPLETED


def _run(notify: Notify, occurrence: Occurrence, environment: dict[str, str]) -> None:
    """In a process group of its own, all of which ends when its time is over; in our session, as all that is ours."""
    process = subprocess.Popen(
        notify.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd="/",
        process_group=0,
    )
    with process:
        try:
            output, _ = process.communicate(msgspec.json.encode(occurrence) + b"\n", timeout=notify.timeout_s)
        except subprocess.TimeoutExpired:
            _log.error("notify.command took more than %g s and is ended", notify.timeout_s)
            return
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        printed = output.decode(errors="replace").strip()[-1000:]
        _log.error("notify.command ended with exit code %d: %s", process.returncode, printed)
