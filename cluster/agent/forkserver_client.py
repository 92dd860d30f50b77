"""The agent's side of the forkserver: start it, order processes, hear of their ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.files.durable import opened_log

_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """A process was forked for an order."""

    id: int
    pid: int
    progress: int  #: read end of its progress pipe; the receiver closes it
    pulse: int  #: see terry.cluster.agent.pulse; the receiver closes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A forked process is gone, and so is all that it left in its process group."""

    id: int
    pid: int
    status: int  #: wait status
    max_rss_bytes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The forkserver has imported everything."""

    pid: int


class ForkserverLost(RuntimeError):
    """The forkserver ended; the kernel ends its children with it."""


class ForkserverClient:
    """One forkserver process. Start it from a thread that lives as long as the agent: it dies with that thread."""

    def __init__(self, runtime: JobRuntime, environment: Mapping[str, str], log: Path, *, light: bool = False) -> None:
        """light: the small one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._channel = ours
        with theirs, opened_log(log) as output:
            self._process = subprocess.Popen(
                self._command(runtime, theirs.fileno(), runtime.light_preload if light else runtime.preload),
                env={**environment, **runtime.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
                cwd="/",
            )
        ours.setblocking(False)

    @staticmethod
    def _command(runtime: JobRuntime, channel: int, preload: str) -> list[str]:
        command = [sys.executable, "-m", "terry.cluster.agent.forkserver", "--channel", str(channel)]
        command += ["--parent", str(os.getpid()), "--entry", runtime.entry]
        return command + (["--preload", preload] if preload else [])

    @property
    def pid(self) -> int:
        """The forkserver's own pid."""
        return self._process.pid

    def fileno(self) -> int:
        """Readable when there is a message, or the forkserver is gone."""
        return self._channel.fileno()

    def order(
        self, number: int, order: dict[str, Any], environment: dict[str, str], stdout: Path, stderr: Path
    ) -> None:
        """Ask for a process. Raises ForkserverLost where nobody listens any more."""
        request = {
            "id": number,
            "order": order,
            "environment": environment,
            "stdout": str(stdout),
            "stderr": str(stderr),
        }
        try:
            self._channel.setblocking(True)
            self._channel.send(msgspec.json.encode(request))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ForkserverLost("the forkserver closed its socket") from error
        finally:
            self._channel.setblocking(False)

    def receive(self) -> Ready | Forked | Exited | None:
        """The next message; None where there is none yet. Raises ForkserverLost."""
        try:
            packet, fds, _, _ = socket.recv_fds(self._channel, _BUFFER, 2, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            raise ForkserverLost("the forkserver closed its socket") from error
        if not packet:
            raise ForkserverLost("the forkserver closed its socket")
        return _message(msgspec.json.decode(packet), fds)

    def close(self) -> int:
        """End it for good; returns its exit status."""
        self._channel.close()
        self._process.kill()
        return self._process.wait()


def _message(message: dict[str, Any], fds: list[int]) -> Ready | Forked | Exited:
    kind = message.pop("type")
    if kind == "ready":
        return Ready(message["pid"])
    if kind == "forked":
        return Forked(progress=fds[0], pulse=fds[1], **message)
    return Exited(**message)
