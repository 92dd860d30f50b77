"""One step of training: forward, backward, update. Nothing here waits for the device unless it is told to inspect."""

from __future__ import annotations

import contextlib
import inspect

import torch
from torch import Tensor

from terry.models.config import OptimizerConfig, Precision, Reduction, TrainingConfig
from terry.models.evaluate import on_device
from terry.models.guards import lengths, require_finite, require_finite_losses, update_ratios
from terry.models.kernels.native import Native
from terry.models.language_model import detached
from terry.models.optimizers import set_rate
from terry.models.protocols import BatchLike
from terry.models.state import RunState


class Stepper:
    """Takes steps, and keeps on the device what is looked at later."""

    def __init__(self, optimizing: OptimizerConfig, training: TrainingConfig, now: RunState) -> None:
        self._optimizing, self._config, self._now = optimizing, training, now
        #: the update itself, without torch's wrapping for hooks and profilers, which small models would notice
        self._update = inspect.unwrap(type(now.optimizer).step)
        #: computes instead of torch where it is set
        self.native: Native | None = None
        #: losses of steps since the last look, sums over targets, with their numbers of targets
        self.pending: list[tuple[Tensor, int]] = []
        #: length of the last gradient before clipping, where it was measured
        self.gradient_norm: Tensor | None = None
        #: length of the last measured update relative to the weights, by parameter
        self.ratios: dict[str, float] = {}
        #: look at every tensor of each step, and raise NotFinite for the first bad one
        self.inspecting = False

    def take(self, batch: BatchLike) -> None:
        """One step. Where `guards` are on, the last step of a logging interval is measured."""
        now, number = self._now, self._now.progress.step + 1
        closely = self._config.guards and number % self._config.log_every == 0
        self._backward(batch)
        if self.inspecting:
            if self.native is not None:
                for name, output in self.native.outputs(batch.inputs.shape[1], len(batch.inputs)).items():
                    require_finite("output", number, {name: output})
            require_finite_losses(number, [float(self.pending[-1][0])])
            require_finite("gradient", number, self._gradients())
        self._measure_and_clip(wanted=closely)
        before = {name: p.detach().clone() for name, p in now.trained.items()} if closely else {}
        self._move(now.rates.at(now.progress.step, now.progress.epoch))
        if now.average.active:
            now.average.update(None if self.native is None else self.native.average)
        if self.inspecting:
            require_finite("value", number, now.trained)
            require_finite("optimizer's memory", number, now.memory())
        if closely:
            self.ratios = update_ratios(before, now.trained)
        now.progress.step = number

    def _move(self, lr: float) -> None:
        """Update the weights, and let the gradients go."""
        now = self._now
        set_rate(now.optimizer, lr)
        if self.native is not None:
            self.native.move(lr)
            return
        with torch.no_grad():
            self._update(now.optimizer)
        for parameter in now.trained.values():
            parameter.grad = None

    def _backward(self, batch: BatchLike) -> None:
        """Gradients of the batch; the hidden state goes on, cut off from it (truncated BPTT)."""
        now = self._now
        inputs, targets, mask = on_device(batch, now.device)
        if batch.reset or now.hidden is None:
            now.hidden = now.model.initial_state(len(inputs))
        count = batch.tokens if self._optimizing.loss_reduction is Reduction.mean else len(inputs)
        if self.native is not None:
            number = now.progress.step + 1
            loss, now.hidden = self.native.backward(inputs, targets, mask, now.hidden, step=number, scale=1 / count)
            self.pending.append((loss, batch.tokens))
            return
        with self.precision():
            total, penalty, hidden = now.model.loss(inputs, targets, mask, now.hidden)
        now.hidden = detached(hidden)
        self.pending.append((total.detach(), batch.tokens))
        torch.autograd.backward(total / count + penalty)

    def precision(self) -> contextlib.AbstractContextManager[object]:
        """Within it, products are taken in the precision that was asked for."""
        if self._config.precision is Precision.bf16:
            return torch.autocast(self._now.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def _measure_and_clip(self, *, wanted: bool) -> None:
        """Length of the whole gradient; shortened where a limit is set (Pascanu et al. 2013)."""
        limit = self._optimizing.clip_norm
        if limit is not None and self.native is not None:
            self.gradient_norm = self.native.gradient_norm
        elif limit is not None:
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(self._now.trained.values(), limit)
        elif wanted:
            self.gradient_norm = lengths(list(self._gradients().values())).norm()

    def _gradients(self) -> dict[str, Tensor]:
        if self.native is not None:
            return self.native.gradients
        return {name: p.grad for name, p in self._now.trained.items() if p.grad is not None}
