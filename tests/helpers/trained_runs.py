"""A workspace with trained runs, made by real job processes, without a cluster."""

from __future__ import annotations

from pathlib import Path

from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting.submission import publish
from tests.helpers.job_processes import orders, start
from tests.helpers.sweep_files import planned, workspace

SENTENCES = [
    *("the ship sails to the white island", "a whale swims under the ship", "the old man sees a white whale"),
    *("the whale sees the island", "an old ship sails on", "the man swims to the ship", "the sea is white"),
    *("a man sails under the island", "the whale is old", "the ship is under the sea"),
]

SWEEP = """\
name: demo
datasets:
  long: {source: words.csv, column: body, unit: paragraph, vocabulary_size: 60}
  short: {source: words.csv, column: body, unit: paragraph, vocabulary_size: 15}
run:
  data: {dataset: long, batch_size: 4, bptt: 8}
  model: {hidden_size: 12, embedding_size: 8}
  optimizer: {name: adam, lr: 0.02}
  training: {epochs: 3, log_every: 10}
  resources: {cpus: 1}
sweep:
  list:
    - {training.seed: 1}
    - {training.seed: 2, model.cell: lstm}
    - {training.seed: 3, checkpoint.keep: 3}
    - {data.dataset: short}
ensembles:
  three: {members: {data.dataset: long}, minimum: 1}
"""


def write_text(folder: Path) -> None:
    """A hundred paragraphs of two sentences, no two alike: some are held out."""
    rows = [f"{one.capitalize()}. {other.capitalize()}!" for one in SENTENCES for other in SENTENCES]
    (folder / "words.csv").write_text("body\n" + "\n".join(f'"{row}"' for row in rows) + "\n")


def train(folder: Path, jobs: tuple[str, ...]) -> WorkspacePaths:
    """Submit SWEEP and carry out some of its jobs."""
    write_text(folder)
    place = workspace(folder)
    publish(place, planned(folder, SWEEP))
    found = orders(place, "demo")
    for job in jobs:
        assert start(found[job]).wait() == 0, (place.run(job).root / "attempts/0001/stderr.log").read_text()
    return place
