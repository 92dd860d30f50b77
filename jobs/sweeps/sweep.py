"""A sweep file and its overrides to runs: typed, checked, each with its identity. Pure but for reading the file.

The base (`run:`) is checked once, each varied value once; a point then costs one typed conversion, so that ten thousand
runs expand in about a second. Rules that the file's author relies on:

* A dotted key (`optimizer.lr`) changes one setting. A mapping (`optimizer: {name: sgd}`) stands for the whole section:
  what it leaves out has its default, not the base's value, which was meant for another optimizer.
* Overrides of the command line come last: they hold for every run, whatever the sweep varies.
* Points that come out alike are one run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.errors import UserError
from terry.cluster.files.paths import check_name
from terry.data_prep.config import DatasetConfig
from terry.data_prep.config import validate as validate_dataset
from terry.jobs.sweeps import axes, inputs, rungs, yaml_source
from terry.jobs.sweeps.axes import Point, Setting
from terry.jobs.sweeps.overrides import Override
from terry.jobs.sweeps.query import Exclusions, look_up
from terry.jobs.sweeps.spec import (
    TRAIN,
    UNIDENTIFYING,
    EnsembleConfig,
    HalvingConfig,
    RunConfig,
    SweepConfig,
    SweepFile,
)
from terry.jobs.sweeps.typed import Problem, convert, convert_known, known, nearest, put, type_at
from terry.jobs.sweeps.yaml_source import Document, Where
from terry.models.config import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One run of a sweep, resolved."""

    config: dict[str, Any]  #: RunConfig as plain values, every default filled in
    identity: str  #: sha256 of all that decides what comes out
    typed: RunConfig  #: the same, typed
    point: Point  #: what the sweep sets for it, in the file's order

    @property
    def varied(self) -> list[str]:
        """Dotted keys that the sweep sets for it."""
        return [key for setting in self.point for key in axes.keys_of(setting)]


@dataclass(slots=True, kw_only=True)
class Sweep:
    """What a sweep file says, expanded."""

    name: str
    document: Document
    datasets: dict[str, DatasetConfig]  #: all that the file describes
    runs: list[PlannedRun]
    ensembles: dict[str, EnsembleConfig]
    notices: list[str] = field(default_factory=list)  #: what the author may want to know; no errors
    expander: Expander

    def dataset_identity(self, name: str) -> str:
        """sha256 of what decides a data set's content, as far as the file says it."""
        return digest({"prepare": name, "dataset": self.expander.dataset_settings(name)})

    def dataset_needs(self, name: str) -> dict[str, DatasetConfig]:
        """Other data sets of the file that a data set takes its vocabulary from, and theirs."""
        needs: dict[str, DatasetConfig] = {}
        other = self.datasets[name].vocabulary_from
        while other in self.datasets and other not in needs:
            needs[other] = self.datasets[other]
            other = self.datasets[other].vocabulary_from
        return needs


def load(path: Path, overrides: Iterable[str] = (), code_hash: Callable[[str], str] = lambda _: "") -> Sweep:
    """Read and expand a sweep file. UserError with file and line for every mistake in it.

    code_hash: the hash of the user's own code behind an entry point, part of the identity of its runs.
    """
    return expand(yaml_source.read(path), overrides, code_hash)


def expand(document: Document, overrides: Iterable[str], code_hash: Callable[[str], str] = lambda _: "") -> Sweep:
    """The same for a sweep that was read already, or that never was a file."""
    if not isinstance(document.value, dict):
        raise document.error("is not a sweep file: it must be a mapping with `name:` and `run:`", ())
    given = [Override.parse(text) for text in overrides]
    for override in given:
        if not override.in_run:
            put(document.value, override.path, override.value)
    return _expand(document, [o for o in given if o.in_run], code_hash)


def _expand(document: Document, overrides: list[Override], code_hash: Callable[[str], str]) -> Sweep:
    errors = Errors(document, overrides)
    with errors.at():
        for key in document.value:
            type_at(SweepFile, (str(key),))
    name = _name(document)
    datasets = _datasets(document, errors)
    with errors.at("sweep"):
        _refuse_empty_grid(document.value.get("sweep"))
        sweep = convert(document.value.get("sweep"), SweepConfig) if document.value.get("sweep") else SweepConfig()
    with errors.at("ensembles"):
        ensembles = known(document.value.get("ensembles") or {}, dict[str, EnsembleConfig])
        ensembles = msgspec.convert(ensembles, dict[str, Any])
        typed = {key: convert(value, EnsembleConfig, (key,)) for key, value in ensembles.items()}
    expander = Expander(document, errors, overrides, datasets, code_hash, sweep.halving)
    planned = Sweep(name=name, document=document, datasets=datasets, runs=[], ensembles=typed, expander=expander)
    with errors.at("sweep"):
        _fill(planned, axes.points(sweep), sweep.exclude)
        if sweep.halving is not None:
            typed_runs = [run.typed for run in planned.runs]
            planned.notices += rungs.explain(sweep.halving, typed_runs, planned.ensembles)
    return planned


def _refuse_empty_grid(sweep: Any) -> None:
    if isinstance(sweep, Mapping) and "grid" in sweep and not sweep["grid"]:
        raise Problem("an empty grid varies nothing; name a setting and its values, or leave the key out", ("grid",))


def _fill(planned: Sweep, points: Iterator[Point], exclude: list[dict[str, Any]]) -> None:
    """Expand every point; leave out what is excluded and what stands twice."""
    excluded = Exclusions(exclude, planned.document)
    seen: set[str] = set()
    twice = 0
    for point in points:
        run = planned.expander.run(point)
        if excluded.match(run.config):
            continue
        if run.identity in seen:
            twice += 1
            continue
        seen.add(run.identity)
        planned.runs.append(run)
    if twice:
        planned.notices.append(f"{twice} of the runs come out like another one and are done once")
    planned.notices.extend(excluded.unused())
    if not planned.runs:
        raise Problem("every run is excluded: nothing would be left to do", ("exclude",))


def _name(document: Document) -> str:
    name = document.value.get("name")
    if not isinstance(name, str) or not name:
        raise document.error("a sweep needs a name, such as `name: cells-by-optimizers`", ("name",))
    try:
        check_name(name, "the sweep name")
    except UserError as error:
        raise document.error(str(error), ("name",)) from None
    if len(name) > 50 or any(f"-{word}-" in f"{name}-" for word in ("prepare", "ensemble", "sample", "evaluate")):
        raise document.error(
            f"the sweep name {name!r} cannot be used: at most 50 characters, and none of "
            "-prepare-, -ensemble-, -sample-, -evaluate-",
            ("name",),
        )
    return name


def _datasets(document: Document, errors: Errors) -> dict[str, DatasetConfig]:
    datasets: dict[str, DatasetConfig] = {}
    with errors.at("datasets"):
        entries = document.value.get("datasets") or {}
        if not isinstance(entries, Mapping):
            raise Problem("must be a mapping: the name of each data set and what it is made of", ())
        for name, value in entries.items():
            if not isinstance(name, str) or len(name) > 40:
                raise Problem("the name of a data set must be text of at most 40 characters", (str(name),))
            try:
                check_name(name, "the data set name")
                datasets[name] = convert(_resolved(document, ("datasets", name), value), DatasetConfig, (name,))
                validate_dataset(datasets[name])
            except Problem:
                raise
            except ValueError as error:
                raise Problem(str(error), (name,)) from None
            inputs.check(datasets[name], document.folder, (name,))
    return datasets


class Errors:
    """Turns problems into UserErrors with the file and line, or the override, that they come from."""

    def __init__(self, document: Document, overrides: list[Override]) -> None:
        self._document = document
        self._overrides = overrides

    def at(self, *section: str) -> _At:
        """A context in which a Problem's path is relative to `section` of the file."""
        return _At(self, section)

    def error(self, problem: Problem, where: Where) -> UserError:
        """The error of a problem at a place of the file."""
        name = ".".join(str(part) for part in where)
        return self._document.error(f"{name}: {problem.message}" if name else problem.message, where)

    def in_run(self, problem: Problem, point: Point) -> UserError:
        """The error of a problem in a run: by override, by the point's setting, or in the base."""
        path = problem.path
        text = f"{'.'.join(path)}: {problem.message}" if path else problem.message
        for override in reversed(self._overrides):
            if path[: len(override.path)] == override.path:
                return UserError(f"{override.text}: {problem.message}")
        for setting in sorted(point, key=lambda s: -s.key.count(".")):
            parts = tuple(setting.key.split("."))
            if path[: len(parts)] == parts:
                return self._document.error(text, (*setting.where, *path[len(parts) :]))
        return self._document.error(f"run.{text}" if path else text, ("run", *path))


class _At:
    def __init__(self, errors: Errors, section: tuple[str, ...]) -> None:
        self._errors, self._section = errors, section

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Problem):
            raise self._errors.error(error, (*self._section, *error.path)) from None


class Expander:
    """Makes a resolved run of the base and a point."""

    def __init__(
        self,
        document: Document,
        errors: Errors,
        overrides: list[Override],
        datasets: dict[str, DatasetConfig],
        code_hash: Callable[[str], str],
        rule: HalvingConfig | None = None,
    ) -> None:
        self._halving = None if rule is None else msgspec.to_builtins(rule)
        self._document, self.errors, self._overrides, self._code_hash = document, errors, overrides, code_hash
        self._datasets = datasets
        self._vector_sizes: dict[str, int | None] = {}
        self._interpolates = _has_interpolation(document.value) or _has_interpolation([o.value for o in overrides])
        self._defaults = msgspec.to_builtins(RunConfig())
        self._values: dict[Where, Any] = {}
        self._pruned_datasets = {
            name: pruned(msgspec.to_builtins(config), msgspec.to_builtins(DatasetConfig()))
            for name, config in datasets.items()
        }
        self._base = self._known_base()

    def dataset_settings(self, name: str) -> dict[str, Any]:
        """What decides a data set's content: its settings, and those of the one whose vocabulary it takes."""
        settings = dict(self._pruned_datasets[name])
        other = settings.get("vocabulary_from")
        if other != name and other in self._pruned_datasets:
            settings["vocabulary_of"] = self._pruned_datasets[other]
        return settings

    def _known_base(self) -> dict[str, Any]:
        try:
            base = known(self._document.value.get("run"), RunConfig)
            for key in (*base, *(override.path[0] for override in self._overrides)):
                _refuse_halving(key)
            for override in self._overrides:
                known(override.value, type_at(RunConfig, override.path), override.path)
        except Problem as problem:
            raise self.errors.in_run(problem, ()) from None
        assert isinstance(base, dict)
        return base

    def run(self, point: Point) -> PlannedRun:
        """One run. UserError with the line of what is wrong with it."""
        try:
            typed = self._typed(point)
            self._check_dataset(typed)
            config = msgspec.to_builtins(typed)
            identity = self._identity(config)
        except Problem as problem:
            raise self.errors.in_run(problem, point) from None
        return PlannedRun(config=config, identity=identity, typed=typed, point=point)

    def _typed(self, point: Point) -> RunConfig:
        raw = dict(self._base)
        if self._halving is not None:
            raw["halving"] = self._halving
        # Whole sections first, so that a single key of one is set on top of it.
        for setting in sorted(point, key=lambda s: s.key.count(".")):
            put(raw, tuple(setting.key.split(".")), self._value(setting))
        for override in self._overrides:
            put(raw, override.path, override.value)
        if len(self._datasets) == 1 and not look_up(raw, ("data", "dataset")):
            put(raw, ("data", "dataset"), next(iter(self._datasets)))  # the only one is the one that is meant
        if self._interpolates:
            return convert(_resolved(self._document, ("run",), raw), RunConfig)
        return convert_known(raw, RunConfig)

    def _value(self, setting: Setting) -> Any:
        """A varied value with its keys checked; each once."""
        if setting.where not in self._values:
            path = tuple(setting.key.split("."))
            _refuse_halving(path[0])
            value = known(setting.value, type_at(RunConfig, path), path)
            if not setting.shared:
                return value
            self._values[setting.where] = value
        return self._values[setting.where]

    def _check_dataset(self, config: RunConfig) -> None:
        name, names = config.data.dataset, list(self._datasets)
        if name and name not in self._datasets:
            raise Problem(f"there is no data set {name!r}{nearest(name, names)}", ("data", "dataset"))
        if not name and config.entrypoint is None:
            raise Problem("name the data set to train on" + nearest("", names), ("data", "dataset"))
        if name and config.main == TRAIN and self._datasets[name].embeddings is not None:
            self._check_vectors(config, name)

    def _check_vectors(self, config: RunConfig, name: str) -> None:
        """Pre-trained vectors must fit the model."""
        if name not in self._vector_sizes:
            self._vector_sizes[name] = inputs.vector_size(self._datasets[name], self._document.folder)
        size, model = self._vector_sizes[name], config.model
        where = f"the vectors of the data set {name!r} ({self._datasets[name].embeddings})"
        if model.input is Input.onehot:
            raise Problem(f"one-hot input has no place for {where}; input: embedding has", ("model", "input"))
        if size is not None and size != model.embedding_size:
            text = f"must be {size}, not {model.embedding_size}: so many numbers have {where}"
            raise Problem(text, ("model", "embedding_size"))

    def _identity(self, config: dict[str, Any]) -> str:
        settings = pruned(config, self._defaults)
        for key in UNIDENTIFYING:
            settings.pop(key, None)
        if config["data"]["dataset"]:
            settings["dataset"] = self.dataset_settings(config["data"]["dataset"])
        if config["entrypoint"]:
            settings["code"] = self._code_hash(config["entrypoint"])
        return digest(settings)


def _refuse_halving(key: str) -> None:
    if key == "halving":
        raise Problem("belongs below `sweep:`, as in sweep.halving.factor: runs are compared with each other", (key,))


def pruned(value: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults: a setting added to Terry later leaves the identity of old runs as it was."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        default = defaults.get(key)
        if type(item) is dict and type(default) is dict and default:
            inner = pruned(item, default)
            if inner:
                result[key] = inner
        elif key not in defaults or item != default:
            result[key] = item
    return result


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of plain values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _has_interpolation(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_interpolation(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_interpolation(item) for item in value)
    return isinstance(value, str) and "${" in value


def _resolved(document: Document, path: tuple[str, ...], value: Any) -> Any:
    """`value`, which stands at `path` of the file, with its interpolations resolved by OmegaConf."""
    if not _has_interpolation(value):
        return value
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    root = {key: item for key, item in document.value.items() if key not in {"sweep", "ensembles"}}
    put(root, path, value)
    try:
        node = OmegaConf.select(OmegaConf.create(root), ".".join(path))
        return OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:
        full = tuple((getattr(error, "full_key", "") or "").split("."))
        relative = full[len(path) :] if full[: len(path)] == path else ()
        raise Problem(str(error).splitlines()[0], relative) from None
