"""Whether torch has a kernel for what is asked: found out by trying, on every kind of processor."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
import torch

from terry.models import torch_kernels

CPU = torch.device("cpu")
#: Without what bfloat16 needs; processors that have less anyway, or are none of Intel's or AMD's, read past it.
AS_ON_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}

_TRAIN = """
import torch
from terry.models.config import ModelConfig, OptimizerConfig, Precision, TrainingConfig
from tests.helpers import toy
hooks = toy.Recorder()
training = TrainingConfig(epochs=20, log_every=7, threads=1, precision=Precision.bf16)
toy.trainer(ModelConfig(cell="lstm", hidden_size=8), OptimizerConfig(lr=0.02), training, hooks).run()
print(toy.has_bfloat16_lstm(), hooks.records[0].loss - hooks.records[-1].loss)
"""


@pytest.fixture(autouse=True)
def _nothing_is_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_kernels, "_tried", {})


@pytest.mark.parametrize("kernel", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_without_autocast_nothing_is_tried(kernel: str) -> None:
    assert torch_kernels.runs(kernel, CPU)
    assert torch_kernels._tried == {}


@pytest.mark.parametrize("kernel", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_the_answer_is_what_happens(kernel: str) -> None:
    made = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(kernel, torch.nn.RNN)(3, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = torch_kernels.runs(kernel, CPU)
        try:
            made(torch.ones(4, 2, 3))[0].sum().backward()
        except RuntimeError:
            assert not answer
        else:
            assert answer


def test_it_is_tried_once_and_draws_no_random_number(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    real = torch_kernels._works
    monkeypatch.setattr(torch_kernels, "_works", lambda *asked: (tried.append(asked), real(*asked))[1])
    before = torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        assert torch_kernels.runs("lstm", CPU) == torch_kernels.runs("lstm", CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        torch_kernels.runs("lstm", CPU)
    assert tried == [("lstm", CPU, torch.bfloat16)]
    assert torch.equal(before, torch.get_rng_state())


def test_only_a_refusal_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is full for the moment has not refused."""

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "lstm", full)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(torch.OutOfMemoryError):
            torch_kernels.runs("lstm", CPU)
        assert torch_kernels._tried == {}


def test_where_torch_has_none_a_run_in_bfloat16_learns_by_our_own_loop() -> None:
    """In a process that may use no more of this processor than an older one has."""
    command = [sys.executable, "-W", "error", "-c", _TRAIN]
    environment = os.environ | AS_ON_AVX2
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    has_kernel, learnt = ended.stdout.split()
    assert has_kernel == "False" or not _obeys()
    assert float(learnt) > 0.1


def _obeys() -> bool:
    """Whether oneDNN here knows the settings of `AS_ON_AVX2` (it does on x86)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() in (
            "AVX2", "AVX512", "DEFAULT",
        )  # fmt: skip
