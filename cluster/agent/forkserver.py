"""`python -m terry.cluster.agent.forkserver`: has imported what jobs need, and forks a process for each job.

Why not multiprocessing's: ours starts a job in about 8 ms, reports exit status, signal and resource use, tells
"lost" apart from "exited", and leaves nothing behind. It speaks over one SOCK_SEQPACKET socket, a JSON message a
packet:

    in   {"id": 7, "environment": {...}, "stdout": path, "stderr": path, "order": {...}}
    out  {"type": "ready", "pid": ...}                       once, when everything is imported
         {"type": "forked", "id": 7, "pid": ...}             with the read end of the job's progress pipe and its pulse
         {"type": "exited", "id": 7, "pid": ..., "status": wait status, "max_rss_bytes": ..., "cpu_s": ...}

It stays single-threaded (a fork copies only the calling thread), never initialises CUDA, and dies with its agent, as
each job dies with it (PR_SET_PDEATHSIG), so that no job outlives the one who accounts for it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import os
import select
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import msgspec

from terry.cluster.agent import pulse
from terry.cluster.agent.evidence import EXIT_DISK_FULL, EXIT_DISK_LOST, disk_reason
from terry.cluster.core.model import EndReason
from terry.cluster.files.durable import open_shared

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_EXITS = {EndReason.DISK_FULL: EXIT_DISK_FULL, EndReason.DISK_LOST: EXIT_DISK_LOST}
_OOM_SCORE = "800"
#: A chain of strays is followed so far; a stray gets so long to die (seconds).
_ROUNDS, _STRAY_S = 20, 0.5
_PACKET = 1 << 20  #: largest request; the socket's buffers are made at least as large

Entry = Callable[[dict[str, Any], int], int]


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends. `parent`: the pid seen before the fork."""
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died between the fork and the call above
        os.kill(os.getpid(), signal.SIGKILL)


def load(name: str) -> Any:
    """Import `package.module:attribute`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True, slots=True)
class _Child:
    id: int
    pid: int
    pidfd: int
    job: str = ""  #: its id, as its processes have it in their environment


class Forkserver:
    """The loop: requests in, children out."""

    def __init__(self, channel: socket.socket, entry: Entry) -> None:
        self._channel = channel
        self._entry = entry
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, _Child] = {}  # by pidfd

    def serve(self) -> None:
        """Serve until the agent closes its end."""
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._send({"type": "ready", "pid": os.getpid()})
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._channel:
                    self._reap(self._children[key.fd])
                elif not self._receive():
                    return

    def _receive(self) -> bool:
        packet = self._channel.recv(_PACKET)
        if not packet:
            return False
        self._fork(msgspec.json.decode(packet))
        return True

    def _send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        socket.send_fds(self._channel, [msgspec.json.encode(message)], fds or [])

    def _fork(self, request: dict[str, Any]) -> None:
        read_end, write_end = os.pipe()
        shared = pulse.make()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            request["order"]["pulse_fd"] = shared
            self._child(request, parent, write_end)
        os.close(write_end)
        pidfd = os.pidfd_open(pid)
        job = request["environment"].get("TERRY_JOB_ID", "")
        self._children[pidfd] = _Child(request["id"], pid, pidfd, job)
        self._selector.register(pidfd, selectors.EVENT_READ)
        self._send({"type": "forked", "id": request["id"], "pid": pid}, [read_end, shared])
        for descriptor in (read_end, shared):
            os.close(descriptor)

    def _reap(self, child: _Child) -> None:
        # While the zombie stands its pid cannot be used again: only now is killing its group safe.
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
        _kill_group(child.pid)
        self._kill_strays(child)
        _, status, usage = os.wait4(child.pid, 0)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._children[child.pidfd]
        self._send(
            {
                "type": "exited",
                "id": child.id,
                "pid": child.pid,
                "status": status,
                "max_rss_bytes": usage.ru_maxrss * 1024,
                "cpu_s": usage.ru_utime + usage.ru_stime,
            }
        )

    def _kill_strays(self, ended: _Child) -> None:
        """What a job started in sessions of their own: with the job gone they are ours (see PR_SET_CHILD_SUBREAPER).

        They are known by the job's id in their environment; where no other job runs, all are the ended one's.
        """
        ours = {child.pid for child in self._children.values()}
        for _ in range(_ROUNDS):  # what a stray has started is ours once it is gone, and goes in the next round
            strays = [pid for pid in _children() - ours if len(ours) == 1 or _is_of(pid, ended.job)]
            if not strays:
                return
            for pid in strays:
                _kill_child(pid)

    def _child(self, request: dict[str, Any], parent: int, progress: int) -> Never:
        code = 1
        try:
            die_with_parent(parent)
            self._detach()
            _offer_to_the_kernel()
            _redirect(request["stdout"], request["stderr"])
            os.environ.update(request["environment"])
            gc.enable()
            beat = pulse.Pulse(request["order"]["pulse_fd"])
            try:
                code = self._entry(request["order"], progress)
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            beat.end()
        except BaseException as error:
            problem = disk_reason(error)
            code = _EXITS[problem] if problem else 1  # first: there may be no room for the traceback either
            with contextlib.suppress(Exception):  # or nothing to print it to
                traceback.print_exc()
        finally:
            try:
                _flush()
            finally:
                os._exit(code)

    def _detach(self) -> None:
        os.setpgid(0, 0)
        self._selector.close()
        self._channel.close()
        for child in self._children.values():
            os.close(child.pidfd)


def _children() -> set[int]:
    """Pids of our children, those that were left to us among them."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:  # a kernel without this list
        return set()
    return {int(pid) for pid in text.split()}


def _kill_child(pid: int) -> None:
    """End a child; one that waits for a hung disk is left to its fate."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError, PermissionError):
        pidfd = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            select.select([pidfd], [], [], _STRAY_S)
            os.waitpid(pid, os.WNOHANG)
        finally:
            os.close(pidfd)


def _is_of(pid: int, job: str) -> bool:
    try:
        return bool(job) and f"TERRY_JOB_ID={job}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)  # what the job itself started and left behind
    except (ProcessLookupError, PermissionError):
        return  # nothing was left


def _offer_to_the_kernel() -> None:
    """When memory ends, the kernel shall take a job, not the forkserver or the agent, with which all jobs would go."""
    try:
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    except OSError:  # it is higher already, or not ours to set
        return


def _redirect(stdout: str, stderr: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for path, target in ((stdout, 1), (stderr, 2)):
        fd = open_shared(Path(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(fd, target)
        os.close(fd)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):  # a full disk, or what a job put in its place: the exit code still tells
            stream.flush()  # type: ignore[union-attr]


def main() -> None:
    """Import, say ready, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--entry", required=True)
    parser.add_argument("--preload", help="package.module:NAMES, a tuple of modules to import first")
    options = parser.parse_args()
    die_with_parent(options.parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # an old kernel refuses, and then strays are the agent's to find
    channel = socket.socket(fileno=options.channel)
    channel.setblocking(True)
    for name in load(options.preload) if options.preload else ():
        importlib.import_module(name)
    entry: Entry = load(options.entry)
    gc.collect()
    gc.disable()
    gc.freeze()  # the collector would otherwise write to every object and so copy the shared pages
    Forkserver(channel, entry).serve()


if __name__ == "__main__":
    main()
