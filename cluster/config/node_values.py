"""The values of a group's keys in `nodes:` of terry.yaml, each read and checked: used by terry.cluster.config.nodes."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from terry.cluster.config.section import Section, seconds

#: What `ssh` may be given as a host: nothing that it would take for an option.
HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
_PORTS_NEEDED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """Which of a machine's devices are used: index, UUID or model of a GPU (globs), or `cpu`."""

    use: tuple[str, ...] = ()  #: only these; left out: all
    leave_out: tuple[str, ...] = ()  #: not these


def _text(section: Section, key: str) -> str:
    value = section.values[key]
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise section.error(key, f"must be text, not {value!r}")
    if not str(value).isprintable():
        raise section.error(key, f"must be one line, not {value!r}")
    return str(value)


def _texts(section: Section, key: str) -> tuple[str, ...]:
    value = section.values[key]
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str | int) and not isinstance(v, bool) and str(v).strip() for v in found):
        raise section.error(key, f"must be text, or a list of it, not {value!r}")
    return tuple(str(v) for v in found)


def _lines(section: Section, key: str) -> tuple[str, ...]:
    return tuple(line for text in _texts(section, key) for line in text.splitlines() if line.strip())


def _hosts(section: Section, key: str) -> tuple[str, ...]:
    found = _texts(section, key)
    for host in found:
        if not HOST.fullmatch(host):
            raise section.error(key, f"has {host!r}: a host is a name, an address, or a `Host` of ~/.ssh/config")
    names = [node_name(host) for host in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not found:
        raise section.error(key, f"has {twice[0]!r} twice" if twice else "must name a host at least")
    return found


def _labels(section: Section, key: str) -> tuple[str, ...]:
    found = _texts(section, key)
    for label in found:
        if not _LABEL.fullmatch(label):
            raise section.error(key, f"has {label!r}: a label is made of A-Z a-z 0-9 -, 32 at most")
    return found


def _count(least: int) -> Any:
    def read(section: Section, key: str) -> int:
        value = section.values[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise section.error(key, f"must be a whole number, {least} or more, not {value!r}")
        return value

    return read


def _devices(section: Section, key: str) -> DeviceChoice:
    part = section.part(key)
    part.allow(("use", "leave_out"))
    return DeviceChoice(**{name: _texts(part, str(name)) for name in part.values})


def _interface(section: Section, key: str) -> str:
    value = _text(section, key)
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        if not re.fullmatch(r"(?![0-9.]+$)[A-Za-z0-9][A-Za-z0-9._@-]{0,14}", value):
            raise section.error(key, f"must be an interface, an address or a network, not {value!r}") from None
    return value


def _ports(section: Section, key: str) -> str:
    value = _text(section, key)
    found = re.fullmatch(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", value)
    if found is None or not 1024 <= int(found[1]) <= int(found[2]) <= 65535:
        raise section.error(key, f"must be a range within 1024-65535, such as 20000-20100, not {value!r}")
    if int(found[2]) - int(found[1]) + 1 < _PORTS_NEEDED:
        raise section.error(key, f"must hold {_PORTS_NEEDED} ports at least, not {value!r}")
    return f"{found[1]}-{found[2]}"


def _time(section: Section, key: str) -> str:
    value = section.values[key]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 60:  # YAML 1.1 reads 4:00:00 in base 60
        return f"{value // 3600}:{value // 60 % 60:02d}:{value % 60:02d}"
    text = _text(section, key)
    if not re.fullmatch(r"(\d+-)?\d+(:\d\d){0,2}", text):
        raise section.error(key, f"must be a time limit as Slurm writes it, such as 4:00:00, not {value!r}")
    return text


def _idle_after(section: Section, key: str) -> float:
    return seconds(section, key, 600.0)


def _address(section: Section, key: str) -> str:
    value = _text(section, key)
    found = re.fullmatch(r"[A-Za-z0-9._-]+:(\d{1,5})", value)
    if found is None or not 1 <= int(found[1]) <= 65535:
        raise section.error(key, f"must be host:port of a Ray cluster's head, not {value!r}")
    return value


def option(section: Section, key: str) -> str | int | bool:
    """The value of a `slurm_*` key."""
    value = section.values[key]
    if not isinstance(value, str | int | bool):
        raise section.error(key, f"must be text, a number, or true, not {value!r}")
    if not str(value).isprintable():  # it becomes a line of a batch script
        raise section.error(key, f"must be one line, not {value!r}")
    return value


#: Key of a group -> what reads its value, and complains with file and line.
READERS: dict[str, Any] = {
    "setup": _lines,
    "python": _text,
    "devices": _devices,
    "cpus": _count(1),
    "labels": _labels,
    "interface": _interface,
    "ports": _ports,
    "hosts": _hosts,
    "partition": _text,
    "gres": _text,
    "time": _time,
    "account": _text,
    "min": _count(0),
    "max": _count(0),
    "idle_after": _idle_after,
    "address": _address,
}


def node_name(host: str) -> str:
    """What a node is called in lists: its host's first part."""
    bare = host.rpartition("@")[2]
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return bare.split(".")[0]
    return bare.replace(".", "-")
