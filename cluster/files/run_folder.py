"""Whose a run's folder is. It belongs to one run for ever: another's is set aside by name, and never used.

After a restored backup, or where queue and sweeps were removed, a job may come by the id of another. Its folder would
hand it the other's checkpoints.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection

import msgspec

from terry.cluster.files.durable import SYSTEM, Calls, fsync_folder, read_bytes, rename
from terry.cluster.files.links import refuse_planted
from terry.cluster.files.paths import Run

_log = logging.getLogger(__name__)

#: In the name of a folder that was set aside.
ASIDE = ".aside-"
#: As `terry.jobs.process.spec_file` writes it.
_IN_SPEC = re.compile(rb"^hashes:\n(?:  .*\n)*?  identity: '?([0-9A-Za-z]+)'?$", re.MULTILINE)


class _Order(msgspec.Struct):
    identity: str = ""


class _Launch(msgspec.Struct):
    order: _Order


def identity_of(run: Run) -> str:
    """Identity of the run whose folder this is, by its spec.yaml, else by its attempts; empty where none tells."""
    try:
        found = _IN_SPEC.search(read_bytes(run.spec))
        if found:
            return found[1].decode()
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # of another: his launch.json may tell
        pass
    for _, attempt in reversed(run.attempts()):
        try:
            identity = msgspec.json.decode(read_bytes(attempt.launch), type=_Launch).order.identity
        except (
            FileNotFoundError,
            PermissionError,
            msgspec.MsgspecError,
        ):  # it died before, or of an earlier version
            continue
        if identity:
            return identity
    return ""


def is_anothers(run: Run, identity: str, former: Collection[str] = ()) -> str:
    """The identity of the other run where this is another's folder; empty where it is this one's, or nobody's.

    former: identities that this one had before it was extended.
    """
    found = identity_of(run) if identity else ""
    return found if found != identity and found not in former else ""


def refuse_links(run: Run) -> None:
    """Raise OSError where somebody else has put a link in the place of the run's folder, or of one in it."""
    root = run.root.parent.parent
    for folder in (run.root, run.root / "attempts", run.checkpoints, run.source, run.tensorboard, run.samples):
        refuse_planted(folder, root)


def claim(run: Run, identity: str, calls: Calls = SYSTEM, former: Collection[str] = ()) -> str:
    """Make sure that the folder is not another's before anything is done in it. Returns where another's was put, or "".

    identity: of the job that is to use it; empty: not known, and nothing is compared. Raises OSError.
    """
    refuse_links(run)
    other = is_anothers(run, identity, former)
    if not other:
        return ""
    for number in range(1, 1000):
        aside = run.root.with_name(f"{run.root.name}{ASIDE}{other[:8]}" + (f"-{number}" if number > 1 else ""))
        if os.path.lexists(aside):
            continue
        rename(run.root, aside, calls)
        fsync_folder(run.root.parent, calls)
        _log.warning("%s was the folder of another run (%s) and is now %s", run.root, other[:8], aside.name)
        return str(aside)
    raise FileExistsError(f"{run.root} is another run's folder, and there are too many that were set aside")
