"""A fake NodeProvider: machines in memory, which a test can cut off, kill, and look into (tests/contract)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from terry.cluster.ports import ClusterView, NodeReport, NodeState


@dataclass(slots=True)
class _Machine:
    reachable: bool = True
    life: int = 0  # of its part in the cluster; 0: it takes none
    head: str = ""  # life of the head that it has joined


class FakeNodes:
    """A NodeProvider with a world of its own."""

    def __init__(self, *names: str) -> None:
        self._machines = {name: _Machine() for name in names}
        self._lives = 0

    # NodeProvider

    def reconcile(self, view: ClusterView) -> tuple[NodeReport, ...]:
        """See NodeProvider."""
        missing = [name for name in self._machines if name not in view.members]
        return tuple(self._bring(name, view.key.life) for name in missing)

    def end(self) -> tuple[NodeReport, ...]:
        """See NodeProvider."""
        return tuple(self._end(name) for name in self._machines)

    # the world, for tests

    def life(self, name: str) -> int:
        """Another with each start of the machine's part in the cluster; 0 where it has none."""
        return self._machines[name].life

    def kill(self, name: str) -> None:
        """What runs on the machine for the cluster dies."""
        self._machines[name].life = 0

    def cut(self, name: str) -> None:
        """The machine cannot be reached."""
        self._machines[name].reachable = False

    # inside

    def _bring(self, name: str, head: str) -> NodeReport:
        machine = self._machines[name]
        if not machine.reachable:
            return self._report(name, NodeState.UNREACHABLE)
        if machine.life and machine.head == head:
            return self._report(name, NodeState.PRESENT)
        self._lives += 1
        machine.life, machine.head = self._lives, head
        return self._report(name, NodeState.JOINED)

    def _end(self, name: str) -> NodeReport:
        machine = self._machines[name]
        if not machine.reachable:
            return self._report(name, NodeState.UNREACHABLE)
        machine.life = 0
        return self._report(name, NodeState.ENDED)

    @staticmethod
    def _report(name: str, state: NodeState) -> NodeReport:
        lost = state is NodeState.UNREACHABLE
        trouble, mend = ("its cable is cut", "plug it in") if lost else ("", "")
        return NodeReport(name=name, state=state, trouble=trouble, mend=mend, time=datetime.now(UTC))
