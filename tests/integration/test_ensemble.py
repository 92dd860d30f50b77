"""An ensemble from submission to texts on real Ray; and again with a member's process killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.workspace_under_fire import UnderFire, kill

_SWEEP = """
name: {name}
datasets:
  words: {{source: {source}, column: body, unit: sentence, vocabulary_size: 60}}
run:
  data: {{dataset: words, batch_size: 4, bptt: 8}}
  model: {{hidden_size: 24, embedding_size: 16}}
  optimizer: {{name: adam, lr: 0.01}}
  training: {{epochs: {epochs}, log_every: 20}}
  checkpoint: {{every: 0.2}}
  resources: {{cpus: 1}}
  retry: {{crash: 100, backoff_s: 0.05, backoff_max_s: 0.2}}
ensembles:
  pair: {{size: 2, vary: training.seed}}
"""


@pytest.fixture
def fire(tmp_path: Path) -> Iterator[UnderFire]:
    workspace = UnderFire(tmp_path)
    yield workspace
    workspace.run("down", check=False)
    assert workspace.everything() == []


def submit(fire: UnderFire, name: str, epochs: int = 8) -> None:
    path = fire.folder / f"{name}.yaml"
    source = json.dumps(str(fire.folder / "words.csv"))
    path.write_text(_SWEEP.format(name=name, source=source, epochs=epochs), encoding="utf-8")
    fire.run("submit", str(path))


def result(fire: UnderFire, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fire.workspace.run(job).result.read_bytes())
    return found


def test_a_killed_member_changes_no_digit(fire: UnderFire) -> None:
    submit(fire, "shot", epochs=20)
    member = fire.until_training("shot")[0]["id"]
    kill([p for p in fire.job_processes() if p.pid == fire.pid_of(member)])
    fire.finish("shot")
    assert len(fire.attempts(member)) > 1, "the member was hit while it trained"
    submit(fire, "calm", epochs=20)
    fire.finish("calm")
    shot, calm = result(fire, "shot-ensemble-pair"), result(fire, "calm-ensemble-pair")
    assert shot["took_part"] == 2
    assert shot["perplexity"] == calm["perplexity"]
    assert [one["loss"] for one in shot["first"]] == [one["loss"] for one in calm["first"]]
    here = fire.json("evaluate", "calm-ensemble-pair", "--device", "cpu")
    assert here["perplexity"] == pytest.approx(calm["perplexity"], rel=1e-9)
    job = fire.json("sample", "calm", "--count", "3", "--job")["job"]
    fire.finish(job)
    here = fire.json("sample", "calm", "--count", "3", "--device", "cpu")
    file = fire.workspace.root / result(fire, job)["file"]
    there = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert [one["text"] for one in here["samples"]] == [json.loads(line)["text"] for line in there]
