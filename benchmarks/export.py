"""How long exporting many runs into MLflow (sqlite) takes, and whether MLflow's own reader then shows what went in.

    python -m benchmarks.export [--runs 1000]

Runs have the settings of a real one (66), 100 measurements of the training loss and 20 validations of two figures. The
second export, which finds all of it there, is measured as well. CPU time is what counts on a shared machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import msgspec

from terry.cluster.config.typed import flatten
from terry.jobs.sweeps.spec import RunConfig
from terry.logs.trackers.content import Exported, TrackedRun, export
from terry.logs.trackers.mlflow import Mlflow


def made_up(number: int) -> TrackedRun:
    """A run of ordinary size."""
    settings = {key: value for key, value in flatten(msgspec.to_builtins(RunConfig())).items() if value is not None}
    rows = [{"step": s, "time": 1000.0 + s, "loss": 5.0 - s / 500, "lr": 0.1, "tokens_per_s": 1e4} for s in range(100)]
    rows += [{"step": s, "time": 1000.0 + s, "valid_loss": 5.0 - s / 900} for s in range(100, 2100, 100)]
    return TrackedRun(
        key=f"{number:020x}",
        name=f"cells-{number:04d}",
        sweep="cells",
        state="completed",
        settings={**settings, "training.seed": number},
        tags={"device": "node:0", "restarts": "0", "version of torch": "2.13.0"},
        figures={"best_loss": 4.0 + number / 1000, "perplexity": 60.0, "steps": 2000, "seconds": 10.5},
        curve=tuple(rows),
        began=1000.0,
        ended=3000.0,
    )


def timed(store: Mlflow, runs: list[TrackedRun]) -> tuple[Exported, float, float]:
    """What came of it, seconds by the clock and of CPU."""
    done, wall, cpu = Exported(), time.perf_counter(), time.process_time()
    for run in runs:
        export(run, store, done)
    return done, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = [made_up(number) for number in range(parser.parse_args().runs)]
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{Path(folder) / 'm.db'}"
        store = Mlflow(uri)
        first, wall, cpu = timed(store, runs)
        again, wall_2, cpu_2 = timed(Mlflow(uri), runs)
        print(
            f"{len(first.new):,} runs: {wall:.1f} s by the clock, {cpu:.1f} s of CPU "
            f"({cpu / len(runs) * 1e3:.1f} ms each)"
        )
        print(f"again: {len(again.unchanged):,} there already, {wall_2:.1f} s by the clock, {cpu_2:.1f} s of CPU")
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("cells")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], max_results=50_000)
        shown = {run.info.run_name: run.data.metrics["final/best_loss"] for run in found}
        assert shown == {run.name: run.figures["best_loss"] for run in runs}
        print(f"MLflow's reader shows the {len(shown):,} figures that went in")


if __name__ == "__main__":
    main()
