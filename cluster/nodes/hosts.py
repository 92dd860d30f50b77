"""Nodes on machines where a program can be started: this one, and those that ssh reaches. A NodeProvider."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from terry.cluster.nodes.facts import clock_trouble
from terry.cluster.nodes.join import answer_of
from terry.cluster.nodes.remote import Machine
from terry.cluster.ports import ClusterKey, ClusterView, NodeOrder, NodeReport, NodeState

_JOIN_S = 150.0
_END_S = 60.0
_AT_ONCE = 16
#: A machine that could not be brought is asked again after a pause that doubles up to the second (seconds).
_PAUSE_S, _PAUSE_MAX_S = 3.0, 15.0
#: How long a machine that has joined may take to be seen by the head.
_CAME_S = 20.0
_PROGRAM = ["-m", "terry.cluster.nodes.join"]


class _Patience:
    """With one machine that is not in the cluster."""

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


class MachineNodes:
    """The machines of a workspace. Each is asked by itself: one that is silent holds up no other."""

    def __init__(self, workspace: str, machines: Iterable[Machine]) -> None:
        self._workspace = workspace
        self._machines = list(machines)
        self._patience: dict[str, _Patience] = {}

    def reconcile(self, view: ClusterView) -> tuple[NodeReport, ...]:
        """See NodeProvider. Members are not even asked; nor, for a while, is one that failed just now."""
        missing = [machine for machine in self._machines if machine.name not in view.members]
        self._patience = {m.name: self._patience.get(m.name, _Patience()) for m in missing}
        due = [machine for machine in missing if self._patience[machine.name].is_due]
        return self._each(due, lambda machine: self._bring(machine, view.key))

    def end(self) -> tuple[NodeReport, ...]:
        """See NodeProvider."""
        return self._each(self._machines, self._end_one)

    @staticmethod
    def _each(machines: list[Machine], ask: Callable[[Machine], NodeReport]) -> tuple[NodeReport, ...]:
        if not machines:
            return ()
        with ThreadPoolExecutor(min(_AT_ONCE, len(machines))) as pool:
            return tuple(pool.map(ask, machines))

    def _bring(self, machine: Machine, key: ClusterKey) -> NodeReport:
        patience = self._patience[machine.name]
        report = self._check_clock(self._ask(machine, "anew" if patience.is_over else "join", key, _JOIN_S))
        patience.heard(report)
        return report

    def _end_one(self, machine: Machine) -> NodeReport:
        key = ClusterKey(workspace=self._workspace, address="", life="", token="", versions={})
        return self._ask(machine, "end", key, _END_S)

    @staticmethod
    def _ask(machine: Machine, verb: str, key: ClusterKey, timeout_s: float) -> NodeReport:
        asked = datetime.now(UTC)
        order = order_of(machine, key)
        answer = machine.run([*_PROGRAM, verb], msgspec.json.encode(order), timeout_s)
        report = answer_of(answer.output)
        if report is None:
            trouble, mend = answer.why(machine.host or "localhost", machine.python)
            state = NodeState.UNFIT if answer.is_reached else NodeState.UNREACHABLE
            report = NodeReport(name=machine.name, state=state, trouble=trouble, mend=mend)
        return msgspec.structs.replace(report, host=machine.host, time=asked)

    @staticmethod
    def _check_clock(report: NodeReport) -> NodeReport:
        if report.facts is None or report.time is None or report.trouble:
            return report
        wrong = clock_trouble(report.facts, report.time, datetime.now(UTC))
        return report if wrong is None else msgspec.structs.replace(report, trouble=wrong[0], mend=wrong[1])


def order_of(machine: Machine, key: ClusterKey) -> NodeOrder:
    """How a machine is to join, by its group's settings."""
    setup = machine.setup
    return NodeOrder(
        key=key,
        name=machine.name,
        cpus=setup.cpus,
        use=setup.devices.use,
        leave_out=setup.devices.leave_out,
        labels=setup.labels,
        interface=setup.interface,
        ports=setup.port_range,
    )
