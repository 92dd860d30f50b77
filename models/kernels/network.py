"""Forward and backward pass of a language model, as one list of compiled operations for each shape of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from terry.models.kernels.library import Library
from terry.models.kernels.memory import Memory
from terry.models.kernels.operations import Operations, padded
from terry.models.kernels.passes import Pass
from terry.models.kernels.sequences import SoftmaxWork
from terry.models.language_model import LanguageModel, ModelState

#: Lists that are kept: batches of sentences come in many shapes.
SHAPES = 64


class Network(Memory):
    """Computes what LanguageModel.loss and its gradient are, by the kernels."""

    def __init__(self, model: LanguageModel, library: Library, *, seed: int) -> None:
        super().__init__(model, library, seed=seed)
        self._lists: dict[tuple[int, int, bool], tuple[Operations, int]] = {}
        self._states: dict[tuple[int, bool], tuple[ModelState, int]] = {}
        self._plain, self._plain_clock = self.numbers.numpy(), self.clock.numpy()
        self._threads = 0
        self._with_threads(torch.get_num_threads())
        self._finish: Callable[[Operations], None] = lambda _: None
        self._whole = 0

    def then(self, finish: Callable[[Operations], None]) -> None:
        """Put more operations behind those of each backward pass."""
        self._finish = finish
        self._lists.clear()

    # a batch

    def loss(
        self, inputs: Tensor, targets: Tensor, mask: Tensor | None, state: ModelState, *, backward: bool = False,
        step: int = 0, scale: float = 1.0,
    ) -> tuple[Tensor, ModelState]:  # fmt: skip
        """(sum of the targets' losses in nats; state afterwards); `backward`: and `gradients`, times scale.

        inputs, targets (batch, time) int64; mask (batch, time), True where a target counts. `backward` means training,
        with dropout, whose masks depend on the seed and `step`. The state is memory that the next call writes to, if it
        is not given to it. Raises IndexError for a token outside of the vocabulary.
        """
        batch, time = inputs.shape
        self._with_threads(torch.get_num_threads())
        operations = self._list(time, batch, backward)
        self._put_batch(inputs, targets, mask)
        carried = self._state(batch, backward)
        for i, (parts, places) in enumerate(zip(state, carried, strict=True)):
            for k, (part, place) in enumerate(zip(parts, places, strict=True)):
                if part.data_ptr() != place.data_ptr():
                    self.carried(i, k, batch, training=backward).zero_()  # NaN may be in its padding, too
                    place.copy_(part)
        self._plain_clock[1] = step
        self._plain[1] = scale
        operations.run(self._threads)
        return self.numbers[0].float(), carried

    def _with_threads(self, threads: int) -> None:
        """Their number changes no bit, only the memory that they need."""
        if threads > self._threads:
            self.work = SoftmaxWork(self.model.vocabulary_size, self.model.config.output_size, threads)
            self._lists.clear()
        self._threads = threads

    def _list(self, time: int, batch: int, backward: bool) -> Operations:  # noqa: FBT001
        key = (time, batch, backward)
        found = self._lists.pop(key, None)
        if found is None or found[1] != self._arrays.grown:
            for _ in range(2):  # the second time, where memory moved while it was made
                before = self._arrays.grown
                made = Pass(self, time, batch, backward=backward).operations
                if backward:
                    self._finish(made)
                found = (made, self._arrays.grown)
                if before == self._arrays.grown:
                    break
        assert found is not None
        self._lists[key] = found
        if len(self._lists) > SHAPES:
            del self._lists[next(iter(self._lists))]
        return found[0]

    def _put_batch(self, inputs: Tensor, targets: Tensor, mask: Tensor | None) -> None:
        batch, time = inputs.shape
        rows = batch * time
        self.ids("inputs", rows)[:rows].view(time, batch).copy_(inputs.t())
        if mask is not None:
            targets = targets.masked_fill(~mask, 0)  # what does not count may be anything
        self.ids("targets", rows)[:rows].view(time, batch).copy_(targets.t())
        kept, count = self.ids("kept", rows), self.ids("count", 1)
        if mask is not None:
            which = mask.t().reshape(-1).nonzero().squeeze(1)
            kept[: len(which)] = which
            count[0] = len(which)
            self._whole = 0
        elif self._whole != rows:
            torch.arange(rows, out=kept[:rows])
            count[0] = self._whole = rows

    # the carried state

    def _state(self, batch: int, training: bool) -> ModelState:  # noqa: FBT001
        """The carried state, as a view of its memory."""
        found = self._states.get((batch, training))
        if found is None or found[1] != self._arrays.grown:
            self._states.clear()
            made = tuple(
                tuple(
                    self.carried(i, part, batch, training=training).view(batch, padded(layer.units))[:, : layer.units]
                    for part in range(2 if layer.cell == "lstm" else 1)
                )
                for i, layer in enumerate(self.layers)
            )
            found = self._states[batch, training] = made, self._arrays.grown
        return found[0]

    def outputs(self, time: int, batch: int) -> dict[str, Tensor]:
        """Each layer's outputs of the last batch, (time, batch, units): a look at them, no copy."""
        found = {}
        for i, layer in enumerate(self.layers):
            wide = padded(layer.units)
            states = self.floats(f"states.{i}", 0)[batch * wide : (time + 1) * batch * wide]
            found[layer.name] = states.view(time, batch, wide)[..., : layer.units]
        return found
