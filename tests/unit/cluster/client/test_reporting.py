"""The sweep file that a report gives for each row."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from terry.cluster.client.reporting import recipe
from terry.cluster.core.model import JobState
from terry.jobs.sweeps import sweep
from terry.jobs.sweeps.labels import labels
from terry.logs.records.results import ResultRow
from terry.logs.statistics.seeds import by_configuration
from tests.helpers.sweep_files import BASE, sweep_file

OWN = "name: demo\nrun: {command: [python, train.py], parameters: {lr: 0.1}}\n"


@pytest.mark.parametrize(
    "text",
    [
        BASE + "seeds: 3\n",
        BASE + "seeds: 2\nsweep: {grid: {model.cell: [lstm]}, halving: {after: 2}}\n",
        BASE + "sweep: {grid: {training.seed: [4, 9], optimizer: [{name: sgd, lr: 0.5}]}}\n",
        BASE + "  training: {seed: 7, epochs: 3}\n",
        OWN + "seeds: 2\n",
    ],
)
def test_it_makes_the_same_runs_again_and_says_no_defaults(tmp_path: Path, text: str) -> None:
    expanded = sweep.load(sweep_file(tmp_path, text))
    varied = [key for run in expanded.runs for key in run.varied]
    named = labels([run.config for run in expanded.runs], varied, expanded.seed_key)
    rows = [
        ResultRow(
            id=f"demo-{i}", sweep="demo", state=JobState.COMPLETED, labels=label, figures={}, device=None,
            attempts=1, restarts=0,
        )
        for i, label in enumerate(named)
    ]  # fmt: skip
    (configuration,) = by_configuration(rows)
    data = {"comments": {"source": "comments.csv", "column": "body", "unit": "sentence"}}
    document = recipe("again", configuration, expanded.runs[0].config, data if "comments" in text else {})
    again = sweep.load(sweep_file(tmp_path, yaml.safe_dump(document), "again.yaml"))
    assert [run.identity for run in again.runs] == [run.identity for run in expanded.runs]
    assert "betas" not in str(document), "a default"
