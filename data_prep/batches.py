"""Batches for a trainer: contiguous streams with carried state, and padded rows of one example each.

Both give `Batch` objects with int64 tensors of shape (batch, time). Ids are kept on disk in two bytes where they fit,
so the one copy made here is the widening to int64. Both restore their position exactly, in mid-epoch too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from terry.data_prep.errors import DataError
from terry.data_prep.mixing import shuffled


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's data."""

    #: what the model reads, int64, shape (batch, time)
    inputs: torch.Tensor
    #: what it should predict, int64, shape (batch, time)
    targets: torch.Tensor
    #: True where a target counts, bool, shape (batch, time); None where all do
    mask: torch.Tensor | None
    #: whether the hidden state starts from zero here
    reset: bool
    #: targets that count
    tokens: int

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; without copies if it is there already."""
        return Batch(
            inputs=self.inputs.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            mask=None if self.mask is None else self.mask.to(device, non_blocking=True),
            reset=self.reset,
            tokens=self.tokens,
        )


class _Positioned:
    """The position in the data, and the settings that give it a meaning."""

    def __init__(self, **settings: int) -> None:
        self._settings = settings
        self._epoch = 0
        self._next = 0

    def position(self) -> dict[str, int]:
        """Epoch, and the batch that comes after the last one given out."""
        return {"epoch": self._epoch, "batch": self._next}

    def state_dict(self) -> dict[str, Any]:
        """Position and settings, for a checkpoint; plain JSON."""
        return {**self.position(), "settings": dict(self._settings)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position. Raises DataError when it was saved with other data or settings."""
        if dict(state["settings"]) != self._settings:
            raise DataError(
                f"the saved position belongs to batches made with {dict(state['settings'])}; "
                f"these are made with {self._settings}"
            )
        epoch, batch = int(state["epoch"]), int(state["batch"])
        if epoch < 0 or not 0 <= batch <= self.steps(epoch):
            raise DataError(f"there is no batch {batch} in epoch {epoch}: an epoch has {self.steps(epoch)}")
        self._epoch, self._next = epoch, batch

    def steps(self, epoch: int = 0) -> int:
        """Batches in an epoch."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.steps()

    def _start(self, epoch: int, start: int | None) -> int:
        """Where to begin epoch `epoch`: at `start`, else at the restored position, else at its beginning."""
        if start is None:
            start = self._next if epoch == self._epoch else 0
        if not 0 <= start <= self.steps(epoch):
            raise DataError(f"there is no batch {start} in epoch {epoch}: an epoch has {self.steps(epoch)}")
        self._epoch, self._next = epoch, start
        return start


class StreamBatches(_Positioned):
    """The text cut into `batch_size` parallel streams, read `bptt` tokens at a time.

    Row r is one contiguous part of `len(tokens) // batch_size` tokens; a few tokens at the end are left over. Each
    row's first token is only read, every other one is a target exactly once an epoch, and the last batch of an epoch
    may be shorter: the custom of Zaremba et al. 2014 (arXiv 1409.2329) and of PyTorch's word_language_model.
    The hidden state is carried from batch to batch and starts from zero in each epoch (`reset`).
    """

    def __init__(self, tokens: NDArray[np.integer], *, batch_size: int, bptt: int) -> None:
        if batch_size < 1 or bptt < 1:
            raise DataError(f"batch_size and bptt must be at least 1, not {batch_size} and {bptt}")
        length = len(tokens) // batch_size
        if length < 2:
            raise DataError(
                f"{len(tokens)} tokens are too few for {batch_size} streams: "
                f"batch_size can be {len(tokens) // 2} at most"
            )
        super().__init__(tokens=len(tokens), batch_size=batch_size, bptt=bptt)
        self._rows = tokens[: length * batch_size].reshape(batch_size, length)
        self._bptt = bptt

    @property
    def tokens_per_epoch(self) -> int:
        """Targets in an epoch."""
        return int(self._rows.shape[0] * (self._rows.shape[1] - 1))

    def steps(self, epoch: int = 0) -> int:  # noqa: ARG002  every epoch has as many
        """Batches in an epoch."""
        return -(-(self._rows.shape[1] - 1) // self._bptt)

    def epoch(self, epoch: int = 0, start: int | None = None) -> Iterator[Batch]:
        """Batches of one epoch from batch `start` on; left out, from the restored position."""
        for i in range(self._start(epoch, start), self.steps(epoch)):
            batch = self.batch(i)
            self._next = i + 1
            yield batch

    def batch(self, i: int) -> Batch:
        """Batch `i` of any epoch."""
        begin = i * self._bptt
        end = min(begin + self._bptt, self._rows.shape[1] - 1)
        return Batch(
            inputs=torch.from_numpy(self._rows[:, begin:end].astype(np.int64)),
            targets=torch.from_numpy(self._rows[:, begin + 1 : end + 1].astype(np.int64)),
            mask=None,
            reset=i == 0,
            tokens=(end - begin) * self._rows.shape[0],
        )


class ExampleBatches(_Positioned):
    """One example a row, examples of like length together, shorter ones padded; the order is new in every epoch.

    An example w1 … wn b, b being its boundary token, becomes inputs b w1 … wn and targets w1 … wn b. Every example is
    given once an epoch. Examples are shuffled by (seed, epoch), then sorted by length within pools of `pool` batches,
    and the batches are shuffled: rows of a batch have nearly one length, and yet batches differ from epoch to epoch.
    """

    def __init__(
        self,
        tokens: NDArray[np.integer],
        offsets: NDArray[np.int64],
        *,
        boundary: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        pool: int = 100,
    ) -> None:
        if batch_size < 1 or pool < 1:
            raise DataError(f"batch_size and pool must be at least 1, not {batch_size} and {pool}")
        if len(offsets) < 2:
            raise DataError("there are no examples to make batches of")
        super().__init__(
            tokens=len(tokens),
            examples=len(offsets) - 1,
            batch_size=batch_size,
            seed=seed,
            shuffle=int(shuffle),
            pool=pool,
        )
        self._tokens, self._offsets, self._boundary = tokens, offsets, boundary
        self._batch_size, self._seed, self._shuffle, self._pool = batch_size, seed, shuffle, pool

    @property
    def tokens_per_epoch(self) -> int:
        """Targets in an epoch."""
        return len(self._tokens)

    def steps(self, epoch: int = 0) -> int:  # noqa: ARG002  every epoch has as many
        """Batches in an epoch."""
        return -(-(len(self._offsets) - 1) // self._batch_size)

    def epoch(self, epoch: int = 0, start: int | None = None) -> Iterator[Batch]:
        """Batches of one epoch from batch `start` on; left out, from the restored position."""
        first = self._start(epoch, start)
        order, batches = self._order(epoch)
        for i in range(first, self.steps(epoch)):
            begin = int(batches[i]) * self._batch_size
            batch = self._assemble(order[begin : begin + self._batch_size])
            self._next = i + 1
            yield batch

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of the examples, and the order of the batches made of them."""
        examples, steps = len(self._offsets) - 1, self.steps(epoch)
        if not self._shuffle:
            return np.arange(examples), np.arange(steps)
        order = shuffled(examples, self._seed, 2 * epoch)
        pools = np.arange(examples) // (self._pool * self._batch_size)
        lengths = np.diff(self._offsets)[order]
        order = order[np.lexsort((lengths, pools))]
        return order, shuffled(steps, self._seed, 2 * epoch + 1)

    def _assemble(self, examples: NDArray[np.int64]) -> Batch:
        """Pad the given examples to the longest of them."""
        starts = self._offsets[examples]
        lengths = self._offsets[examples + 1] - starts
        time = np.arange(lengths.max())
        mask = time < lengths[:, None]
        places = np.minimum(starts[:, None] + time, len(self._tokens) - 1)
        targets = self._tokens[places].astype(np.int64)
        targets[~mask] = 0
        inputs = np.empty_like(targets)
        inputs[:, 0] = self._boundary
        inputs[:, 1:] = targets[:, :-1]
        inputs[~mask] = 0
        return Batch(
            inputs=torch.from_numpy(inputs),
            targets=torch.from_numpy(targets),
            mask=None if mask.all() else torch.from_numpy(mask),
            reset=True,
            tokens=int(lengths.sum()),
        )
