"""Puts a controller together with what it needs, inside its actor: one of the two places that import adapters."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from importlib.metadata import version

from terry.cluster.actors.agent import AgentSettings
from terry.cluster.actors.pool import RayPool, gcs_address
from terry.cluster.actors.process import job_environment
from terry.cluster.agent.job_runtime import TERRY_JOBS, JobRuntime
from terry.cluster.away.home import mark_of
from terry.cluster.config.watched import watched_idle_after, watched_policy
from terry.cluster.controller.loop import Controller, ControllerHooks
from terry.cluster.controller.notify import Notifier
from terry.cluster.errors import LostLease, UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host import clock
from terry.cluster.host.versions import installed
from terry.cluster.nodes.records import ClusterMember, ClusterMembers, write_members
from terry.cluster.ray.daemons import runtime_folder
from terry.cluster.ray.head import read_head

_log = logging.getLogger(__name__)


class SystemClock:
    """The node's clock."""

    def now(self) -> datetime:
        """Now, aware, UTC."""
        return clock.now()

    def monotonic(self) -> float:
        """Seconds by a clock that nobody sets."""
        return clock.monotonic()


def _members(workspace: WorkspacePaths, nodes: tuple[ClusterMember, ...]) -> None:
    """Tell those who bring nodes which ones are there."""
    head = read_head(workspace)
    if head is not None and (
        head.foreign or head.address == gcs_address()
    ):  # else another head serves the workspace by now
        try:
            write_members(workspace, ClusterMembers(incarnation=head.incarnation, nodes=nodes))
        except OSError as error:
            _log.warning("the nodes could not be written down: %s", error)


def run_controller(workspace: WorkspacePaths, namespace: str, runtime: JobRuntime = TERRY_JOBS) -> str:
    """Be the controller until a shutdown is complete (`stopped`) or another one takes over (`superseded`).

    Raises UserError where the workspace is gone: it must not be made anew where it was moved away.
    """
    if not workspace.exists:
        raise UserError(f"{workspace.root} is not there now; was it moved, or is its file system not mounted?")
    notifier = Notifier(workspace, lambda sweep: controller.state.counts[sweep], job_environment())
    settings = AgentSettings(
        workspace=str(workspace.root),
        runtime=runtime,
        versions=dict(installed()),
        mark=mark_of(workspace),
        namespace=namespace,
    )
    head = read_head(workspace)
    patience = watched_idle_after(workspace) if head is not None and head.foreign else None
    pool = RayPool(settings, namespace, members=partial(_members, workspace), idle_after=patience)
    controller = Controller(
        workspace,
        pool,
        SystemClock(),
        policy=watched_policy(workspace),
        lock_file=runtime_folder(workspace) / "controller.lock",
        hooks=ControllerHooks(finished=notifier.finished),
        version=version("terry-cluster"),
        node_is_dead=pool.node_is_dead,
    )
    try:
        controller.run()
    except LostLease as lost:
        _log.warning("%s", lost)
        return "superseded"
    return "stopped"
