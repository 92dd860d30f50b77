"""Requests to the controller: a maildir, so that asking needs no open port and no living controller.

A message is a file that appears whole. It is moved to `done` once what follows from it is in the journal; its request
id, journalled too, keeps it from being acted on twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from terry.cluster.files.durable import SYSTEM, Calls, fsync_folder, make_folder, rename, write_bytes
from terry.cluster.files.links import planted, refuse_planted
from terry.cluster.files.paths import WorkspacePaths

#: Messages that were acted on are kept so long (seconds), for people who look for what happened.
KEEP_DONE_S = 7 * 24 * 3600

#: No message is larger (bytes).
LARGEST = 64 * 1024 * 1024

_log = logging.getLogger(__name__)


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """What every message carries."""

    request: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)  #: unique; the same one is acted on once


class Submit(_Message, frozen=True, kw_only=True, tag=True):
    """Take all submissions of the sweep that were not taken yet."""

    sweep: str


class Cancel(_Message, frozen=True, kw_only=True, tag=True):
    """End these jobs; running ones gently, then hard."""

    job_ids: tuple[str, ...]


class Pause(_Message, frozen=True, kw_only=True, tag=True):
    """Hold these jobs; running ones write a checkpoint and free their device."""

    job_ids: tuple[str, ...]


class Resume(_Message, frozen=True, kw_only=True, tag=True):
    """Let these held jobs go on."""

    job_ids: tuple[str, ...]


class Resubmit(_Message, frozen=True, kw_only=True, tag=True):
    """A new series of attempts of these FAILED or CANCELLED jobs, and of what they need."""

    job_ids: tuple[str, ...]
    from_scratch: bool = False


class SetPriority(_Message, frozen=True, kw_only=True, tag=True):
    """Another priority for these jobs."""

    job_ids: tuple[str, ...]
    priority: int


class Change(_Message, frozen=True, kw_only=True, tag=True):
    """Other terms for these jobs: what does not decide what comes out of them. What is left out stays as it is."""

    job_ids: tuple[str, ...]
    priority: int | None = None
    resources: dict[str, Any] = {}  #: fields of Resources
    retry: dict[str, Any] = {}  #: fields of RetryPolicy
    time_limit_s: float | UnsetType | None = UNSET
    hang_after_s: float | UnsetType | None = UNSET
    threads: int | UnsetType | None = UNSET


class Mark(_Message, frozen=True, kw_only=True, tag=True):
    """Say something of these jobs, or put them away. What is left out stays as it is."""

    job_ids: tuple[str, ...]
    note: str | None = None  #: one line; empty: none any more
    add_tags: tuple[str, ...] = ()
    drop_tags: tuple[str, ...] = ()
    starred: bool | None = None
    archived: bool | None = None


class Remove(_Message, frozen=True, kw_only=True, tag=True):
    """Remove all files of these jobs, which have ended."""

    job_ids: tuple[str, ...]


class Prune(_Message, frozen=True, kw_only=True, tag=True):
    """Remove checkpoints of these jobs, which have ended."""

    job_ids: tuple[str, ...]
    checkpoints: dict[str, tuple[str, ...]]  #: job id -> names of their folders


class Drain(_Message, frozen=True, kw_only=True, tag=True):
    """The device takes no new jobs; those on it move."""

    device: str
    reason: str = "by request"


class Undrain(_Message, frozen=True, kw_only=True, tag=True):
    """The device takes jobs again."""

    device: str


class Shutdown(_Message, frozen=True, kw_only=True, tag=True):
    """Preempt what runs, and end."""

    epoch: int | None = None  #: of the controller that is meant; a later one pays no heed. None: whoever reads it


Message: TypeAlias = (
    Submit
    | Cancel
    | Pause
    | Resume
    | Resubmit
    | SetPriority
    | Change
    | Mark
    | Remove
    | Prune
    | Drain
    | Undrain
    | Shutdown
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message with its envelope."""

    message: Message
    path: Path
    uid: int  #: the file's owner on disk: who sent it


_decoder = msgspec.json.Decoder(Message)


def prepare(workspace: WorkspacePaths, calls: Calls = SYSTEM) -> None:
    """Make the maildir's folders. Raises OSError, also where one is a link of somebody else's."""
    for name in ("tmp", "new", "done"):
        refuse_planted(workspace.inbox / name, workspace.root)
        make_folder(workspace.inbox / name, calls)


def send(workspace: WorkspacePaths, message: Message, calls: Calls = SYSTEM) -> Path:
    """Put a message into the inbox, durable once this returns. Raises OSError; nothing is in the inbox then."""
    prepare(workspace, calls)
    name = f"{time.time_ns():020d}-{message.request}.json"
    written = workspace.inbox / "tmp" / name
    write_bytes(written, msgspec.json.encode(message), calls=calls)
    path = workspace.inbox / "new" / name
    try:
        rename(written, path, calls)
    except OSError:
        with contextlib.suppress(OSError):
            calls.unlink(written)
        raise
    fsync_folder(path.parent, calls)
    return path


def is_pending(workspace: WorkspacePaths, request: str) -> bool:
    """True while no controller has acted on the request. `request` is a Message.request."""
    with contextlib.suppress(FileNotFoundError):
        return any(p.name.endswith(f"-{request}.json") for p in (workspace.inbox / "new").iterdir())
    return False


def take(workspace: WorkspacePaths) -> Iterator[Letter]:
    """All messages that wait, in order of sending. For the controller. What is unreadable is moved aside and logged."""
    folder = workspace.inbox / "new"
    if planted(folder, workspace.root) or planted(workspace.inbox / "done", workspace.root):
        return  # `doctor` names it
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 (asked for at every turn)
        path = folder / name
        try:
            data, uid = _read(path)
            yield Letter(message=_decoder.decode(data), path=path, uid=uid)
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            set_aside(workspace, path, str(error))


def finish(workspace: WorkspacePaths, letter: Letter) -> None:
    """The message was acted on, and what follows from it is in the journal."""
    _move(letter.path, workspace.inbox / "done" / letter.path.name)


def set_aside(workspace: WorkspacePaths, path: Path, why: str) -> None:
    """Move a message that cannot be acted on out of the way, for a person to look at."""
    _log.error("%s cannot be acted on and is moved to %s: %s", path.name, workspace.inbox / "done", why)
    _move(path, workspace.inbox / "done" / f"{path.name}.bad")


def tidy(workspace: WorkspacePaths, now: float) -> None:
    """Remove messages acted on long ago, and what senders that died left half-written. `now`: seconds since 1970."""
    for folder, pattern in (("done", "*"), ("tmp", "*"), ("tmp", ".*.tmp")):
        for path in (workspace.inbox / folder).glob(pattern):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < now - KEEP_DONE_S:
                    path.unlink()


def _read(path: Path) -> tuple[bytes, int]:
    """A message and its sender. Raises ValueError, OSError for what no honest sender makes."""
    # No link: the owner of a file says who sent it, and a link would lend another's name to an old message.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > LARGEST:
            raise ValueError("it is no file of its own, or larger than a message can be")
        return file.read(), status.st_uid


def _move(source: Path, target: Path) -> None:
    # Not durable on purpose: if the move is lost, the request id keeps the message from being acted on again.
    with contextlib.suppress(FileNotFoundError):
        source.rename(target)
