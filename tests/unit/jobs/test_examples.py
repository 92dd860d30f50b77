"""The examples are what people start from: they must work as they stand."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import pytest
import torch
import yaml

from terry.jobs.process.checkpoints import checkpoints, read_manifest
from terry.jobs.submitting.submission import SubmitOptions, prepare_submission, publish
from tests.helpers.job_processes import orders, start
from tests.helpers.sweep_files import NOW, workspace

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_can_be_submitted(tmp_path: Path, path: Path) -> None:
    planned = prepare_submission(workspace(tmp_path), path, [], SubmitOptions(), NOW, "ahab")
    assert planned.new > 0
    assert planned.notices == []


@pytest.mark.parametrize("path", sorted((EXAMPLES / "papers").glob("*.yaml")), ids=lambda path: path.name)
def test_every_paper_can_be_submitted_once_its_text_is_there(tmp_path: Path, path: Path) -> None:
    file = tmp_path / path.name
    file.write_text(path.read_text())
    for dataset in yaml.safe_load(path.read_text())["datasets"].values():
        for key in ("source", "valid_source", "test_source"):
            if key in dataset:
                text = tmp_path / dataset[key]
                text.parent.mkdir(exist_ok=True)
                text.write_text("body\nsome words\n")
    planned = prepare_submission(workspace(tmp_path), file, [], SubmitOptions(), NOW, "ahab")
    assert planned.new > 0
    assert planned.notices == []


def test_the_demo_has_three_cells_and_two_optimizers_on_cpu_cores(tmp_path: Path) -> None:
    planned = prepare_submission(workspace(tmp_path), EXAMPLES / "demo.yaml", [], SubmitOptions(), NOW, "ahab")
    runs = [job for job in planned.jobs if job.kind == "train"]
    assert len({job.labels["cell"] for job in runs}) == 3
    assert len(runs) >= 6
    assert {job.resources.cpus for job in runs} == {1.0}


def test_the_text_is_whole() -> None:
    path = EXAMPLES / "data" / "moby-dick.csv"
    assert path.stat().st_size < 1_500_000
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 136
    assert rows[0]["body"].startswith("Call me Ishmael.")
    assert all(len(row["body"]) > 200 for row in rows)


def test_own_training_goes_on_where_it_was(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for name in ("alone", "hurt"):
        folder = tmp_path / name
        folder.mkdir()
        text = yaml.safe_load((EXAMPLES / "own_training.yaml").read_text())
        text["run"] |= {"checkpoint": {"every": 0.05}, "parameters": {**text["run"]["parameters"], "steps": 3000}}
        (folder / "own_training.yaml").write_text(yaml.safe_dump(text))
        (folder / "own_training.py").write_text((EXAMPLES / "own_training.py").read_text())
        place = workspace(folder)
        publish(place, prepare_submission(place, folder / "own_training.yaml", [], SubmitOptions(), NOW, "ahab"))
    alone = start(orders(workspace(tmp_path / "alone"), "own-training")["own-training-0002"])
    assert alone.wait() == 0, (alone.folder / "stderr.log").read_text()
    order = orders(workspace(tmp_path / "hurt"), "own-training")["own-training-0002"]
    for number, (step, kill) in enumerate([(500, signal.SIGKILL), (1200, signal.SIGTERM), (2000, signal.SIGSEGV)], 1):
        attempt = start(order, number)
        attempt.kill_at(step, kill)
        attempt.wait()
    last = start(order, 4)
    assert last.wait() == 0, (last.folder / "stderr.log").read_text()
    results = [json.loads(attempt.run.result.read_bytes()) for attempt in (alone, last)]
    assert results[0]["slope"] == results[1]["slope"] == pytest.approx(3, abs=0.1)
    newest = [checkpoints(attempt.run.checkpoints)[-1] for attempt in (alone, last)]
    hashes = [read_manifest(path).files["model.safetensors"].sha256 for path in newest]
    assert hashes[0] == hashes[1]
