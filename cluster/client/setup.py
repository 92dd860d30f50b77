"""Making a workspace: private, or for a group."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from terry.cluster.errors import UserError
from terry.cluster.files.durable import fsync_folder, make_folder
from terry.cluster.files.paths import WorkspacePaths

_PRIVATE, _GROUP = 0o700, 0o2770


def make_workspace(workspace: WorkspacePaths, group: str | None = None) -> bool:
    """Make its folders where they are missing; True if there was no workspace before.

    A new one is private to its owner (0700), or belongs to `group` (setgid, 2770). Raises UserError, OSError.
    """
    if workspace.exists and group is None:
        return False
    new = not workspace.exists
    root = workspace.root
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file; a workspace is a folder: give another with `-w`")
    made = not root.exists()
    if made:
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=_PRIVATE)
        fsync_folder(root.parent)
    if group is not None:
        _give_to_group(root, group)
    elif made:
        root.chmod(_PRIVATE)
    for folder in (workspace.queue, workspace.sweeps, workspace.runs, workspace.datasets):
        if not folder.is_dir():
            make_folder(folder)
            folder.chmod(_GROUP if _is_group(root) else _PRIVATE)
    return new


def _is_group(root: Path) -> bool:
    return bool(root.stat().st_mode & stat.S_ISGID)


def _give_to_group(root: Path, name: str) -> None:
    import grp

    try:
        number = grp.getgrnam(name).gr_gid
    except KeyError:
        mine = sorted(filter(None, map(_group_name, os.getgroups())))
        raise UserError(f"there is no group {name!r}; you are in: {', '.join(mine)}") from None
    try:
        os.chown(root, -1, number)
    except PermissionError:
        raise UserError(f"{root} cannot be given to the group {name!r}: you are not in it, or not its owner") from None
    root.chmod(_GROUP)


def _group_name(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # a group of another node
        return ""
