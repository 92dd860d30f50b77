"""The keys `model:`, `optimizer:`, `training:` of a run, typed so that OmegaConf can read them as structured configs.

Standard library only: the command line imports this before anything heavy.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from terry.models.errors import ConfigError

#: Cells that come with this package; anything else is an import path, `package.module:Class`.
CELLS = ("rnn", "gru", "lstm")
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _only(needs: str, holds: Callable[[Any], bool]) -> dict[str, Any]:
    """Metadata of a setting that does nothing but where `holds` says so."""
    return {"applies": (needs, holds)}


def _must(words: str, holds: Callable[[Any], bool]) -> dict[str, Any]:
    """Metadata of what a value must be. The sweep file's reader (terry.cluster.config.typed) knows them, too."""
    return {"must": (words, holds)}


_FROM_0 = _must("be at least 0", lambda v: v >= 0)
_FROM_1 = _must("be at least 1", lambda v: v >= 1)
_ABOVE_0 = _must("be more than 0", lambda v: v > 0)
_ABOVE_1 = _must("be more than 1", lambda v: v > 1)
_SHARE = _must("be from 0 to below 1", lambda v: 0 <= v < 1)
_FACTOR = _must("be between 0 and 1", lambda v: 0 < v < 1)
_CELL = _must(
    f"be {', '.join(CELLS)}, or your own as package.module:Class",
    lambda v: v in CELLS or _IMPORT_PATH.fullmatch(v) is not None,
)
_SEED = _must("be from 0 to 2^63 - 1", lambda v: 0 <= v < 2**63)


@functools.cache
def _musts(kind: Any) -> list[tuple[str, str, Callable[[Any], bool]]]:
    return [(f.name, *f.metadata["must"]) for f in fields(kind) if "must" in f.metadata]


def _check_values(group: str, config: Any) -> None:
    kind: Any = type(config)
    for key, words, holds in _musts(kind):
        value = getattr(config, key)
        if value is not None and (not holds(value) or (isinstance(value, float) and not math.isfinite(value))):
            raise ConfigError(f"{group}.{key} must {words}, not {value!r}")


class Nonlinearity(StrEnum):
    """The function inside a vanilla RNN."""

    tanh = "tanh"
    relu = "relu"


class Input(StrEnum):
    """How a token enters the first layer."""

    embedding = "embedding"  #: as a vector of `embedding_size` that is looked up
    onehot = "onehot"  #: as a unit vector of the vocabulary's size: the classic form, without an embedding


class Init(StrEnum):
    """How weights begin."""

    default = "default"  #: recurrent weights ±1/sqrt(hidden), embedding and output ±0.1, output bias 0
    uniform = "uniform"  #: everything ±init_range, as Zaremba et al. 2014; output bias too
    orthogonal = "orthogonal"  #: recurrent weights orthogonal (Saxe et al. 2014), input weights Glorot, biases 0
    fan_in = "fan_in"  #: every weight ±1/sqrt(its inputs), biases 0, as WildML's tutorial


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """A recurrent language model."""

    #: rnn, gru, lstm, or a cell of your own as `package.module:Class`
    cell: str = field(default="gru", metadata=_CELL)
    #: units of a layer
    hidden_size: int = field(default=128, metadata=_FROM_1)
    #: layers, each reading the one below
    layers: int = field(default=1, metadata=_FROM_1)
    #: size of a token's vector
    embedding_size: int = field(
        default=128, metadata=_FROM_1 | _only("model.input: embedding", lambda c: c.input is Input.embedding)
    )
    #: units of the last layer; left out: `hidden_size`
    last_size: int | None = field(default=None, metadata=_FROM_1)
    #: what a vanilla RNN applies
    nonlinearity: Nonlinearity = field(
        default=Nonlinearity.tanh, metadata=_only("model.cell: rnn", lambda c: c.cell == "rnn")
    )
    #: how a token enters
    input: Input = Input.embedding
    #: whether the embedding stays as it begins (for pre-trained vectors)
    freeze_embedding: bool = False
    #: whether the output layer uses the embedding's weights (Press and Wolf 2017)
    tie_weights: bool = False
    #: dropout of the embedding, between layers and of the output (Zaremba et al. 2014), unless one below says otherwise
    dropout: float = field(default=0.0, metadata=_SHARE)
    #: dropout of what the first layer reads
    dropout_input: float | None = field(default=None, metadata=_SHARE)
    #: dropout between layers
    dropout_between: float | None = field(
        default=None, metadata=_SHARE | _only("model.layers of 2 or more", lambda c: c.layers > 1)
    )
    #: dropout of what the output layer reads
    dropout_output: float | None = field(default=None, metadata=_SHARE)
    #: dropout of whole words in the embedding (Gal and Ghahramani 2016)
    dropout_words: float = field(default=0.0, metadata=_SHARE)
    #: whether a dropout mask stays the same over time (variational dropout, Gal and Ghahramani 2016)
    variational: bool = field(default=False, metadata=_only("a dropout above 0", lambda c: c.drops))
    #: dropout of the recurrent weights (DropConnect, Merity et al. 2017)
    weight_drop: float = field(default=0.0, metadata=_SHARE)
    #: weight of the mean square of the dropped-out output in the loss (AR, Merity et al. 2017)
    activation_penalty: float = field(default=0.0, metadata=_FROM_0)
    #: weight of the mean square of the output's change from step to step (TAR, Merity et al. 2017)
    slowness_penalty: float = field(default=0.0, metadata=_FROM_0)
    #: how weights begin
    init: Init = Init.default
    #: range of `init: uniform`
    init_range: float = field(
        default=0.1, metadata=_ABOVE_0 | _only("model.init: uniform", lambda c: c.init is Init.uniform)
    )
    #: added to the LSTM's forget gate at the beginning (Jozefowicz et al. 2015 advise 1)
    forget_bias: float = field(
        default=0.0,
        metadata=_must("be a number", math.isfinite) | _only("model.cell: lstm", lambda c: c.cell == "lstm"),
    )

    def __post_init__(self) -> None:
        self.validate()

    @property
    def drops(self) -> bool:
        """Whether anything is dropped out but recurrent weights and whole words."""
        return any((self.dropout, self.dropout_input, self.dropout_between, self.dropout_output))

    @property
    def output_size(self) -> int:
        """Units that the output layer reads."""
        return self.hidden_size if self.last_size is None else self.last_size

    def validate(self) -> None:
        """Raise ConfigError with the key, what is wrong and what would be right."""
        _check_values("model", self)
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.tie_weights and self.input is Input.onehot:
            raise ConfigError("model.tie_weights needs model.input: embedding; one-hot input has no weights to share")
        if self.tie_weights and self.embedding_size != self.output_size:
            raise ConfigError(
                f"model.tie_weights needs model.embedding_size ({self.embedding_size}) to equal the size of the last "
                f"layer ({self.output_size}): set one of them, or model.last_size"
            )
        for key in ("freeze_embedding", "dropout_words", "dropout_input"):
            if getattr(self, key) and self.input is Input.onehot:
                raise ConfigError(f"model.{key} needs model.input: embedding; one-hot input has no vectors")
        if self.weight_drop and self.cell not in CELLS:
            raise ConfigError("model.weight_drop works with rnn, gru and lstm; a cell of your own must do it itself")


class Optimizer(StrEnum):
    """How gradients move weights."""

    sgd = "sgd"  #: with `momentum` if it is given
    nesterov = "nesterov"  #: momentum that looks ahead; 0.9 unless given
    rmsprop = "rmsprop"
    adam = "adam"
    adamw = "adamw"  #: Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019)
    asgd = "asgd"  #: SGD, and the average of the weights once validation stops improving (NT-ASGD, Merity et al. 2017)


#: Rules that divide by a mean of squares.
_DIVIDING = (Optimizer.adam, Optimizer.adamw, Optimizer.rmsprop)


class Schedule(StrEnum):
    """How the learning rate goes over time."""

    none = "none"
    anneal = "anneal"  #: smaller after a validation that is no better; settings under `anneal`
    divide = "divide"  #: divided by `divide_by` in each epoch after `divide_after`
    cosine = "cosine"  #: half a cosine from `lr` down to `minimum_lr` over the run


class Reduction(StrEnum):
    """What the gradient is taken of; papers differ."""

    mean = "mean"  #: the loss of a token, on average
    sum = "sum"  #: summed over time, averaged over the rows of a batch


class Compare(StrEnum):
    """What a validation loss must beat."""

    best = "best"  #: the lowest so far
    previous = "previous"  #: the one before


@dataclass(slots=True, kw_only=True)
class AnnealConfig:
    """A smaller learning rate when the validation loss (without one: the training loss of the epoch) is worse."""

    #: the rate is multiplied by it
    factor: float = field(default=0.5, metadata=_FACTOR)
    #: so many worse validations in a row are forgiven
    patience: int = field(default=0, metadata=_FROM_0)
    #: the rate goes no lower
    minimum: float = field(default=0.0, metadata=_FROM_0)
    #: what a validation is compared with
    compare: Compare = Compare.best

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise ConfigError with the key, what is wrong and what would be right."""
        _check_values("optimizer.anneal", self)


@dataclass(slots=True, kw_only=True)
class OptimizerConfig:
    """How gradients move weights, and how fast."""

    #: which rule
    name: Optimizer = Optimizer.adam
    #: learning rate
    lr: float = field(default=0.001, metadata=_ABOVE_0)
    #: momentum of sgd and nesterov
    momentum: float = field(default=0.0, metadata=_SHARE)
    #: decay of the weights (L2 in the gradient; apart from it with adamw)
    weight_decay: float = field(default=0.0, metadata=_FROM_0)
    #: Adam's decay rates of the first and second moment
    betas: list[float] = field(
        default_factory=lambda: [0.9, 0.999],
        metadata=_only("optimizer.name: adam or adamw", lambda c: c.name in (Optimizer.adam, Optimizer.adamw)),
    )
    #: keeps Adam and RMSprop from dividing by 0
    eps: float = field(
        default=1e-8, metadata=_ABOVE_0 | _only("optimizer.name: adam, adamw or rmsprop", lambda c: c.name in _DIVIDING)
    )
    #: RMSprop's decay rate
    alpha: float = field(
        default=0.99, metadata=_SHARE | _only("optimizer.name: rmsprop", lambda c: c.name is Optimizer.rmsprop)
    )
    #: gradients longer than this, all together, are shortened to it; left out: never
    clip_norm: float | None = field(default=None, metadata=_ABOVE_0)
    #: what the gradient is taken of
    loss_reduction: Reduction = Reduction.mean
    #: how the rate goes over time
    schedule: Schedule = Schedule.none
    #: settings of annealing; giving them turns it on
    anneal: AnnealConfig | None = None
    #: `divide`: by what
    divide_by: float = field(
        default=2.0, metadata=_ABOVE_1 | _only("optimizer.schedule: divide", lambda c: c.schedule is Schedule.divide)
    )
    #: `divide`: epochs at the full rate
    divide_after: int = field(
        default=4, metadata=_FROM_0 | _only("optimizer.schedule: divide", lambda c: c.schedule is Schedule.divide)
    )
    #: `cosine`: where it ends
    minimum_lr: float = field(default=0.0, metadata=_FROM_0)
    #: steps in which the rate rises to `lr` along a line
    warmup_steps: int = field(default=0, metadata=_FROM_0)
    #: `asgd`: averaging begins when a validation is worse than the best of all but the last so many
    nonmonotone: int = field(
        default=5, metadata=_FROM_1 | _only("optimizer.name: asgd", lambda c: c.name is Optimizer.asgd)
    )
    #: `asgd`: averaging begins after so many epochs whatever validation says
    average_after: int | None = field(
        default=None, metadata=_FROM_0 | _only("optimizer.name: asgd", lambda c: c.name is Optimizer.asgd)
    )

    def __post_init__(self) -> None:
        self.validate()

    @property
    def annealing(self) -> AnnealConfig | None:
        """Settings of annealing, None where the rate is not annealed."""
        return self.anneal or (AnnealConfig() if self.schedule is Schedule.anneal else None)

    def validate(self) -> None:
        """Raise ConfigError with the key, what is wrong and what would be right."""
        _check_values("optimizer", self)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas must be two numbers from 0 to below 1, not {self.betas!r}")
        self._check_combinations()

    def _check_combinations(self) -> None:
        with_momentum = (Optimizer.sgd, Optimizer.nesterov, Optimizer.rmsprop)
        if self.momentum and self.name not in with_momentum:
            raise ConfigError(
                f"optimizer.momentum does nothing with {self.name.value}; "
                f"it belongs to {', '.join(name.value for name in with_momentum)}"
            )
        if self.anneal is not None and self.schedule in (Schedule.divide, Schedule.cosine):
            raise ConfigError(
                f"optimizer.anneal and optimizer.schedule: {self.schedule.value} both change the rate; leave one out"
            )
        if self.anneal is not None and self.anneal.minimum > self.lr:
            raise ConfigError(f"optimizer.anneal.minimum ({self.anneal.minimum:g}) is above optimizer.lr ({self.lr:g})")
        if self.minimum_lr and self.schedule is not Schedule.cosine:
            raise ConfigError(
                "optimizer.minimum_lr does nothing without optimizer.schedule: cosine; "
                "for annealing the key is optimizer.anneal.minimum"
            )
        if self.minimum_lr > self.lr:
            raise ConfigError(f"optimizer.minimum_lr ({self.minimum_lr:g}) is above optimizer.lr ({self.lr:g})")


class OnNan(StrEnum):
    """What to do when NaN or infinity is found."""

    fail = "fail"  #: stop, naming tensor and step
    rollback = "rollback"  #: back to the last good state, with a smaller learning rate


class Kernels(StrEnum):
    """What computes a step on a CPU."""

    auto = "auto"  #: `native` where it can be, else `torch`; a run that was begun goes on with what it began with
    native = "native"  #: this package's compiled kernels: the same bits on every processor, for any number of threads
    torch = "torch"  #: PyTorch's own


class Precision(StrEnum):
    """Numbers of matrix products. Weights are float32 always."""

    float32 = "float32"
    bf16 = "bf16"  #: bfloat16 autocast; pays on GPUs, is emulated on most CPUs


@dataclass(slots=True, kw_only=True)
class RollbackConfig:
    """`on_nan: rollback`."""

    #: the learning rate is multiplied by it, for the rest of the run
    factor: float = field(default=0.5, metadata=_FACTOR)
    #: so many times, then the run fails
    maximum: int = field(default=3, metadata=_FROM_1)

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise ConfigError with the key, what is wrong and what would be right."""
        _check_values("training.rollback", self)


@dataclass(slots=True, kw_only=True)
class TrainingConfig:
    """How long, how exactly, how carefully."""

    #: passes over the training data
    epochs: int = field(default=10, metadata=_FROM_1)
    #: steps at most; left out: as many as the epochs have
    max_steps: int | None = field(default=None, metadata=_FROM_1)
    #: decides initial weights and dropout
    seed: int = field(default=1, metadata=_SEED)
    #: steps between two looks at the device: records, guards
    log_every: int = field(default=50, metadata=_FROM_1)
    #: steps between two validations; left out: one at the end of each epoch
    valid_every: int | None = field(default=None, metadata=_FROM_1)
    #: early stopping: so many validations without a new best; left out: never
    patience: int | None = field(default=None, metadata=_FROM_1)
    #: whether a GPU computes the same bits every time (a CPU always does at one number of threads)
    deterministic: bool = True
    #: numbers of matrix products
    precision: Precision = Precision.float32
    #: whether a GPU may round the inputs of float32 products to 10 bits
    tf32: bool = False
    #: whether to watch for NaN, spikes, and weights that hardly move or jump
    guards: bool = True
    #: what to do when NaN or infinity is found
    on_nan: OnNan = OnNan.fail
    #: settings of `on_nan: rollback`
    rollback: RollbackConfig = field(
        default_factory=RollbackConfig,
        metadata=_only("training.on_nan: rollback", lambda c: c.on_nan is OnNan.rollback),
    )
    #: what computes on a CPU; `native` knows rnn, gru and lstm in float32
    kernels: Kernels = Kernels.auto
    #: CPU threads; left out: what the process was given
    threads: int | None = field(default=None, metadata=_FROM_1)
    #: whether to use torch.compile (needs a C++ compiler; pays for cells of your own on a GPU)
    compile: bool = False

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise ConfigError with the key, what is wrong and what would be right."""
        _check_values("training", self)
        if self.kernels is Kernels.native and self.compile:
            raise ConfigError("training.kernels: native and training.compile contradict each other: leave one out")
        if self.kernels is Kernels.native and self.precision is not Precision.float32:
            raise ConfigError(
                f"training.kernels: native computes in float32, not {self.precision.value}: leave one of them out"
            )
        if self.on_nan is OnNan.rollback and not self.guards:
            raise ConfigError("training.on_nan: rollback needs training.guards: without them NaN is not noticed")
