"""How many Slurm jobs a group of nodes needs now: which to ask for, which to let go, which to cancel. Pure.

A node of a group is a Slurm job, named after its place in the group: `queue-1`, `queue-2`, ... A name is used again for
the next job, so that lists stay short. What is asked for follows what waits; what is let go, what has long been idle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.core.model import Device, DeviceKind
from terry.cluster.scheduling.demand import DeviceLoad, WaitingJobs

#: A Slurm job that has run for so long without being a node of the cluster never will be one, or has ceased to be.
LOST_AFTER = timedelta(seconds=180)


#: What stands for a node's name in the name of the head's own Slurm job, which belongs to no group.
HEAD_NODE = "head"


class Phase(StrEnum):
    """Where a Slurm job is."""

    PENDING = "pending"  #: it waits for resources
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """A Slurm job of the workspace, as `squeue` has it."""

    id: str
    node: str  #: name of the node that it is to be
    phase: Phase
    state: str = ""  #: in Slurm's own word
    reason: str = ""  #: why it waits, in Slurm's own word
    host: str = ""
    settings: str = ""  #: with which it was asked for, in short; empty: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known when it is decided."""

    jobs: tuple[SlurmJob, ...] = ()  #: of the workspace
    members: frozenset[str] = frozenset()  #: names of the nodes that have devices for jobs
    devices: tuple[Device, ...] = ()  #: all that were ever seen
    loads: tuple[DeviceLoad, ...] = ()  #: of those that are there
    waiting: tuple[WaitingJobs, ...] = ()
    leaving: frozenset[str] = frozenset()  #: ids of Slurm jobs that were asked to go
    absent_since: Mapping[str, datetime] = field(default_factory=dict)  #: id of a running Slurm job that is no member
    settings: Mapping[str, str] = field(default_factory=dict)  #: group -> its settings as they are asked for now


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """What is to be done for one group."""

    submit: tuple[str, ...] = ()  #: names of nodes to ask Slurm for
    release: tuple[str, ...] = ()  #: ids of running Slurm jobs that are to end in an orderly way
    cancel: tuple[str, ...] = ()  #: ids of Slurm jobs that are of no use


def plan_group(group: SlurmGroup, seen: Seen, now: datetime) -> GroupPlan:
    """See the module. Carried out and asked again it changes nothing more."""
    kept, cancel = _sort_out(group, seen, now)
    outdated = [job for job in kept if _is_outdated(group, job, seen)]
    kept = [job for job in kept if job not in outdated]
    present = [job for job in kept if job.node in seen.members]
    coming = [job for job in kept if job.node not in seen.members and job.id not in seen.leaving]
    wanted = _nodes_wanted(group, seen)
    staying = [job for job in present if job.id not in seen.leaving]
    least = max(0, group.least - len(staying) - len(coming))
    more = min(max(wanted - len(coming), least), group.most - len(kept))
    surplus = _surplus(coming, keep=max(wanted, group.least - len(staying)))
    return GroupPlan(
        submit=_free_names(group, kept, more),
        release=_idle(group, staying, seen, now),
        cancel=(*cancel, *(job.id for job in outdated), *surplus),
    )


def in_group(group: SlurmGroup, node: str) -> bool:
    """Whether a node's name is one of the group's."""
    return re.fullmatch(re.escape(group.name) + r"-[1-9]\d*", node) is not None


def strangers(groups: Iterable[SlurmGroup], jobs: Iterable[SlurmJob]) -> tuple[str, ...]:
    """Ids of the workspace's Slurm jobs that belong to no group any more."""
    known = list(groups)
    others = [job for job in jobs if job.node != HEAD_NODE]
    return tuple(job.id for job in others if not any(in_group(group, job.node) for group in known))


def _sort_out(group: SlurmGroup, seen: Seen, now: datetime) -> tuple[list[SlurmJob], list[str]]:
    """The group's Slurm jobs, one a name, and the ids of those that are of no use: doubles, and lost ones."""
    mine = sorted((job for job in seen.jobs if in_group(group, job.node)), key=_age)
    kept: dict[str, SlurmJob] = {}
    useless = []
    for job in sorted(mine, key=lambda job: job.phase is not Phase.RUNNING):
        since = seen.absent_since.get(job.id)
        if job.node in kept or (since is not None and now - since > LOST_AFTER):
            useless.append(job.id)
        else:
            kept[job.node] = job
    return sorted(kept.values(), key=_age), useless


def _is_outdated(group: SlurmGroup, job: SlurmJob, seen: Seen) -> bool:
    """Whether it waits with settings that terry.yaml no longer has: with those it may wait for ever.

    One that runs stays: what it has is good enough for the jobs that it has taken.
    """
    wanted = seen.settings.get(group.name, "")
    return job.phase is Phase.PENDING and bool(job.settings and wanted) and job.settings != wanted


def _age(job: SlurmJob) -> tuple[int, str]:
    return (int(job.id) if job.id.isdigit() else 0, job.id)


def _nodes_wanted(group: SlurmGroup, seen: Seen) -> int:
    """Nodes that would take what waits, beside what is free on those that are there."""
    offers = _offers(group, seen.devices)
    waiting = [jobs for jobs in seen.waiting if _could_run(group, jobs, offers, seen.devices)]
    free = _free(waiting, seen)
    wanted = 0
    for kind, amount in offers.items():
        asked = sum(jobs.share * jobs.count for jobs in waiting if jobs.kind is kind)
        unmet = asked - free.get(kind, 0.0)
        if unmet > 1e-6:
            wanted = max(wanted, math.ceil(unmet / amount - 1e-6))
    return wanted


def _offers(group: SlurmGroup, devices: Collection[Device]) -> dict[DeviceKind, float]:
    """What a node of the group brings: as those had that were seen, else as the file says."""
    found: dict[str, dict[DeviceKind, float]] = {}
    for device in devices:
        if in_group(group, device.node):
            of_node = found.setdefault(device.node, {})
            of_node[device.kind] = of_node.get(device.kind, 0.0) + device.capacity
    if found:
        kinds = {kind for of_node in found.values() for kind in of_node}
        return {kind: max(of_node.get(kind, 0.0) for of_node in found.values()) for kind in kinds}
    expected = {DeviceKind.GPU: float(expected_gpus(group)), DeviceKind.CPU: float(expected_cores(group))}
    return {kind: amount for kind, amount in expected.items() if amount > 0}


def expected_gpus(group: SlurmGroup) -> int:
    """GPUs of each node, by what is asked of Slurm."""
    for key in ("gpus_per_node", "gpus", "gpus_per_task"):
        if key in group.options:
            return _count_of(str(group.options[key]))
    found = [part for part in (group.gres or str(group.options.get("gres", ""))).split(",") if part.startswith("gpu")]
    return sum(_count_of(part.removeprefix("gpu")) for part in found)


def _count_of(text: str) -> int:
    """`2`, `:2`, `h100:2`, `:h100`: the number at the end, else one."""
    last = text.rpartition(":")[2].partition("(")[0]
    return int(last) if last.isdigit() else 1


def expected_cores(group: SlurmGroup) -> int:
    """CPU cores of each node, by what is asked of Slurm; 0 where none are to be used."""
    if "cpu" in group.devices.leave_out:
        return 0
    asked = str(group.options.get("cpus_per_task", 1))
    return group.cpus or (int(asked) if asked.isdecimal() else 1)


def _could_run(
    group: SlurmGroup, jobs: WaitingJobs, offers: Mapping[DeviceKind, float], devices: Collection[Device]
) -> bool:
    """Whether a node of the group would be any help to these jobs."""
    mine = [d for d in devices if in_group(group, d.node) and d.kind is jobs.kind]
    most = max((d.capacity for d in mine), default=1.0 if jobs.kind is DeviceKind.GPU else offers.get(jobs.kind, 0.0))
    if jobs.kind not in offers or jobs.share > most + 1e-6:
        return False
    names = [*(f"{group.name}-{n}" for n in range(1, group.most + 1)), *group.labels]
    if jobs.node is not None and not any(fnmatchcase(name, jobs.node) for name in names):
        return False
    return not mine or any(device.is_a(jobs.device) for device in mine)


def _free(waiting: Collection[WaitingJobs], seen: Seen) -> dict[DeviceKind, float]:
    """What is free for any of these jobs, on any node: they will be there in a moment, or wait for something else."""
    known = {device.id: device for device in seen.devices}
    free: dict[DeviceKind, float] = {}
    for load in seen.loads:
        device = known.get(load.device_id)
        if device is None or not any(
            jobs.kind is device.kind and device.is_on(jobs.node) and device.is_a(jobs.device) for jobs in waiting
        ):
            continue
        free[device.kind] = free.get(device.kind, 0.0) + load.free
    return free


def _surplus(coming: list[SlurmJob], keep: int) -> list[str]:
    """Of the Slurm jobs that still wait those that nobody needs any more, the newest first."""
    waiting = [job for job in reversed(coming) if job.phase is Phase.PENDING]
    return [job.id for job in waiting[: max(0, len(coming) - max(0, keep))]]


def _free_names(group: SlurmGroup, kept: Collection[SlurmJob], count: int) -> tuple[str, ...]:
    taken = {job.node for job in kept}
    names = (f"{group.name}-{n}" for n in range(1, group.most + len(taken) + 1))
    return tuple(name for name in names if name not in taken)[: max(0, count)]


def _idle(group: SlurmGroup, staying: list[SlurmJob], seen: Seen, now: datetime) -> tuple[str, ...]:
    """Nodes on which nothing has run for long, as far as more than `min` are there; the newest first.

    What is still to come does not count: it was asked for because what is there is not enough.
    """
    mine = {device.id: device.node for device in seen.devices}
    loads: dict[str, list[DeviceLoad]] = {}
    for load in seen.loads:
        loads.setdefault(mine.get(load.device_id, ""), []).append(load)
    idle_after = timedelta(seconds=group.idle_after)
    idle = [job for job in reversed(staying) if loads.get(job.node) and _all_idle(loads[job.node], now - idle_after)]
    return tuple(job.id for job in idle[: max(0, len(staying) - group.least)])


def _all_idle(loads: Iterable[DeviceLoad], before: datetime) -> bool:
    return all(load.idle_since is not None and load.idle_since <= before for load in loads)
