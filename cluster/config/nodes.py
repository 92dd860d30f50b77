"""`nodes:` and `head:` of terry.yaml, read and checked: where devices come from.

head: seawolf                    # where Ray's head, controller and keeper run; left out: chosen by `up`;
                                 # `slurm`: in a Slurm job, where nothing may run for long on login hosts

nodes:                           # groups of nodes, by a name of your own
  here: {kind: local}            # the node on which `up` is called
  lab:
    kind: ssh
    hosts: [seawolf, quattro]    # as `ssh HOST` knows them
    setup: source ~/terry/bin/activate
    devices: {leave_out: [cpu, "NVIDIA T400*"]}
    labels: [fast]               # `run.resources.node: fast` asks for them
    ports: 20000-20100           # what the firewall lets through between these nodes
  queue:
    kind: slurm
    partition: main
    gres: gpu:1
    time: 4:00:00
    max: 3                       # nodes at most; they come when jobs wait, and go when none do

A Ray cluster that runs already; its token is found as Ray finds it. `up` is called on one of its nodes, or on one
that joins it: groups of kind ssh and local may stand beside it.

nodes:
  grown: {kind: ray, address: "10.0.0.7:6379", idle_after: 10 min}     # idle devices are given back to the others
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from terry.cluster.config.node_values import (
    Address,
    DeviceChoice,
    Hosts,
    Interface,
    Labels,
    Line,
    Lines,
    Option,
    Ports,
    SlurmTime,
    node_name,
)
from terry.cluster.config.typed import Count, CountFrom1, Duration, build, leaf, show, typed
from terry.cluster.config.yaml_file import Problem, Where
from terry.cluster.files.paths import NAME

_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
#: Options of `sbatch` and of submitit that have a key of their own, and those by which a node would be none.
_GIVEN = {"time", "setup"}
#: Options that are counted with here.
_NUMBERS = {"signal_delay_s", "cpus_per_task"}
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
    """Where a group's nodes come from."""

    LOCAL = "local"  #: the node on which `up` is called
    SSH = "ssh"  #: nodes that `ssh` reaches without asking anything
    SLURM = "slurm"  #: jobs of a Slurm cluster
    RAY = "ray"  #: a Ray cluster that runs already


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSetup:
    """How a node is to be used: what all groups have in common."""

    #: lines of shell that are run on the node before Python, such as `module load cuda`
    setup: Lines = ()
    #: the Python of the environment with terry-cluster on these nodes; left out: the same path as here
    python: Line | None = None
    #: the devices to be used
    devices: DeviceChoice = field(default_factory=DeviceChoice)
    #: CPU cores to be used; left out: all that the system grants
    cpus: CountFrom1 | None = None
    #: names that jobs may ask for by `run.resources.node`
    labels: Labels = ()
    #: interface, address or network (`eth0`, `10.0.0.0/24`) to be used; left out: the one that leads to the head
    interface: Interface | None = None
    #: the only ports on which Ray listens there, 20 at least: `20000-20100`; left out: any that are free
    ports: Ports | None = None

    @property
    def port_range(self) -> tuple[int, int] | None:
        """First and last of `ports`."""
        if self.ports is None:
            return None
        first, _, last = self.ports.partition("-")
        return int(first), int(last)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalGroup(NodeSetup):
    """The node on which `up` is called."""

    name: str = field(metadata={"key": ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class SshGroup(NodeSetup):
    """Nodes by the user's own ssh."""

    name: str = field(metadata={"key": ""})
    hosts: Hosts  #: names by which your own `ssh` reaches the nodes without asking for anything


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmGroup(NodeSetup):
    """Jobs of a Slurm cluster, each a node. Any other `slurm_*` key is handed to `sbatch` as `--*`."""

    name: str = field(metadata={"key": ""})
    partition: Line | None = None  #: Slurm's partition
    gres: Line | None = None  #: generic resources of each node, such as `gpu:2`
    time: SlurmTime | None = None  #: time limit of each job, to the letter as `sbatch` takes it: `120` are minutes
    account: Line | None = None  #: Slurm's account
    #: nodes that are kept even when nothing waits
    least: Count = field(default=0, metadata={"key": "min"})
    #: nodes at most
    most: Count = field(default=1, metadata={"key": "max"})
    #: a node above `min` on which nothing has run for so long is given back
    idle_after: Duration = 600.0
    #: `slurm_*`, to the letter; True: the bare option
    options: dict[str, Option] = field(default_factory=dict, metadata={"rest": "slurm_"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RayGroup:
    """A Ray cluster that runs already. `up` is called on one of its nodes, or on one that joins it (kind local).

    How its nodes are to be used is decided by whoever starts Ray there, so it has none of the settings of a node.
    """

    name: str = field(metadata={"key": ""})
    address: Address  #: `host:port` of its head
    #: a device of its nodes on which nothing has run for so long is given back while nothing waits for it
    idle_after: Duration = 600.0


#: What a node of a Ray cluster that runs already has from whoever started Ray there.
_OF_A_NODE = {each.name for each in fields(NodeSetup)}

Group = LocalGroup | SshGroup | SlurmGroup | RayGroup

GROUPS: dict[NodeKind, type[Group]] = {
    NodeKind.LOCAL: LocalGroup,
    NodeKind.SSH: SshGroup,
    NodeKind.SLURM: SlurmGroup,
    NodeKind.RAY: RayGroup,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesConfig:
    """All of it. No groups: this node."""

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
        """The group that is the node on which `up` is called. A file without groups means that node."""
        local = [group for group in self.groups if isinstance(group, LocalGroup)]
        return local[0] if local else None if self.groups else LocalGroup(name="here")

    @property
    def foreign(self) -> RayGroup | None:
        """The Ray cluster that is to be used instead of one of our own."""
        return next((group for group in self.groups if isinstance(group, RayGroup)), None)

    @property
    def has_others(self) -> bool:
        """True where nodes other than the head's may join."""
        kinds = SshGroup | SlurmGroup if self.foreign is None else SshGroup | LocalGroup
        return any(isinstance(group, kinds) for group in self.groups)


def group_of(value: Any, path: Where) -> Group:
    """A group of a file's values; its name is the path's end. Raises Problem."""
    name = str(path[-1])
    if not NAME.fullmatch(name):
        raise Problem("cannot be a group's name; A-Z a-z 0-9 . _ - can be used", path)
    if not isinstance(value, Mapping):
        raise Problem(f"must be a mapping of settings (`key: value`), not {show(value)}", path)
    kind = NodeKind(leaf(value.get("kind"), NodeKind, (*path, "kind")))
    owner = GROUPS[kind]
    idle = next((key for key in value if kind is NodeKind.RAY and key in _OF_A_NODE), None)
    if idle is not None:
        wrong = "does nothing here: whoever starts Ray there decides it; groups of kind ssh and local beside it have it"
        raise Problem(wrong, (*path, idle))
    given = typed({key: item for key, item in value.items() if key != "kind"}, owner, path)
    if kind is NodeKind.SLURM:
        _check_options(given, path)
        if given.get("least", 0) > given.get("most", 1):
            raise Problem("must not be above `max`", (*path, "min"))
    group: Group = build({"name": name, **given}, owner, path)
    return group


def nodes_of(groups: Mapping[str, Group], head: str | None) -> NodesConfig:
    """All groups together. Raises Problem for what does not go together."""
    found: list[Group] = []
    for name, group in groups.items():
        found.append(group)
        _check_apart(("nodes", name), found)
    nodes = NodesConfig(groups=tuple(found), head=head)
    if nodes.is_head_in_slurm and not any(isinstance(group, SlurmGroup) for group in found):
        raise Problem("can be `slurm` only where a group of kind slurm says how to ask for jobs", ("head",))
    return nodes


def _check_options(given: Mapping[str, Any], path: Where) -> None:
    """Raise Problem for what would turn a Slurm job into something that is no node."""
    for key in given.get("options", ()):
        where = (*path, f"slurm_{key}")
        if not _OPTION.fullmatch(key):
            raise Problem("is no option of sbatch: `slurm_mem: 32G` is `--mem=32G`", where)
        if key in given:
            raise Problem(f"is given as `{key}:` already", where)
        if key in _GIVEN:
            raise Problem(f"is to be given as `{key}:`", where)
        if key in _NUMBERS and not str(given["options"][key]).isdecimal():
            raise Problem(f"must be a whole number, not {show(given['options'][key])}", where)
        if key in _OURS:
            raise Problem("cannot be chosen: Terry sets it for its nodes", where)


def _check_apart(path: Where, groups: list[Group]) -> None:
    """A node belongs to one group: otherwise nobody knows which settings count."""
    new = groups[-1]
    theirs = next((group for group in groups if isinstance(group, RayGroup)), None)
    if theirs is not None and len(groups) > 1:
        _check_beside(path, theirs, groups)
    for old in groups[:-1]:
        if isinstance(new, LocalGroup) and isinstance(old, LocalGroup):
            raise Problem(f"is of kind local, as {old.name} is: this node is one", path)
        for slurm, ssh in ((new, old), (old, new)):
            if isinstance(slurm, SlurmGroup) and isinstance(ssh, SshGroup) and (same := _like_jobs(slurm, ssh)):
                raise Problem(f"cannot be used: nodes of {slurm.name} are called like the host {same[0]}", path)
        if isinstance(new, SshGroup) and isinstance(old, SshGroup) and (twice := _names(new) & _names(old)):
            raise Problem(f"has the host {min(twice)}, which {old.name} has already", path)


def _check_beside(path: Where, theirs: RayGroup, groups: list[Group]) -> None:
    """Raise Problem for what cannot join a Ray cluster of others."""
    if sum(isinstance(group, RayGroup) for group in groups) > 1:
        raise Problem(f"is of kind ray, as {theirs.name} is: jobs can run on one Ray cluster at a time", path)
    if any(isinstance(group, SlurmGroup) for group in groups):
        text = "cannot be used: groups of kind ssh and local can join a Ray cluster of others, slurm cannot"
        raise Problem(text, path)
    if theirs.address.startswith(("127.", "localhost:")):
        wrong = f"cannot be used: no other node reaches the Ray cluster at {theirs.address}; give its other address"
        raise Problem(wrong, path)


def _like_jobs(slurm: SlurmGroup, ssh: SshGroup) -> list[str]:
    """Hosts that would have the name of one of the Slurm group's nodes: `queue-1`."""
    return sorted(name for name in _names(ssh) if re.fullmatch(re.escape(slurm.name) + r"-[1-9]\d*", name))


def _names(group: SshGroup) -> set[str]:
    return {node_name(host) for host in group.hosts}
