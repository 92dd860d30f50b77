"""From names of runs and ensembles to members, their weights and the text they were trained on.

Reads a workspace's files alone, so it works with the controller down and on another node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
import yaml

from terry.cluster.errors import UserError
from terry.cluster.files.paths import NAME, Run, WorkspacePaths
from terry.cluster.host.hardware import available_memory_bytes
from terry.data_prep.dataset import Dataset
from terry.jobs.process import checkpoints
from terry.jobs.submitting.records import KnownJobs, SubmissionInfo
from terry.jobs.sweeps.model_jobs import Mixture
from terry.jobs.sweeps.spec import RunConfig
from terry.models.averages import Weighting
from terry.models.ensemble import Ensemble, mean_weights, weights_by_loss
from terry.models.language_model import LanguageModel
from terry.models.state import load_weights

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: What of an ensemble can be other than its sweep file says, when it is used.
CHANGEABLE = ("best", "average", "weights", "snapshots", "average_weights")

#: Members may fill so much of the memory that is free.
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRun:
    """A run with weights to read."""

    id: str
    run: Run  #: its folder
    config: RunConfig
    dataset: Path  #: folder of its data
    dataset_name: str
    vocabulary_sha256: str
    vocabulary_size: int
    finished: bool
    loss: float | None  #: lowest validation loss, nats; None where there is none yet
    chosen: Path  #: the checkpoint to predict with: the best one, else the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleMember:
    """One voice of an ensemble: a run's weights at one moment, or the mean of several."""

    name: str
    run: TrainedRun
    paths: tuple[Path, ...]  #: checkpoints

    def open(self, device: torch.device | str) -> LanguageModel:
        """The model, its weights verified. Raises UserError."""
        try:
            states = [checkpoints.load_model(path) for path in self.paths]
        except (checkpoints.BadCheckpoint, OSError) as error:
            raise UserError(f"{self.name} cannot be read: {error}") from error
        model = LanguageModel(self.run.config.model, self.run.vocabulary_size)
        model.vocabulary_sha256 = self.run.vocabulary_sha256
        load_weights(model, states[0] if len(states) == 1 else mean_weights(states))
        return model.to(device).eval()

    @property
    def bytes(self) -> int:
        """Memory of its weights."""
        return (self.paths[0] / checkpoints.MODEL).stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleMembers:
    """The members that take part, and who could not."""

    mixture: Mixture
    members: tuple[EnsembleMember, ...]
    weights: tuple[float, ...] | None  #: None: all alike
    unfinished: tuple[str, ...]  #: ids of runs that are not done
    outvoted: tuple[str, ...]  #: ids of runs that are not among the best

    @property
    def runs(self) -> list[TrainedRun]:
        """The runs that take part."""
        return list({member.run.id: member.run for member in self.members}.values())

    @property
    def first(self) -> TrainedRun:
        """The run whose data is read, and in whose way."""
        return self.members[0].run

    def dataset(self) -> Dataset:
        """The data of the first run."""
        return Dataset.open(self.first.dataset)

    def ensemble(self, device: torch.device | str) -> Ensemble:
        """All members in memory, where they can be with the copies in float64 that drawing needs. Raises UserError."""
        need, free = 3 * sum(member.bytes for member in self.members), _free_memory(device)
        if need > free:
            raise UserError(
                f"{len(self.members)} members need about {need / 1e9:.1f} GB on {device}, and {free / 1e9:.1f} GB are "
                "free there: take another device, or only the best of them (`--members N`, `best=N`)"
            )
        models = [member.open(device) for member in self.members]
        return Ensemble(models, average=self.mixture.average, weights=self.weights)

    def at_once(self, device: torch.device | str) -> int:
        """How many members may be in memory together."""
        largest = max(member.bytes for member in self.members)
        return max(1, min(len(self.members), int(_free_memory(device) * _SHARE_OF_MEMORY / max(1, largest))))

    def describe(self) -> str:
        """Who takes part, in words."""
        runs, of = len(self.runs), len(self.mixture.members)
        step = int(self.members[0].paths[-1].name.split("-")[1])
        alone = f"its weights after step {step:,}" + ("" if self.first.finished else ", not finished")
        words = f"{self.mixture.name}: " + (f"{runs} of {of} members" if of > 1 else alone)
        if len(self.members) > runs:
            words += f", {len(self.members)} snapshots of them"
        if self.unfinished:
            words += f"; not finished: {_few(self.unfinished)}"
        if self.outvoted:
            words += f"; others are better than {_few(self.outvoted)}"
        return words


def _free_memory(device: torch.device | str) -> int:
    where = torch.device(device)
    return torch.cuda.mem_get_info(where)[0] if where.type == "cuda" else available_memory_bytes()


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def find_members(workspace: WorkspacePaths, mixture: Mixture) -> EnsembleMembers:
    """Find the members: of several runs those that are finished, of one its best checkpoint so far.

    Raises UserError where none has weights, or vocabularies differ.
    """
    alone = len(mixture.members) == 1
    opened = [open_run(workspace, job, must_be_finished=not alone) for job in mixture.members]
    runs = [run for run in opened if run is not None]
    unfinished = tuple(job for job, run in zip(mixture.members, opened, strict=True) if run is None)
    if not runs:
        raise UserError(
            f"none of the {len(mixture.members)} members of {mixture.name} has finished yet; "
            "one run alone can be used from its first checkpoint on: give its id"
        )
    _require_one_vocabulary(runs)
    kept = _best(runs, mixture.best)
    members = tuple(member for run in kept for member in _members(run, mixture))
    weights = _weights(members, mixture)
    outvoted = tuple(run.id for run in runs if run not in kept)
    return EnsembleMembers(mixture=mixture, members=members, weights=weights, unfinished=unfinished, outvoted=outvoted)


def open_run(workspace: WorkspacePaths, job: str, *, must_be_finished: bool = False) -> TrainedRun | None:
    """A run with weights; None where it must be finished and is not. Raises UserError."""
    run = workspace.run(job)
    result = _json(run.result)
    if must_be_finished and not result:
        return None
    if not run.spec.is_file():
        raise UserError(f"{job} has not begun: there is no {run.spec}")
    spec = yaml.load(run.spec.read_bytes(), _Loader)  # noqa: S506  a safe loader
    if spec.get("kind") != "train" or spec["config"].get("entrypoint") or spec["config"].get("command"):
        raise UserError(f"{job} is no training of a language model ({spec.get('kind')}, {spec.get('entrypoint')})")
    config = msgspec.convert(spec["config"], RunConfig)
    data = spec["inputs"][config.data.dataset]
    return TrainedRun(
        id=job,
        run=run,
        config=config,
        dataset=_inside(workspace, data["folder"]),
        dataset_name=config.data.dataset,
        vocabulary_sha256=data["vocabulary_sha256"],
        vocabulary_size=data["vocabulary_size"],
        finished=bool(result),
        loss=result.get("best_loss") if result else None,
        chosen=_chosen(run, job, result),
    )


def _chosen(run: Run, job: str, result: dict[str, Any]) -> Path:
    """The best checkpoint by the run's result; of an unfinished run the best on disk, else the newest."""
    found = checkpoints.checkpoints(run.checkpoints)
    for key in ("best_checkpoint", "checkpoint"):
        named = [path for path in found if path.name == result.get(key)]
        if named:
            return named[0]
    if not found:
        raise UserError(f"{job} has no checkpoint yet; `terry-cluster explain {job}` says how it stands")
    return next((path for path in reversed(found) if checkpoints.is_best(path)), found[-1])


def _members(run: TrainedRun, mixture: Mixture) -> list[EnsembleMember]:
    if mixture.snapshots == 1:
        return [EnsembleMember(name=run.id, run=run, paths=(run.chosen,))]
    newest = tuple(checkpoints.checkpoints(run.run.checkpoints)[-mixture.snapshots :])
    if mixture.average_weights:
        return [EnsembleMember(name=f"{run.id} (mean of {len(newest)})", run=run, paths=newest)]
    return [EnsembleMember(name=f"{run.id}@{int(path.name.split('-')[1])}", run=run, paths=(path,)) for path in newest]


def _best(runs: list[TrainedRun], count: int | None) -> list[TrainedRun]:
    """The runs with the lowest validation loss, in the order in which they stand."""
    if count is None or count >= len(runs):
        return runs
    ordered = sorted(runs, key=lambda run: float("inf") if run.loss is None else run.loss)
    return [run for run in runs if run in ordered[:count]]


def _weights(members: Sequence[EnsembleMember], mixture: Mixture) -> tuple[float, ...] | None:
    if mixture.weights is Weighting.equal:
        return None
    losses = [member.run.loss for member in members]
    known = [loss for loss in losses if loss is not None]
    if len(known) < len(losses):
        lacking = ", ".join(member.name for member in members if member.run.loss is None)
        raise UserError(f"weights by validation loss need one of each member; there is none of {lacking}")
    return weights_by_loss(known)


def _require_one_vocabulary(runs: Sequence[TrainedRun]) -> None:
    by_hash: dict[str, TrainedRun] = {}
    for run in runs:
        by_hash.setdefault(run.vocabulary_sha256, run)
    if len(by_hash) > 1:
        one, other = list(by_hash.values())[:2]
        raise UserError(
            f"members of an ensemble must share one vocabulary: {one.id} has that of {one.dataset_name} "
            f"({one.vocabulary_size:,} tokens), {other.id} that of {other.dataset_name} "
            f"({other.vocabulary_size:,} tokens); `vocabulary_from:` gives a data set the vocabulary of another"
        )


def _inside(workspace: WorkspacePaths, relative: str) -> Path:
    root = workspace.root.resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise UserError(f"{relative} is outside the workspace {root}")
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except msgspec.MsgspecError as error:
        raise UserError(f"cannot be read: {error}", file=path) from error


# names


def ensemble_named(workspace: WorkspacePaths, name: str) -> Mixture | None:
    """The newest ensemble of that name, or whose job has that id; None where there is none. UserError: several."""
    found: dict[str, dict[str, Any]] = {}
    for sweep in workspace.sweep_names():
        for _, folder in workspace.submissions(sweep):
            info = msgspec.json.decode((folder / "submission.json").read_bytes(), type=SubmissionInfo)
            for key, entry in info.ensembles.items():
                if name in (key, entry.get("job")):
                    found[sweep] = {**entry, "name": key}
    if len(found) > 1:
        jobs = ", ".join(str(entry["job"]) for entry in found.values())
        raise UserError(f"several sweeps have an ensemble {name!r}: name the job of the one that is meant ({jobs})")
    return msgspec.convert(next(iter(found.values())), Mixture) if found else None


def named(workspace: WorkspacePaths, selector: str) -> Mixture:
    """What a name means: an ensemble, a run's id, or a sweep, whose runs are all members. Raises UserError."""
    mixture = ensemble_named(workspace, selector)
    if mixture is not None:
        return mixture
    if NAME.fullmatch(selector) and workspace.run(selector).root.is_dir():
        return Mixture(name=selector, members=(selector,))
    if selector in workspace.sweep_names():
        return Mixture(name=selector, members=tuple(KnownJobs(workspace, selector).runs))
    raise UserError(
        f"{workspace.root} has no run, ensemble or sweep {selector!r}; its sweeps: "
        f"{', '.join(workspace.sweep_names()) or 'none'}"
    )


def changed(mixture: Mixture, **changes: Any) -> Mixture:
    """The same runs in another way: best, average, weights, snapshots, average_weights. Raises UserError."""
    unknown = sorted(changes.keys() - set(CHANGEABLE))
    if unknown:
        raise UserError(f"unknown settings: {', '.join(unknown)}; there are {', '.join(CHANGEABLE)}")
    try:
        made = msgspec.convert({**msgspec.to_builtins(mixture), **changes}, Mixture)
    except msgspec.ValidationError as error:
        raise UserError(f"{mixture.name} cannot be read so: {error}") from None
    if made.average_weights and made.snapshots < 2:
        raise UserError("averaging weights needs `snapshots` of 2 or more to average")
    return made
