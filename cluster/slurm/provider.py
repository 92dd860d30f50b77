"""Nodes that are Slurm jobs: asked for while jobs wait, let go when nothing runs on them. A NodeProvider.

What is to be done is decided by terry.cluster.slurm.plan; here it is seen, and done. All that is remembered between two
rounds may be forgotten at any time: it only makes some things later.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.files import live
from terry.cluster.files.links import owner_name
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.nodes.records import reports
from terry.cluster.ports import ClusterView, NodeReport, NodeState
from terry.cluster.scheduling.demand import Steady
from terry.cluster.slurm.commands import SlurmCommands, SlurmError, warning_s
from terry.cluster.slurm.plan import HEAD_NODE, GroupPlan, Phase, Seen, SlurmJob, in_group, plan_group, strangers

_log = logging.getLogger(__name__)

#: What the controller wrote longer ago than this says nothing of now.
_FRESH = timedelta(seconds=30)
#: Slurm is asked at least so often, and else only when there is something to be asked for.
_ASK_EVERY_S = 60.0
#: After a node that never came the group has to wait before it gets another; doubled up to the second.
_PAUSE_S, _PAUSE_MAX_S = 5.0, 300.0
_END_S = 30.0
_LOOK_S = 0.5


@dataclass(slots=True)
class _Known:
    """A Slurm job as it was seen last."""

    job: SlurmJob
    came: bool = False  # it was a node of the cluster
    unwanted: bool = False  # we have ended it, or asked it to end
    before: NodeReport | None = None  # what its node had said when it was seen first, in an earlier life


@dataclass(slots=True)
class _Pause:
    """A group's patience, after something went wrong."""

    length_s: float = _PAUSE_S
    until: float = 0.0

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    def begin(self) -> None:
        self.until = time.monotonic() + self.length_s
        self.length_s = min(2 * self.length_s, _PAUSE_MAX_S)


class SlurmNodes:
    """All groups of Slurm jobs of a workspace."""

    def __init__(self, workspace: WorkspacePaths, groups: Iterable[SlurmGroup], slurm: SlurmCommands) -> None:
        self._workspace = workspace
        self._groups = list(groups)
        self._slurm = slurm
        self._known: dict[str, _Known] = {}
        self._absent_since: dict[str, datetime] = {}
        self._leaving: dict[str, datetime] = {}
        self._pauses = {group.name: _Pause() for group in self._groups}
        self._asked = -_ASK_EVERY_S
        self._steady = Steady(datetime.now(UTC), time.monotonic())
        self._shown: tuple[int, datetime] | None = None
        self._changed_at, self._trusted = 0.0, False
        self._reported: dict[str, tuple[NodeState, str]] = {}

    def reconcile(self, view: ClusterView) -> tuple[NodeReport, ...]:
        """See NodeProvider. Without word from the controller nothing is asked for and nothing let go."""
        now = self._steady.at(time.monotonic())
        shown = live.read(self._workspace)
        if shown is None or not self._is_fresh(shown) or not self._is_due(shown):
            return ()
        self._asked = time.monotonic()
        try:
            jobs = [job for job in self._slurm.jobs() if job.node != HEAD_NODE]
            there = _there(view, shown)
            found = self._take_in(jobs, there, now)
            self._cancel([*strangers(self._groups, jobs), *self._overdue(now)])
        except SlurmError as error:
            return self._news([self._silent(str(error))])
        seen = self._seen(jobs, there, shown, now)
        for group in self._groups:
            found += self._tend(group, seen, now)
        return self._news([*found, *self._over(jobs, there, found)])

    def end(self) -> tuple[NodeReport, ...]:
        """See NodeProvider. Only the workspace's own Slurm jobs, by their names."""
        ended: dict[str, SlurmJob] = {}
        deadline = time.monotonic() + _END_S
        try:
            while jobs := self._slurm.jobs():
                self._slurm.cancel(job.id for job in jobs if job.id not in ended)
                ended.update({job.id: job for job in jobs})
                if time.monotonic() > deadline:
                    raise SlurmError(f"Slurm does not end {', '.join(job.id for job in jobs)}")
                time.sleep(_LOOK_S)
        except SlurmError as error:
            return (replace(self._silent(str(error)), problem=f"{error}. {self._staying()}", fix=self._end_by_hand()),)
        names = {job.node for job in ended.values()} | {
            name for name in reports(self._workspace) if self._is_ours(name)
        }
        return tuple(_report(name, NodeState.ENDED) for name in sorted(names))

    def _staying(self) -> str:
        names = ", ".join(self._left())
        alone = "a job that finds no head ends by itself after 3 minutes"
        return f"Slurm jobs that may stay: {names}; {alone}" if names else f"Slurm jobs may stay; {alone}"

    def _end_by_hand(self) -> str:
        names = self._left() or [f"{group.name}-1" for group in self._groups]
        commands = [f"scancel --user={owner_name(os.getuid())} --name={self._slurm.name_of(name)}" for name in names]
        return f"once Slurm answers: `{' ; '.join(commands)}`, or `terry-cluster down` again"

    def _left(self) -> list[str]:
        """Nodes whose Slurm jobs may live, by what was said of them last."""
        known = reports(self._workspace).items()
        return [n for n, r in known if self._is_ours(n) and (r.is_in or r.state is NodeState.WAITING)]

    def _is_ours(self, name: str) -> bool:
        return any(in_group(group, name) for group in self._groups)

    def _is_fresh(self, shown: live.Live) -> bool:
        """It is seen to change. At first its own time must do, which is that of this host's clock."""
        stamp, monotonic = (shown.epoch, shown.time), time.monotonic()
        if stamp != self._shown:
            self._trusted = self._shown is not None or abs(datetime.now(UTC) - shown.time) <= _FRESH
            self._shown, self._changed_at = stamp, monotonic
        return self._trusted and monotonic - self._changed_at <= _FRESH.total_seconds()

    def _is_due(self, shown: live.Live) -> bool:
        needed = bool(shown.waiting) or bool(self._known) or any(group.least for group in self._groups)
        return needed or time.monotonic() - self._asked >= _ASK_EVERY_S

    # what is seen

    def _take_in(self, jobs: Sequence[SlurmJob], there: frozenset[str], now: datetime) -> list[NodeReport]:
        """Remember what there is; say what is gone."""
        before, self._known = self._known, {}
        said = reports(self._workspace)
        for job in jobs:
            known = before.pop(job.id, None) or _Known(job, before=said.get(job.node))
            came = known.came or (job.phase is Phase.RUNNING and job.node in there)
            self._known[job.id] = _Known(job, came, known.unwanted, known.before)
            if came:
                self._pause_of(job.node).length_s = _PAUSE_S
        absent = [job.id for job in jobs if job.phase is Phase.RUNNING and job.node not in there]
        self._absent_since = {job_id: self._absent_since.get(job_id, now) for job_id in absent}
        self._leaving = {job_id: at for job_id, at in self._leaving.items() if job_id in self._known}
        taken = {job.node for job in jobs}
        return [self._gone(known) for known in before.values() if known.job.node not in taken]

    def _gone(self, known: _Known) -> NodeReport:
        """What is said of a Slurm job that has ended."""
        node = known.job.node
        if known.came or known.unwanted:
            return _report(node, NodeState.ENDED)
        self._pause_of(node).begin()
        theirs = reports(self._workspace).get(node)  # what it has said itself, if it came so far
        if theirs is not None and theirs.state is NodeState.UNFIT:
            return theirs
        words = self._slurm.last_words(known.job.id) or self._silence
        problem = f"Slurm job {known.job.id} has ended before it was a node: {words}"
        return _report(node, NodeState.UNFIT, problem, f"see {self._workspace.slurm}/{known.job.id}_*")

    @property
    def _silence(self) -> str:
        return f"it has said nothing; does its host see {self._workspace.root}, where Slurm writes what it says?"

    def _pause_of(self, node: str) -> _Pause:
        return next((self._pauses[g.name] for g in self._groups if in_group(g, node)), _Pause())

    def _overdue(self, now: datetime) -> list[str]:
        """Those that were asked to go and do not."""
        grace = {g.name: timedelta(seconds=warning_s(g) + 60) for g in self._groups}
        found = []
        for job_id, since in self._leaving.items():
            group = next((g for g in self._groups if in_group(g, self._known[job_id].job.node)), None)
            if group is not None and now - since > grace[group.name]:
                found.append(job_id)
        return found

    def _seen(self, jobs: Sequence[SlurmJob], there: frozenset[str], shown: live.Live, now: datetime) -> Seen:
        ahead = now - (shown.steady or shown.time)  # our clock, of the controller's
        loads = [replace(load, idle_since=load.idle_since and load.idle_since + ahead) for load in shown.loads]
        return Seen(
            jobs=tuple(jobs),
            members=there,
            devices=tuple(known.device for known in shown.devices),
            loads=tuple(loads),
            waiting=shown.waiting,
            leaving=frozenset(self._leaving),
            absent_since=self._absent_since,
            settings={group.name: self._slurm.settings_of(group) for group in self._groups},
        )

    # what is done

    def _tend(self, group: SlurmGroup, seen: Seen, now: datetime) -> list[NodeReport]:
        plan = plan_group(group, seen, now)
        try:
            self._cancel(plan.cancel)
            if plan.release:
                self._slurm.release(plan.release)
                self._leaving.update(dict.fromkeys(plan.release, now))
                self._unwanted(plan.release)
                _log.info("nothing has run on %s for long: they go", ", ".join(self._names(plan.release)))
            asked = self._submit(group, plan)
        except SlurmError as error:
            self._pauses[group.name].begin()
            asked = [_refused(group, next(iter(plan.submit), f"{group.name}-1"), str(error))]
        there = [known for known in self._known.values() if in_group(group, known.job.node)]
        return [*asked, *self._coming(known for known in there if known.job.node not in seen.members)]

    def _over(self, jobs: Sequence[SlurmJob], there: frozenset[str], found: Sequence[NodeReport]) -> list[NodeReport]:
        """Reasons that nobody gives any more: the node is not asked for, and nothing keeps it from being asked for."""
        said = {report.name for report in found} | {job.node for job in jobs} | there
        return [
            _report(name, NodeState.ENDED)
            for name, report in reports(self._workspace).items()
            if report.problem and name not in said and self._is_ours(name) and self._pause_of(name).is_over
        ]

    def _coming(self, found: Iterable[_Known]) -> list[NodeReport]:
        """What is said of those that are no nodes yet, but for those that have said themselves that they are."""
        said = reports(self._workspace)
        silent = [k for k in found if not ((r := said.get(k.job.node)) and r.is_in and r != k.before)]
        return [_coming(known.job) for known in silent]

    def _submit(self, group: SlurmGroup, plan: GroupPlan) -> list[NodeReport]:
        if not self._pauses[group.name].is_over:
            return []
        found = []
        for node in plan.submit:
            job = SlurmJob(id=self._slurm.submit(group, node), node=node, phase=Phase.PENDING, state="PENDING")
            _log.info("node %s: asked for, Slurm job %s", node, job.id)
            self._known[job.id] = _Known(job, before=reports(self._workspace).get(node))
            found.append(_coming(job))
        return found

    def _cancel(self, ids: Iterable[str]) -> None:
        found = [job_id for job_id in ids if job_id]
        if found:
            self._slurm.cancel(found)
            self._unwanted(found)
            _log.info("cancelled Slurm jobs %s", ", ".join(found))

    def _unwanted(self, ids: Iterable[str]) -> None:
        for job_id in ids:
            if job_id in self._known:
                self._known[job_id].unwanted = True

    def _names(self, ids: Iterable[str]) -> list[str]:
        return [self._known[job_id].job.node for job_id in ids]

    # what is said

    def _silent(self, error: str) -> NodeReport:
        name = f"{self._groups[0].name}-1"
        return _report(name, NodeState.UNREACHABLE, error, "`squeue` must work on the head's host: `head:`")

    def _news(self, found: Iterable[NodeReport]) -> tuple[NodeReport, ...]:
        """Only what is new: every report is written to the shared disk."""
        fresh = {r.name: r for r in found if self._reported.get(r.name) != (r.state, r.problem)}
        self._reported.update({name: (r.state, r.problem) for name, r in fresh.items()})
        return tuple(fresh.values())


def _there(view: ClusterView, shown: live.Live) -> frozenset[str]:
    """Nodes that take jobs. One that has joined just now has no device yet: it is still on its way."""
    with_device = {known.device.id: known.device.node for known in shown.devices}
    return view.members & {with_device.get(load.device_id, "") for load in shown.loads}


def _coming(job: SlurmJob) -> NodeReport:
    if job.phase is Phase.RUNNING:
        said = f"Slurm job {job.id} starts on {job.host}"
    else:
        why = f": {job.reason}" if job.reason not in {"", "None"} else ""
        said = f"Slurm job {job.id} waits{why}"
    return _report(job.node, NodeState.WAITING, said)


#: In the words by which Slurm says that a person has as many jobs as he may have: that passes.
_LIMIT = re.compile(r"Max(?:Submit)?Jobs?|MaxSubmit|Grp(?:Submit)?Jobs|GrpSubmit")


def _refused(group: SlurmGroup, node: str, words: str) -> NodeReport:
    """What is said of a node that Slurm has not even put into its queue."""
    if _LIMIT.search(words):
        fix = f"nothing has to be done: it is asked again; `nodes.{group.name}.max` below the limit asks for no more"
        return _report(node, NodeState.WAITING, f"a limit of Slurm is reached: {words}", fix)
    fix = f"correct `nodes.{group.name}` in terry.yaml, or ask those who run the cluster"
    return _report(node, NodeState.UNFIT, f"Slurm says: {words}", fix)


def _report(name: str, state: NodeState, problem: str = "", fix: str = "") -> NodeReport:
    return NodeReport(name=name, state=state, problem=problem, fix=fix, time=datetime.now(UTC))
