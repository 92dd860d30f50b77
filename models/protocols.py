"""What the trainer needs from outside: batches, and somebody to tell. And what it tells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from torch import Tensor

from terry.models.training_state import TrainingState


class BatchLike(Protocol):
    """One step's data."""

    @property
    def inputs(self) -> Tensor:
        """What the model reads: int64, (batch, time)."""

    @property
    def targets(self) -> Tensor:
        """What it should predict: int64, (batch, time)."""

    @property
    def mask(self) -> Tensor | None:
        """True where a target counts: bool, (batch, time); None where all do."""

    @property
    def reset(self) -> bool:
        """Whether the hidden state starts from zero here."""

    @property
    def tokens(self) -> int:
        """Targets that count."""


class BatchSource(Protocol):
    """Batches in an order that depends on nothing but the epoch's number, with a position that can be saved."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int = 0, start: int | None = None) -> Iterator[BatchLike]:
        """Batches of an epoch from batch `start` on; left out: from the loaded position, else from its beginning."""

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch given out, plain JSON."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position. Raises ValueError where it was saved with other data."""


class Reason(StrEnum):
    """Why training ended."""

    completed = "completed"  #: all epochs, or max_steps
    early_stopped = "early_stopped"  #: `patience` validations without a new best
    pruned = "pruned"  #: `Hooks.prune` said so: others do better
    stopped = "stopped"  #: `Hooks.should_stop` said so; it can go on later


def perplexity(loss: float) -> float:
    """exp(loss), infinity where that is too large for a float."""
    return math.exp(loss) if loss < 700 else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What happened since the record before."""

    #: steps done
    step: int
    #: epochs done, with the fraction of the current one
    epoch: float
    #: mean loss of a token, nats
    loss: float
    #: learning rate of the last step
    lr: float
    #: length of the last step's gradient before clipping; None where guards are off and nothing is clipped
    gradient_norm: float | None
    #: targets per second, everything counted in
    tokens_per_s: float
    #: share of the device's time that was used, 0 to 1; None where it cannot be known
    utilisation: float | None = None
    #: length of the last step's change relative to the weights, by parameter
    update_ratios: dict[str, float] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """All numbers under the names by which they are logged."""
        named = {
            "loss": self.loss,
            "perplexity": perplexity(self.loss),
            "epoch": self.epoch,
            "lr": self.lr,
            "tokens_per_s": self.tokens_per_s,
        }
        if self.gradient_norm is not None:
            named["gradient_norm"] = self.gradient_norm
        if self.utilisation is not None:
            named["utilisation"] = self.utilisation
        return named | {f"update_ratio/{name}": ratio for name, ratio in self.update_ratios.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidRecord:
    """One validation."""

    #: steps done
    step: int
    #: epochs done, with the fraction of the current one
    epoch: float
    #: mean loss of a token of the validation data, nats
    loss: float
    #: the lowest so far, this one counted in
    best: float
    #: whether this one is
    is_best: bool

    def values(self) -> dict[str, float]:
        """All numbers under the names by which they are logged."""
        return {"valid_loss": self.loss, "valid_perplexity": perplexity(self.loss), "epoch": self.epoch}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    #: why it ended
    reason: Reason
    #: steps done
    step: int
    #: epochs done, the last one perhaps in part
    epoch: float
    #: mean loss of a token in the last record or epoch, nats; None where there was none
    train_loss: float | None
    #: the last validation; None where there was none
    valid_loss: float | None
    #: the lowest validation (without validation data: of the training data in an epoch)
    best_loss: float | None
    #: steps done at that moment
    best_step: int | None
    #: times it went back after NaN
    rollbacks: int


class Hooks:
    """Who is told, and who decides. This one listens to nothing; derive from it. All are called in the training thread.

    `save` must be done with the training state, or with its copy of it, before the second `save` after it.
    """

    def on_step(self, record: StepRecord) -> None:
        """Every `log_every` steps."""

    def on_valid(self, record: ValidRecord) -> None:
        """After each validation."""

    def progress(self, step: int, total_steps: int, epoch: float, loss: float | None) -> None:
        """After each step; `loss` is the last one known."""

    def checkpoint_due(self) -> bool:
        """Whether a checkpoint should be saved now. Asked after each step, so it must be cheap."""
        return False

    def save(self, training_state: TrainingState, *, best: bool) -> None:
        """Keep a training state. Errors raised here end the training."""

    def should_stop(self) -> bool:
        """Whether to save and leave now. Asked after each step."""
        return False

    def prune(self, step: int, epoch: float, best_loss: float) -> bool:  # noqa: ARG002
        """Whether training is over for good, by what is known of other trainings.

        Asked after each validation but the last, and again where training is resumed at one: the answer must then be
        the same. epoch: as in records; best_loss: the lowest validation so far, nats.
        """
        return False

    def warn(self, message: str) -> None:
        """Something that a person should know."""
