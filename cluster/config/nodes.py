"""`nodes:` and `head:` of terry.yaml, read and checked: where devices come from.

head: seawolf                    # where Ray's head, controller and keeper run; left out: chosen by `up`;
                                 # `slurm`: in a Slurm job, where nothing may run for long on login hosts

nodes:                           # groups of machines, by a name of your own
  here: {kind: local}            # the machine on which `up` is called
  lab:
    kind: ssh
    hosts: [seawolf, quattro]    # as `ssh HOST` knows them
    setup: source ~/terry/bin/activate
    devices: {leave_out: [cpu, "NVIDIA T400*"]}
    labels: [fast]               # `run.resources.node: fast` asks for them
    ports: 20000-20100           # what the firewall lets through between these machines
  queue:
    kind: slurm
    partition: main
    gres: gpu:1
    time: 4:00:00
    max: 3                       # nodes at most; they come when jobs wait, and go when none do

A Ray cluster that runs already; its token is found as Ray finds it. `up` is called on one of its machines, or on one
that joins it: groups of kind ssh and local may stand beside it.

nodes:
  grown: {kind: ray, address: "10.0.0.7:6379", idle_after: 10 min}     # idle devices are given back to the others
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any

from terry.cluster.config.node_values import HOST, READERS, DeviceChoice, node_name, option
from terry.cluster.config.section import Section
from terry.cluster.files.paths import NAME

_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
#: Options of `sbatch` and of submitit that have a key of their own, and those by which a node would be none.
_GIVEN = {"time", "setup"}
_OURS = {
    *(
        "job_name",
        "signal",
        "array",
        "nodes",
        "ntasks",
        "requeue",
        "no_requeue",
        "output",
        "error",
        "open_mode",
        "wrap",
    ),
    *("chdir", "dependency", "use_srun", "teardown", "srun_args", "stderr_to_stdout", "array_parallelism"),
    *("map_count", "additional_parameters", "num_gpus", "folder", "command"),
}


#: As `head:` the Slurm cluster itself: head, keeper and controller stand in a Slurm job of their own.
SLURM_HEAD = "slurm"


class NodeKind(StrEnum):
    """Where a group's machines come from."""

    LOCAL = "local"  #: the machine on which `up` is called
    SSH = "ssh"  #: machines that `ssh` reaches without asking anything
    SLURM = "slurm"  #: jobs of a Slurm cluster
    RAY = "ray"  #: a Ray cluster that runs already


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSetup:
    """How a machine is to be used: what all groups have in common."""

    #: lines of shell that are run on the machine before Python, such as `module load cuda`
    setup: tuple[str, ...] = ()
    #: the Python of the environment with terry-cluster on these machines; left out: the same path as here
    python: str | None = None
    #: the devices to be used
    devices: DeviceChoice = field(default_factory=DeviceChoice)
    #: CPU cores to be used; left out: all that the system grants
    cpus: int | None = None
    #: names that jobs may ask for by `run.resources.node`
    labels: tuple[str, ...] = ()
    #: interface, address or network (`eth0`, `10.0.0.0/24`) to be used; left out: the one that leads to the head
    interface: str | None = None
    #: the only ports on which Ray listens there, 20 at least: `20000-20100`; left out: any that are free
    ports: str | None = None

    @property
    def port_range(self) -> tuple[int, int] | None:
        """First and last of `ports`."""
        if self.ports is None:
            return None
        first, _, last = self.ports.partition("-")
        return int(first), int(last)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGroup(NodeSetup):
    """The machine on which `up` is called."""

    name: str = field(metadata={"key": ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class SshGroup(NodeSetup):
    """Machines by the user's own ssh."""

    name: str = field(metadata={"key": ""})
    hosts: tuple[str, ...]  #: names by which your own `ssh` reaches the machines without asking for anything


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmGroup(NodeSetup):
    """Jobs of a Slurm cluster, each a node. Any other `slurm_*` key is handed to `sbatch` as `--*`."""

    name: str = field(metadata={"key": ""})
    partition: str | None = None  #: Slurm's partition
    gres: str | None = None  #: generic resources of each node, such as `gpu:2`
    time: str | None = None  #: time limit of each job, as Slurm writes it
    account: str | None = None  #: Slurm's account
    #: nodes that are kept even when nothing waits
    least: int = field(default=0, metadata={"key": "min"})
    #: nodes at most
    most: int = field(default=1, metadata={"key": "max"})
    #: a node above `min` on which nothing has run for so long is given back
    idle_after: float = 600.0
    options: dict[str, str | int | bool] = field(default_factory=dict, metadata={"key": ""})  #: `slurm_*`


@dataclass(frozen=True, slots=True, kw_only=True)
class RayGroup(NodeSetup):
    """A Ray cluster that runs already. `up` is called on one of its machines, or on one that joins it (kind local)."""

    name: str = field(metadata={"key": ""})
    address: str  #: `host:port` of its head
    #: a device of its machines on which nothing has run for so long is given back while nothing waits for it
    idle_after: float = 600.0


Group = LocalGroup | SshGroup | SlurmGroup | RayGroup

GROUPS: dict[NodeKind, type[Group]] = {
    NodeKind.LOCAL: LocalGroup,
    NodeKind.SSH: SshGroup,
    NodeKind.SLURM: SlurmGroup,
    NodeKind.RAY: RayGroup,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesConfig:
    """All of it. No groups: this machine."""

    groups: tuple[Group, ...] = ()
    #: a host where Ray's head, controller and keeper shall run; `slurm`: in a Slurm job of their own
    head: str | None = None

    @property
    def hosts(self) -> dict[str, SshGroup]:
        """Host -> its group."""
        return {host: group for group in self.groups if isinstance(group, SshGroup) for host in group.hosts}

    @property
    def is_head_in_slurm(self) -> bool:
        """True where the head stands in a Slurm job."""
        return self.head == SLURM_HEAD and SLURM_HEAD not in self.hosts

    @property
    def here(self) -> LocalGroup | None:
        """The group that is the machine on which `up` is called. A file without groups means that machine."""
        local = [group for group in self.groups if isinstance(group, LocalGroup)]
        return local[0] if local else None if self.groups else LocalGroup(name="here")

    @property
    def foreign(self) -> RayGroup | None:
        """The Ray cluster that is to be used instead of one of our own."""
        return next((group for group in self.groups if isinstance(group, RayGroup)), None)

    @property
    def has_others(self) -> bool:
        """True where machines other than the head's may join."""
        kinds = SshGroup | SlurmGroup if self.foreign is None else SshGroup | LocalGroup
        return any(isinstance(group, kinds) for group in self.groups)


def nodes_of(root: Section) -> NodesConfig:
    """What terry.yaml says of nodes. Raises UserError: file, line, what would be right."""
    groups: list[Group] = []
    if root.values.get("nodes") is not None:
        table = root.part("nodes")
        for name in table.values:
            groups.append(_group(table, name))
            _check_apart(table, str(name), groups)
    found = NodesConfig(groups=tuple(groups), head=_head(root))
    if found.is_head_in_slurm and not any(isinstance(group, SlurmGroup) for group in groups):
        raise root.error("head", "can be `slurm` only where a group of kind slurm says how to ask for jobs")
    return found


def _head(root: Section) -> str | None:
    if not root.has("head"):
        return None
    value = root.values["head"]
    if not isinstance(value, str) or not HOST.fullmatch(value):
        raise root.error("head", f"must be the name of a host, not {value!r}")
    return value


def _group(table: Section, name: object) -> Group:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise table.error(str(name), "cannot be a group's name; A-Z a-z 0-9 . _ - can be used")
    section = table.part(name)
    kind = _kind(section)
    owner = GROUPS[kind]
    options = {k: v for k, v in section.values.items() if kind is NodeKind.SLURM and str(k).startswith("slurm_")}
    keys = {f.metadata.get("key", f.name): f for f in fields(owner) if f.metadata.get("key") != ""}
    section.allow(["kind", *keys, *options, *(["slurm_*"] if kind is NodeKind.SLURM else [])])
    given: dict[str, Any] = {f.name: READERS[key](section, key) for key, f in keys.items() if section.has(key)}
    for key, f in keys.items():
        if f.default is MISSING and f.default_factory is MISSING and f.name not in given:
            raise section.error(key, f"is missing: a group of kind {kind} needs it")
    if kind is NodeKind.SLURM:
        given["options"] = {str(k).removeprefix("slurm_"): option(section, str(k)) for k in options}
        _check_options(section, given)
        if given.get("least", 0) > given.get("most", 1):
            raise section.error("min", "must not be above `max`")
    return owner(name=name, **given)


def _check_options(section: Section, given: Mapping[str, Any]) -> None:
    """Raise UserError for what would turn a Slurm job into something that is no node."""
    options: Mapping[str, object] = given["options"]
    for key in options:
        if not _OPTION.fullmatch(key):
            raise section.error(f"slurm_{key}", "is no option of sbatch: `slurm_mem: 32G` is `--mem=32G`")
    for key in options.keys() & given.keys():
        raise section.error(f"slurm_{key}", f"is given as `{key}:` already")
    for key in options.keys() & _GIVEN:
        raise section.error(f"slurm_{key}", f"is to be given as `{key}:`")
    for key in options.keys() & _OURS:
        raise section.error(f"slurm_{key}", "cannot be chosen: Terry sets it for its nodes")


def _kind(section: Section) -> NodeKind:
    value = section.values.get("kind")
    try:
        return NodeKind(value)  # type: ignore[arg-type]
    except ValueError:
        near = difflib.get_close_matches(str(value), [*map(str, NodeKind)], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise section.error("kind", f"must be one of {', '.join(NodeKind)}, not {value!r}{hint}") from None


def _check_apart(table: Section, name: str, groups: list[Group]) -> None:
    """A machine belongs to one group: otherwise nobody knows which settings count."""
    new = groups[-1]
    theirs = next((group for group in groups if isinstance(group, RayGroup)), None)
    if theirs is not None and len(groups) > 1:
        _check_beside(table, name, theirs, groups)
    for old in groups[:-1]:
        if isinstance(new, LocalGroup) and isinstance(old, LocalGroup):
            raise table.error(name, f"is of kind local, as {old.name} is: this machine is one")
        for slurm, ssh in ((new, old), (old, new)):
            if isinstance(slurm, SlurmGroup) and isinstance(ssh, SshGroup) and (same := _like_jobs(slurm, ssh)):
                raise table.error(name, f"cannot be used: nodes of {slurm.name} are called like the host {same[0]}")
        if isinstance(new, SshGroup) and isinstance(old, SshGroup) and (twice := _names(new) & _names(old)):
            raise table.error(name, f"has the host {min(twice)}, which {old.name} has already")


def _check_beside(table: Section, name: str, theirs: RayGroup, groups: list[Group]) -> None:
    """Raise UserError for what cannot join a Ray cluster of others."""
    if sum(isinstance(group, RayGroup) for group in groups) > 1:
        raise table.error(name, f"is of kind ray, as {theirs.name} is: jobs can run on one Ray cluster at a time")
    if any(isinstance(group, SlurmGroup) for group in groups):
        raise table.error(
            name, "cannot be used: groups of kind ssh and local can join a Ray cluster of others, slurm cannot"
        )
    if theirs.address.startswith(("127.", "localhost:")):
        wrong = f"cannot be used: no other machine reaches the Ray cluster at {theirs.address}; give its other address"
        raise table.error(name, wrong)


def _like_jobs(slurm: SlurmGroup, ssh: SshGroup) -> list[str]:
    """Hosts that would have the name of one of the Slurm group's nodes: `queue-1`."""
    return sorted(name for name in _names(ssh) if re.fullmatch(re.escape(slurm.name) + r"-[1-9]\d*", name))


def _names(group: SshGroup) -> set[str]:
    return {node_name(host) for host in group.hosts}
