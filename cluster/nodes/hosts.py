"""Nodes where a program can be started: this one, and those that ssh reaches. A NodeProvider."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from terry.cluster.nodes.facts import clock_problem
from terry.cluster.nodes.join import answer_of
from terry.cluster.nodes.remote import NodeAccess
from terry.cluster.ports import ClusterKey, ClusterView, NodeOrder, NodeReport, NodeState

_JOIN_S = 150.0
_END_S = 60.0
_AT_ONCE = 16
#: A node that could not be brought is asked again after a pause that doubles up to the second (seconds).
_PAUSE_S, _PAUSE_MAX_S = 3.0, 15.0
#: How long a node that has joined may take to be seen by the head.
_CAME_S = 20.0
_PROGRAM = ["-m", "terry.cluster.nodes.join"]


class _RetryPause:
    """With one node that is not in the cluster."""

    def __init__(self) -> None:
        self._pause_s = _PAUSE_S
        self._next = 0.0
        self._came: float | None = None  # when it said first that it takes part, although nobody sees it do so

    @property
    def is_due(self) -> bool:
        """Whether it may be asked again."""
        return time.monotonic() >= self._next

    @property
    def is_over(self) -> bool:
        """Whether it believes wrongly that it takes part: it was cut off, and the head has given it up."""
        return self._came is not None and time.monotonic() - self._came > _CAME_S

    def heard(self, report: NodeReport) -> None:
        """It was asked."""
        now = time.monotonic()
        if report.is_in:
            self._came = now if self._came is None or report.state is NodeState.JOINED else self._came
            self._pause_s, self._next = _PAUSE_S, now + _PAUSE_S
        else:
            self._came, self._next = None, now + self._pause_s
            self._pause_s = min(2 * self._pause_s, _PAUSE_MAX_S)


class ReachableNodes:
    """The nodes of a workspace. Each is asked by itself: one that is silent holds up no other."""

    def __init__(self, workspace: str, nodes: Iterable[NodeAccess]) -> None:
        self._workspace = workspace
        self._nodes = list(nodes)
        self._retry_pauses: dict[str, _RetryPause] = {}

    def reconcile(self, view: ClusterView) -> tuple[NodeReport, ...]:
        """See NodeProvider. Members are not even asked; nor, for a while, is one that failed just now."""
        missing = [node for node in self._nodes if node.name not in view.members]
        self._retry_pauses = {m.name: self._retry_pauses.get(m.name, _RetryPause()) for m in missing}
        due = [node for node in missing if self._retry_pauses[node.name].is_due]
        return self._each(due, lambda node: self._bring(node, view.key))

    def end(self) -> tuple[NodeReport, ...]:
        """See NodeProvider."""
        return self._each(self._nodes, self._end_one)

    @staticmethod
    def _each(nodes: list[NodeAccess], ask: Callable[[NodeAccess], NodeReport]) -> tuple[NodeReport, ...]:
        if not nodes:
            return ()
        with ThreadPoolExecutor(min(_AT_ONCE, len(nodes))) as pool:
            return tuple(pool.map(ask, nodes))

    def _bring(self, node: NodeAccess, key: ClusterKey) -> NodeReport:
        retry_pause = self._retry_pauses[node.name]
        report = self._check_clock(self._ask(node, "anew" if retry_pause.is_over else "join", key, _JOIN_S))
        retry_pause.heard(report)
        return report

    def _end_one(self, node: NodeAccess) -> NodeReport:
        key = ClusterKey(workspace=self._workspace, address="", incarnation="", token="", versions={})
        return self._ask(node, "end", key, _END_S)

    @staticmethod
    def _ask(node: NodeAccess, verb: str, key: ClusterKey, timeout_s: float) -> NodeReport:
        asked = datetime.now(UTC)
        order = order_of(node, key)
        answer = node.run([*_PROGRAM, verb], msgspec.json.encode(order), timeout_s)
        report = answer_of(answer.output)
        if report is None:
            problem, fix = answer.why(node.host or "localhost", node.python)
            state = NodeState.UNFIT if answer.is_reached else NodeState.UNREACHABLE
            report = NodeReport(name=node.name, state=state, problem=problem, fix=fix)
        return msgspec.structs.replace(report, host=node.host, time=asked)

    @staticmethod
    def _check_clock(report: NodeReport) -> NodeReport:
        if report.facts is None or report.time is None or report.problem:
            return report
        wrong = clock_problem(report.facts, report.time, datetime.now(UTC))
        return report if wrong is None else msgspec.structs.replace(report, problem=wrong[0], fix=wrong[1])


def order_of(node: NodeAccess, key: ClusterKey) -> NodeOrder:
    """How a node is to join, by its group's settings."""
    setup = node.setup
    return NodeOrder(
        key=key,
        name=node.name,
        cpus=setup.cpus,
        use=setup.devices.use,
        leave_out=setup.devices.leave_out,
        labels=setup.labels,
        interface=setup.interface,
        ports=setup.port_range,
    )
