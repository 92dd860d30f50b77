"""A trained model, opened where there is no Terry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from terry.cluster.errors import UserError
from terry.jobs.process.checkpoints import load_model
from terry.jobs.trained.members import TrainedRun, open_run
from terry.jobs.trained.model_folder import write_model_folder
from terry.models.language_model import LanguageModel
from terry.models.state import load_weights
from tests.helpers.trained_runs import train

pytestmark = pytest.mark.timeout(600)

FIGURES = {"best_loss": 2.5, "reason": "completed"}

#: Runs the loader where `terry` cannot be imported; prints log-probabilities as JSON.
_ELSEWHERE = """
import json, sys
sys.modules["terry"] = None
sys.path.insert(0, sys.argv[1])
from load_model import Model
print(json.dumps(Model().log_probabilities(json.loads(sys.argv[2])).tolist()))
"""


def expected(run: TrainedRun, ids: list[int]) -> torch.Tensor:
    model = LanguageModel(run.config.model, run.vocabulary_size)
    load_weights(model, load_model(run.chosen))
    with torch.no_grad():
        hidden, _ = model.eval()(torch.tensor([ids]), model.initial_state(1))
        return torch.log_softmax(model.logits(hidden[0]), dim=-1)


def test_it_gives_the_same_probabilities_without_terry(tmp_path: Path) -> None:
    place = train(tmp_path, ("demo-prepare-long", "demo-0001", "demo-0002"))
    ids = [1, 4, 5, 6, 7, 0, 5]
    for job in ("demo-0001", "demo-0002"):  # a GRU, an LSTM
        run = open_run(place, job)
        assert run is not None
        target = tmp_path / f"{job}-model"
        assert write_model_folder(run, target, FIGURES, boundary=1)
        assert not write_model_folder(run, target, FIGURES, boundary=1)
        said = subprocess.run(
            [sys.executable, "-I", "-c", _ELSEWHERE, str(target), json.dumps(ids)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found = torch.tensor(json.loads(said.stdout))
        torch.testing.assert_close(found, expected(run, ids), rtol=1e-5, atol=1e-5)
        assert "| best_loss | 2.5 |" in (target / "README.md").read_text()
    assert json.loads((target / "config.json").read_text())["cell"] == "lstm"
    (target / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds something else"):
        write_model_folder(run, target, FIGURES, boundary=1)
    assert not list(tmp_path.glob(".*.tmp"))
