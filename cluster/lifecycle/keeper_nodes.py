"""The keeper's care for the other nodes: who should be in the cluster and is not is brought in, again and again."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

from terry.cluster.config import terry_yaml as config
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.lifecycle.providers import providers_of
from terry.cluster.lifecycle.removed import RemovedHosts
from terry.cluster.nodes.records import read_members, write_report
from terry.cluster.ports import ClusterView, NodeProvider, NodeReport
from terry.cluster.ray.head import Head, key_of

_log = logging.getLogger("terry.cluster.lifecycle.keeper")


class NodeCare:
    """One round at a time, in a thread of its own: a silent node must not keep the keeper from its head."""

    def __init__(self, workspace: WorkspacePaths) -> None:
        self._workspace = workspace
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nodes")
        self._round: Future[None] | None = None
        self._providers: tuple[object, list[NodeProvider]] | None = None
        self._removed = RemovedHosts(workspace)
        self._reported: dict[str, tuple[str, str]] = {}

    def tend(self, head: Head) -> None:
        """Begin another round, unless one is under way. Never waits, never raises."""
        if head.is_open and (self._round is None or self._round.done()):
            self._round = self._thread.submit(self._tend, head)

    def _tend(self, head: Head) -> None:
        try:
            members = read_members(self._workspace, head.incarnation)
            if members is None:  # nobody knows yet who is there
                return
            view = ClusterView(key=key_of(self._workspace, head), members=members)
            for provider in self._current(head):
                for report in provider.reconcile(view):
                    self._keep(report)
            for report in self._removed.tend(config.read_nodes(self._workspace), view, head.name):
                self._keep(report)
        except (OSError, UserError) as error:  # a mistake in terry.yaml, a disk that is away
            _log.warning("nodes are left as they are: %s", error)
        except Exception:
            _log.exception("nodes are left as they are")

    def _current(self, head: Head) -> list[NodeProvider]:
        """Kept as long as terry.yaml says the same: they know whom they have asked when."""
        nodes = config.read_nodes(self._workspace)
        if self._providers is None or self._providers[0] != (nodes, head.incarnation):
            self._providers = (
                (nodes, head.incarnation),
                providers_of(self._workspace, nodes, head.name, with_here=head.foreign),
            )
        return self._providers[1]

    def _keep(self, report: NodeReport) -> None:
        write_report(self._workspace, report)
        status = (report.state.value, report.problem)
        if self._reported.get(report.name) != status:
            self._reported[report.name] = status
            _log.info("node %s: %s%s", report.name, report.state, f": {report.problem}" if report.problem else "")
