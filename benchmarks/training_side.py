"""One side of the comparison, in a process of its own: trains as many steps as it is told, says how long they took.

    python -m benchmarks.training_side KIND CELL VOCABULARY UNITS THREADS DEVICE

Reads numbers of steps from stdin, one a line; answers each with the seconds they took: of one thread its own CPU time,
which busy neighbours take next to nothing of, else the wall clock's.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.training_plain import PlainLoop, ReadmeLoop
from terry.data_prep.batches import StreamBatches
from terry.jobs.process.checkpoints import CheckpointStore
from terry.models.config import ModelConfig, Optimizer, OptimizerConfig, TrainingConfig
from terry.models.protocols import Hooks
from terry.models.trainer import Trainer
from terry.models.training_state import TrainingState

#: vocabulary: (rows of a batch, tokens of a row)
SHAPES = {65: (32, 50), 8000: (20, 35)}
#: Work between two checkpoints of `saving`, seconds.
SAVE_EVERY_S = 1.0


def tokens(vocabulary: int) -> Tensor:
    """Tokens as frequent as words are: the k-th most frequent one has a share of about 1/k."""
    generator = torch.Generator().manual_seed(1)
    weights = 1 / torch.arange(1, vocabulary + 1, dtype=torch.float64)
    return torch.multinomial(weights, 100_000, replacement=True, generator=generator)


def clock(threads: int, device: str) -> Callable[[], float]:
    """What time is measured by."""
    if device != "cpu":
        return _after_the_gpu
    return time.process_time if threads == 1 else time.perf_counter


def _after_the_gpu() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


class Orders:
    """Numbers of steps from stdin, answers to stdout."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._began = now, 0.0

    def next(self) -> int:
        """The next number; 0 at the end."""
        line = sys.stdin.readline()
        self._began = self._now()
        return int(line or 0)

    def done(self) -> None:
        """Answer."""
        print(self._now() - self._began, flush=True)


class Told(Hooks):
    """Our trainer's hooks: wait for orders between steps."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._left = orders.next()

    def progress(self, step: int, total_steps: int, epoch: float, loss: float | None) -> None:  # noqa: ARG002
        self._left -= 1
        if not self._left:
            self._orders.done()
            self._left = self._orders.next()

    def should_stop(self) -> bool:
        return not self._left


class Saving(Told):
    """With a checkpoint every second of work, written in the background."""

    def __init__(self, orders: Orders, folder: Path) -> None:
        super().__init__(orders)
        self.store = CheckpointStore(folder, attempt=1)
        self._last = time.process_time()

    def checkpoint_due(self) -> bool:
        return time.process_time() - self._last > SAVE_EVERY_S

    def save(self, training_state: TrainingState, *, best: bool) -> None:
        self.store.save_async(training_state, best=best)
        self._last = time.process_time()


def ours(kind: str, cell: str, vocabulary: int, size: int, threads: int, device: str, orders: Orders) -> None:
    """Our trainer; set up as word_language_model where `kind` is readme."""
    readme = kind == "ours-readme"
    model = ModelConfig(
        cell=cell, hidden_size=size, embedding_size=size, layers=2 if readme else 1, dropout=0.2 if readme else 0.0
    )
    sgd = OptimizerConfig(name=Optimizer.sgd, lr=0.2, clip_norm=0.25)
    training = TrainingConfig(epochs=10**6, threads=threads, guards=kind != "ours-unguarded")
    rows, bptt = SHAPES[vocabulary]
    data = StreamBatches(tokens(vocabulary).numpy().astype("uint16"), batch_size=rows, bptt=bptt)
    with tempfile.TemporaryDirectory() as folder:
        hooks = Saving(orders, Path(folder)) if kind == "ours-saving" else Told(orders)
        Trainer(
            model, sgd if readme else OptimizerConfig(lr=1e-3), training, vocabulary, data, None, device, hooks
        ).run()
        if isinstance(hooks, Saving):
            hooks.store.flush()


def plain(kind: str, cell: str, vocabulary: int, size: int, device: str, orders: Orders) -> None:
    """PyTorch by itself."""
    loop = (ReadmeLoop if kind == "readme" else PlainLoop)(
        cell, vocabulary, size, tokens(vocabulary), *SHAPES[vocabulary], device
    )
    while count := orders.next():
        loop.steps(count)
        orders.done()


def main() -> None:
    """Train to order."""
    kind, cell, vocabulary, size, threads, device = sys.argv[1:]
    torch.set_num_threads(int(threads))
    orders = Orders(time.perf_counter if kind == "ours-wall" else clock(int(threads), device))
    if kind.startswith("ours"):
        ours(kind, cell, int(vocabulary), int(size), int(threads), device, orders)
    else:
        plain(kind, cell, int(vocabulary), int(size), device, orders)


if __name__ == "__main__":
    main()
