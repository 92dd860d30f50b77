"""The loop: reports and requests in, journal, state machine, plan, commands out.

One turn is one group commit: whatever happened in it is on disk, by one write and one fsync, before anything is done
about it. There is no clean-up and no special start: dying at any point and starting again is the normal case.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from terry.cluster.controller import requests
from terry.cluster.controller.reports import events_of
from terry.cluster.controller.sweeper import Sweeper
from terry.cluster.core import events as e
from terry.cluster.core.events import Command, Event, Follow, JobFinished, Launch, RemoveFiles, Stop
from terry.cluster.core.model import DeviceKind, JobRecord, JobState
from terry.cluster.core.state_machine import State, due, follow
from terry.cluster.errors import InvalidTransition, LostLease
from terry.cluster.files import inbox, lease, removal
from terry.cluster.files.durable import SYSTEM, Calls, remove_temporaries
from terry.cluster.files.inbox import Letter
from terry.cluster.files.live import LiveWriter
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import Snapshots, load
from terry.cluster.host.clock import Backoff, Pace
from terry.cluster.ports import Clock, DevicePool, LaunchOrder, NodeDied
from terry.cluster.scheduling.demand import IdleWatch, Steady
from terry.cluster.scheduling.plan import Policy, plan

#: A turn of the loop waits so long (seconds) for reports before it looks into the inbox again.
TURN_S = 0.2
#: How often the lease says that its holder lives.
HEARTBEAT_S = 1.0
#: How often what is left in the inbox is tidied up.
TIDY_S = 3600.0
#: How often the pool is asked whether a silent node is dead.
ASK_FOR_NODES_S = 10.0
#: How often the pool is told what is needed.
TELL_NEED_S = 1.0
#: How long a predecessor on this node that is being killed may still hold the lock.
LOCK_WAIT_S = 10.0

#: A request that cannot be acted on now is looked at again after so long, at most after so long (seconds).
RETRY_S = (1.0, 30.0)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerHooks:
    """What others want to hear of, after it is on disk. An error in a hook is logged and does no harm."""

    finished: Callable[[JobRecord], None] | None = None  #: a job reached COMPLETED, FAILED or CANCELLED


class Controller:
    """The one writer of a workspace's queue. Not thread-safe; `pool.wake` may be called from anywhere."""

    def __init__(
        self,
        workspace: WorkspacePaths,
        pool: DevicePool,
        clock: Clock,
        *,
        policy: Policy | Callable[[], Policy] | None = None,
        lock_file: Path | None = None,
        hooks: ControllerHooks | None = None,
        version: str = "",
        node_is_dead: Callable[[str], bool] | None = None,
        calls: Calls = SYSTEM,
    ) -> None:
        """`policy` may be a function: it is then asked at every turn.

        `node_is_dead` tells of a node id of an earlier life whether it is gone for good: nobody else may know it.
        """
        self.state = State()
        self._workspace = workspace
        self._pool = pool
        self._clock = clock
        self._policy_now = policy if callable(policy) else lambda: policy or Policy()
        self._lock_file = lock_file
        self._hooks = hooks or ControllerHooks()
        self._version = version
        self._node_is_dead = node_is_dead
        self._beats = Pace(HEARTBEAT_S)
        self._asks = Pace(ASK_FOR_NODES_S)
        self._tidies = Pace(TIDY_S)
        self._tells = Pace(TELL_NEED_S)
        self._idle = IdleWatch()
        self._steady = Steady(self._clock.now(), self._clock.monotonic())
        self._tries = Backoff(*RETRY_S)
        self._calls = calls
        self._resources = ExitStack()
        self._commands: list[Command] = []
        self._again: list[Command] = []  # what the disk refused, for the next turn
        self._sweeper = Sweeper(workspace)
        self._planned_seq = -1
        self._planned_by: Policy | None = None
        self._wake_at: float | None = None  # monotonic
        self._ending = False
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """True once a requested shutdown is complete."""
        return self._stopped

    def run(self) -> None:
        """Recover, then turn until a shutdown is complete.

        Raises LostLease when another controller took over, LockHeld, UserError (a damaged journal) and OSError (a full
        disk): the process is then to end, and whoever supervises it starts another.
        """
        try:
            self.recover()
            gc.freeze()  # what was loaded stays: no collection need look at it again
            while not self._stopped:
                self.turn(TURN_S)
        finally:
            self.close()

    def recover(self) -> None:
        """Take the lease, load the queue, take over the agents. Every start is this."""
        now = self._clock.now()
        self._lease = lease.acquire(
            self._workspace,
            now,
            lock_file=self._lock_file,
            wait_s=LOCK_WAIT_S,
            version=self._version,
            calls=self._calls,
        )
        self._resources.callback(self._lease.close)
        inbox.prepare(self._workspace)
        remove_temporaries(self._workspace.queue, self._calls)
        self._journal, self.state = load(self._workspace, self._calls)
        self._resources.callback(self._journal.close)
        if self.state.epoch >= self._lease.epoch:
            self._lease.raise_epoch(self.state.epoch, now)
        self._journal.epoch = self._lease.epoch
        self._snapshots = Snapshots(self._workspace, self.state.seq, self._clock.monotonic(), self._calls)
        self._live = LiveWriter(self._workspace, self._lease.epoch)
        self._begin(now)
        self._beats.due(self._clock.monotonic())

    def _begin(self, now: datetime) -> None:
        held = self._lease.lease
        self._record(e.ControllerStarted(time=now, epoch=held.epoch, host=held.host, pid=held.pid))
        for event in due(self.state):
            self._record(event)
        self._commands.extend(RemoveFiles(job_id=job_id) for job_id in sorted(self.state.removing))
        self._apply_policy(self._policy_now(), now)
        self._commit()
        self._perform()
        self._sweeper.wake()
        self._pool.attach(held.epoch, held.holder)
        _log.info("controller of epoch %d: %d jobs, event %d", held.epoch, len(self.state.jobs), self.state.seq)

    def turn(self, timeout_s: float) -> None:
        """Wait for reports, at most `timeout_s`; then do all that is to be done now. Raises as `run`."""
        poll = self._pool.poll(self._poll_timeout(timeout_s))
        now = self._clock.now()
        self._beat(now)
        for report in (*poll.reports, *self._silent_deaths()):
            for found in events_of(self.state, self._workspace, report, now):
                self._take(found)
        letters = [letter for letter in inbox.take(self._workspace) if self._answer(letter, now)]
        self._plan(now)
        self._commit()
        self._pool.acknowledge()
        for letter in letters:
            inbox.finish(self._workspace, letter)
        self._perform()
        self._report_need(now)
        for progress in poll.progress:
            record = self.state.jobs.get(progress.job_id)
            if record is not None and record.state.holds_device and record.attempt == progress.attempt:
                self._live.update(progress)
        self._live.measured(poll.uses)
        self._show(now)
        self._tidy(now)
        self._snapshots.save_if_due(self.state, self._journal, self._clock.monotonic())
        self._end_if_done(now)

    def close(self) -> None:
        """Let go of files and lock, as the death of the process would. Nothing is written."""
        self._resources.close()

    # events

    def _take(self, found: Event | Command) -> None:
        if isinstance(found, Launch | Stop | Follow | JobFinished | RemoveFiles):
            self._commands.append(found)
        else:
            self._record(found)

    def _record(self, event: Event) -> None:
        """Apply the event and what follows from it; journalled with the next commit, acted on after it."""
        for applied, commands in follow(self.state, event, _left_out):
            self._journal.append((applied,))
            self._commands.extend(commands)

    def _commit(self) -> None:
        """One write and one fsync for all events of the turn. A superseded controller stops here, before it writes."""
        if self._journal.pending:
            self._lease.check()
            self._journal.commit()

    def _answer(self, letter: Letter, now: datetime) -> bool:
        """Act on a letter. False if it has to wait, because what it speaks of cannot be read now."""
        if letter.message.request in self.state.requests:
            return True
        if self._tries.waits(letter.message.request, self._clock.monotonic()):
            return False
        answer = requests.answer(self.state, self._workspace, letter, now)
        try:
            while True:
                self._record(next(answer))
        except StopIteration as end:
            note = str(end.value)
        except OSError as error:
            pause = self._tries.failed(letter.message.request, self._clock.monotonic())
            _log.warning("%s has to wait, at least %g s: %s", letter.path.name, pause, error)
            return False
        self._tries.forget(letter.message.request)
        self._record(e.RequestHandled(time=now, request=letter.message.request, note=note))
        self._ending = self._ending or requests.is_shutdown(self.state, self._workspace, letter)
        _log.info("%s: %s", type(letter.message).__name__, note)
        return True

    def _plan(self, now: datetime) -> None:
        if self._ending:
            for record in list(self.state.active()):
                if record.state in {JobState.STARTING, JobState.RUNNING}:
                    self._record(e.PreemptRequested(time=now, job_id=record.job.id, reason="the cluster goes down"))
            return
        policy = self._policy_now()
        self._apply_policy(policy, now)
        unchanged = self.state.seq == self._planned_seq and policy == self._planned_by
        if unchanged and (self._wake_at is None or self._clock.monotonic() < self._wake_at):
            return
        made = plan(self.state, now, policy)
        for placement in made.placements:
            attempt = self.state.jobs[placement.job_id].attempt + 1
            self._record(e.Placed(time=now, job_id=placement.job_id, attempt=attempt, allocation=placement.allocation))
        for leave in made.preemptions:
            self._record(e.PreemptRequested(time=now, job_id=leave.job_id, reason=leave.reason))
        pause = None if made.wake_at is None else (made.wake_at - now).total_seconds()
        self._wake_at, self._planned_by = None if pause is None else self._clock.monotonic() + pause, policy
        # A plan that was cut short is gone on with at the next turn.
        self._planned_seq = self.state.seq if len(made.placements) < policy.placements_per_turn else -1

    def _apply_policy(self, policy: Policy, now: datetime) -> None:
        """Journal what of the policy the state itself depends on."""
        if (policy.half_life_s, policy.longest_first) != (self.state.ledger.half_life_s, self.state.longest_first):
            self._record(e.PolicyApplied(time=now, half_life_s=policy.half_life_s, longest_first=policy.longest_first))

    # what is done

    def _perform(self) -> None:
        commands, self._commands = [*self._again, *self._commands], []
        self._again = []
        for command in commands:
            if isinstance(command, Launch):
                self._launch(self.state.jobs[command.job_id], command.attempt)
            elif isinstance(command, Stop):
                self._pool.stop(command.job_id, command.attempt, command.goal)
            elif isinstance(command, RemoveFiles):
                self._remove(command.job_id)
            elif isinstance(command, JobFinished) and self._hooks.finished is not None:
                self._call(self._hooks.finished, self.state.jobs[command.job_id])
        self._commit()  # what was removed

    def _remove(self, job_id: str) -> None:
        """Put files that are to go out of their place. Only then may the job be tried again: see transitions."""
        leaving = self.state.jobs[job_id].marks.leaving
        if leaving is None:
            return
        try:
            removal.take_away(self._workspace, job_id, leaving, self.state.seq, self._calls)
        except OSError as error:
            _log.warning("files of %s cannot be removed now: %s", job_id, error)
            self._again.append(RemoveFiles(job_id=job_id))
            return
        self._record(e.FilesRemoved(time=self._clock.now(), job_id=job_id))
        self._sweeper.wake()

    def _launch(self, record: JobRecord, attempt: int) -> None:
        if record.allocation is None or record.attempt != attempt:
            return  # it ended in the same turn
        job = record.job
        self._pool.launch(
            LaunchOrder(
                epoch=self._lease.epoch,
                job_id=job.id,
                sweep=job.sweep,
                attempt=attempt,
                entrypoint=job.entrypoint,
                workspace=str(self._workspace.root),
                spec_path=job.spec.path,
                spec_offset=job.spec.offset,
                spec_length=job.spec.length,
                device_id=record.allocation.device,
                share=record.allocation.share,
                threads=self._threads(record),
                memory_share=1.0 if self.state.exclusively_used(record.allocation.device) else record.allocation.share,
                mps=job.resources.mps,
                first_attempt=record.first_attempt,
                identity=job.identity,
                former=job.former,
                result_from=_result_from(record),
                time_limit_s=job.time_limit_s,
                hang_after_s=job.hang_after_s,
                light=job.light,
            )
        )

    def _threads(self, record: JobRecord) -> int:
        """CPU threads: as asked, else the cores that were granted, or that go with the granted part of a GPU."""
        assert record.allocation is not None
        if record.job.threads is not None:
            return record.job.threads
        device = self.state.devices[record.allocation.device].device
        if device.kind is DeviceKind.CPU:
            return max(1, int(record.allocation.share))
        beside = sum(
            d.device.node == device.node and d.device.kind is DeviceKind.GPU for d in self.state.devices.values()
        )
        return max(1, int(device.host_cores * record.allocation.share / beside))

    @staticmethod
    def _call(hook: Callable[[JobRecord], None], record: JobRecord) -> None:
        try:
            hook(record)
        except Exception:
            _log.exception("a hook failed for %s", record.job.id)

    # time

    def _poll_timeout(self, timeout_s: float) -> float:
        if self._planned_seq == -1:
            return 0.0
        if self._wake_at is None:
            return timeout_s
        return max(0.0, min(timeout_s, self._wake_at - self._clock.monotonic()))

    def _beat(self, now: datetime) -> None:
        if not self._beats.due(self._clock.monotonic()):
            return
        try:
            self._lease.heartbeat(now)
        except OSError as error:
            _log.warning("the lease could not be renewed: %s", error)

    def _tidy(self, now: datetime) -> None:
        if self._tidies.due(self._clock.monotonic()):
            inbox.tidy(self._workspace, now.timestamp())

    def _report_need(self, now: datetime) -> None:
        """Here nothing is under way: what the pool gives back now is gone before the next plan is made.

        To find out costs as much as waits: only a pool that borrows is told.
        """
        if not self._pool.borrows or self._ending:
            return
        if self._tells.due(self._clock.monotonic()):
            steady = self._steady.at(self._clock.monotonic())
            self._pool.need(self._idle.need(self.state, now, self._policy_now(), steady))

    def _silent_deaths(self) -> list[NodeDied]:
        """Nodes that died while no controller was there to hear of it, with jobs on them. Asked for now and then."""
        if self._node_is_dead is None or not self._asks.due(self._clock.monotonic()):
            return []
        silent = [self.state.devices[d] for d in self.state.on_device if not self.state.devices[d].online]
        incarnations = {(known.device.node, known.device.node_id) for known in silent}
        return [
            NodeDied(node=node, node_id=incarnation)
            for node, incarnation in sorted(incarnations)
            if self._node_is_dead(incarnation)
        ]

    def _show(self, now: datetime) -> None:
        self._live.keep_only(record.job.id for record in self.state.active())
        self._live.write(now, self._clock.monotonic(), self.state, self._planned_by)

    def _end_if_done(self, now: datetime) -> None:
        """After a shutdown was asked for: end when nothing runs on any device that answers."""
        busy = [d for d in self.state.on_device if self.state.devices[d].online]
        if not self._ending or busy:
            return
        self._snapshots.save(self.state, self._journal, self._clock.monotonic())
        self._journal.close()
        self._lease.release(now)
        self._stopped = True
        _log.info("stopped")


__all__ = ["Controller", "ControllerHooks", "LostLease"]


def _result_from(record: JobRecord) -> int:
    """The first attempt whose result is the end of the job: of one that was extended, of the present series."""
    if not record.job.former:
        return 0
    return min((a.number for a in record.attempts if a.series == record.series), default=0)


def _left_out(event: Event, error: InvalidTransition | None) -> None:
    if error is None:
        _log.debug("ignored, for it is no longer current: %s", event)
    else:
        _log.error("an event that cannot be is left out", exc_info=error)
