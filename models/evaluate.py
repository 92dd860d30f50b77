"""Perplexity, counted exactly: every target once, the state carried as the batches say, losses summed in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from terry.models.language_model import LanguageModel, ModelState
from terry.models.protocols import BatchLike, perplexity

#: As LanguageModel.loss: inputs, targets, mask, state -> sum of losses, penalties, state afterwards.
Loss = Callable[[Tensor, Tensor, Tensor | None, ModelState], tuple[Tensor, Tensor, ModelState]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The loss of a text."""

    #: sum over targets of -log probability, nats
    total: float
    #: targets that counted
    tokens: int

    @property
    def loss(self) -> float:
        """Mean loss of a target, nats."""
        return self.total / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the mean loss: as many equally likely tokens would be as hard to guess."""
        return perplexity(self.loss)


def evaluate(
    model: LanguageModel,
    batches: Iterable[BatchLike],
    device: torch.device | str,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    loss: Loss | None = None,
) -> Evaluation | None:
    """Read `batches` once, without dropout; None where `should_stop`, asked at each batch, said so.

    loss: computes what model.loss does, another way.

    Raises ValueError where no target counts.
    """
    training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    tokens = 0
    state: ModelState | None = None
    try:
        with torch.no_grad():
            for batch in batches:
                if should_stop():
                    return None
                if batch.reset or state is None:
                    state = model.initial_state(len(batch.inputs))
                part, _, state = (loss or model.loss)(*on_device(batch, device), state)
                total += part
                tokens += batch.tokens
    finally:
        model.train(training)
    if not tokens:
        raise ValueError("there is nothing to evaluate: no target counts")
    return Evaluation(total=float(total), tokens=tokens)


def on_device(batch: BatchLike, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, targets and mask of a batch where the model is."""
    mask = None if batch.mask is None else batch.mask.to(device, non_blocking=True)
    return batch.inputs.to(device, non_blocking=True), batch.targets.to(device, non_blocking=True), mask
