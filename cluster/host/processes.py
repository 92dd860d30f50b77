"""Processes of this node, told apart beyond their pid: a pid alone is used again sooner or later."""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One life of a process."""

    pid: int
    start: int  #: clock ticks since boot, from /proc/<pid>/stat

    @classmethod
    def current(cls) -> Process:
        """This process."""
        found = find(os.getpid())
        assert found is not None
        return found

    @property
    def alive(self) -> bool:
        """True while this very process runs (a zombie does not)."""
        fields = _stat(self.pid)
        return fields is not None and int(fields[19]) == self.start and fields[0] != "Z"


def find(pid: int) -> Process | None:
    """The process that has this pid now."""
    fields = _stat(pid)
    return Process(pid, int(fields[19])) if fields else None


def describe(pid: int) -> str:
    """A process for people: `pid 4711 (python, of bob)`; the pid alone where no more is to be seen."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
        owner = pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name
    except (OSError, KeyError):
        return f"pid {pid}"
    return f"pid {pid} ({name}, of {owner})"


def user_name(uid: int) -> str:
    """A user's name; the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def boot_id() -> str:
    """Changes with every start of the node, or of the container: pids of another one mean nothing."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    first = _stat(1)
    return f"{boot}/{first[19] if first else ''}"


def in_session(session: int) -> list[Process]:
    """All processes of a session (setsid)."""
    return [Process(pid, int(f[19])) for pid, f in _all() if int(f[3]) == session and f[0] != "Z"]


def with_environment(name: str, value: str) -> list[Process]:
    """Our processes that were started (exec) with NAME=value in their environment, and all forked from them."""
    wanted = f"{name}={value}".encode()
    return _where_environment(lambda variables: wanted in variables)


def with_environment_prefix(name: str, prefix: str) -> list[Process]:
    """The same, where the value begins with `prefix`."""
    wanted = f"{name}={prefix}".encode()
    return _where_environment(lambda variables: any(v.startswith(wanted) for v in variables))


def _where_environment(fits: Callable[[list[bytes]], bool]) -> list[Process]:
    return [
        Process(pid, int(fields[19]))
        for pid, fields in _all()
        if fields[0] != "Z" and fits(_environment(pid).split(b"\0"))
    ]


def kill(processes: Iterable[Process], number: int = signal.SIGKILL) -> None:
    """Send a signal to each that still is who it was."""
    for process in processes:
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            if process.alive:  # the pidfd now pins this life of the pid
                signal.pidfd_send_signal(pidfd, number)
        except (ProcessLookupError, PermissionError):
            continue
        finally:
            os.close(pidfd)


def kill_all(find_them: Callable[[], list[Process]], timeout_s: float) -> list[Process]:
    """SIGKILL what `find_them` finds, again and again (they may be starting others), until nothing is left.

    Returns those that are still there when the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while left := find_them():
        kill(left)
        if time.monotonic() > deadline:
            return left
        time.sleep(0.01)
    return []


def _all() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir("/proc"):  # noqa: PTH208  (a thousand Path objects a call are not needed)
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            yield int(name), fields


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the state on; index 0 = state, 1 = parent, 3 = session, 19 = start time."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or another user's
        return b""
