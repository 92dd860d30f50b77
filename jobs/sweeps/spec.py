"""The typed configuration of a run and of a sweep file. No torch, no numpy: the command line reads it first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import msgspec

from terry.cluster.config.typed import CountFrom1, Reads, flatten, is_open, leaf, show, type_at, typed
from terry.cluster.config.words import seconds
from terry.cluster.config.yaml_file import Problem, Where
from terry.cluster.core.model import DeviceKind, Resources, RetryPolicy
from terry.data_prep.config import DatasetConfig
from terry.jobs.sweeps.command import COMMAND, check_command, read_command, read_environment, read_metrics
from terry.jobs.sweeps.search import SearchConfig
from terry.jobs.sweeps.seed_list import read_seeds
from terry.models.averages import Average, Weighting
from terry.models.config import ModelConfig, OptimizerConfig, TrainingConfig

TRAIN = "terry.jobs.train:main"
PREPARE = "terry.jobs.prepare:main"
EVALUATE = "terry.jobs.evaluate:main"
SAMPLE = "terry.jobs.sample:main"

_ENTRYPOINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def _duration(value: Any, path: Where) -> float | str:
    """As it was written."""
    found: float | str = leaf(value, float | str, path)
    if not is_open(found):
        seconds(found)
    return found


Duration = Annotated[float | str, Reads(_duration)]


def _only(needs: str, holds: Callable[[Any], bool]) -> dict[str, Any]:
    """Metadata of a setting that does nothing but where `holds` says so; see terry.data_prep.idle."""
    return {"applies": (needs, holds)}


#: Readers of what is no plain value: see terry.jobs.sweeps.command.
Command = Annotated[list[str], Reads(read_command)]
MetricPatterns = Annotated[dict[str, str], Reads(read_metrics)]
Environment = Annotated[dict[str, str], Reads(read_environment)]


class WorkingFolder(StrEnum):
    """Where a program runs."""

    submission = "submission"  #: in the folder of the sweep file
    run = "run"  #: in a folder of its own, which lasts over all attempts


class Batches(StrEnum):
    """How text becomes batches."""

    STREAM = "stream"  #: contiguous streams, hidden state carried from batch to batch
    EXAMPLES = "examples"  #: one example a row, bucketed by length, state reset


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """What a run reads, and how it is batched."""

    dataset: str = ""  #: a name under `datasets:`; may be left out where there is just one
    batch_size: CountFrom1 = 32  #: rows of a batch
    #: stream: tokens of each row in a step (truncated backpropagation through time)
    bptt: CountFrom1 = field(default=35, metadata=_only("data.batches: stream", lambda c: c.batches is Batches.STREAM))
    batches: Batches = Batches.STREAM  #: how text becomes batches


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """How much work may be lost, and how much disk is spent on it."""

    every: Duration = "60 s"  #: at most so much work apart: seconds, or text such as `5 min`
    keep: CountFrom1 = 2  #: newest checkpoints that stay (a crashed run goes on from one); the best one stays besides


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcesConfig:
    """Where a run may run. Left out: a GPU where the cluster has any, else one CPU core."""

    #: 1, or a share of one: 0.25 = four runs side by side
    gpus: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    cpus: Annotated[float, msgspec.Meta(ge=0, le=1024)] | None = None  #: CPU cores, for a run without a GPU
    node: str | None = None  #: name or label of the node; a glob: `quattro*`
    device: str | None = None  #: a part of the device's model, or a glob: `H100`
    exclusive: bool = False  #: the device to itself, whatever the share
    mps: bool = False  #: compute beside the neighbours on the GPU through NVIDIA's MPS, which must run there

    def __post_init__(self) -> None:
        if self.gpus and self.cpus:
            raise ValueError("give either gpus or cpus: a run has one device (CPU threads of a GPU run: `threads`)")
        if self.mps and not self.gpus:
            raise ValueError("mps shares a GPU: say how much of one, as in `gpus: 0.25`")
        if not self.gpus and self.cpus == 0:
            raise ValueError("a run needs a device: leave `cpus` out, or give it more than 0")

    def decide(self, kind: DeviceKind, *, at_home: bool = False) -> Resources:
        """What the run asks for; `kind` where the file leaves it open. at_home: it reads other runs' files."""
        gpus, cpus = self.gpus or 0.0, self.cpus or 0.0
        if not gpus and not cpus:
            on_gpu = kind is DeviceKind.GPU and self.gpus is None
            gpus, cpus = (1.0, 0.0) if on_gpu else (0.0, 1.0)
        return Resources(
            gpus=gpus,
            cpus=cpus,
            node=self.node,
            device=self.device,
            exclusive=self.exclusive,
            mps=self.mps,
            at_home=at_home,
        )


class HalvingUnit(StrEnum):
    """What rungs are counted in."""

    epoch = "epoch"
    step = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvingConfig:
    """`sweep.halving`: runs that do worse than others at the same point end early (ASHA, Li et al. 2020)."""

    after: Annotated[float, msgspec.Meta(gt=0)] = 1.0  #: the first rung: no run is judged before
    #: of the runs at a rung one in so many goes on; the next rung is so many times as far
    factor: Annotated[int, msgspec.Meta(ge=2)] = 3
    unit: HalvingUnit = HalvingUnit.epoch  #: what `after` counts


#: What people write who come from elsewhere, and the key that they mean.
ALSO_CALLED = {
    **dict.fromkeys(("learning_rate", "learningrate", "step_size", "eta", "lrs"), "lr"),
    **dict.fromkeys(("hidden", "units", "hidden_units", "hidden_dim", "n_hidden", "rnn_size", "nhid"), "hidden_size"),
    **dict.fromkeys(("num_units", "num_hidden", "dim", "width"), "hidden_size"),
    **dict.fromkeys(("num_layers", "n_layers", "nlayers", "depth"), "layers"),
    **dict.fromkeys(("embedding", "embedding_dim", "emb_dim", "emb_size", "emsize"), "embedding_size"),
    **dict.fromkeys(("batch", "batchsize", "minibatch", "mini_batch"), "batch_size"),
    **dict.fromkeys(("sequence_length", "seq_len", "seq_length", "unroll", "context"), "bptt"),
    **dict.fromkeys(("epoch", "num_epochs", "n_epochs", "max_epochs", "iterations"), "epochs"),
    **dict.fromkeys(("steps", "num_steps", "max_iterations"), "max_steps"),
    **dict.fromkeys(("clip", "grad_clip", "gradient_clipping", "max_grad_norm", "clip_grad_norm"), "clip_norm"),
    **dict.fromkeys(("wd", "l2", "l2_regularization"), "weight_decay"),
    **dict.fromkeys(("scheduler", "lr_schedule", "lr_scheduler"), "schedule"),
    **dict.fromkeys(("optim", "optimiser"), "optimizer"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("num_seeds", "n_seeds", "repeats", "repetitions", "replicates"), "seeds"),
    **dict.fromkeys(("early_stopping", "early_stop"), "patience"),
    **dict.fromkeys(("warmup", "warm_up", "warmup_epochs"), "warmup_steps"),
    **dict.fromkeys(("warm_start", "init_from", "pretrained", "checkpoint_path", "resume_from"), "start_from"),
    **dict.fromkeys(("gpu", "num_gpus", "n_gpus", "ngpus"), "gpus"),
    **dict.fromkeys(("cpu", "num_cpus", "cores"), "cpus"),
    **dict.fromkeys(("timeout", "walltime", "max_time"), "time_limit"),
    **dict.fromkeys(("retries", "max_retries"), "retry"),
    **dict.fromkeys(("save_every", "checkpoint_every"), "every"),
    **dict.fromkeys(("data_set", "corpus"), "dataset"),
    **dict.fromkeys(("text_column", "field"), "column"),
    **dict.fromkeys(("file", "files", "path", "csv"), "source"),
    **dict.fromkeys(("vocab_size", "vocab", "max_vocab"), "vocabulary_size"),
    **dict.fromkeys(("params", "args", "arguments", "kwargs"), "parameters"),
    **dict.fromkeys(("main", "script", "function", "entry_point"), "entrypoint"),
    **dict.fromkeys(("product", "axes", "search_space"), "grid"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All that one run is made of."""

    data: DataConfig = field(default_factory=DataConfig)  #: what it reads
    model: ModelConfig = field(default_factory=ModelConfig)  #: the network
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)  #: how it learns
    training: TrainingConfig = field(default_factory=TrainingConfig)  #: how long, how exactly, how carefully
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)  #: how much work may be lost
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)  #: where it may run
    retry: RetryPolicy = field(default_factory=RetryPolicy)  #: how many failures are forgiven
    entrypoint: str | None = None  #: `package.module:function` of your own, called with a RunContext
    #: any program, instead of an entry point: a list of arguments, or text that is split into them; no shell sees it
    command: Command | None = None
    resume_command: Command | None = None  #: the same where an earlier attempt has begun; left out: `command`
    #: what stands in the program's output: patterns by name, with one group each; `step` is the step
    metrics: MetricPatterns = field(default_factory=dict)
    environment: Environment = field(default_factory=dict)  #: variables of the process, for own code and commands
    working_folder: WorkingFolder = WorkingFolder.submission  #: where own code and commands run
    parameters: dict[str, Any] = field(default_factory=dict)  #: settings of your own entry point, free-form
    time_limit: Duration | None = None  #: the run is ended after so long: seconds, or text such as `12 h`
    #: so long without a step is a hang; left out: 20 times the median step and 5 minutes at least; a day for own code
    hang_after: Duration | None = None
    #: CPU threads; left out: as many as its share of the CPU
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    priority: int = 0  #: higher goes first
    #: comes from `sweep.halving`, since it decides what comes out
    halving: HalvingConfig | None = field(
        default=None,
        metadata={
            "key": "",
            "instead": "belongs below `sweep:`, as in sweep.halving.factor: runs are compared with each other",
        },
    )

    #: the seeds of its configuration, where `sweep.halving` judges them together
    seeds: list[int] | None = field(
        default=None,
        metadata={"key": "", "instead": "belongs at the top of the file, beside `run:`, as in `seeds: 5`"},
    )

    ALSO_CALLED: ClassVar = ALSO_CALLED

    def __post_init__(self) -> None:
        for name in ("time_limit", "hang_after"):
            value = getattr(self, name)
            if value is not None and seconds(value) == 0:
                raise ValueError(f"{name} must be more than 0")
        if self.entrypoint is not None and not _ENTRYPOINT.fullmatch(self.entrypoint):
            raise ValueError(f"entrypoint must be written package.module:function, not {self.entrypoint!r}")
        if self.entrypoint == TRAIN:  # spelt out, it is still ours: the same run, with the same checks
            object.__setattr__(self, "entrypoint", None)
        self._check_command()

    def _check_command(self) -> None:
        if self.command is None:
            given = {"resume_command": self.resume_command, "metrics": self.metrics}
            for name in (name for name, value in given.items() if value):
                raise ValueError(f"{name} goes with `command:`, and there is none")
            if self.working_folder is WorkingFolder.run and self.entrypoint is None:
                raise ValueError("working_folder goes with `command:` or `entrypoint:`, and there is none")
            return
        if self.entrypoint is not None:
            raise ValueError("command and entrypoint are two ways to say what runs: keep one of them")
        for name in ("command", "resume_command"):
            try:
                check_command(getattr(self, name) or [], self.parameters)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None

    @property
    def main(self) -> str:
        """The entry point, ours where none is given."""
        return self.entrypoint or (COMMAND if self.command is not None else TRAIN)


#: Settings that change when, where or how safely a run is done, not what comes out: no part of its identity.
UNIDENTIFYING: tuple[str, ...] = ("checkpoint", "resources", "retry", "time_limit", "hang_after", "threads", "priority")
UNIDENTIFYING += ("resume_command", "metrics", "seeds")


def _kind(key: str, path: Where) -> Any:
    try:
        return type_at(RunConfig, tuple(key.split(".")))
    except Problem as problem:
        raise Problem(problem.message, path) from None


def _setting(value: Any, key: str, path: Where) -> Any:
    """A value that the sweep gives to a setting of the run, typed as that setting is."""
    return typed(value, _kind(key, path), path, RunConfig)


def _axis(values: Any, path: Where) -> list[Any]:
    key = str(path[-1])
    if isinstance(values, Mapping) and values:
        inner = next(iter(values))
        text = f"`{key}.{inner}: [...]` varies one setting of it, `{key}: [{{{inner}: ...}}]` all of it"
        raise Problem(f"must be a list of values: {text}", path)
    if not isinstance(values, list):
        example = str(values)[:40] if isinstance(values, str) else "a, b"
        raise Problem(f"must be a list of values, such as [{example}], not {show(values)}", path)
    if not values:
        raise Problem("an empty list means no runs at all; give at least one value or leave the key out", path)
    return [_setting(value, key, (*path, i)) for i, value in enumerate(values)]


def _point(values: Any, path: Where) -> dict[str, Any]:
    return {str(key): _setting(value, str(key), (*path, str(key))) for key, value in _mapping(values, path).items()}


def _query(values: Any, path: Where) -> dict[str, Any]:
    """Settings by which runs are chosen, as dotted keys; a list means any of its values."""
    found = {}
    for key, value in _mapping(values, path).items():
        for name, item in (flatten(value, f"{key}.") if isinstance(value, Mapping) and value else {key: value}).items():
            where = (*path, str(key))
            several = isinstance(item, list)
            typed_items = [_setting(each, str(name), where) for each in (item if several else [item])]
            found[str(name)] = typed_items if several else typed_items[0]
    return found


def _distribution(values: Any, path: Where) -> dict[str, Any]:
    given: dict[str, Any] = typed(values, dict[str, Any], path)
    if isinstance(given.get("choice"), list):
        key, choices = str(path[-1]), values["choice"]
        given["choice"] = [_setting(value, key, (*path, "choice", i)) for i, value in enumerate(choices)]
    if "when" in given:
        given["when"] = _query(values["when"], (*path, "when"))
    _kind(str(path[-1]), path)
    return given


def _mapping(value: Any, path: Where) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Problem(f"must be a mapping of settings (`key: value`), not {show(value)}", path)
    return value


#: By names of their own: inside SweepConfig the word `list` is a field.
Axes = dict[str, Annotated[list[Any], Reads(_axis)]]
Points = list[Annotated[dict[str, Any], Reads(_point)]]
Queries = list[Annotated[dict[str, Any], Reads(_query)]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomConfig:
    """`sweep.random`: points drawn from distributions."""

    count: CountFrom1 | None = None  #: points; left out: 10
    seed: int = 1  #: the same seed gives the same points; a larger count only adds some
    #: key: {uniform: [low, high]}, ...; with `when: {other.key: value}` only beside that value
    distributions: dict[str, Annotated[dict[str, Any], Reads(_distribution)]] = field(default_factory=dict)

    @property
    def points(self) -> int:
        """How many are drawn."""
        return 10 if self.count is None else self.count


def _none() -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """What varies. The parts given are multiplied with each other."""

    grid: Axes = field(default_factory=dict)  #: every combination of the values
    zip: Axes = field(default_factory=dict)  #: first values together, second values together, ...
    list: Points = field(default_factory=_none)  #: the points, one by one
    random: RandomConfig | None = None  #: points drawn from distributions
    exclude: Queries = field(default_factory=_none)  #: points that match all keys of an entry are left out
    search: SearchConfig | None = None  #: points chosen by what came of earlier ones, from the same distributions
    halving: HalvingConfig | None = None  #: poor runs end early; left out: every run goes to its end

    BELOW: ClassVar = "sweep.grid."  #: where a setting of the run belongs that people write right below `sweep:`

    def __post_init__(self) -> None:
        if self.search is None:
            return
        if self.random is None or not self.random.distributions:
            raise ValueError(
                "search needs distributions to choose from, such as "
                "random: {distributions: {optimizer.lr: {log_uniform: [1e-4, 1e-1]}}}"
            )
        if self.random.count is not None:
            raise ValueError("random.count does nothing beside `search:`; search.trials says how many")
        if self.random.seed != 1:
            raise ValueError("random.seed does nothing beside `search:`; search.seed does")
        if self.exclude:
            raise ValueError("exclude does not go with `search:`; `when:` of a distribution leaves a setting out")


class EvaluatedSplit(StrEnum):
    """Which part of a data set perplexity is measured on."""

    train = "train"
    valid = "valid"
    test = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleConfig:
    """Runs whose predicted probabilities are averaged. Members are runs of the sweep like any other."""

    #: settings by which runs are chosen; none = all
    members: Annotated[dict[str, Any], Reads(_query)] = field(default_factory=dict)
    size: CountFrom1 | None = None  #: so many members, alike but for the key `vary`
    vary: str = "training.seed"  #: what tells members of one configuration apart
    best: CountFrom1 | None = None  #: only so many, those with the lowest validation loss, once all are done
    #: members that are lost for good are done without, down to so many; left out: `best`, else all are needed
    minimum: CountFrom1 | None = None
    average: Average = Average.arithmetic  #: of the members' probabilities
    weights: Weighting = Weighting.equal  #: how much each member counts
    #: so many newest checkpoints of each run take part (`checkpoint.keep` says how many there are)
    snapshots: CountFrom1 = 1
    average_weights: bool = False  #: a run's snapshots are one member with the mean of their weights
    split: EvaluatedSplit = EvaluatedSplit.valid  #: the text that its perplexity is measured on

    def __post_init__(self) -> None:
        if self.average_weights and self.snapshots < 2:
            raise ValueError("average_weights needs `snapshots:` of 2 or more to average")


def _dataset(value: Any, path: Where) -> Any:
    """Typed as far as that can be before interpolation, which may bring all of it."""
    return value if is_open(value) else typed(value, DatasetConfig, path, SweepFile)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFile:
    """A sweep file, every default filled in."""

    name: str = ""  #: of the sweep, needed: it becomes the beginning of its jobs' ids
    #: text to prepare
    datasets: dict[str, Annotated[DatasetConfig, Reads(_dataset)]] = field(default_factory=dict)
    run: RunConfig = field(default_factory=RunConfig)  #: what every run starts from
    sweep: SweepConfig = field(default_factory=SweepConfig)  #: what varies
    #: every configuration runs with each of them: how many (`5`: seeds 1 to 5; a larger number later adds the new
    #: ones), or which (`[1, 2, 3]`). They set `training.seed`, of your own code and programs `parameters.seed`.
    seeds: Annotated[list[int], Reads(read_seeds)] | None = None
    ensembles: dict[str, EnsembleConfig] = field(default_factory=dict)  #: runs whose predictions are averaged

    ALSO_CALLED: ClassVar = ALSO_CALLED


def default_kind(known_gpus: int, local_gpus: int) -> DeviceKind:
    """What a run gets whose file does not say: a GPU where the cluster has any, or this node would bring one.

    known_gpus: GPUs of the nodes that the queue knows or terry.yaml promises; local_gpus: of this node.
    """
    return DeviceKind.GPU if known_gpus or local_gpus else DeviceKind.CPU


def local_gpus() -> int:
    """GPUs of this node by the driver's own library: no CUDA context, no torch; 0 where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()
