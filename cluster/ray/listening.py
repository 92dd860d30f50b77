"""On which addresses and ports processes of this node listen, from /proc: what `ss -ltnp` shows."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from terry.cluster.host.processes import Process
from terry.cluster.ray.daemons import executable

_LISTEN = "0A"


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """A TCP port on which a process listens."""

    port: int
    address: str  #: `0.0.0.0` or `::` for all
    program: str

    @property
    def is_open(self) -> bool:
        """True where other nodes can reach it, unless a firewall stands between."""
        found = ipaddress.ip_address(self.address)
        mapped = getattr(found, "ipv4_mapped", None)
        return not (mapped or found).is_loopback


def listeners(processes: Iterable[Process]) -> list[Listener]:
    """Those of these processes, as far as we may look at them."""
    by_inode = dict(_sockets())
    found = set()
    for process in processes:
        for inode in _inodes(process.pid):
            if inode in by_inode:
                address, port = by_inode[inode]
                found.add(Listener(port, address, executable(process.pid)))
    return sorted(found)


def _sockets() -> Iterator[tuple[str, tuple[str, int]]]:
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for fields in (line.split() for line in lines):
            if fields[3] == _LISTEN:
                address, _, port = fields[1].partition(":")
                yield fields[9], (_address(address), int(port, 16))


def _address(text: str) -> str:
    """Words of 32 bits, each in the node's own byte order."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _inodes(pid: int) -> Iterator[str]:
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except OSError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                yield target[8:-1]
    except OSError:  # gone, or another user's
        return
