"""Small data and hooks that remember, for tests of the training core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from terry.data_prep.batches import ExampleBatches, StreamBatches
from terry.models import torch_kernels
from terry.models.config import ModelConfig, OptimizerConfig, TrainingConfig
from terry.models.protocols import BatchSource, Hooks, StepRecord, ValidRecord
from terry.models.trainer import Trainer
from terry.models.training_state import TrainingState

VOCABULARY = 11


def stream(seed: int = 0, tokens: int = 203, batch_size: int = 4, bptt: int = 7) -> StreamBatches:
    """Random tokens in parallel streams; the last batch of an epoch is shorter than the others."""
    numbers = np.random.default_rng(seed).integers(0, VOCABULARY, tokens)
    return StreamBatches(numbers.astype(np.uint16), batch_size=batch_size, bptt=bptt)


def examples(seed: int = 0, count: int = 30, batch_size: int = 4) -> ExampleBatches:
    """Sentences of 1 to 9 tokens, padded."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 10, count)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    tokens = generator.integers(1, VOCABULARY, int(lengths.sum())).astype(np.uint16)
    return ExampleBatches(tokens, offsets, boundary=1, batch_size=batch_size, seed=seed)


def copied(snapshot: TrainingState) -> TrainingState:
    """In memory of its own and in the order of names, as if it had been to the disk."""
    return TrainingState(
        step=snapshot.step,
        model={name: tensor.clone() for name, tensor in sorted(snapshot.model.items())},
        optimizer={name: tensor.clone() for name, tensor in sorted(snapshot.optimizer.items())},
        state=dict(snapshot.state),
    )


class Recorder(Hooks):
    """Remembers all; stops after `stop_after` steps; wants a snapshot at each step of `save_at` or later."""

    def __init__(self, *, stop_after: int | None = None, save_at: tuple[int, ...] = ()) -> None:
        self.records: list[StepRecord] = []
        self.validations: list[ValidRecord] = []
        self.saved: list[tuple[TrainingState, bool]] = []
        self.warnings: list[str] = []
        self.step = 0
        self._stop_after, self._save_at = stop_after, save_at

    def on_step(self, record: StepRecord) -> None:
        self.records.append(record)

    def on_valid(self, record: ValidRecord) -> None:
        self.validations.append(record)

    def progress(self, step: int, total_steps: int, epoch: float, loss: float | None) -> None:
        self.step = step

    def checkpoint_due(self) -> bool:
        return any(due <= self.step for due in self._save_at)

    def save(self, snapshot: TrainingState, *, best: bool) -> None:
        self.saved.append((copied(snapshot), best))
        self._save_at = tuple(due for due in self._save_at if due > snapshot.step)

    def should_stop(self) -> bool:
        return self._stop_after is not None and self.step >= self._stop_after

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @property
    def last(self) -> TrainingState:
        """The snapshot saved last."""
        return self.saved[-1][0]


def trainer(
    model: ModelConfig | None = None,
    optimizer: OptimizerConfig | None = None,
    training: TrainingConfig | None = None,
    hooks: Hooks | None = None,
    *,
    data: Callable[[], BatchSource] = stream,
    valid: Callable[[], BatchSource] | None = lambda: stream(1, 150),
    device: str = "cpu",
) -> Trainer:
    """A small trainer."""
    return Trainer(
        model or ModelConfig(hidden_size=6, embedding_size=5),
        optimizer or OptimizerConfig(lr=0.01),
        training or TrainingConfig(epochs=2, log_every=5),
        VOCABULARY,
        data(),
        None if valid is None else valid(),
        device,
        hooks or Hooks(),
    )


def has_bfloat16_lstm() -> bool:
    """Whether torch's own LSTM knows bfloat16 on this processor: not on every one."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return torch_kernels.runs("lstm", torch.device("cpu"))


def differences(one: TrainingState, other: TrainingState) -> list[str]:
    """What is not bitwise the same."""
    found = []
    for kind in ("model", "optimizer"):
        a, b = getattr(one, kind), getattr(other, kind)
        found += [f"{kind}: {name}" for name in a.keys() ^ b.keys()]
        found += [f"{kind}: {name}" for name in a.keys() & b.keys() if not _same_bits(a[name], b[name])]
    return found + [key for key in one.state.keys() | other.state.keys() if one.state.get(key) != other.state.get(key)]


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_raw(one), _raw(other))


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    """Its bytes; NumPy would not know bfloat16."""
    return tensor.reshape(-1).contiguous().view(torch.uint8)
