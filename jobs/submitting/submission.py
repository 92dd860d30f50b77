"""From a sweep file to jobs on disk: what is new, what is there already, and one folder that is published whole.

A submission is a folder `sweeps/<sweep>/submission-NNNN/` that never changes: the file as it was given, one line a job,
and who submitted it when. It claims its number by being renamed into place: of two that race, the second reads what the
first one added, numbers its jobs anew, and takes the next number.

A sweep grows: jobs are known by the identity of what they compute, so that submitting the file again adds what is new.
A file that shares no run with the sweep of its name is refused, since it is most often another experiment under an old
name; `extend` says that it is meant.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.config.typed import flatten
from terry.cluster.config.words import seconds
from terry.cluster.config.yaml_file import Document, of_values
from terry.cluster.core.model import DeviceKind, Resources, RetryPolicy
from terry.cluster.errors import UserError
from terry.cluster.files import durable, inbox
from terry.cluster.files.paths import Workspace
from terry.jobs.submitting import source
from terry.jobs.submitting.records import JobLine, Known, NewJob, SubmissionInfo, keeping
from terry.jobs.sweeps import ensembles, sweep
from terry.jobs.sweeps.ensembles import PlannedEnsemble
from terry.jobs.sweeps.labels import labels
from terry.jobs.sweeps.model_jobs import EvaluateAsked, Mixture
from terry.jobs.sweeps.spec import EVALUATE, PREPARE, RunConfig
from terry.jobs.sweeps.sweep import Sweep

FORMAT_VERSION = 1

#: A user's own code may say nothing of its steps for so long, unless `hang_after` is given.
OWN_CODE_HANG_S = 24 * 3600.0


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


@dataclass(slots=True, kw_only=True)
class Submission:
    """A planned submission. Nothing is on disk yet."""

    sweep: str
    jobs: list[PlannedJob]  #: all runs of the file and what they depend on, in the file's order
    lines: list[JobLine]  #: the new ones
    info: SubmissionInfo
    notices: list[str]
    keeping: str = ""  #: a sentence, where jobs are there already that the file now gives other terms
    kind: DeviceKind  #: what runs get whose file leaves it open
    left_open: bool  #: True where some run leaves it open
    expanded: Sweep = field(repr=False)
    planned_ensembles: list[PlannedEnsemble] = field(repr=False)
    text: bytes = field(repr=False)  #: the sweep file
    code: dict[str, source.Source] = field(repr=False)  #: entry point -> the user's own code behind it
    options: SubmitOptions
    new_ensembles: bool = False  #: an ensemble is new, or has other members
    taken: int = 0  #: number of the newest submission of this sweep that the queue has taken

    @property
    def new(self) -> int:
        """Number of jobs that it adds."""
        return len(self.lines)


def prepare_submission(
    workspace: Workspace,
    file: Path | Mapping[str, Any],
    overrides: Iterable[str],
    options: SubmitOptions,
    now: datetime,
    owner: str,
    cwd: Path | None = None,
) -> Submission:
    """Read, check and expand a sweep file, and compare it with what the workspace has. Writes nothing.

    file: or the contents of one as Python's values; relative paths in it then start in `cwd`.
    Raises UserError for every mistake, with file and line.
    """
    here = (cwd or Path.cwd()).resolve()
    document, text = _document(file, here)
    given = tuple(overrides)
    code = _Code([document.folder, here])
    expanded = sweep.expand(document, given, code.sha256)
    planned = ensembles.plan(expanded)
    submission = Submission(
        sweep=expanded.name,
        jobs=[],
        lines=[],
        info=SubmissionInfo(
            version=FORMAT_VERSION,
            sweep=expanded.name,
            submitted_at=now,
            owner=owner,
            file=document.file if isinstance(file, Path) else "",
            folder=str(document.folder),
            overrides=given,
            request=secrets.token_hex(8),
            jobs=0,
            ensembles={},
        ),
        notices=[*expanded.notices, *source.notices(code.found.values())],
        kind=options.kind,
        left_open=any(not c["resources"]["gpus"] and not c["resources"]["cpus"] for c in _configs(expanded)),
        expanded=expanded,
        planned_ensembles=planned,
        text=text,
        code=code.found,
        options=options,
    )
    _assign(workspace, submission)
    return submission


def _document(file: Path | Mapping[str, Any], here: Path) -> tuple[Document, bytes]:
    """What the file says, and its bytes."""
    return sweep.read_sweep(file.resolve()) if isinstance(file, Path) else of_values(file, here)


def publish(workspace: Workspace, submission: Submission) -> int:
    """Put a submission on disk and tell the controller; return its number, that of the newest where nothing is new.

    Once this returns, nothing that dies loses it. The controller is told in any case: that mends a submission whose
    process died after the folder had its name. Raises OSError; nothing half-written is left.
    """
    number = _claim(workspace, submission)
    inbox.send(workspace, inbox.Submit(sweep=submission.sweep))
    return number


def _claim(workspace: Workspace, submission: Submission) -> int:
    folder = workspace.sweep(submission.sweep)
    durable.make_folder(folder)
    while True:
        taken = workspace.submissions(submission.sweep)
        number = max(taken[-1][0] if taken else 0, submission.taken) + 1
        if not submission.lines and not submission.new_ensembles:
            return number - 1
        temporary = folder / f".submission.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            _write(submission, temporary, workspace.submission(submission.sweep, number).relative_to(workspace.root))
            durable.publish_folder(temporary, workspace.submission(submission.sweep, number))
            return number
        except FileExistsError:  # another submission came first: what is new is found anew
            _assign(workspace, submission)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


class _Code:
    """Finds and hashes each entry point's code once."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self.found: dict[str, source.Source] = {}

    def sha256(self, entrypoint: str) -> str:
        """Hash of the code behind an entry point."""
        if entrypoint not in self.found:
            self.found[entrypoint] = source.find(entrypoint, self._folders)
        return self.found[entrypoint].sha256


def _configs(expanded: Sweep) -> list[dict[str, Any]]:
    return [run.config for run in expanded.runs]


def _assign(workspace: Workspace, submission: Submission) -> None:
    """Give ids to what is new, by what the workspace has now. Called again when another submission came first."""
    expanded, options = submission.expanded, submission.options
    known = Known(workspace, submission.sweep)
    submission.taken = known.submissions
    new = [run for run in expanded.runs if run.identity not in known.by_identity]
    if known.has_runs and len(new) == len(expanded.runs) and not options.extend:
        raise _another_experiment(submission, known)
    prepared = _prepare_jobs(submission, known)
    names = dict.fromkeys(key for run in expanded.runs for key in run.varied)
    shown = labels(_configs(expanded), [*names, "data.dataset"])
    jobs: list[PlannedJob] = []
    lines: list[JobLine] = []
    needed: dict[str, None] = {}
    ids: dict[str, str] = {}
    kept: dict[str, list[str]] = {}
    number = known.last
    for run, label in zip(expanded.runs, shown, strict=True):
        there = known.by_identity.get(run.identity)
        job_id = there.id if there else known.lost.get(run.identity, "")
        if not job_id:
            number += 1
            job_id = f"{submission.sweep}-{number:04d}"
        line = _line(submission, run, job_id, label, prepared)
        ids[run.identity] = job_id
        jobs.append(_row(line.job, new=there is None))
        if there is not None and (names_kept := there.kept(line.job)):
            kept[job_id] = names_kept
        if there is None:
            lines.append(line)
            needed.update(dict.fromkeys(line.inputs))
    first = [prepared[name] for name in needed if prepared[name].job.id not in known.ids]
    used = dict.fromkeys(run.config["data"]["dataset"] for run in expanded.runs if run.config["data"]["dataset"])
    members = {}
    for ensemble in submission.planned_ensembles:
        line = _ensemble_line(submission, ensemble, known, ids)
        jobs.append(_row(line.job, new=line.job.id not in known.ids))
        lines += [] if line.job.id in known.ids else [line]
        members[ensemble.name] = _entry(ensemble, line)
    submission.jobs = [_row(prepared[n].job, new=prepared[n] in first) for n in used] + jobs
    submission.keeping = keeping(kept)
    submission.lines = [*first, *lines]
    submission.new_ensembles = any(known.ensembles.get(name) != members[name] for name in members)
    submission.info = msgspec.structs.replace(submission.info, jobs=len(submission.lines), ensembles=members)


def _row(job: NewJob, *, new: bool) -> PlannedJob:
    return PlannedJob(
        id=job.id, kind=job.kind, labels=job.labels, resources=job.resources, entrypoint=job.entrypoint, new=new
    )


def _ensemble_line(submission: Submission, ensemble: PlannedEnsemble, known: Known, ids: dict[str, str]) -> JobLine:
    """The job that evaluates an ensemble once its members are trained."""
    members = tuple(ids[identity] for identity in ensemble.members)
    config, typed, options = ensemble.config, ensemble.first.typed, submission.options
    mixture = Mixture(
        name=ensemble.name,
        members=members,
        best=config.best,
        average=config.average,
        weights=config.weights,
        snapshots=config.snapshots,
        average_weights=config.average_weights,
    )
    there = known.by_identity.get(ensemble.identity)
    job = NewJob(
        id=there.id if there else _free_id(f"{submission.sweep}-ensemble-{ensemble.name}", ensemble.identity, known),
        sweep=submission.sweep,
        kind="evaluate",
        identity=ensemble.identity,
        entrypoint=EVALUATE,
        resources=typed.resources.decide(options.kind, at_home=True),
        submitted_at=submission.info.submitted_at,
        owner=submission.info.owner,
        priority=typed.priority if options.priority is None else options.priority,
        held=options.hold,
        depends_on=members,
        minimum=ensemble.minimum if ensemble.minimum < len(members) else None,
        retry=typed.retry,
        labels={"ensemble": ensemble.name},
    )
    return JobLine(job=job, config=msgspec.to_builtins(EvaluateAsked(mixture=mixture, split=config.split)))


def _entry(ensemble: PlannedEnsemble, line: JobLine) -> dict[str, Any]:
    """What submission.json says of an ensemble."""
    return {**line.config["mixture"], "job": line.job.id, "minimum": ensemble.minimum}


def _prepare_jobs(submission: Submission, known: Known) -> dict[str, JobLine]:
    """A line for each data set in use, with the id it has or would get."""
    expanded = submission.expanded
    lines: dict[str, JobLine] = {}
    for name in dict.fromkeys(config["data"]["dataset"] for config in _configs(expanded)):
        if name:
            identity = expanded.dataset_identity(name)
            there = known.by_identity.get(identity)
            job_id = there.id if there else _free_id(f"{submission.sweep}-prepare-{name}", identity, known)
            lines[name] = _prepare_line(submission, name, job_id, identity)
    return lines


def _free_id(wanted: str, identity: str, known: Known) -> str:
    """`wanted`, or with the next free number where that is of another one; its own where it had any."""
    if identity in known.lost:
        return known.lost[identity]
    candidate, number = wanted, 2
    while candidate in known.taken:
        candidate, number = f"{wanted}-{number}", number + 1
    return candidate


def _prepare_line(submission: Submission, name: str, job_id: str, identity: str) -> JobLine:
    expanded = submission.expanded
    needs = {other: msgspec.to_builtins(config) for other, config in expanded.dataset_needs(name).items()}
    config = {
        "name": name,
        "folder": submission.info.folder,
        "dataset": msgspec.to_builtins(expanded.datasets[name]),
        "others": needs,
    }
    job = NewJob(
        id=job_id,
        sweep=submission.sweep,
        kind="prepare",
        identity=identity,
        entrypoint=PREPARE,
        resources=Resources(cpus=1.0, at_home=True),
        submitted_at=submission.info.submitted_at,
        owner=submission.info.owner,
        priority=submission.options.priority or 0,
        held=submission.options.hold,
        depends_on=(),
        retry=RetryPolicy(),
        labels={"dataset": name},
    )
    return JobLine(job=job, config=config)


def _line(
    submission: Submission, run: sweep.PlannedRun, job_id: str, label: dict[str, str], prepared: dict[str, JobLine]
) -> JobLine:
    config, options = run.config, submission.options
    typed: RunConfig = run.typed
    dataset = config["data"]["dataset"]
    inputs = {dataset: prepared[dataset].job.id} if dataset else {}
    job = NewJob(
        id=job_id,
        sweep=submission.sweep,
        kind="train",
        identity=run.identity,
        entrypoint=typed.main,
        resources=typed.resources.decide(options.kind, at_home=typed.halving is not None),
        submitted_at=submission.info.submitted_at,
        owner=submission.info.owner,
        priority=typed.priority if options.priority is None else options.priority,
        held=options.hold,
        depends_on=tuple(inputs.values()),
        retry=typed.retry,
        labels=label,
        time_limit_s=None if typed.time_limit is None else seconds(typed.time_limit),
        hang_after_s=_hang_after(typed),
        threads=typed.threads,
    )
    return JobLine(job=job, config=config, inputs=inputs)


def _hang_after(config: RunConfig) -> float | None:
    if config.hang_after is not None:
        return seconds(config.hang_after)
    return None if config.entrypoint is None else OWN_CODE_HANG_S


def _another_experiment(submission: Submission, known: Known) -> UserError:
    """None of the file's runs is in the sweep of its name: say in what they differ."""
    old = [flatten(config) for config in known.configs()]
    new = [flatten(config) for config in _configs(submission.expanded)]
    differences = []
    for key in sorted({key for config in (*old, *new) for key in config}):
        before, after = ({repr(config.get(key)) for config in configs} for configs in (old, new))
        if not before & after:
            differences.append(f"{key} was {', '.join(sorted(before)[:3])} and is {', '.join(sorted(after)[:3])}")
    what = "; ".join(differences[:5]) or "its data set, its code, or the way its settings are combined is another one"
    return UserError(
        f"the workspace has a sweep {submission.sweep!r} already, and this file shares no run with it: {what}. "
        "Give the file another `name:`, or add its runs to that sweep with --extend",
        file=submission.expanded.document.file,
        line=submission.expanded.document.line(("name",)),
    )


def _write(submission: Submission, folder: Path, relative: Path) -> None:
    durable.make_folder(folder)
    lines = submission.lines
    for i, found in enumerate(f for f in dict.fromkeys(submission.code.values()) if f.files):
        found.copy(folder / "source" / str(i))
        users = {entrypoint for entrypoint, code in submission.code.items() if code == found}
        place = str(relative / "source" / str(i))
        folder_of_file = submission.info.folder
        lines = [
            msgspec.structs.replace(line, source=place, folder=folder_of_file) if line.job.entrypoint in users else line
            for line in lines
        ]
    encoder = msgspec.json.Encoder()
    mode = durable.inherited_mode(folder)
    contents = {
        "sweep.yaml": submission.text,
        "jobs.jsonl": encoder.encode_lines(lines),
        "submission.json": encoder.encode(submission.info) + b"\n",
    }
    for name, content in contents.items():
        (folder / name).touch(mode=mode)
        (folder / name).write_bytes(content)
