"""`up` and `down` for a whole workspace, from wherever they are called: a login host needs no Ray of its own.

Ray's head, keeper and controller stand together on one host: this node, or one that ssh reaches, where the same is
asked of the program below (`python -m terry.cluster.lifecycle.over_ssh`). Who brings nodes is then the keeper on the
head's host, and `up` itself from here, with the user's own ssh: whoever can. All of it may be repeated.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable

from terry.cluster.config import terry_yaml as config
from terry.cluster.config.node_values import node_name
from terry.cluster.config.nodes import NodesConfig, NodeSetup
from terry.cluster.errors import UserError
from terry.cluster.files import origin
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.processes import user_name
from terry.cluster.lifecycle.liveness import is_alive, is_dead
from terry.cluster.lifecycle.on_head import ensure_up_on_head, take_down_on_head
from terry.cluster.lifecycle.overview import older_head
from terry.cluster.lifecycle.providers import is_here, providers_of
from terry.cluster.lifecycle.removed import removed_nodes
from terry.cluster.lifecycle.slurm import end_head_job, ensure_head_job
from terry.cluster.nodes.records import read_members, reports, write_report
from terry.cluster.nodes.remote import Answer, SshNode
from terry.cluster.ports import ClusterView, NodeProvider, NodeReport, NodeState
from terry.cluster.ray.daemons import own_name
from terry.cluster.ray.head import key_of, read_head

_THERE_S = 200.0
#: What somebody else's keeper has said so long ago (seconds) may be of a start that is under way.
_STARTS_S = 60.0
#: What it ends with over ssh where a person has to fix something; its last line of errors says what.
USER_ERROR = 2

Notify = Callable[[str], None]


class _NoHost(UserError):
    """No host can be the head now: bad for `up`, while a submission is safe on disk and can wait."""


def ensure_up(workspace: WorkspacePaths, *, wait: bool, progress: Notify | None = None) -> bool:
    """Make sure that a head with keeper and controller runs where it should. True if one was started.

    wait: return only when the controller is at work and each node was asked to join. Raises UserError for what a
    person has to fix; a node that cannot join is no error.
    """
    notify = progress or (lambda _: None)
    refuse_other_version(workspace)
    if reported := origin.settle(workspace):
        (progress or _warn)(reported)
    nodes = config.read(workspace).nodes
    if (other := _other_user(workspace)) and is_alive(workspace):
        notify(f"the cluster is up; it is {other}'s")
        return False
    if not wait and (other := _other_starts(workspace)):
        notify(f"{other} is starting the cluster")
        return False
    if wait:
        _leave_old_place(workspace, nodes, notify)
    places = head_hosts(workspace, nodes)
    if nodes.is_head_in_slurm:
        started = ensure_head_job(workspace, nodes, wait=wait, notify=notify)
    elif not places:
        started = not _is_served_elsewhere(workspace, notify) and ensure_up_on_head(
            workspace, wait=wait, progress=notify
        )
    elif not wait and is_alive(workspace):
        started = False
    else:
        try:
            started = _ensure_up_over_ssh(workspace, nodes, places, wait=wait, notify=notify)
        except _NoHost as none:
            if wait:
                raise
            print(f"warning: {none}; the jobs wait for `terry-cluster up`", file=sys.stderr)
            return False
    if wait:
        for report in bring_nodes(workspace, nodes):
            notify(report_line(report))
    return started


def _leave_old_place(workspace: WorkspacePaths, nodes: NodesConfig, notify: Notify) -> None:
    """Where `head:` names another host than the one that serves: say what moves; what runs writes a checkpoint first.

    Without it the old head would end as soon as it sees the new one, and jobs with it.
    """
    old = read_head(workspace)
    if nodes.head is None or old is None or old.foreign or not old.name or old.name == node_name(nodes.head):
        return
    if not is_alive(workspace):
        return
    notify(
        f"terry.yaml has the head on {nodes.head}, and it is on {old.name}: what runs writes a checkpoint; then Ray's "
        f"head, the controller and the keeper move to {nodes.head}, and the jobs go on from their checkpoints"
    )
    if old.is_here:
        take_down_on_head(workspace, progress=notify)
        return
    host = next((h for h in nodes.hosts if node_name(h) == old.name), old.name)
    answer = _ask(workspace, nodes, host, "down")
    if answer.code != 0:
        notify("problem: {}: {} ({})".format(host, *answer.why(host, _node(nodes, host).python)))
    else:
        notify(f"{host} has ended; its jobs have written their checkpoints")


def _warn(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def refuse_other_version(workspace: WorkspacePaths) -> None:
    """Raise UserError where a controller of another version is at work: its parts would not find ours, nor ours its."""
    if (told := older_head(workspace)) and is_alive(workspace):
        raise UserError(told)


def head_hosts(workspace: WorkspacePaths, nodes: NodesConfig) -> list[str]:
    """Hosts on which the head may be, the best first. None at all: it is to be on this node."""
    if nodes.head is not None:
        return [nodes.head]
    if nodes.here is not None or nodes.foreign is not None or not nodes.hosts:
        return []
    recorded = read_head(workspace)
    name = recorded.name if recorded else None
    return sorted(nodes.hosts, key=lambda host: (node_name(host) != name, not is_here(host)))


def _other_user(workspace: WorkspacePaths) -> str:
    """Who else runs the cluster (of a group's workspace); empty where nobody else does."""
    try:
        owner = workspace.head.stat().st_uid
    except FileNotFoundError:
        return ""
    return "" if owner == os.getuid() else user_name(owner)


def _other_starts(workspace: WorkspacePaths) -> str:
    """Who else (of a group) has begun to start the cluster just now; empty where nobody has.

    By the wall clock, and so only a courtesy: of two keepers that begin all the same one ends when it sees the other.
    """
    try:
        log = workspace.keeper_log.stat()
        last = workspace.keeper_log.read_text(errors="replace").splitlines()[-1:]
    except OSError:
        return ""
    begins = bool(last) and re.search(r"a keeper is started$|keeping /|starting Ray$|Ray runs at", last[0]) is not None
    if log.st_uid == os.getuid() or not begins or not 0 <= time.time() - log.st_mtime < _STARTS_S:
        return ""
    return user_name(log.st_uid)


def _is_served_elsewhere(workspace: WorkspacePaths, notify: Notify) -> bool:
    """True where a controller on another node is at work: a second head would only take its jobs away."""
    head = read_head(workspace)
    return head is not None and not head.is_here and head.host != own_name() and not is_dead(workspace, notify)


def _ensure_up_over_ssh(
    workspace: WorkspacePaths, nodes: NodesConfig, hosts: list[str], *, wait: bool, notify: Notify
) -> bool:
    problems = []
    for host in hosts:
        if is_here(host):
            return ensure_up_on_head(workspace, wait=wait, host=host, progress=notify)
        notify(f"asking {host} to be the head")
        answer = _ask(workspace, nodes, host, "up", *(["--wait"] if wait else []))
        if answer.code == 0:
            return answer.output.strip().endswith("started")
        problem, fix = answer.why(host, _node(nodes, host).python)
        if answer.code == USER_ERROR:
            raise UserError(f"{host}: {problem}")
        problems.append(f"{host}: {problem} ({fix})")
        notify(f"problem: {problems[-1]}")
        if not is_dead(workspace, notify):
            notify("the controller is alive all the same: it stays where it is")
            return False
    raise _NoHost(f"no host can be the head. {'; '.join(problems)}", file=workspace.config)


def bring_nodes(workspace: WorkspacePaths, nodes: NodesConfig) -> list[NodeReport]:
    """Ask each node that is not in the cluster to join; what came of it is also kept for `nodes`."""
    head = read_head(workspace)
    if head is None or not head.is_open:
        return []
    view = ClusterView(key=key_of(workspace, head), members=read_members(workspace, head.incarnation) or frozenset())
    found = []
    for provider in providers_of(workspace, nodes, head.name, with_here=True):
        for report in provider.reconcile(view):
            write_report(workspace, report)
            found.append(report)
    return [*found, *removed_nodes(nodes, reports(workspace), view.members, head.name)]


def take_down(workspace: WorkspacePaths, *, progress: Notify | None = None) -> bool:
    """End all that serves the workspace, on all its nodes; jobs write a checkpoint first and go on after `up`.

    Returns False if nothing ran. Nodes that cannot be reached are named; their Ray ends by itself without the head.
    """
    notify = progress or (lambda _: None)
    nodes = _nodes_to_end(workspace, notify)
    if (other := _other_user(workspace)) and os.getuid() != 0 and is_alive(workspace):
        raise UserError(f"the cluster of {workspace.root} is {other}'s: only {other} can end it")
    head = read_head(workspace)
    host = next((h for h in nodes.hosts if head is not None and node_name(h) == head.name and not is_here(h)), None)
    if nodes.is_head_in_slurm:
        ended = end_head_job(workspace, notify=notify)
        return _end_nodes(workspace, nodes, notify) or ended
    if host is None and nodes.head is not None and not is_here(nodes.head):
        host = nodes.head
    if host is None:
        ended = take_down_on_head(workspace, progress=notify)
    else:
        notify(f"asking {host} to end")
        answer = _ask(workspace, nodes, host, "down")
        ended = answer.output.strip().endswith("ended")
        if answer.code != 0:
            notify("problem: {}: {} ({})".format(host, *answer.why(host, _node(nodes, host).python)))
    return _end_nodes(workspace, nodes, notify) or ended


def _nodes_to_end(workspace: WorkspacePaths, notify: Notify) -> NodesConfig:
    """A mistake in terry.yaml shall not keep anybody from ending what runs here."""
    try:
        return config.read_nodes(workspace)
    except UserError as error:
        notify(f"{error}; so only this node is taken down")
        return NodesConfig()


def _end_nodes(workspace: WorkspacePaths, nodes: NodesConfig, notify: Notify) -> bool:
    """True where a node had taken part. The head's is asked as well: an earlier head may have left something."""
    known = reports(workspace)
    took_part = any(report.is_in for report in known.values())
    for provider in _providers_to_end(workspace, nodes):
        for report in provider.end():
            write_report(workspace, report)
            if report.state is not NodeState.ENDED:
                notify(report_line(report))
    return took_part


def _providers_to_end(workspace: WorkspacePaths, nodes: NodesConfig) -> list[NodeProvider]:
    """On a Ray cluster of others no node ends with the head: each has to be asked."""
    if nodes.foreign is not None:
        return providers_of(workspace, nodes, "", with_here=True)
    return providers_of(workspace, nodes, own_name(), with_here=False)


def report_line(report: NodeReport) -> str:
    """A node's report for people."""
    wrong = f": {report.problem} ({report.fix})" if report.problem else ""
    state = NodeState.JOINED if report.is_in else report.state  # the keeper may have been quicker than `up`
    return f"{report.name}: {state}{wrong}"


def _node(nodes: NodesConfig, host: str) -> SshNode:
    return SshNode(host=host, setup=nodes.hosts.get(host, NodeSetup()))


def _ask(workspace: WorkspacePaths, nodes: NodesConfig, host: str, *words: str) -> Answer:
    program = ["-m", "terry.cluster.lifecycle.over_ssh", words[0], str(workspace.root), host, *words[1:]]
    return _node(nodes, host).run(program, b"", _THERE_S)
