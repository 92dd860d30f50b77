"""The check before days are spent: can a configuration learn a few examples by heart?

Andrej Karpathy's recipe ("overfit one batch") on the real model, optimizer and trainer: what cannot do this has a wrong
gradient, a rate that is far off, or a part that is not connected.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from terry.models.config import CELLS, ModelConfig, OptimizerConfig, Schedule, TrainingConfig
from terry.models.errors import ConfigError, NotFinite
from terry.models.guards import HOPELESS, RATIO_RANGE, number
from terry.models.protocols import Hooks, StepRecord
from terry.models.trainer import Trainer

#: Learned by heart: the loss is below this share of ln(vocabulary).
LEARNED = 0.1
#: Steps before time may end an attempt whose loss falls, and one whose loss does not: a busy machine condemns nobody.
#: Unless it takes `PATIENCE_S` longer.
LEAST_STEPS, CONDEMNED_AFTER = 50, 300
EXTRA_TIME_S = 60.0
#: On its way: the loss fell at least by this share of where it began.
MOVING = 0.05
#: Worse than so many times the beginning is no accident.
DIVERGED = 1.5

_LOOK_EVERY = 10


class OverfitVerdict(StrEnum):
    """What became of the attempt."""

    learned = "learned"  #: the examples are known by heart
    slow = "slow"  #: the loss falls, but there was not time enough
    stuck = "stuck"  #: the loss does not fall, or is worse than a uniform guess to the end
    diverged = "diverged"  #: NaN or infinity, or a loss far above that of the beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class OverfitReport:
    """What `overfit` found."""

    #: what became of it
    verdict: OverfitVerdict
    #: loss before the first step, nats for a token
    first_loss: float
    #: loss at the end; None where it diverged at once
    loss: float | None
    #: steps done
    steps: int
    #: time taken
    seconds: float
    #: parameters that got no gradient, or only zeros: they would never change
    idle: tuple[str, ...]
    #: what went wrong, where it diverged or did not move
    problem: str | None = None
    #: what the guards said of the first loss
    warning: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it can learn, with all its parts."""
        return self.verdict in (OverfitVerdict.learned, OverfitVerdict.slow) and not self.idle

    def describe(self) -> str:
        """One line for a person."""
        loss, first = "-" if self.loss is None else number(self.loss), number(self.first_loss)
        text = f"{self.verdict.value}: loss {first} -> {loss} in {self.steps} steps, {self.seconds:.1f} s"
        if self.problem:
            text += f"; {self.problem}"
        if self.warning:
            text += f"; {self.warning}"
        if self.idle:
            text += f"; no gradient reaches {', '.join(self.idle)}"
        return text


@contextmanager
def _one_thread() -> Iterator[None]:
    """Examples are few: beside other programs, two threads wait for each other many times as long as they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def overfit(
    model_config: ModelConfig,
    optimizer_config: OptimizerConfig,
    *,
    vocabulary_size: int = 100,
    examples: Tensor | None = None,
    steps: int = 500,
    seconds: float = 10.0,
    device: str | torch.device = "cpu",
    seed: int = 1,
) -> OverfitReport:
    """Learn a few examples by heart, within so many steps and seconds, with the rate and clipping that are given.

    examples: token ids, int64 (rows, length), below vocabulary_size; left out: 8 rows of 12 random tokens. Dropout,
    penalties and schedules are left out: they are there to prevent what is tried here. Raises ConfigError.
    """
    batch = _Batch(_random_examples(vocabulary_size, seed) if examples is None else examples)
    hooks = _Watch(target=LEARNED * math.log(vocabulary_size), moving=1 - MOVING, seconds=seconds)
    source = _Repeated(batch, _LOOK_EVERY)
    config = TrainingConfig(epochs=-(-steps // _LOOK_EVERY), max_steps=steps, log_every=_LOOK_EVERY, seed=seed)
    with _blame(model_config.cell):
        trainer = Trainer(
            _without_dropout(model_config), _at_constant_rate(optimizer_config), config, vocabulary_size, source, None,
            device, hooks,
        )  # fmt: skip
        first, idle = _first_look(trainer, batch)
    hooks.first_loss = first
    started, problem = time.perf_counter(), None
    try:
        trainer.run()
    except NotFinite as error:
        problem = str(error)
    verdict = _verdict(first, hooks.loss, hooks.target, problem)
    return OverfitReport(
        verdict=verdict,
        first_loss=first,
        loss=hooks.loss,
        steps=trainer.progress.step,
        seconds=time.perf_counter() - started,
        idle=idle,
        problem=problem or _reason(verdict, hooks.ratios, optimizer_config.lr),
        warning=hooks.warning,
    )


@contextmanager
def _blame(cell: str) -> Iterator[None]:
    """What a user's own cell raises is said to be its own."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if cell in CELLS:
            raise
        text = f"model.cell: {cell} must be made as Class(inputs, units) and called as cell(x, state) -> state; "
        raise ConfigError(f"{text}it raised {type(error).__name__}: {error}") from error


def _reason(verdict: OverfitVerdict, ratios: Mapping[str, float], lr: float) -> str | None:
    """Why a loss that is finite does not fall, as far as the last updates tell."""
    if verdict is OverfitVerdict.diverged:
        return f"a lower rate than {lr:g} may help"
    if verdict is not OverfitVerdict.stuck or not ratios:
        return None
    largest = max(ratios, key=lambda name: ratios[name])
    moves = f"the last update of {largest} was {ratios[largest]:.1e} of its length (1e-3 is healthy)"
    low, high = RATIO_RANGE
    if ratios[largest] < low:
        return f"{moves}: nothing moves; a higher rate than {lr:g} or a larger clip_norm may help"
    return f"{moves}: it jumps; a lower rate than {lr:g} may help" if ratios[largest] > high else moves


def _verdict(first: float, loss: float | None, target: float, problem: str | None) -> OverfitVerdict:
    if problem is not None or (loss is not None and loss > DIVERGED * first):
        return OverfitVerdict.diverged
    if loss is not None and loss <= target:
        return OverfitVerdict.learned
    within_reach = min(first * (1 - MOVING), HOPELESS * target / LEARNED)
    return OverfitVerdict.slow if loss is not None and loss <= within_reach else OverfitVerdict.stuck


def _without_dropout(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(
        config,
        dropout=0.0,
        dropout_input=None,
        dropout_between=None,
        dropout_output=None,
        dropout_words=0.0,
        weight_drop=0.0,
        activation_penalty=0.0,
        slowness_penalty=0.0,
    )


def _at_constant_rate(config: OptimizerConfig) -> OptimizerConfig:
    return dataclasses.replace(config, schedule=Schedule.none, anneal=None, warmup_steps=0, minimum_lr=0.0)


def _random_examples(vocabulary_size: int, seed: int) -> Tensor:
    """Rows that begin with different tokens where there are enough of them: what follows can then be known."""
    generator = torch.Generator().manual_seed(seed)
    rows = min(8, vocabulary_size)
    examples = torch.randint(vocabulary_size, (rows, 13), generator=generator)
    examples[:, 0] = torch.randperm(vocabulary_size, generator=generator)[:rows]
    return examples


def _first_look(trainer: Trainer, batch: _Batch) -> tuple[float, tuple[str, ...]]:
    """Loss of the untrained model, and the parameters that no gradient reaches."""
    model = trainer.model
    inputs, targets = batch.inputs.to(trainer.device), batch.targets.to(trainer.device)
    total, _, _ = model.loss(inputs, targets, None, model.initial_state(len(inputs)))
    torch.autograd.backward(total)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    idle = tuple(name for name, p in trained.items() if p.grad is None or not bool(p.grad.any()))
    model.zero_grad(set_to_none=True)
    return float(total.detach()) / batch.tokens, idle


class _Watch(Hooks):
    """Ends the attempt when it has succeeded or its time is over."""

    def __init__(self, *, target: float, moving: float, seconds: float) -> None:
        self.target = target
        self.first_loss = math.inf
        self._moving = moving
        self.loss: float | None = None
        self.ratios: Mapping[str, float] = {}
        self.warning: str | None = None
        self._steps = 0
        self._until = time.monotonic() + seconds

    def on_step(self, record: StepRecord) -> None:
        self.loss, self.ratios = record.loss, record.update_ratios
        self._steps = record.step

    def warn(self, message: str) -> None:
        if self.warning is None and message.startswith("the first loss"):
            self.warning = message

    def should_stop(self) -> bool:
        if self.loss is not None and self.loss <= self.target:
            return True
        now = time.monotonic()
        # Time alone is no verdict: on a busy machine it may be over before the first steps are done.
        moves = self.loss is not None and self.loss <= self._moving * self.first_loss
        enough = self._steps >= (LEAST_STEPS if moves else CONDEMNED_AFTER)
        return now > self._until and (enough or now > self._until + EXTRA_TIME_S)


class _Batch:
    """The examples."""

    def __init__(self, examples: Tensor) -> None:
        self.inputs, self.targets = examples[:, :-1], examples[:, 1:]
        self.mask: Tensor | None = None
        self.reset = True
        self.tokens = self.targets.numel()


class _Repeated:
    """The same batch again and again."""

    def __init__(self, batch: _Batch, times: int) -> None:
        self._batch, self._times, self._next, self._epoch = batch, times, 0, 0

    def __len__(self) -> int:
        return self._times

    def epoch(self, epoch: int = 0, start: int | None = None) -> Iterator[_Batch]:
        if start is None:
            start = self._next if epoch == self._epoch else 0
        self._epoch = epoch
        for i in range(start, self._times):
            self._next = i + 1
            yield self._batch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._next = int(state["epoch"]), int(state["next"])
