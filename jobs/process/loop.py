"""A plain PyTorch loop in and out of a checkpoint: `ctx.restore(model=..., optimizer=...)` and `ctx.save(step)`.

Modules, and whatever has `state_dict` and `load_state_dict` (optimizers, schedules, scalers, loaders that can);
generators of torch, NumPy and Python. The generators that all code shares are always part of it, so that dropout and
shuffling go on as if nothing had happened.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from terry.logs.records.values import Refused

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from terry.jobs.process.checkpoints import Checkpoint


class LoopState:
    """The parts of a loop, by the names that they are given."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        """Raises Refused, with its name, for a part whose state cannot be had."""
        self._modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
        self._others = {name: part for name, part in parts.items() if name not in self._modules}
        if not self._modules:
            raise Refused("restore: give at least one module, as model=...")
        for name, part in self._others.items():
            _state_of(part, name)

    def save(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """What `save_checkpoint` takes: model, optimizer, state."""
        model = {
            key if len(self._modules) == 1 else f"{name}.{key}": value
            for name, module in self._modules.items()
            for key, value in module.state_dict().items()
        }
        others = {name: _state_of(part, name) for name, part in self._others.items()}
        return model, others, {"generators": shared_generators()}

    def load(self, checkpoint: Checkpoint) -> None:
        """Put it back. Raises KeyError, RuntimeError where the checkpoint is of other parts."""
        for name, module in self._modules.items():
            start = "" if len(self._modules) == 1 else f"{name}."
            found = {k.removeprefix(start): v for k, v in checkpoint.model.items() if k.startswith(start)}
            module.load_state_dict(found)
        for name, part in self._others.items():
            _load(part, checkpoint.optimizer[name])
        set_shared_generators(checkpoint.state["generators"])


def _state_of(part: Any, name: str) -> Any:
    if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
        return part.state_dict()
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, random.Random):
        return part.getstate()
    if hasattr(part, "bit_generator"):  # numpy.random.Generator
        return part.bit_generator.state
    if hasattr(part, "get_state") and hasattr(part, "set_state"):  # numpy.random.RandomState
        return part.get_state()
    raise Refused(
        f"restore: {name} is a {type(part).__name__}, whose state cannot be saved: it needs `state_dict` and "
        "`load_state_dict` (a DataLoader: `Batches(loader)` has them)"
    )


def _load(part: Any, state: Any) -> None:
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    elif isinstance(part, torch.Generator):
        part.set_state(state)
    elif isinstance(part, random.Random):
        part.setstate(state)
    elif hasattr(part, "bit_generator"):
        part.bit_generator.state = state
    else:
        part.set_state(state)


def shared_generators() -> dict[str, Any]:
    """States of the generators that all code of a process shares."""
    found: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if "numpy" in sys.modules:
        import numpy as np

        found["numpy"] = np.random.get_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def set_shared_generators(states: Mapping[str, Any]) -> None:
    """Put them back."""
    torch.set_rng_state(states["torch"])
    random.setstate(states["python"])
    if "numpy" in states:
        import numpy as np

        np.random.set_state(states["numpy"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


class Batches:
    """A DataLoader whose place is kept: an iteration goes on with the batch after the last one, in the same order.

    `for batch in batches:` is the rest of the present epoch; `batches.epoch` counts those that are over. The order is
    drawn anew as it was at the epoch's begin, and what was seen is passed over.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.epoch = 0  #: epochs that are over
        self.position = 0  #: batches of the present one that were handed out
        self._loader = loader
        self._begin: dict[str, Any] | None = None  # the generators when the present epoch began

    def __iter__(self) -> Iterator[Any]:
        present = shared_generators()
        if self.position and self._begin is not None:
            self._set(self._begin)
        else:
            self._begin, self.position = self._get(), 0
        batches, skipped = iter(self._loader), self.position
        for _ in range(skipped):
            next(batches, None)
        if skipped:
            set_shared_generators(present)
        for batch in batches:
            self.position += 1
            yield batch
        self.epoch, self.position, self._begin = self.epoch + 1, 0, None

    def _get(self) -> dict[str, Any]:
        own = self._loader.generator
        return {**shared_generators(), "own": None if own is None else own.get_state()}

    def _set(self, states: Mapping[str, Any]) -> None:
        set_shared_generators(states)
        if self._loader.generator is not None and states["own"] is not None:
            self._loader.generator.set_state(states["own"])

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        own = self._loader.generator
        now = None if own is None else own.get_state()
        return {"epoch": self.epoch, "position": self.position, "begin": self._begin, "own": now}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.position, self._begin = state["epoch"], state["position"], state["begin"]
        if self._loader.generator is not None and state["own"] is not None:
            self._loader.generator.set_state(state["own"])
