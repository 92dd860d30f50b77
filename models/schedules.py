"""The learning rate as a function of what has happened so far."""

from __future__ import annotations

import math
from typing import Any

from terry.models.config import AnnealConfig, Compare, OptimizerConfig, Schedule


class Annealer:
    """Makes the rate smaller after validations that are worse; with `compare: best` as torch's ReduceLROnPlateau."""

    def __init__(self, config: AnnealConfig, lr: float) -> None:
        self._config = config
        self.lr = lr
        self._reference = math.inf
        self._bad = 0

    def see(self, loss: float) -> bool:
        """Take in a validation loss; True where the rate became smaller."""
        better = loss < self._reference
        if better or self._config.compare is Compare.previous:
            self._reference = loss
        self._bad = 0 if better else self._bad + 1
        if self._bad <= self._config.patience:
            return False
        self._bad = 0
        before = self.lr
        self.lr = max(self.lr * self._config.factor, self._config.minimum)
        return self.lr < before

    def state_dict(self) -> dict[str, Any]:
        """All that the next `see` depends on, plain JSON."""
        reference = self._reference if math.isfinite(self._reference) else None
        return {"lr": self.lr, "reference": reference, "bad": self._bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.lr, self._bad = float(state["lr"]), int(state["bad"])
        self._reference = math.inf if state["reference"] is None else float(state["reference"])


class LearningRate:
    """The rate of each step: warm-up, schedule, annealing, and what rolling back took off, multiplied."""

    def __init__(self, config: OptimizerConfig, total_steps: int) -> None:
        self._config = config
        self._total = max(total_steps, 1)
        self.annealer = None if config.annealing is None else Annealer(config.annealing, config.lr)
        #: what rolling back after NaN took off, for the rest of the run
        self.scale = 1.0

    def at(self, step: int, epoch: int) -> float:
        """The rate of step `step` (from 0) in epoch `epoch` (from 0)."""
        warmup = self._config.warmup_steps
        rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
        return self._scheduled(step, epoch) * rising * self.scale

    def share(self, step: int, epoch: int) -> float:
        """The rate as a part of the full one: what warm-up, schedule and annealing leave of it."""
        return self.at(step, epoch) / (self._config.lr * self.scale)

    def _scheduled(self, step: int, epoch: int) -> float:
        config = self._config
        if self.annealer is not None:
            return self.annealer.lr
        if config.schedule is Schedule.divide:
            return config.lr / config.divide_by ** max(0, epoch + 1 - config.divide_after)
        if config.schedule is Schedule.cosine:
            share = min(step / self._total, 1.0)
            return config.minimum_lr + (config.lr - config.minimum_lr) * (1 + math.cos(math.pi * share)) / 2
        return config.lr

    def state_dict(self) -> dict[str, Any]:
        """What the rates to come depend on, plain JSON."""
        return {"scale": self.scale, "annealer": None if self.annealer is None else self.annealer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.scale = float(state["scale"])
        if self.annealer is not None and state["annealer"] is not None:
            self.annealer.load_state_dict(state["annealer"])


class AverageTrigger:
    """When ASGD begins to average: NT-ASGD (Merity et al. 2017, algorithm 1), or a fixed epoch."""

    def __init__(self, nonmonotone: int, after: int | None) -> None:
        self._interval = nonmonotone
        self._after = after
        self.losses: list[float] = []

    def see(self, loss: float, epochs_done: int) -> bool:
        """Take in a validation loss; True where averaging is due now."""
        before = self.losses[: -self._interval] if len(self.losses) > self._interval else []
        self.losses.append(loss)
        if self._after is not None:
            return epochs_done >= self._after
        return bool(before) and loss > min(before)
