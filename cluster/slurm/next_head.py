"""next-head.json: which Slurm job goes on when the one in which the head runs has ended (`head: slurm`)."""

from __future__ import annotations

import msgspec

from terry.cluster.files.durable import read_bytes, write_json
from terry.cluster.files.paths import WorkspacePaths


class NextHead(msgspec.Struct, frozen=True, kw_only=True):
    """A Slurm job that waits for the end of another."""

    job: str
    after: str  #: id of the job in which the head runs


def read(workspace: WorkspacePaths) -> NextHead | None:
    """As the head has recorded it; Slurm may know better. None where nobody is to go on."""
    try:
        return msgspec.json.decode(read_bytes(workspace.next_head), type=NextHead)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def write(workspace: WorkspacePaths, job: str, after: str) -> None:
    """Record it."""
    write_json(workspace.next_head, NextHead(job=job, after=after))


def forget(workspace: WorkspacePaths) -> None:
    """Nobody is to go on, or it has begun to."""
    workspace.next_head.unlink(missing_ok=True)
