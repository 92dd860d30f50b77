"""Reports for tests."""

from __future__ import annotations

from datetime import UTC, datetime

from terry.cluster.core.model import JobState
from terry.logs.records.curves import Curve
from terry.logs.records.results import ResultRow
from terry.logs.report.content import EnsembleFigures, Incident, Recipe, Report, Sample
from terry.logs.statistics.seeds import by_configuration, rank


def row(number: int, labels: dict[str, str], loss: float) -> ResultRow:
    return ResultRow(
        id=f"cells-{number:04d}",
        sweep="cells",
        state=JobState.COMPLETED,
        labels=labels,
        figures={"valid_loss": loss, "seconds": 61.0},
        device="quattro:0",
        attempts=1,
        restarts=0,
    )


def report(cells: tuple[str, ...] = ("gru", "lstm", "rnn"), seeds: int = 3, *, steps: int = 40) -> Report:
    """Cells by seeds; each cell a tenth worse than the one before, seeds some hundredths apart."""
    rows = [
        row(
            c * seeds + s + 1,
            {"cell": cell, "seed": str(s)},
            4.0 + c / 10 + (0.02, -0.01, 0.0, 0.01, -0.02)[(s * (c + 1)) % 5],
        )
        for c, cell in enumerate(cells)
        for s in range(seeds)
    ]
    ranked = rank(by_configuration(rows), "valid_loss")
    curves = {
        each.configuration.name: tuple(
            Curve(
                name=run.id,
                steps=tuple(range(1, steps + 1)),
                losses=tuple(run.figures["valid_loss"] + 2.0 / step for step in range(1, steps + 1)),
            )
            for run in each.configuration.runs
        )
        for each in ranked
    }
    return Report(
        title="cells",
        workspace="/lab/runs",
        made_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        version="0.2.0",
        figure="valid_loss",
        ranked=tuple(ranked),
        rows=tuple(rows),
        states={"completed": len(rows)},
        alike={"model.hidden_size": "128"},
        curves=curves,
        incidents=(Incident(run="cells-0001", lines=("attempt 1 on quattro:0: crashed: SIGSEGV",)),),
        ensembles=(EnsembleFigures(name="five", size=5, perplexity=49.0, mean_member=50.0, best_member=49.5),),
        samples=(Sample(model="five", texts=("call me ishmael.\nsome years ago",)),),
        made_of={"version of torch": ("2.13.0",)},
        recipes=(Recipe(name="cell=gru", command="terry-cluster submit a.yaml", sweep_file="name: a\nrun: {}\n"),),
    )
