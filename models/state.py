"""Everything that the next training step depends on, in one place: captured, and put back.

Names in it: `model` holds the weights to predict with, by parameter name. `optimizer` holds all other tensors:
memory/<parameter>/<what> (the optimizer's), hidden/<layer>/<part> (carried), generator/<which>, raw/<parameter> (the
weights that training goes on with, where `model` holds their average), and good/... (see `with_good`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from terry.models.config import OptimizerConfig
from terry.models.determinism import generator_tensors, load_generators
from terry.models.errors import StateError
from terry.models.guards import Guard
from terry.models.language_model import LanguageModel, ModelState
from terry.models.optimizers import WeightAverage, load_optimizer, make_optimizer, optimizer_tensors
from terry.models.protocols import BatchSource
from terry.models.schedules import AverageTrigger, LearningRate
from terry.models.training_state import TrainingState, TrainingStateBuffers

#: Version of the layout of tensors and state; all earlier ones can be read.
VERSION = 1


@dataclass(slots=True, kw_only=True)
class TrainingProgress:
    """How far training is. Losses are sums over targets, nats."""

    step: int = 0  #: steps done
    epoch: int = 0  #: epochs done
    interval_loss: float = 0.0  #: since the last record
    interval_tokens: int = 0
    epoch_loss: float = 0.0  #: since the epoch began
    epoch_tokens: int = 0
    train_loss: float | None = None  #: mean of the last record
    valid_loss: float | None = None  #: mean of the last validation
    validated_at: int = 0  #: step of the last validation
    best_loss: float | None = None  #: lowest validation
    best_step: int | None = None  #: its step
    bad: int = 0  #: validations since then
    rollbacks: int = 0  #: times training went back after NaN


@dataclass(slots=True, kw_only=True)
class RunState:
    """The living parts. `capture` copies them, `restore` makes them what they were."""

    model: LanguageModel
    optimizer: torch.optim.Optimizer
    rates: LearningRate
    average: WeightAverage
    trigger: AverageTrigger
    guard: Guard
    data: BatchSource
    device: torch.device
    trained: dict[str, nn.Parameter]
    progress: TrainingProgress = field(default_factory=TrainingProgress)
    hidden: ModelState | None = None  #: carried from batch to batch
    kernels: str = "torch"  #: what computes the steps: "native" or "torch"

    @classmethod
    def fresh(cls, model: LanguageModel, config: OptimizerConfig, data: BatchSource, total_steps: int) -> RunState:
        """Before the first step."""
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        return cls(
            model=model,
            optimizer=make_optimizer(config, trained.values()),
            rates=LearningRate(config, total_steps),
            average=WeightAverage(trained),
            trigger=AverageTrigger(config.nonmonotone, config.average_after),
            guard=Guard(model.vocabulary_size),
            data=data,
            device=model.output_bias.device,
            trained=trained,
        )

    def memory(self) -> dict[str, Tensor]:
        """The optimizer's memory, the tensors themselves, as <parameter>/<what>."""
        return optimizer_tensors(self.optimizer, {parameter: name for name, parameter in self.trained.items()})

    def capture(self, buffers: TrainingStateBuffers) -> TrainingState:
        """A copy of this moment, between two steps."""
        others = below("memory", self.memory())
        others |= below("generator", generator_tensors(self.device))
        others |= below("hidden", _hidden_tensors(self.hidden))
        model = self.model.state_dict()
        if self.average.active:
            others |= below("raw", {name: p.detach() for name, p in self.trained.items()})
            model = {**model, **self.average.tensors}
        return buffers.capture(self.progress.step, model, others, self._plain())

    def _plain(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "progress": dataclasses.asdict(self.progress),
            "data": self.data.state_dict(),
            "rates": self.rates.state_dict(),
            "guard": self.guard.state_dict(),
            "validations": list(self.trigger.losses),
            "averaged_steps": self.average.steps,
            "threads": torch.get_num_threads(),
            "device": self.device.type,
            "kernels": self.kernels,
        }

    def restore(self, training_state: TrainingState) -> None:
        """Put back a captured moment. Raises StateError for one of another model, optimizer, or later version."""
        state, others = training_state.state, training_state.optimizer
        if state.get("version", VERSION + 1) > VERSION:
            raise StateError(
                f"the training state has version {state.get('version')}; this program reads up to {VERSION}"
            )
        raw = part("raw", others)
        load_weights(self.model, {**training_state.model, **raw})
        self.average.load({name: training_state.model[name] for name in raw}, int(state["averaged_steps"]))
        names: Mapping[Tensor, str] = {parameter: name for name, parameter in self.trained.items()}
        load_optimizer(self.optimizer, names, part("memory", others))
        load_generators(part("generator", others), self.device)
        self.hidden = _hidden_state(part("hidden", others), self.device)
        self.progress = TrainingProgress(**state["progress"])
        self.data.load_state_dict(state["data"])
        self.rates.load_state_dict(state["rates"])
        self.guard.load_state_dict(state["guard"])
        self.trigger.losses = list(state["validations"])

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Within it the model has the weights to predict with: their average, once there is one."""
        if not self.average.active:
            yield
            return
        raw = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        try:
            self._put(self.average.tensors)
            yield
        finally:
            self._put(raw)

    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(tensors[name])


def with_good(training_state: TrainingState, good: TrainingState) -> TrainingState:
    """A training state that also holds the last good moment before it, to which a run goes back after NaN.

    Where a run goes back to must not depend on when it was killed.
    """
    extra = below("good/model", good.model) | below("good/optimizer", good.optimizer)
    moved = {name: tensor.to("cpu", copy=True) for name, tensor in extra.items()}
    return TrainingState(
        step=training_state.step,
        model=training_state.model,
        optimizer={**training_state.optimizer, **moved},
        state={**training_state.state, "good": dict(good.state)},
    )


def good_of(training_state: TrainingState) -> TrainingState | None:
    """What `with_good` put in; None where the training state itself is the last good moment."""
    state = training_state.state.get("good")
    if state is None:
        return None
    return TrainingState(
        step=int(state["progress"]["step"]),
        model=part("good/model", training_state.optimizer),
        optimizer=part("good/optimizer", training_state.optimizer),
        state=state,
    )


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy weights by name into a model on any device. Raises StateError where names or shapes differ."""
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise StateError(f"the weights are of another model: missing {missing or 'none'}, unknown {unknown or 'none'}")
    for name, place in own.items():
        if place.shape != tensors[name].shape:
            raise StateError(f"{name} has shape {tuple(tensors[name].shape)}; the model's is {tuple(place.shape)}")
        place.copy_(tensors[name])


def _hidden_tensors(state: ModelState | None) -> dict[str, Tensor]:
    return {f"{layer}/{i}": tensor for layer, parts in enumerate(state or ()) for i, tensor in enumerate(parts)}


def _hidden_state(tensors: Mapping[str, Tensor], device: torch.device) -> ModelState | None:
    layers: dict[int, list[Tensor]] = {}
    for name in sorted(tensors, key=lambda name: tuple(map(int, name.split("/")))):
        layers.setdefault(int(name.split("/")[0]), []).append(tensors[name].to(device, copy=True))
    return tuple(tuple(parts) for parts in layers.values()) or None


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with `prefix/` before their names."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix/`, without it."""
    return {name.removeprefix(f"{prefix}/"): t for name, t in tensors.items() if name.startswith(f"{prefix}/")}
