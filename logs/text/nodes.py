"""`nodes`: the nodes of a workspace as a table, and what is wrong with which."""

from __future__ import annotations

from collections.abc import Sequence

from terry.cluster.lifecycle.overview import NodeView
from terry.logs.format import Column, cells, narrowed, printable, table

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


def node_lines(nodes: Sequence[NodeView], *, width: int | None = None) -> list[str]:
    """A line a node; below, what is wrong and how to fix it."""
    rows = [_row(node) for node in nodes]
    spare = _SPARE if any(node.labels for node in nodes) else ("LABELS", *_SPARE)
    widest = max((cells(row[-1]) for row in rows), default=0)
    lines = table(*narrowed(_COLUMNS, rows, width, spare, last=max(widest, len("LABELS"))), width=width)
    for node in nodes:
        if node.problem:
            lines += ["", f"{node.name}: {printable(node.problem)}"]
            lines += [f"  to fix it: {printable(node.fix)}"] if node.fix else []
    return lines


def _row(node: NodeView) -> list[str]:
    labels = " ".join(node.labels) or "-"
    if node.facts is None:
        return [node.name, node.condition, node.host or "-", "-", "-", "-", "-", "-", labels]
    facts = node.facts
    versions = [facts.versions.get(name, "missing") for name in ("python", "ray", "torch")]
    return [
        node.name,
        node.condition,
        facts.address,
        str(facts.cores),
        str(len(facts.gpus)),
        *versions,
        labels,
    ]
