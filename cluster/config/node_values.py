"""The values of a group's keys in `nodes:` of terry.yaml, each read and checked: used by terry.cluster.config.nodes."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any

from terry.cluster.config.typed import Reads, show
from terry.cluster.config.words import Plain, boolean
from terry.cluster.config.yaml_file import Where

#: What `ssh` may be given as a host: nothing that it would take for an option.
HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
_SLURM_TIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
_PORTS_NEEDED = 20


def _line(value: Any, _: Where = ()) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, not {show(value)}")
    if not value.isprintable():
        raise ValueError(f"must be one line, not {show(value)}")
    return str(value)


def _texts(value: Any, _: Where = ()) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str) and v.strip() for v in found):
        raise ValueError(f"must be text, or a list of it, not {show(value)}")
    return tuple(str(v) for v in found)


def _lines(value: Any, _: Where) -> tuple[str, ...]:
    return tuple(line for text in _texts(value) for line in text.splitlines() if line.strip())


def _hosts(value: Any, _: Where) -> tuple[str, ...]:
    found = _texts(value)
    for host in found:
        if not HOST.fullmatch(host):
            raise ValueError(f"has {host!r}: a host is a name, an address, or a `Host` of ~/.ssh/config")
    names = [node_name(host) for host in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not found:
        raise ValueError(f"has {twice[0]!r} twice" if twice else "must name a host at least")
    return found


def _labels(value: Any, _: Where) -> tuple[str, ...]:
    found = _texts(value)
    for label in found:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"has {label!r}: a label is made of A-Z a-z 0-9 -, 32 at most")
    return found


def _interface(value: Any, _: Where) -> str:
    text = _line(value)
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        if not re.fullmatch(r"(?![0-9.]+$)[A-Za-z0-9][A-Za-z0-9._@-]{0,14}", text):
            raise ValueError(f"must be an interface, an address or a network, not {text!r}") from None
    return text


def _ports(value: Any, _: Where) -> str:
    text = _line(value)
    found = re.fullmatch(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", text)
    if found is None or not 1024 <= int(found[1]) <= int(found[2]) <= 65535:
        raise ValueError(f"must be a range within 1024-65535, such as 20000-20100, not {text!r}")
    if int(found[2]) - int(found[1]) + 1 < _PORTS_NEEDED:
        raise ValueError(f"must hold {_PORTS_NEEDED} ports at least, not {text!r}")
    return f"{found[1]}-{found[2]}"


def _slurm_time(value: Any, _: Where) -> str:
    text = _line(value)
    if not _SLURM_TIME.fullmatch(text):
        right = "such as 120 (minutes), 4:00:00 or 1-00:00:00"
        raise ValueError(f"must be a time limit as Slurm writes it, {right}, not {text!r}")
    return text


def _address(value: Any, _: Where) -> str:
    text = _line(value)
    found = re.fullmatch(r"[A-Za-z0-9._-]+:(\d{1,5})", text)
    if found is None or not 1 <= int(found[1]) <= 65535:
        raise ValueError(f"must be host:port of a Ray cluster's head, not {text!r}")
    return text


def _option(value: Any, _: Where) -> str | bool:
    found = boolean(value, switch=False) if isinstance(value, Plain) else None
    if found is False:
        raise ValueError("must be true (the bare option) or the text behind it, not false; left out, it is not given")
    return _line(value) if found is None else found  # it becomes a line of a batch script


def head_of(value: Any) -> str | None:
    """A host's name, or none. Raises ValueError."""
    if value is not None and not (isinstance(value, str) and HOST.fullmatch(value)):
        raise ValueError(f"must be the name of a host, not {show(value)}")
    return value and str(value)


Line = Annotated[str, Reads(_line)]
Lines = Annotated[tuple[str, ...], Reads(_lines)]
Texts = Annotated[tuple[str, ...], Reads(_texts)]
Hosts = Annotated[tuple[str, ...], Reads(_hosts)]
Labels = Annotated[tuple[str, ...], Reads(_labels)]
Interface = Annotated[str, Reads(_interface)]
Ports = Annotated[str, Reads(_ports)]
SlurmTime = Annotated[str, Reads(_slurm_time)]
Address = Annotated[str, Reads(_address)]
Option = Annotated[str | bool, Reads(_option)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """Which of a node's devices are used: index, UUID or model of a GPU (globs), or `cpu`."""

    use: Texts = ()  #: only these; left out: all
    leave_out: Texts = ()  #: not these


def node_name(host: str) -> str:
    """What a node is called in lists: its host's first part."""
    bare = host.rpartition("@")[2]
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return bare.split(".")[0]
    return bare.replace(".", "-")
