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
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.config.typed import flatten
from terry.cluster.config.yaml_file import of_values
from terry.cluster.core.model import DeviceKind
from terry.cluster.errors import UserError
from terry.cluster.files import durable, inbox
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting import source
from terry.jobs.submitting.folder import FORMAT_VERSION, claim, write_records
from terry.jobs.submitting.plan import Asked, Plan, PlannedJob, SubmitOptions, plan
from terry.jobs.submitting.records import JobLine, KnownJobs, SubmissionInfo
from terry.jobs.sweeps import ensembles, sweep

__all__ = ["PlannedJob", "Submission", "SubmitOptions", "prepare_submission", "publish"]


@dataclass(slots=True, kw_only=True)
class Submission:
    """A planned submission. Nothing is on disk yet."""

    asked: Asked = field(repr=False)
    plan: Plan  #: made anew where another submission comes first
    info: SubmissionInfo
    notices: list[str]
    text: bytes = field(repr=False)  #: the sweep file
    code: dict[str, source.CodeSource] = field(repr=False)  #: entry point -> the user's own code behind it
    taken: int  #: number of the newest submission of this sweep that the queue has taken

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
    planned, taken = _planned(workspace, asked)
    return Submission(asked=asked, plan=planned, info=info, notices=notices, text=text, code=code.found, taken=taken)


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
    while submission.lines or submission.plan.new_ensembles:
        try:
            return claim(
                workspace, submission.sweep, submission.taken, lambda folder, place: _write(submission, folder, place)
            )
        except FileExistsError:  # another submission came first: what is new is found anew
            submission.plan, submission.taken = _planned(workspace, submission.asked)
    return max([submission.taken, *(number for number, _ in workspace.submissions(submission.sweep))])


def _planned(workspace: WorkspacePaths, asked: Asked) -> tuple[Plan, int]:
    """The plan by what the workspace has now, and the newest submission that its queue has taken."""
    known = KnownJobs(workspace, asked.expanded.name)
    found = plan(asked, known)
    if found.is_another and not asked.options.extend:
        raise _another_experiment(asked, known)
    return found, known.submissions


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


def _another_experiment(asked: Asked, known: KnownJobs) -> UserError:
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
        "Give the file another `name:`, or add its runs to that sweep with --extend",
        file=asked.expanded.document.file,
        line=asked.expanded.document.line(("name",)),
    )


def _write(submission: Submission, folder: Path, relative: Path) -> None:
    lines = submission.lines
    for i, found in enumerate(f for f in dict.fromkeys(submission.code.values()) if f.files):
        found.copy(folder / "source" / str(i))
        users = {entrypoint for entrypoint, code in submission.code.items() if code == found}
        place, here, light = str(relative / "source" / str(i)), submission.info.folder, found.light
        lines = [
            msgspec.structs.replace(line, source=place, folder=here, job=msgspec.structs.replace(line.job, light=light))
            if line.job.entrypoint in users
            else line
            for line in lines
        ]
    info = msgspec.structs.replace(submission.info, jobs=len(lines), ensembles=submission.plan.ensembles)
    write_records(folder, submission.text, lines, info)
