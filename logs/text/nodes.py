"""`nodes`: the machines of a workspace as a table, and what is wrong with which."""

from __future__ import annotations

from collections.abc import Sequence

from terry.cluster.lifecycle.overview import MachineView
from terry.logs.format import Column, cells, narrowed, table

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
#: Which go first in a narrow terminal. Versions that do not fit are named below as what is wrong.
_SPARE = ("TORCH", "RAY", "PYTHON")


def machine_lines(machines: Sequence[MachineView], *, width: int | None = None) -> list[str]:
    """A line a machine; below, what is wrong and how to mend it."""
    rows = [_row(machine) for machine in machines]
    spare = _SPARE if any(machine.labels for machine in machines) else ("LABELS", *_SPARE)
    widest = max((cells(row[-1]) for row in rows), default=0)
    lines = table(*narrowed(_COLUMNS, rows, width, spare, last=max(widest, len("LABELS"))), width=width)
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
