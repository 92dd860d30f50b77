"""All that the next step depends on, copied out of a running training so that a writer may take its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """A training's state after `step` steps. The tensors are copies that nobody writes to any more."""

    step: int
    model: Mapping[str, Tensor]  #: the weights to predict with, by name: model.safetensors
    optimizer: Mapping[str, Tensor]  #: all other tensors: moments, carried hidden state, generators' states
    state: Mapping[str, Any]  #: all that is not a tensor, as JSON: position in the data, schedule, counters, best


class TrainingStateBuffers:
    """Memory for training states that is used again and again.

    Fresh memory for each costs page faults that stop the training for several times as long as the copy. There
    are two sets, so that the one that a writer still reads is not written to: the caller must not capture a third
    training state before the first is written.
    """

    def __init__(self, *, on_device: bool = False) -> None:
        #: whether copies stay where the tensors are, which on a GPU costs next to nothing, instead of going to the CPU
        self._on_device = on_device
        self._sets: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        self._next = 0

    def capture(
        self, step: int, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> TrainingState:
        """Copy the tensors (any device) and return them with `state`."""
        buffers = self._sets[self._next]
        self._next = 1 - self._next
        return TrainingState(
            step=step,
            model={name: self._copy(buffers, "m." + name, tensor) for name, tensor in model.items()},
            optimizer={name: self._copy(buffers, "o." + name, tensor) for name, tensor in optimizer.items()},
            state=dict(state),
        )

    def _copy(self, buffers: dict[str, Tensor], key: str, tensor: Tensor) -> Tensor:
        import torch

        source = tensor.detach()
        device = source.device if self._on_device else torch.device("cpu")
        buffer = buffers.get(key)
        if buffer is None or (buffer.shape, buffer.dtype, buffer.device) != (source.shape, source.dtype, device):
            buffer = buffers[key] = torch.empty(source.shape, dtype=source.dtype, device=device)
        return buffer.copy_(source)
