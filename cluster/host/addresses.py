"""Addresses and ports of this node, for Ray to listen on."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
import subprocess

from terry.cluster.errors import UserError

LOOPBACK = "127.0.0.1"
_SIOCGIFADDR = 0x8915


def own_address(interface: str | None, towards: str | None) -> str:
    """The address by which other nodes reach this one.

    interface: an interface, an address or a network, as terry.yaml has it; else the address that is used to reach
    `towards` (a host), else the one that this host's name stands for. Raises UserError where there is none.
    """
    found = _of_interface(interface) if interface else (_towards(towards) if towards else None) or _of_name()
    if found is None or ipaddress.ip_address(found).is_loopback:
        raise UserError(
            f"{socket.gethostname()} has no address by which other nodes could reach it; give `interface:` in "
            "terry.yaml, an interface or a network such as 10.0.0.0/24"
        )
    return found


def _of_interface(interface: str) -> str:
    mine = own_addresses()
    if interface in mine:
        return mine[interface]
    try:
        network = ipaddress.ip_network(interface, strict=False)
    except ValueError:
        network = None
    found = [a for a in mine.values() if network is not None and ipaddress.ip_address(a) in network]
    if not found:
        there = ", ".join(f"{name} {address}" for name, address in mine.items())
        raise UserError(f"{socket.gethostname()} has no interface or address {interface!r}; it has: {there}")
    return found[0]


def own_addresses() -> dict[str, str]:
    """Interface -> its IPv4 address."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
            found[name] = socket.inet_ntoa(reply[20:24])
    return found


def _towards(host: str) -> str | None:
    """The address that the kernel would send from. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return None
        found: str = probe.getsockname()[0]
    return None if ipaddress.ip_address(found).is_loopback else found


def _of_name() -> str | None:
    try:
        found = socket.gethostbyname(socket.gethostname())
    except OSError:
        found = LOOPBACK
    others = [a for a in own_addresses().values() if not ipaddress.ip_address(a).is_loopback]
    return found if found in others else next(iter(others), None)


def ssh_hostname(host: str) -> str:
    """The real name or address behind a host of the user's ssh configuration."""
    command = ["ssh", "-G", "--", host]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10.0)
    except (OSError, subprocess.TimeoutExpired):
        return host
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("hostname ")]
    return lines[0] if lines else host.rpartition("@")[2]


def free_ports(count: int, address: str, within: tuple[int, int] | None = None) -> list[int]:
    """Ports on which nobody listens now: `count`, or all those of a range. Raises UserError where it has less."""
    sockets: list[socket.socket] = []
    try:
        for port in range(within[0], within[1] + 1) if within else [0] * count:
            each = socket.socket()
            try:
                each.bind((address if address == LOOPBACK else "", port))
            except OSError:  # in use
                each.close()
            else:
                sockets.append(each)
        found: list[int] = [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
    if len(found) < count:
        asked = f"within {within[0]}-{within[1]}" if within else ""
        raise UserError(f"{socket.gethostname()} has only {len(found)} free ports {asked}; {count} are needed")
    return found
