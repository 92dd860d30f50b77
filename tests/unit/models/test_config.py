"""Settings: what is impossible is refused, naming the key; and they are structured configs for OmegaConf."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from omegaconf import OmegaConf

from terry.models.config import AnnealConfig, ModelConfig, OptimizerConfig, RollbackConfig, TrainingConfig
from terry.models.errors import ConfigError

WRONG: list[tuple[type, dict[str, Any], str]] = [
    (ModelConfig, {"hidden_size": -3}, "model.hidden_size must be at least 1, not -3"),
    (ModelConfig, {"cell": "gtu"}, "model.cell must be rnn, gru, lstm, or your own as package.module:Class, not 'gtu'"),
    (ModelConfig, {"dropout": 1.0}, "model.dropout must be from 0 to below 1, not 1.0"),
    (ModelConfig, {"dropout_words": -0.1}, "model.dropout_words must be from 0 to below 1"),
    (ModelConfig, {"last_size": 0}, "model.last_size must be at least 1"),
    (ModelConfig, {"tie_weights": True, "hidden_size": 64}, "model.tie_weights needs model.embedding_size"),
    (ModelConfig, {"tie_weights": True, "input": "onehot"}, "model.tie_weights needs model.input: embedding"),
    (ModelConfig, {"dropout_words": 0.1, "input": "onehot"}, "model.dropout_words needs model.input: embedding"),
    (ModelConfig, {"dropout_input": 0.1, "input": "onehot"}, "model.dropout_input needs model.input: embedding"),
    (ModelConfig, {"cell": "my.lab:Cell", "weight_drop": 0.5}, "model.weight_drop works with rnn, gru and lstm"),
    (OptimizerConfig, {"lr": 0}, "optimizer.lr must be more than 0, not 0"),
    (OptimizerConfig, {"lr": float("nan")}, "optimizer.lr must be more than 0, not nan"),
    (OptimizerConfig, {"betas": [0.9]}, "optimizer.betas must be two numbers"),
    (OptimizerConfig, {"clip_norm": 0}, "optimizer.clip_norm must be more than 0"),
    (OptimizerConfig, {"momentum": 0.9}, "optimizer.momentum does nothing with adam"),
    (OptimizerConfig, {"divide_by": 1}, "optimizer.divide_by must be more than 1"),
    (OptimizerConfig, {"lr": 1e-5, "anneal": {"minimum": 1e-4}}, "optimizer.anneal.minimum .* is above optimizer.lr"),
    (OptimizerConfig, {"schedule": "cosine", "anneal": {}}, "optimizer.anneal and optimizer.schedule: cosine"),
    (OptimizerConfig, {"minimum_lr": 1e-5}, "optimizer.minimum_lr does nothing without optimizer.schedule: cosine"),
    (AnnealConfig, {"factor": 1.5}, "optimizer.anneal.factor must be between 0 and 1, not 1.5"),
    (TrainingConfig, {"epochs": 0}, "training.epochs must be at least 1, not 0"),
    (TrainingConfig, {"max_steps": -1}, "training.max_steps must be at least 1"),
    (TrainingConfig, {"seed": -1}, "training.seed must be from 0"),
    (TrainingConfig, {"on_nan": "rollback", "guards": False}, "training.on_nan: rollback needs training.guards"),
    (RollbackConfig, {"maximum": 0}, "training.rollback.maximum must be at least 1"),
]


@pytest.mark.parametrize(("kind", "values", "message"), WRONG)
def test_what_is_impossible_is_refused_by_name(kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, msgspec.ValidationError), match=message):
        msgspec.convert(values, kind)


def test_the_sweep_files_short_form_is_understood() -> None:
    config = msgspec.convert({"name": "sgd", "lr": 0.05, "anneal": {"minimum": 1e-4}}, OptimizerConfig)
    assert config.annealing == AnnealConfig(minimum=1e-4)
    assert OptimizerConfig().annealing is None
    assert msgspec.convert({"schedule": "anneal"}, OptimizerConfig).annealing == AnnealConfig()


@pytest.mark.parametrize("kind", [ModelConfig, OptimizerConfig, TrainingConfig])
def test_they_are_structured_configs(kind: type) -> None:
    assert OmegaConf.to_object(OmegaConf.structured(kind)) == kind()


def test_reading_settings_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, terry.models.config; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
