"""`training.compile` changes nothing but the speed.

By torch's tracer without its code generator, which would take most of a minute for each case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from terry.models import torch_kernels
from terry.models.config import Kernels, ModelConfig, OptimizerConfig, Precision, TrainingConfig
from terry.models.training_state import TrainingState
from tests.helpers import toy


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was compiled, from nothing: what earlier tests compiled holds their answers about the processor."""
    torch.compiler.reset()
    found: list[object] = []
    whole: Callable[..., Any] = torch.compile

    def trace(function: object) -> object:
        found.append(function)
        return whole(function, backend="eager")

    monkeypatch.setattr(torch, "compile", trace)
    monkeypatch.setenv("CXX", "true")
    return found


def last(
    cell: str,
    *,
    compiles: bool,
    stop: int | None = None,
    start: TrainingState | None = None,
    precision: Precision = Precision.float32,
) -> TrainingState:
    """Two epochs, the last batch of each shorter than the others, and too short for ids to be projected by the row."""
    hooks = toy.Recorder(stop_after=stop)
    model = ModelConfig(cell=cell, hidden_size=6, embedding_size=5, layers=2, dropout_between=0.2)
    training = TrainingConfig(
        epochs=2, log_every=3, threads=1, compile=compiles, precision=precision, kernels=Kernels.torch
    )
    trainer = toy.trainer(model, OptimizerConfig(lr=0.01), training, hooks, data=lambda: toy.stream(0, 203, 8))
    if start is not None:
        trainer.resume(start)
    trainer.run()
    return hooks.last


@pytest.mark.filterwarnings("ignore")  # torch's tracer looks at what warns of being looked at
@pytest.mark.parametrize("cell", ["gru", "lstm", "torch.nn:GRUCell"])
def test_it_gives_the_same_bits_and_resumes_with_them(cell: str, compiled: list[object]) -> None:
    plain = last(cell, compiles=False)
    assert compiled == []
    assert toy.differences(plain, last(cell, compiles=True)) == []
    assert len(compiled) == 2  # each layer
    half = last(cell, compiles=True, stop=3)
    assert toy.differences(plain, last(cell, compiles=True, start=half)) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("has_kernel", [True, False])
def test_in_bfloat16_too_whether_or_not_torch_has_a_kernel_for_it(
    compiled: list[object], monkeypatch: pytest.MonkeyPatch, has_kernel: bool
) -> None:
    if has_kernel and not toy.has_bfloat16_lstm():
        pytest.skip("torch's LSTM knows no bfloat16 on this processor")
    monkeypatch.setattr(torch_kernels, "_works", lambda *_: has_kernel)
    monkeypatch.setattr(torch_kernels, "_tried", {})
    plain = last("lstm", compiles=False, precision=Precision.bf16)
    assert toy.differences(plain, last("lstm", compiles=True, precision=Precision.bf16)) == []
