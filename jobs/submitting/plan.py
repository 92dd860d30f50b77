"""What a submission adds to its sweep: which jobs are new, which are there already, under which ids. Pure.

Jobs are known by the identity of what they compute, so that submitting a file again adds what is new.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from terry.cluster.config.words import seconds
from terry.cluster.core.model import DeviceKind, JobState, Resources, RetryPolicy
from terry.jobs.submitting.extension import offer, without_length
from terry.jobs.submitting.records import JobLine, KnownJobs, NewJob, keeping, removed
from terry.jobs.sweeps.command import filled
from terry.jobs.sweeps.ensembles import PlannedEnsemble
from terry.jobs.sweeps.labels import labels
from terry.jobs.sweeps.model_jobs import EvaluateAsked, Mixture
from terry.jobs.sweeps.spec import EVALUATE, PREPARE, TRAIN, RunConfig, WorkingFolder
from terry.jobs.sweeps.sweep import PlannedRun, Sweep, run_identity
from terry.logs.records.values import pack, unpack

#: A user's own code may say nothing of its steps for so long, unless `hang_after` is given.
OWN_CODE_HANG_S = 24 * 3600.0

_DEFAULTS = msgspec.to_builtins(RunConfig())


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """How a sweep is submitted."""

    priority: int | None = None  #: instead of the file's own
    hold: bool = False  #: jobs wait for `resume`
    extend: bool = False  #: the file may share no run with the sweep of its name
    kind: DeviceKind = DeviceKind.CPU  #: what a run gets whose file leaves its resources out


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """A row of what a submission is about."""

    id: str
    kind: str
    labels: dict[str, str]
    resources: Resources
    entrypoint: str
    new: bool  #: False: it is there from an earlier submission
    command: tuple[str, ...] = ()  #: the argument list, where it is a program


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is submitted: by whom, when, how."""

    expanded: Sweep
    ensembles: list[PlannedEnsemble]
    options: SubmitOptions
    submitted_at: datetime
    owner: str
    folder: str  #: of the sweep file

    @property
    def configs(self) -> list[dict[str, Any]]:
        """Configurations of all runs."""
        return [run.config for run in self.expanded.runs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What comes of it beside the jobs that are known."""

    jobs: list[PlannedJob]  #: all runs of the file and what they depend on, in the file's order
    lines: list[JobLine]  #: the new ones
    keeping: str  #: a sentence, where jobs are there already that the file now gives other terms
    longer: str  #: a sentence, where new runs are known ones made longer
    removed: str  #: a sentence, where files of jobs that are there were removed
    ensembles: dict[str, dict[str, Any]]  #: as submission.json has them
    new_ensembles: bool  #: an ensemble is new, or has other members
    ids: dict[str, str]  #: of the runs, by identity
    is_another: bool  #: the sweep of its name has runs, and none of these


def plan(asked: Asked, known: KnownJobs) -> Plan:
    """Give ids to what is new, by what is known of the sweep."""
    return _Planning(asked, known).plan()


class _Planning:
    def __init__(self, asked: Asked, known: KnownJobs) -> None:
        self._asked, self._known, self._options = asked, known, asked.options
        self._sweep = asked.expanded.name

    def plan(self) -> Plan:
        """See the module."""
        known, runs = self._known, self._asked.expanded.runs
        prepared = self._prepare_lines()
        lines = self._train_lines(prepared)
        there = {line.job.id: known.by_identity.get(line.job.identity) for line in lines}
        new = [line for line in lines if there[line.job.id] is None]
        ids = {line.job.identity: line.job.id for line in lines}
        evaluations = {ensemble.name: self._ensemble_line(ensemble, ids) for ensemble in self._asked.ensembles}
        entries = {e.name: _entry(e, evaluations[e.name]) for e in self._asked.ensembles}
        new = self._with_what_they_replace(new)
        needed = dict.fromkeys(name for line in new for name in line.inputs)
        first = [prepared[name] for name in needed if prepared[name].job.id not in known.ids]
        last = [line for line in evaluations.values() if line.job.id not in known.ids]
        added = [*first, *new, *last]
        shown = [*prepared.values(), *lines, *evaluations.values()]
        said = {"priority"} if self._options.priority is not None else set()  # it is changed, not kept
        kept = {
            line.job.id: names
            for line in lines
            if (old := there[line.job.id]) and (names := [n for n in old.kept(line.job) if n not in said])
        }
        is_new = {line.job.id for line in added}
        return Plan(
            jobs=[_row(line, new=line.job.id in is_new) for line in shown],
            lines=added,
            keeping=keeping(kept),
            longer=offer([(without_length(config), config) for config in map(_config, new)], known),
            removed=removed([line.job.id for line in shown], known),
            ensembles=entries,
            new_ensembles=any(known.ensembles.get(name) != entry for name, entry in entries.items()),
            ids=ids,
            is_another=bool(runs) and known.has_runs and len(new) == len(runs) and not self._mends(new),
        )

    def _job(self, job_id: str, kind: str, identity: str, **rest: Any) -> NewJob:
        """What all of them have in common."""
        asked = self._asked
        return NewJob(
            id=job_id,
            sweep=self._sweep,
            kind=kind,
            identity=identity,
            submitted_at=asked.submitted_at,
            owner=asked.owner,
            held=self._options.hold,
            **rest,
        )

    def _id(self, wanted: str, identity: str) -> str:
        """The id that it has, or had; else `wanted`, with the next free number where that is of another one."""
        known = self._known
        if identity in known.by_identity:
            return known.by_identity[identity].id
        if identity in known.lost:
            return known.lost[identity]
        candidate, number = wanted, 2
        while candidate in known.taken:
            candidate, number = f"{wanted}-{number}", number + 1
        return candidate

    def _with_what_they_replace(self, new: list[JobLine]) -> list[JobLine]:
        """Of a new run: the newest one before it with the same settings, which had other code or other data."""
        before = {settings_key(config): job_id for job_id, config in self._known.earlier_runs()} if new else {}
        return [_replacing(line, before.get(settings_key(unpack(line.config)), "")) for line in new]

    def _mends(self, new: list[JobLine]) -> bool:
        """Whether one of the runs takes the place of one that failed or was cancelled: the same, mended."""
        before = (self._known.records.get(line.job.replaces) for line in new)
        return any(record is not None and record.state in {JobState.FAILED, JobState.CANCELLED} for record in before)

    def _before(self, wanted: str, job_id: str) -> str:
        """The newest job that had its name from `wanted`, as this one has, and is another one."""
        names, number = [wanted], 2
        while names[-1] in self._known.ids:
            names.append(f"{wanted}-{number}")
            number += 1
        return next((name for name in reversed(names[:-1]) if name != job_id), "")

    def _prepare_lines(self) -> dict[str, JobLine]:
        """A line for each data set in use, with the id it has or would get."""
        expanded = self._asked.expanded
        used = dict.fromkeys(config["data"]["dataset"] for config in self._asked.configs)
        return {name: self._prepare_line(name, expanded.dataset_identity(name)) for name in used if name}

    def _prepare_line(self, name: str, identity: str) -> JobLine:
        expanded = self._asked.expanded
        wanted = f"{self._sweep}-prepare-{name}"
        job_id = self._id(wanted, identity)
        job = self._job(
            job_id,
            "prepare",
            identity,
            replaces=self._before(wanted, job_id),
            entrypoint=PREPARE,
            resources=Resources(cpus=1.0, at_home=True),
            priority=self._options.priority or 0,
            depends_on=(),
            retry=RetryPolicy(),
            labels={"dataset": name},
            light=True,
        )
        config = {
            "name": name,
            "folder": self._asked.folder,
            "dataset": msgspec.to_builtins(expanded.datasets[name]),
            "others": {other: msgspec.to_builtins(each) for other, each in expanded.dataset_needs(name).items()},
        }
        return JobLine(job=job, config=config)

    def _train_lines(self, prepared: dict[str, JobLine]) -> list[JobLine]:
        runs, known = self._asked.expanded.runs, self._known
        number, lines = known.last, []
        for run, label in zip(runs, self._labels(runs), strict=True):
            there = known.by_identity.get(run.identity)
            job_id = there.id if there else known.lost.get(run.identity, "")
            if not job_id:
                number += 1
                job_id = f"{self._sweep}-{number:04d}"
            lines.append(self._train_line(run, job_id, label, prepared))
        return lines

    def _labels(self, runs: list[PlannedRun]) -> list[dict[str, str]]:
        searched = self._asked.expanded.search
        if searched is not None:
            return labels(self._asked.configs, searched.varied, always=searched.varied)
        names = dict.fromkeys(key for run in runs for key in run.varied)
        return labels(self._asked.configs, [*names, "data.dataset"], always=[self._asked.expanded.seed_key])

    def _train_line(self, run: PlannedRun, job_id: str, label: dict[str, str], prepared: dict[str, JobLine]) -> JobLine:
        typed, dataset = run.typed, run.config["data"]["dataset"]
        inputs = {dataset: prepared[dataset].job.id} if dataset else {}
        job = self._job(
            job_id,
            "train",
            run.identity,
            entrypoint=typed.main,
            resources=typed.resources.decide(self._options.kind, at_home=_at_home(typed)),
            priority=self._priority(typed),
            depends_on=tuple(inputs.values()),
            retry=typed.retry,
            labels=label,
            time_limit_s=None if typed.time_limit is None else seconds(typed.time_limit),
            hang_after_s=_hang_after(typed),
            threads=typed.threads,
            light=typed.command is not None,
        )
        folder = self._asked.folder if typed.command is not None else ""
        return JobLine(job=job, config=_packed(run.config), inputs=inputs, folder=folder)

    def _ensemble_line(self, ensemble: PlannedEnsemble, ids: dict[str, str]) -> JobLine:
        """The job that evaluates an ensemble once its members are trained."""
        members = tuple(ids[identity] for identity in ensemble.members)
        config, typed = ensemble.config, ensemble.first.typed
        mixture = Mixture(
            name=ensemble.name,
            members=members,
            best=config.best,
            average=config.average,
            weights=config.weights,
            snapshots=config.snapshots,
            average_weights=config.average_weights,
        )
        wanted = f"{self._sweep}-ensemble-{ensemble.name}"
        job_id = self._id(wanted, ensemble.identity)
        job = self._job(
            job_id,
            "evaluate",
            ensemble.identity,
            replaces=self._before(wanted, job_id),
            entrypoint=EVALUATE,
            resources=typed.resources.decide(self._options.kind, at_home=True),
            priority=self._priority(typed),
            depends_on=members,
            minimum=ensemble.minimum if ensemble.minimum < len(members) else None,
            retry=typed.retry,
            labels={"ensemble": ensemble.name},
        )
        return JobLine(job=job, config=msgspec.to_builtins(EvaluateAsked(mixture=mixture, split=config.split)))

    def _priority(self, typed: RunConfig) -> int:
        return typed.priority if self._options.priority is None else self._options.priority


def _config(line: JobLine) -> dict[str, Any]:
    found: dict[str, Any] = unpack(line.config)
    return found


def settings_key(config: dict[str, Any]) -> str:
    """What tells runs of the same settings: all that is in a sweep file and decides what comes out of a run."""
    return run_identity(config, _DEFAULTS, None, None)


def _replacing(line: JobLine, job_id: str) -> JobLine:
    return msgspec.structs.replace(line, job=msgspec.structs.replace(line.job, replaces=job_id)) if job_id else line


def _row(line: JobLine, *, new: bool) -> PlannedJob:
    job, command = line.job, line.config.get("command") or []
    names = {"job_id": job.id, "sweep": job.sweep}
    return PlannedJob(
        id=job.id,
        kind=job.kind,
        labels=job.labels,
        resources=job.resources,
        entrypoint=job.entrypoint,
        new=new,
        command=tuple(filled(command, unpack(line.config["parameters"]), names)) if command else (),
    )


def _entry(ensemble: PlannedEnsemble, line: JobLine) -> dict[str, Any]:
    """What submission.json says of an ensemble."""
    members = list(line.config["mixture"]["members"])  # as JSON gives it back: it is compared
    return {**line.config["mixture"], "members": members, "job": line.job.id, "minimum": ensemble.minimum}


def _packed(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as a line holds it: parameters of any shape come back as they were."""
    own = config["parameters"]
    return {**config, "parameters": pack(own, "run.parameters")} if own else config


def _at_home(typed: RunConfig) -> bool:
    """What reads other runs' files, or writes what only a folder of its own keeps, runs where these files are."""
    return bool(typed.halving or typed.command) or typed.working_folder is WorkingFolder.run


def _hang_after(config: RunConfig) -> float | None:
    if config.hang_after is not None:
        return seconds(config.hang_after)
    return None if config.main == TRAIN else OWN_CODE_HANG_S
