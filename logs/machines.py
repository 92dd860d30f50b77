"""`nodes`: the machines of a workspace as a table, and what is wrong with which."""

from __future__ import annotations

from collections.abc import Sequence

from terry.cluster.machine_list import MachineView
from terry.logs.text import Column, table

_COLUMNS = (
    Column(title="NODE"),
    Column(title="STATE"),
    Column(title="ADDRESS"),
    Column(title="CORES", right=True),
    Column(title="GPUS", right=True),
    Column(title="PYTHON"),
    Column(title="RAY"),
    Column(title="TORCH"),
    Column(title="LABELS"),
)


def machine_lines(machines: Sequence[MachineView], *, width: int | None = None) -> list[str]:
    """A line a machine; below, what is wrong and how to mend it."""
    lines = table(_COLUMNS, [_row(machine) for machine in machines], width=width)
    for machine in machines:
        if machine.trouble:
            lines += ["", f"{machine.name}: {machine.trouble}"]
            lines += [f"  to mend it: {machine.mend}"] if machine.mend else []
    return lines


def _row(machine: MachineView) -> list[str]:
    labels = " ".join(machine.labels) or "-"
    if machine.facts is None:
        return [machine.name, machine.condition, machine.host or "-", "-", "-", "-", "-", "-", labels]
    facts = machine.facts
    versions = [facts.versions.get(name, "missing") for name in ("python", "ray", "torch")]
    return [
        machine.name,
        machine.condition,
        facts.address,
        str(facts.cores),
        str(len(facts.gpus)),
        *versions,
        labels,
    ]
