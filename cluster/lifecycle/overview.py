"""What is known of a workspace's nodes: terry.yaml, what came of asking each, and whom Ray counts as alive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

import msgspec

from terry.cluster.config import terry_yaml as config
from terry.cluster.config.node_values import node_name
from terry.cluster.config.nodes import NodesConfig, SlurmGroup
from terry.cluster.files import lease
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.versions import installed
from terry.cluster.lifecycle.liveness import is_alive
from terry.cluster.nodes.records import read_members, reports
from terry.cluster.ports import NodeFacts, NodeReport, NodeState
from terry.cluster.ray.daemons import own_name
from terry.cluster.ray.head import Head, read_head
from terry.cluster.slurm import next_head
from terry.cluster.slurm.plan import in_group


class Condition(StrEnum):
    """Where a node stands."""

    HEAD = "head"  #: takes part, and Ray's head is on it
    UP = "up"  #: takes part
    WAITING = "waiting"  #: asked for; it comes when Slurm has room
    STANDBY = "standby"  #: a Slurm job that becomes the head when the present one's ends
    AWAY = "away"  #: did take part; Ray has lost it
    UNREACHABLE = "unreachable"
    UNFIT = "unfit"  #: reached, but it cannot take part
    UNKNOWN = "unknown"  #: it was not asked yet
    DOWN = "down"  #: the whole cluster is down


#: What mends itself: Slurm has it in its queue, or it has not been its turn to be asked.
WAITS = frozenset({Condition.WAITING, Condition.STANDBY, Condition.UNKNOWN, Condition.AWAY})


class NodeView(msgspec.Struct, frozen=True, kw_only=True, rename={"problem": "trouble", "fix": "mend"}):
    """One node as it is shown."""

    name: str
    host: str  #: as terry.yaml has it
    condition: Condition
    problem: str = ""  #: what is wrong; empty where nothing is
    fix: str = ""  #: what to do about it
    facts: NodeFacts | None = None  #: what it was found to be when it was asked last
    asked: datetime | None = None
    labels: tuple[str, ...] = ()


def node_views(workspace: WorkspacePaths, *, alive: bool | None = None) -> list[NodeView]:
    """All nodes of terry.yaml and those that took part. Empty where it is this node alone. Raises UserError.

    alive: whether a controller is at work, where that is known already.
    """
    nodes = config.read_nodes(workspace)
    known, head = reports(workspace), read_head(workspace)
    hosts = {node_name(host): (host, group.labels) for host, group in nodes.hosts.items()}
    if not nodes.has_others:
        return []
    alive = is_alive(workspace) if alive is None else alive
    members = (read_members(workspace, head.incarnation) if head else None) or frozenset()
    found = []
    for name in dict.fromkeys([*([head.name] if head and head.name and alive else []), *hosts, *known]):
        slurm = next((g for g in nodes.groups if isinstance(g, SlurmGroup) and in_group(g, name)), None)
        setup = slurm or (nodes.here if _is_here(name, nodes, head) else None)
        host, labels = hosts.get(name, ("", setup.labels if setup else ()))
        report = known.get(name)
        if slurm and name not in members and (not alive or (report and report.state is NodeState.ENDED)):
            continue  # it was let go, and nobody misses it
        condition, problem, fix = _condition(name, report, head, members, alive=alive)
        facts, asked = (report.facts, report.time) if report else (None, None)
        found.append(
            NodeView(
                name=name,
                host=host,
                condition=condition,
                problem=problem,
                fix=fix,
                facts=facts,
                asked=asked,
                labels=labels,
            )
        )
    return [*found, *(_standby(workspace) if alive and nodes.is_head_in_slurm else ())]


def older_head(workspace: WorkspacePaths) -> str:
    """What to do where the cluster was started by another version than is installed here now; empty where it was not.

    Says nothing of whether it still runs.
    """
    held, head, ours = lease.read(workspace), read_head(workspace), installed().get("terry-cluster", "")
    theirs = [held.version if held else "", head.versions.get("terry-cluster", "") if head else ""]
    other = next((version for version in theirs if version and version != ours), "")
    if not other:
        return ""
    which = "the older one" if _is_older(other, ours) else "the newer one"
    return (
        f"the head of {workspace.root} runs terry-cluster {other}, and here {ours} is installed: the head is {which}. "
        "`terry-cluster down`, then `terry-cluster up` renew it: no run is lost, what runs writes a checkpoint first "
        "and goes on from it"
    )


def _is_older(version: str, than: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text)]

    return numbers(version) < numbers(than)


def _is_here(name: str, nodes: NodesConfig, head: Head | None) -> bool:
    """Whether it is the node of the group of kind local: the head, unless terry.yaml puts that elsewhere."""
    return name == own_name() or (nodes.head is None and head is not None and name == head.name)


def _standby(workspace: WorkspacePaths) -> Iterator[NodeView]:
    if (known := next_head.read(workspace)) is not None:
        yield NodeView(name="next head", host=f"Slurm job {known.job}", condition=Condition.STANDBY)


def _condition(
    name: str, report: NodeReport | None, head: Head | None, members: frozenset[str], *, alive: bool
) -> tuple[Condition, str, str]:
    problem, fix = (report.problem, report.fix) if report else ("", "")
    if not alive:
        return Condition.DOWN, "", ""
    if head is not None and name == head.name:
        return Condition.HEAD, problem, fix
    if name in members:
        is_old = report is not None and report.state is NodeState.WAITING  # said while it was still to come
        return Condition.UP, "" if is_old else problem, fix
    if report is None:
        return Condition.UNKNOWN, "it was not asked to join yet", "`terry-cluster up` asks it"
    if report.is_in:
        return Condition.AWAY, "Ray does not see it", "it is asked again by itself; `terry-cluster up` asks at once"
    if report.problem:
        return Condition(report.state.value), problem, fix
    return Condition.UNKNOWN, "it was taken down", "`terry-cluster up` brings it back"
