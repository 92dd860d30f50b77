"""A whole training step by the compiled kernels beside the same by torch: one thread, CPU time, turns in one process.

python -m benchmarks.kernels [--seconds 2]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from terry.data_prep.batches import StreamBatches
from terry.models.config import Kernels, ModelConfig, Optimizer, OptimizerConfig, TrainingConfig
from terry.models.protocols import Hooks
from terry.models.trainer import Trainer

#: cell, units, vocabulary, rows, steps of a row, optimizer
SHAPES = [
    *((cell, 64, 65, 1, 50, Optimizer.sgd) for cell in ("rnn", "gru", "lstm")),
    *((cell, 64, 65, 8, 50, Optimizer.adam) for cell in ("gru", "lstm")),
    *((cell, 64, 65, 32, 50, Optimizer.adam) for cell in ("rnn", "gru", "lstm")),
    *(("gru", units, 65, 32, 50, Optimizer.adam) for units in (128, 200)),
    ("gru", 100, 8000, 1, 50, Optimizer.sgd),
    ("gru", 128, 8000, 20, 35, Optimizer.adam),
]


class Turn(Hooks):
    """Ends a trainer's run after so many steps, so that the other side has its turn."""

    def __init__(self) -> None:
        self.until, self.step = 0, 0

    def progress(self, step: int, total_steps: int, epoch: float, loss: float | None) -> None:
        """Count."""
        del total_steps, epoch, loss
        self.step = step

    def should_stop(self) -> bool:
        """Whether the turn is over."""
        return self.step >= self.until


class Side:
    """A trainer that goes on by turns."""

    def __init__(self, kernels: Kernels, shape: tuple[str, int, int, int, int, Optimizer]) -> None:
        cell, units, vocabulary, rows, bptt, optimizer = shape
        weights = 1 / np.arange(1, vocabulary + 1)
        tokens = np.random.default_rng(1).choice(vocabulary, size=100_000, p=weights / weights.sum())
        data = StreamBatches(tokens.astype(np.uint16), batch_size=rows, bptt=bptt)
        self.turn = Turn()
        self.trainer = Trainer(
            ModelConfig(cell=cell, hidden_size=units, embedding_size=units),
            OptimizerConfig(name=optimizer, lr=0.1 if optimizer is Optimizer.sgd else 1e-3),
            TrainingConfig(epochs=10**6, threads=1, kernels=kernels), vocabulary, data, None, "cpu", self.turn,
        )  # fmt: skip

    def take(self, steps: int) -> float:
        """CPU seconds of a step."""
        self.turn.until = self.turn.step + steps
        begin = time.process_time()
        self.trainer.run()
        return (time.process_time() - begin) / steps


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds of each side at each shape")
    seconds = parser.parse_args().seconds
    print(
        "| cell, units, vocabulary, rows | torch, ms a step | kernels, ms a step | times as fast |\n|---|---|---|---|"
    )
    for shape in SHAPES:
        sides = [Side(kernels, shape) for kernels in (Kernels.torch, Kernels.native)]
        steps = [max(1, round(seconds / 8 / max(side.take(3), side.take(3)))) for side in sides]
        times = [[side.take(count) for side, count in zip(sides, steps, strict=True)] for _ in range(8)]
        slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(one / other for one, other in times)
        print(f"| {', '.join(map(str, shape[:4]))} | {1e3 * slow:.3f} | {1e3 * fast:.3f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
