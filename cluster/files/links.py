"""Links that a member of a group has put into the workspace are not followed: they would lend him another's rights.

Everybody of a group may write in its workspace, so anybody could have a submission, a job or a view of somebody else
read or write elsewhere. What the workspace's owner, root or we have linked (`runs` on a larger disk) is meant.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def planted(path: Path, root: Path) -> Path | None:
    """The first part of `path` below the workspace `root` that is somebody else's link; None where there is none."""
    trusted: set[int] | None = None
    here = root
    for part in path.relative_to(root).parts:
        here = here / part
        try:
            found = os.lstat(here)
        except OSError:  # nothing is there (yet), or it cannot be seen: who opens it is told
            return None
        if stat.S_ISLNK(found.st_mode):
            trusted = {0, os.geteuid(), root.stat().st_uid} if trusted is None else trusted
            if found.st_uid not in trusted:
                return here
    return None


def refuse_planted(path: Path, root: Path) -> None:
    """Raise OSError where `planted` finds one."""
    if (found := planted(path, root)) is not None:
        whose = owner_name(os.lstat(found).st_uid)
        raise OSError(errno.ELOOP, f"is a link that {whose} has put there: it is not followed", os.fspath(found))


def owner_name(uid: int) -> str:
    """What the user is called here; the number where he has no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
