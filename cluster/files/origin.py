"""Whether a workspace is the one that its files speak of: `queue/workspace.json` says where they were written.

`cp -r` and backups copy files that speak of processes: the head, the lease, marks. In a copy they are those of the
original, whose cluster must be left alone; there they count as absent. A folder that is moved keeps its inode, and so
does one that another host, or another path, shows; the number of its device may then be another.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from enum import StrEnum
from pathlib import Path

import msgspec

from terry.cluster.files.durable import SYSTEM, Calls, read_bytes, write_json
from terry.cluster.files.paths import WorkspacePaths


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """workspace.json: whose the files in queue/ are."""

    id: str  #: of the workspace, wherever it is moved; a copy gets its own
    path: str  #: of the workspace when it was last written
    host: str  #: that wrote it
    device: int  #: of queue/, as that host saw it
    inode: int  #: of queue/


class Standing(StrEnum):
    """What a workspace is to its own files."""

    OWN = "own"
    UNKNOWN = "unknown"  #: nothing says: an earlier version wrote it, or nobody yet
    MOVED = "moved"  #: the same folder, by another path
    RESTORED = "restored"  #: another folder in its place, as a backup puts it there
    COPY = "copy"  #: another folder elsewhere: what its files say of processes is not about it


def read(workspace: WorkspacePaths) -> Origin | None:
    """What workspace.json says; None where there is none that can be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(read_bytes(workspace.origin), type=Origin)
    return None


def standing(workspace: WorkspacePaths) -> Standing:
    """What the workspace is to its files. Takes some 30 microseconds."""
    origin = read(workspace)
    try:
        here = workspace.queue.stat()
    except OSError:
        return Standing.UNKNOWN
    if origin is None:
        return Standing.UNKNOWN
    same_path = origin.path == str(workspace.root)
    if here.st_ino == origin.inode:
        if same_path:
            return Standing.OWN
        return Standing.COPY if _stands(origin, beside=here) else Standing.MOVED
    return Standing.RESTORED if same_path and origin.host == socket.gethostname() else Standing.COPY


def is_copy(workspace: WorkspacePaths) -> bool:
    """True where head, lease and marks speak of another workspace's processes."""
    return standing(workspace) is Standing.COPY


def note(workspace: WorkspacePaths) -> str:
    """A sentence for people about a copy; empty for all others."""
    origin = read(workspace) if is_copy(workspace) else None
    return f"this is a copy of {origin.path}, whose cluster is left alone" if origin else ""


def canonical(workspace: WorkspacePaths) -> WorkspacePaths:
    """The workspace by the path that it is known by here, where the given one is another of the same folder."""
    origin = read(workspace)
    if origin is None or origin.path == str(workspace.root):
        return workspace
    known = WorkspacePaths(Path(origin.path))
    with contextlib.suppress(OSError):
        if os.path.samestat(known.queue.stat(), workspace.queue.stat()):
            return known
    return workspace


def settle(workspace: WorkspacePaths, calls: Calls = SYSTEM) -> str:
    """Make the files this workspace's own, before anything is started for it; what has changed, in a sentence.

    In a copy, what speaks of the original's processes is removed first; died in between, it is done again. Jobs that
    ran when it was copied go on here from the checkpoints that were copied. Raises OSError.
    """
    found, before = standing(workspace), read(workspace)
    if found is Standing.OWN or not workspace.exists:
        return ""
    told = note(workspace)
    if found is Standing.COPY:
        _forget_processes(workspace)
    if found is Standing.MOVED and before is not None:
        told = f"this workspace was moved here from {before.path}"
    here = workspace.queue.stat()
    keeps_id = before is not None and found is Standing.MOVED
    origin = Origin(
        id=before.id if before is not None and keeps_id else secrets.token_hex(8),
        path=str(workspace.root),
        host=socket.gethostname(),
        device=here.st_dev,
        inode=here.st_ino,
    )
    write_json(workspace.origin, origin, calls=calls)
    return told


def _forget_processes(workspace: WorkspacePaths) -> None:
    for path in (workspace.head, workspace.next_head, workspace.lease, workspace.live, workspace.token, workspace.mark):
        path.unlink(missing_ok=True)
    for path in (workspace.members, *workspace.cluster.glob("*.log")):
        path.unlink(missing_ok=True)
    shutil.rmtree(workspace.node_reports, ignore_errors=True)


def _stands(origin: Origin, beside: os.stat_result) -> bool:
    """Whether the folder of which this is a clone (a snapshot of the whole file system) is still where it was."""
    with contextlib.suppress(OSError):
        there = (Path(origin.path) / "queue").stat()
        is_it = (there.st_dev, there.st_ino) == (origin.device, origin.inode)
        return is_it and not os.path.samestat(there, beside)
    return False
