"""Files of jobs that have ended, removed: out of their place at once, by a rename; from the disk later.

What is renamed is no job's any more, so a new attempt of the job can begin while the old files still go. The names
begin with a dot: no job's folder does.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from terry.cluster.files.durable import SYSTEM, Calls, fsync_folder
from terry.cluster.files.paths import WorkspacePaths, checkpoint_key

_LEAVING = ".removed-"


def take_away(
    workspace: WorkspacePaths, job_id: str, checkpoints: Iterable[str], number: int, calls: Calls = SYSTEM
) -> None:
    """Put these checkpoints of a job, or with none its whole folder, out of its place. Idempotent. Raises OSError.

    number: makes the names of what leaves unique: of the newest event.
    """
    run = workspace.run(job_id)
    names = tuple(checkpoints)
    for name in names:
        if checkpoint_key(name) is None:
            raise ValueError(f"{name!r} is no checkpoint's name")
    places = [run.checkpoints / name for name in names] if names else [run.root]
    for place in places:
        # No folder for them to go into: whoever sweeps out could take that away in between.
        target = workspace.runs / f"{_LEAVING}{job_id}-{number}-{place.name if names else 'all'}"
        with contextlib.suppress(FileNotFoundError):
            calls.rename(place, target)
    with contextlib.suppress(FileNotFoundError):
        fsync_folder(run.checkpoints if names else workspace.runs, calls)


def sweep_out(workspace: WorkspacePaths) -> int:
    """Remove from the disk what was put out of its place, by whomever; returns how many jobs' files went."""
    found: list[Path] = []
    with contextlib.suppress(FileNotFoundError):
        found = [path for path in workspace.runs.iterdir() if path.name.startswith(_LEAVING)]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(found)
