"""Every generator comes back; seeds decide everything."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.models.config import ModelConfig, TrainingConfig
from terry.models.determinism import generator_tensors, load_generators, seed_everything
from tests.helpers import toy

CPU = torch.device("cpu")


def draws() -> list[float]:
    """Something from each generator; normal numbers too, of which two are made at once and one is kept."""
    return [
        *torch.rand(3).tolist(),
        *torch.randn(3).tolist(),
        *np.random.rand(3).tolist(),
        float(np.random.randn()),
        random.random(),
        random.gauss(0, 1),
    ]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), before=st.integers(0, 3))
def test_generators_go_on_from_where_they_were(seed: int, before: int) -> None:
    seed_everything(seed)
    for _ in range(before):
        draws()
    saved = {name: tensor.clone() for name, tensor in generator_tensors(CPU).items()}
    expected = draws()
    assert draws() != expected
    load_generators(saved, CPU)
    assert draws() == expected


def test_the_seed_decides_weights_and_dropout() -> None:
    def run(seed: int) -> list[float]:
        hooks = toy.Recorder()
        model = ModelConfig(hidden_size=6, embedding_size=5, dropout=0.3)
        toy.trainer(model, training=TrainingConfig(epochs=2, log_every=1, seed=seed, threads=1), hooks=hooks).run()
        return [record.loss for record in hooks.records]

    torch.rand(5)
    first = run(1)
    assert run(1) == first
    assert run(2) != first


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_that_was_asked_for_is_used(threads: int) -> None:
    before = torch.get_num_threads()
    try:
        toy.trainer(training=TrainingConfig(threads=threads))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
