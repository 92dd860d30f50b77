"""Which kernels compute a training's steps: it goes on with those that it was begun with, or says that it does not."""

from __future__ import annotations

import torch

from terry.models.config import Kernels, ModelConfig, OptimizerConfig, Precision, TrainingConfig
from terry.models.errors import ConfigError
from terry.models.kernels.library import Library, describe, find
from terry.models.kernels.native import Native
from terry.models.kernels.sequences import GATES
from terry.models.state import RunState


def choose(model: ModelConfig, training: TrainingConfig, device: torch.device) -> Library | str:
    """The compiled kernels where they can be used, else why torch's are. Raises ConfigError where they must be."""
    if training.kernels is Kernels.torch:
        return "training.kernels: torch"
    against = _against(model, training, device)
    found = against or find()
    if training.kernels is Kernels.native and isinstance(found, str):
        raise ConfigError(f"training.kernels: native cannot be: {found}; leave it out, or set it to torch")
    return found


def _against(model: ModelConfig, training: TrainingConfig, device: torch.device) -> str:
    """What of these settings only torch can do; empty if nothing is."""
    if device.type != "cpu":
        return f"the device is {device}, and they are for CPUs"
    if model.cell not in GATES:
        return f"model.cell is {model.cell}, and they know {', '.join(GATES)}"
    if training.precision is not Precision.float32:
        return f"training.precision is {training.precision.value}, and they compute in float32"
    return "training.compile is set" if training.compile else ""


class ChosenKernels:
    """The choice for one training, written into its state. Raises ConfigError where a setting cannot be met."""

    def __init__(
        self, model: ModelConfig, optimizing: OptimizerConfig, training: TrainingConfig, now: RunState
    ) -> None:
        self._optimizing, self._training, self._now = optimizing, training, now
        #: the compiled kernels' step; None where torch computes
        self.native: Native | None = None
        self._use(choose(model, training, now.device))

    def _use(self, chosen: Library | str) -> None:
        """Compute by the compiled kernels, or (chosen: why) by torch's."""
        now, self._why = self._now, ""
        if isinstance(chosen, str):
            self.native, self._why, now.kernels = None, chosen, Kernels.torch.value
            return
        seed = self._training.seed
        self.native = Native(chosen, now.model, self._optimizing, now.optimizer, now.trained, seed=seed)
        now.kernels = Kernels.native.value

    def __str__(self) -> str:
        """For a person: `native (avx2)`, or `torch` and why."""
        return f"torch ({self._why})" if self.native is None else describe()

    def go_on_with(self, saved: str | None) -> str:
        """Those that a run was begun with (None: before there was a choice); else what a person should be told."""
        before = saved or Kernels.torch.value
        if before == self._now.kernels:
            return ""
        if self._training.kernels is Kernels.auto and before == Kernels.torch.value:
            self._use("the run was begun with them")
            return ""
        step = self._now.progress.step + 1
        return f"begun with {before} kernels, going on with {self}: the last bits will differ from step {step} on"

    def restored(self) -> None:
        """The state was put back to that of a training state."""
        if self.native is not None:
            self.native.restored()
