"""From a sweep file to jobs on disk: the file read, its code found, and one folder that is published whole.

A submission is a folder `sweeps/<sweep>/submission-NNNN/` that never changes: the file as it was given, one line a job,
and who submitted it when. It claims its number by being renamed into place: of two that race, the second reads what the
first one added, plans anew (terry.jobs.submitting.plan), and takes the next number.

A sweep grows: submitting the file again adds what is new. A file that shares no run with the sweep of its name is
refused, since it is most often another experiment under an old name; `extend` says that it is meant.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.config.typed import flatten
from terry.cluster.config.yaml_file import of_values, parse
from terry.cluster.core.model import DeviceKind
from terry.cluster.errors import UserError
from terry.cluster.files import durable, inbox
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting import source, trials
from terry.jobs.submitting.folder import FORMAT_VERSION, claim, write_records
from terry.jobs.submitting.plan import Asked, Plan, PlannedJob, SubmitOptions, plan
from terry.jobs.submitting.records import CodePlace, JobLine, KnownJobs, SearchInfo, SubmissionInfo
from terry.jobs.submitting.trials import Chooser, Chosen, choose, first_trials
from terry.jobs.sweeps import ensembles, sweep

__all__ = ["PlannedJob", "Submission", "SubmitOptions", "prepare_submission", "publish"]


@dataclass(slots=True, kw_only=True)
class Submission:
    """A planned submission. Nothing is on disk yet."""

    asked: Asked = field(repr=False)
    plan: Plan = field(init=False)  #: made anew where another submission comes first
    info: SubmissionInfo
    notices: list[str]
    text: bytes = field(repr=False)  #: the sweep file
    code: dict[str, source.CodeSource] = field(repr=False)  #: entry point -> the user's own code behind it
    taken: int = field(init=False)  #: number of the newest submission of this sweep that the queue has taken
    is_news: bool = field(init=False)  #: there is something to publish
    search: SearchInfo | None = None  #: where the file has `sweep.search`; its trials are those that are added
    placed: dict[str, CodePlace] = field(default_factory=dict)  #: code that an earlier submission has copied
    chooser: Chooser = field(default=first_trials, repr=False)

    def plan_anew(self, workspace: WorkspacePaths) -> None:
        """Plan by what the workspace has now."""
        asked, known = self.asked, KnownJobs(workspace, self.asked.expanded.name)
        chosen = choose(asked.expanded, known, self.chooser) if self.search is not None else Chosen()
        self.plan, self.taken = plan(asked, known), known.submissions
        if self.plan.is_another and not asked.options.extend:
            raise _another_experiment(asked, known, self.plan.longer)
        self.is_news = bool(self.plan.lines or self.plan.new_ensembles)
        if self.search is not None:
            new = chosen.records(self.plan.ids)
            self.search = msgspec.structs.replace(self.search, trials=new, asked=chosen.known + len(new))
            self.is_news |= bool(chosen.new) or self._is_new_search(known)

    def _is_new_search(self, known: KnownJobs) -> bool:
        """Whether the newest search of the sweep has ended, or is of another file."""
        if self.search is None or known.search is None or known.searched is None:
            return True
        folder, info = known.searched
        same = info.overrides == self.info.overrides and (folder / "sweep.yaml").read_bytes() == self.text
        return not same or known.search.closed != self.search.closed

    @property
    def sweep(self) -> str:
        """Its name."""
        return self.info.sweep

    @property
    def jobs(self) -> list[PlannedJob]:
        """All runs of the file and what they depend on, in the file's order."""
        return self.plan.jobs

    @property
    def lines(self) -> list[JobLine]:
        """The new ones."""
        return self.plan.lines

    @property
    def new(self) -> int:
        """Number of jobs that it adds."""
        return len(self.plan.lines)

    @property
    def keeping(self) -> str:
        """A sentence, where jobs are there already that the file now gives other terms."""
        return self.plan.keeping

    @property
    def longer(self) -> str:
        """A sentence, where new runs are known ones made longer, which could go on instead."""
        return self.plan.longer

    @property
    def removed(self) -> str:
        """A sentence, where files of jobs that the file has were removed."""
        return self.plan.removed

    @property
    def kind(self) -> DeviceKind:
        """What runs get whose file leaves it open."""
        return self.asked.options.kind

    @property
    def left_open(self) -> bool:
        """True where some run leaves it open."""
        return any(not c["resources"]["gpus"] and not c["resources"]["cpus"] for c in self.asked.configs)


def prepare_submission(
    workspace: WorkspacePaths,
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
    document, text = sweep.read_sweep(file.resolve()) if isinstance(file, Path) else of_values(file, here)
    given, folder = tuple(overrides), str(document.folder)
    code = _Code([document.folder, here])
    expanded = sweep.expand(document, given, code.sha256)
    asked = Asked(
        expanded=expanded,
        ensembles=ensembles.plan(expanded),
        options=options,
        submitted_at=now,
        owner=owner,
        folder=folder,
    )
    info = SubmissionInfo(
        version=FORMAT_VERSION,
        sweep=expanded.name,
        submitted_at=now,
        owner=owner,
        file=document.file if isinstance(file, Path) else "",
        folder=folder,
        overrides=given,
        request=secrets.token_hex(8),
        jobs=0,
        ensembles={},
    )
    notices = [*expanded.notices, *source.notices(code.found.values())]
    search = None
    if expanded.search is not None:
        asked_for = expanded.search
        search = SearchInfo(
            begun_at=now,
            wanted=asked_for.settings.trials * len(asked_for.fixed),
            timeout_s=asked_for.settings.timeout,
            kind=options.kind,
            priority=options.priority,
        )
    notices += trials.words(expanded)
    found = Submission(asked=asked, info=info, notices=notices, text=text, code=code.found, search=search)
    found.plan_anew(workspace)
    return found


def next_trials(
    workspace: WorkspacePaths, sweep_name: str, chooser: Chooser, now: datetime, *, closed_too: bool = False
) -> Submission | None:
    """The submission of the trials that `chooser` asks for next, by the newest file of the sweep's search.

    None where nothing more is searched. Raises UserError where the file, or what it names, is not what it was.
    """
    known = KnownJobs(workspace, sweep_name)
    if known.search is None or known.searched is None or (known.search.closed and not closed_too):
        return None
    before, (folder, info) = known.search, known.searched
    text = (folder / "sweep.yaml").read_bytes()
    document = parse(text, info.file or info.sweep)
    document.base = Path(info.folder)
    shas = {entrypoint: place.sha256 for entrypoint, place in before.code.items()}
    options = SubmitOptions(priority=before.priority, extend=True, kind=before.kind)
    expanded = sweep.expand(document, info.overrides, lambda entrypoint: shas.get(entrypoint, ""), look=False)
    asked = Asked(
        expanded=expanded, ensembles=[], options=options, submitted_at=now, owner=info.owner, folder=info.folder
    )
    info = msgspec.structs.replace(info, submitted_at=now, request=secrets.token_hex(8))
    found = Submission(
        asked=asked, info=info, notices=[], text=text, code={}, search=before, placed=before.code, chooser=chooser
    )
    found.plan_anew(workspace)
    return found


def close_search(workspace: WorkspacePaths, sweep_name: str, now: datetime) -> bool:
    """Let the sweep's search ask for nothing more. False where it has none, or it has ended. Raises OSError."""
    while True:
        found = next_trials(workspace, sweep_name, lambda _: [], now)
        if found is None or found.search is None or not found.search.is_open(now):
            return False
        found.search, found.is_news = msgspec.structs.replace(found.search, closed=True), True
        try:
            claim(workspace, sweep_name, found.taken, partial(_write, found))
        except FileExistsError:  # more was asked for meanwhile
            continue
        inbox.send(workspace, inbox.Submit(sweep=sweep_name))
        return True


def publish(workspace: WorkspacePaths, submission: Submission) -> int:
    """Put a submission on disk and tell the controller; return its number, that of the newest where nothing is new.

    Once this returns, nothing that dies loses it. The controller is told in any case: that fixes a submission whose
    process died after the folder had its name. Raises OSError; nothing half-written is left.
    """
    number = _claim(workspace, submission)
    inbox.send(workspace, inbox.Submit(sweep=submission.sweep))
    return number


def _claim(workspace: WorkspacePaths, submission: Submission) -> int:
    durable.make_folder(workspace.sweep(submission.sweep))
    if submission.search is not None:
        workspace.search_mark(submission.sweep).touch()
    while submission.is_news:
        try:
            return claim(
                workspace, submission.sweep, submission.taken, lambda folder, place: _write(submission, folder, place)
            )
        except FileExistsError:  # another submission came first: what is new is found anew
            submission.plan_anew(workspace)
    return max([submission.taken, *(number for number, _ in workspace.submissions(submission.sweep))])


class _Code:
    """Finds and hashes each entry point's code once."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self.found: dict[str, source.CodeSource] = {}

    def sha256(self, entrypoint: str) -> str:
        """Hash of the code behind an entry point."""
        if entrypoint not in self.found:
            self.found[entrypoint] = source.find(entrypoint, self._folders)
        return self.found[entrypoint].sha256


def _another_experiment(asked: Asked, known: KnownJobs, longer: str) -> UserError:
    """None of the file's runs is in the sweep of its name: say in what they differ."""
    old = [flatten(config) for config in known.configs()]
    new = [flatten(config) for config in asked.configs]
    differences = []
    for key in sorted({key for config in (*old, *new) for key in config}):
        before, after = ({repr(config.get(key)) for config in configs} for configs in (old, new))
        if not before & after:
            differences.append(f"{key} was {', '.join(sorted(before)[:3])} and is {', '.join(sorted(after)[:3])}")
    what = "; ".join(differences[:5]) or "its data set, its code, or the way its settings are combined is another one"
    return UserError(
        f"the workspace has a sweep {asked.expanded.name!r} already, and this file shares no run with it: {what}. "
        "Give the file another `name:`, or add its runs to that sweep with --extend"
        + (longer and f". {longer[:1].upper()}{longer[1:]}"),
        file=asked.expanded.document.file,
        line=asked.expanded.document.line(("name",)),
    )


def _write(submission: Submission, folder: Path, relative: Path) -> None:
    places = dict(submission.placed)
    for i, found in enumerate(f for f in dict.fromkeys(submission.code.values()) if f.files):
        found.copy(folder / "source" / str(i))
        users = {entrypoint for entrypoint, code in submission.code.items() if code == found}
        place = CodePlace(sha256=found.sha256, source=str(relative / "source" / str(i)), light=found.light)
        places |= dict.fromkeys(users, place)
    lines = [_placed(line, places, submission.info.folder) for line in submission.lines]
    search = submission.search
    if search is not None:
        installed = {e: CodePlace(sha256=code.sha256, source="") for e, code in submission.code.items()}
        search = msgspec.structs.replace(search, code=installed | places)
    info = msgspec.structs.replace(submission.info, jobs=len(lines), ensembles=submission.plan.ensembles, search=search)
    write_records(folder, submission.text, lines, info)


def _placed(line: JobLine, places: Mapping[str, CodePlace], folder: str) -> JobLine:
    """The line with the folder that its code was copied to; as it is where none was."""
    place = places.get(line.job.entrypoint)
    if place is None or not place.source:
        return line
    job = msgspec.structs.replace(line.job, light=place.light)
    return msgspec.structs.replace(line, source=place.source, folder=folder, job=job)
