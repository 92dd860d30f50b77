"""A sweep file and its overrides to runs: typed, checked, each with its identity. Pure but for reading the file.

The base (`run:`) is checked once, each varied value once; a point then costs one typed conversion, so that ten thousand
runs expand in about a second. Rules that the file's author relies on:

* A dotted key (`optimizer.lr`) changes one setting. A mapping (`optimizer: {name: sgd}`) stands for the whole section:
  what it leaves out has its default, not the base's value, which was meant for another optimizer.
* Overrides of the command line come last: they hold for every run, whatever the sweep varies.
* Points that come out alike are one run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.config.typed import build, convert, put, typed
from terry.cluster.config.words import NO, YES, Plain
from terry.cluster.config.yaml_file import Document, Problem, dotted, leaves, parse
from terry.cluster.errors import UserError, nearest
from terry.cluster.files.paths import check_name
from terry.data_prep.config import DatasetConfig
from terry.data_prep.config import validate as validate_dataset
from terry.jobs.sweeps import axes, inputs, rungs, searched, seeds
from terry.jobs.sweeps.axes import Point
from terry.jobs.sweeps.command import code_hash
from terry.jobs.sweeps.idle import check_idle
from terry.jobs.sweeps.interpolation import Interpolation, has_open
from terry.jobs.sweeps.overrides import Override
from terry.jobs.sweeps.parameters import require_plain
from terry.jobs.sweeps.query import Exclusions, look_up
from terry.jobs.sweeps.searched import Searched
from terry.jobs.sweeps.spec import (
    TRAIN,
    UNIDENTIFYING,
    EnsembleConfig,
    HalvingConfig,
    RunConfig,
    SweepConfig,
    SweepFile,
)
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
    seed_key: str = ""  #: the setting that `seeds:` of the file sets; empty where it has none
    search: Searched | None = None  #: its runs are chosen one after another; `runs` are those that are known

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
    return expand(read_sweep(path)[0], overrides, code_hash)


def read_sweep(path: Path) -> tuple[Document, bytes]:
    """A sweep file and its bytes. UserError where it cannot be read or is not YAML."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError("there is no such file", file=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", file=path) from None
    return parse(content, str(path)), content


def expand(
    document: Document,
    overrides: Iterable[str],
    code_hash: Callable[[str], str] = lambda _: "",
    *,
    look: bool = True,
) -> Sweep:
    """The same for a sweep that was read already, or that never was a file.

    look: whether the files that data sets are made of are there.
    """
    if not isinstance(document.value, dict):
        raise document.error("is not a sweep file: it must be a mapping with `name:` and `run:`", ())
    given = [Override.parse(text) for text in overrides]
    for override in given:
        if not override.in_run:
            put(document.value, override.path, override.value)
    errors = Errors(document, given)
    with errors.at():
        file = typed(document.value, SweepFile)
    return _expand(document, file, errors, code_hash, look=look)


def _expand(
    document: Document, file: Mapping[str, Any], errors: Errors, code_hash: Callable[[str], str], *, look: bool
) -> Sweep:
    """Runs of a file whose values are typed."""
    name = _name(document, file.get("name"))
    interpolation = Interpolation(document)
    datasets = _datasets(document, errors, file.get("datasets", {}), interpolation, look=look)
    with errors.at("sweep"):
        if document.value.get("sweep") and "grid" in document.value["sweep"] and not file["sweep"]["grid"]:
            text = "an empty grid varies nothing; name a setting and its values, or leave the key out"
            raise Problem(text, ("grid",))
        sweep = build(file.get("sweep", {}), SweepConfig)
    with errors.at("ensembles"):
        asked = {key: build(value, EnsembleConfig, (key,)) for key, value in file.get("ensembles", {}).items()}
    expander = Expander(document, errors, file.get("run", {}), datasets, code_hash, interpolation, sweep.halving)
    planned = Sweep(name=name, document=document, datasets=datasets, runs=[], ensembles=asked, expander=expander)
    planned.notices += words_of_old(document)
    with errors.at("sweep"):
        if sweep.search is None:
            _fill(planned, _points(planned, sweep, file), sweep.exclude)
            planned.notices += seeds.in_words(
                file.get("seeds"), [run.point for run in planned.runs], planned.seed_key, sweep.halving
            )
        else:
            planned.search = searched.read(sweep, sweep.search, refused_beside={"seeds", "ensembles"} & file.keys())
            planned.runs = [expander.run(point) for point in planned.search.ends()]
        if sweep.halving is not None:
            typed_runs = [run.typed for run in planned.runs]
            planned.notices += rungs.explain(sweep.halving, typed_runs, planned.ensembles)
    try:
        planned.notices += check_idle([run.typed for run in planned.runs], datasets, overridden=bool(errors.overrides))
    except Problem as problem:
        raise errors.in_run(problem, planned.runs[0].point) from None
    return planned


def _points(planned: Sweep, sweep: SweepConfig, file: Mapping[str, Any]) -> Iterable[Point]:
    """What varies, with each of the seeds."""
    given: list[int] | None = file.get("seeds")
    if given is None:
        return axes.points(sweep)
    errors, base = planned.expander.errors, file.get("run", {})
    points = list(axes.points(sweep))
    if len(points) * len(given) > axes.LIMIT:
        raise Problem(f"{len(points) * len(given):,} runs are more than one sweep may have ({axes.LIMIT:,})", ())
    planned.seed_key = seeds.seed_key(base, points)
    with errors.at():
        seeds.refuse_another(planned.seed_key, base, errors.overrides)
        points = seeds.with_seeds(points, given, planned.seed_key)
    planned.expander.seeds = given if len(given) > 1 and sweep.halving is not None else None
    return points


def words_of_old(document: Document) -> list[str]:
    """For people: `yes`, `no`, `on` and `off` among free-form settings, which are text; YAML 1.1 had them otherwise."""
    base = [(("run", "parameters"), (document.value.get("run") or {}).get("parameters"))]
    varied = [
        (("sweep", part, key), values)
        for part, axes_of in (document.value.get("sweep") or {}).items()
        if part in {"grid", "zip"}
        for key, values in (axes_of or {}).items()
        if key.split(".")[0] == "parameters"
    ]
    return [
        f"{document.file}:{document.line(where)}: {dotted(where)} is the text {str(word)!r}; a switch is true or false"
        for start, value in (*base, *varied)
        for where, word in leaves(value, start)
        if isinstance(word, Plain) and word in YES | NO
    ]


def _fill(planned: Sweep, points: Iterable[Point], exclude: list[dict[str, Any]]) -> None:
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


def _name(document: Document, name: str | None) -> str:
    if not name:
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


def _datasets(
    document: Document, errors: Errors, entries: Mapping[str, Any], interpolation: Interpolation, *, look: bool
) -> dict[str, DatasetConfig]:
    datasets: dict[str, DatasetConfig] = {}
    with errors.at("datasets"):
        for name, value in entries.items():
            if len(name) > 40:
                raise Problem("the name of a data set must be text of at most 40 characters", (name,))
            try:
                check_name(name, "the data set name")
                datasets[name] = convert(interpolation.resolve(("datasets", name), value), DatasetConfig, (name,))
                validate_dataset(datasets[name])
            except Problem:
                raise
            except ValueError as error:
                raise Problem(str(error), (name,)) from None
            if look:
                inputs.check(datasets[name], document.folder, (name,))
    return datasets


class Errors:
    """Turns problems into UserErrors with the file and line, or the override, that they come from."""

    def __init__(self, document: Document, given: list[Override]) -> None:
        self._document = document
        self.overrides = [override for override in given if override.in_run]  #: of settings of the run
        self._others = [override for override in given if not override.in_run]

    @contextlib.contextmanager
    def at(self, *section: str) -> Iterator[None]:
        """A context in which a Problem's path is relative to `section` of the file."""
        try:
            yield
        except Problem as problem:
            path = (*section, *problem.path)
            by = next((o for o in reversed(self._others) if path[: len(o.path)] == o.path), None)
            raise self._document.about(problem, section) if by is None else by.error(problem) from None

    def in_run(self, problem: Problem, point: Point) -> UserError:
        """The error of a problem in a run: by override, by the point's setting, or in the base."""
        path = problem.path
        for override in reversed(self.overrides):
            if path[: len(override.path)] == override.path:
                return override.error(problem)
        for setting in sorted(point, key=lambda s: -s.key.count(".")):
            parts = tuple(setting.key.split("."))
            if path[: len(parts)] == parts:
                return self._document.error(str(problem), (*setting.where, *path[len(parts) :]))
        return self._document.about(problem, ("run",)) if path else self._document.error(problem.message, ("run",))


class Expander:
    """Makes a resolved run of the base and a point."""

    def __init__(
        self,
        document: Document,
        errors: Errors,
        base: dict[str, Any],
        datasets: dict[str, DatasetConfig],
        code_hash: Callable[[str], str],
        interpolation: Interpolation,
        rule: HalvingConfig | None = None,
    ) -> None:
        """base: `run:`, typed."""
        self.seeds: list[int] | None = None  #: of each configuration, where they are judged together
        self._halving = None if rule is None else msgspec.to_builtins(rule)
        self._document, self.errors, self._code_hash = document, errors, code_hash
        self._base, self._datasets, self._interpolation = base, datasets, interpolation
        self._vector_sizes: dict[str, int | None] = {}
        self._interpolates = has_open(document.value) or has_open([o.value for o in errors.overrides])
        self._defaults = msgspec.to_builtins(RunConfig())
        self._pruned_datasets = {
            name: pruned(msgspec.to_builtins(config), msgspec.to_builtins(DatasetConfig()))
            for name, config in datasets.items()
        }

    def dataset_settings(self, name: str) -> dict[str, Any]:
        """What decides a data set's content: its settings, and those of the one whose vocabulary it takes."""
        settings = dict(self._pruned_datasets[name])
        other = settings.get("vocabulary_from")
        if other != name and other in self._pruned_datasets:
            settings["vocabulary_of"] = self._pruned_datasets[other]
        return settings

    def run(self, point: Point) -> PlannedRun:
        """One run. UserError with the line of what is wrong with it."""
        try:
            typed = self._typed(point)
            self._check_dataset(typed)
            require_plain(typed.parameters, ("parameters",))
            config = msgspec.to_builtins(typed)
            identity = self._identity(config)
        except Problem as problem:
            raise self.errors.in_run(problem, point) from None
        return PlannedRun(config=config, identity=identity, typed=typed, point=point)

    def _typed(self, point: Point) -> RunConfig:
        raw = dict(self._base)
        # Whole sections first, so that a single key of one is set on top of it.
        for setting in sorted(point, key=lambda s: s.key.count(".")):
            put(raw, tuple(setting.key.split(".")), setting.value)
        for override in self.errors.overrides:
            put(raw, override.path, override.value)
        if len(self._datasets) == 1 and not look_up(raw, ("data", "dataset")):
            put(raw, ("data", "dataset"), next(iter(self._datasets)))  # the only one is the one that is meant
        if self._interpolates:
            raw = typed(self._interpolation.resolve(("run",), raw), RunConfig)
        if self._halving is not None:
            raw = {**raw, "halving": self._halving, "seeds": self.seeds}
        return build(raw, RunConfig)

    def _check_dataset(self, config: RunConfig) -> None:
        name, names = config.data.dataset, list(self._datasets)
        if name and name not in self._datasets:
            raise Problem(f"there is no data set {name!r}{nearest(name, names)}", ("data", "dataset"))
        if not name and config.main == TRAIN:
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
        name = config["data"]["dataset"]
        dataset = self.dataset_settings(name) if name else None
        code = self._code_hash(config["entrypoint"]) if config["entrypoint"] else None
        if config["command"] and (found := code_hash(config["command"], self._document.folder)):
            code = found
        return run_identity(config, self._defaults, dataset, code)


def run_identity(
    config: Mapping[str, Any], defaults: Mapping[str, Any], dataset: Mapping[str, Any] | None, code: str | None
) -> str:
    """sha256 of all that decides what comes out of a run: settings that are not the default, its data, its code."""
    settings = pruned(config, defaults)
    for key in UNIDENTIFYING:
        settings.pop(key, None)
    if dataset is not None:
        settings["dataset"] = dataset
    if code is not None:
        settings["code"] = code
    return digest(settings)


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
