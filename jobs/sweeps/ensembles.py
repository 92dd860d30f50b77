"""`ensembles:` to members: which runs of the sweep they are, and which runs they need besides. Pure."""

from __future__ import annotations

import msgspec

from terry.cluster.config.typed import flatten, put, type_at
from terry.cluster.config.yaml_file import Problem
from terry.cluster.files.paths import NAME
from terry.jobs.sweeps.axes import Setting
from terry.jobs.sweeps.query import Query, look_up
from terry.jobs.sweeps.spec import EnsembleConfig, RunConfig
from terry.jobs.sweeps.sweep import PlannedRun, Sweep, digest

#: Settings of an ensemble that change what comes out; the others choose the members, or say when to go on.
_DECISIVE = ("best", "average", "weights", "snapshots", "average_weights", "split")


class PlannedEnsemble(msgspec.Struct, frozen=True, kw_only=True):
    """An ensemble and the identities of its members, the first `size` or all that match."""

    name: str
    members: tuple[str, ...]
    config: EnsembleConfig
    first: PlannedRun  #: its device, and how it reads the text, are the ensemble's

    @property
    def minimum(self) -> int:
        """Members that must be completed."""
        return self.config.minimum or self.config.best or len(self.members)

    @property
    def identity(self) -> str:
        """sha256 of what decides its perplexity."""
        settings = msgspec.to_builtins(self.config)
        decisive = {key: settings[key] for key in _DECISIVE}
        return digest({"evaluate": self.name, "members": list(self.members), **decisive})


def plan(sweep: Sweep) -> list[PlannedEnsemble]:
    """The ensembles of a sweep; runs that `size` asks for and the sweep lacks are added to `sweep.runs`."""
    planned = []
    for name, config in sweep.ensembles.items():
        with sweep.expander.errors.at("ensembles", name):
            members = _members(sweep, name, config)
            if max(config.minimum or 0, config.best or 0) > len(members):
                raise Problem(f"asks for more members than there are ({len(members)})", ())
            _check_together(sweep, name, config, members)
        identities = tuple(run.identity for run in members)
        planned.append(PlannedEnsemble(name=name, members=identities, config=config, first=members[0]))
    return planned


def _check_together(sweep: Sweep, name: str, config: EnsembleConfig, members: list[PlannedRun]) -> None:
    """Can these be averaged? Said when they are submitted, not when they are trained."""
    if not NAME.fullmatch(name) or len(name) > 40:
        raise Problem("the name of an ensemble must be 1 to 40 of the characters A-Z a-z 0-9 . _ -", ())
    own = next((run.typed.main for run in members if run.typed.entrypoint is not None), None)
    if own is not None:
        raise Problem(f"{own} is code of your own: only runs that train our models can be members", ("members",))
    roots = {run.config["data"]["dataset"]: _vocabulary_of(sweep, run.config["data"]["dataset"]) for run in members}
    if len(set(roots.values())) > 1:
        one, other = list(roots)[:2]
        raise Problem(
            f"members must share one vocabulary, and the data sets {one!r} and {other!r} have each their own; "
            "`vocabulary_from:` gives a data set the vocabulary of another",
            ("members",),
        )
    keep = min(run.typed.checkpoint.keep for run in members)
    if config.snapshots > keep:
        raise Problem(
            f"only {keep} newest checkpoints are kept of a run; `checkpoint.keep` can be more", ("snapshots",)
        )


def _vocabulary_of(sweep: Sweep, dataset: str) -> str:
    """The data set, or path, whose vocabulary it has in the end."""
    seen = set()
    while dataset in sweep.datasets and dataset not in seen:
        seen.add(dataset)
        dataset = sweep.datasets[dataset].vocabulary_from or dataset
    return dataset


def _members(sweep: Sweep, name: str, config: EnsembleConfig) -> list[PlannedRun]:
    query = Query(config.members)
    found = [run for run in sweep.runs if query.match(run.config)]
    if config.size is None:
        if not found:
            raise Problem("no run of the sweep matches", ("members",))
        return found
    try:
        type_at(RunConfig, tuple(config.vary.split(".")))
    except Problem as problem:
        raise Problem(f"{config.vary}: {problem.message}", ("vary",)) from None
    groups = {_without(run, config.vary) for run in found}
    if len(groups) > 1:
        raise Problem(
            f"match {len(groups)} different configurations; with `size`, members are alike but for {config.vary}: "
            "add settings until one is left",
            ("members",),
        )
    found = found[: config.size]
    used = [look_up(run.config, config.vary.split(".")) for run in found]
    base = _settings(found[0] if found else None, config)
    while len(found) < config.size:
        value = _next(used, sweep, base, config)
        run = sweep.expander.run((*base, Setting(config.vary, value, ("ensembles", name, "vary"))))
        used.append(value)
        found.append(_added(sweep, run))
    if len({run.identity for run in found}) < len(found):
        raise Problem(f"members come out alike: {config.vary!r} changes nothing here", ("vary",))
    return found


def _added(sweep: Sweep, run: PlannedRun) -> PlannedRun:
    """The run of the sweep that it is, or itself as a new one."""
    same = next((other for other in sweep.runs if other.identity == run.identity), None)
    if same is None:
        sweep.runs.append(run)
    return same or run


def _without(run: PlannedRun, key: str) -> str:
    config = dict(run.config)
    put(config, tuple(key.split(".")), None)
    return digest(config)


def _settings(like: PlannedRun | None, config: EnsembleConfig) -> tuple[Setting, ...]:
    """What members share: the settings of the run that matched, or those that `members` names."""
    where = ("ensembles",)
    if like is None:
        return tuple(Setting(key, value, where) for key, value in flatten(config.members).items())
    return tuple(setting for setting in like.point if setting.key != config.vary)


def _next(used: list[object], sweep: Sweep, base: tuple[Setting, ...], config: EnsembleConfig) -> int:
    """The next whole number that no member has yet, from that of the base upwards."""
    numbers = [value for value in used if isinstance(value, int)]
    if numbers:
        return max(numbers) + 1
    value = look_up(sweep.expander.run(base).config, config.vary.split("."))
    if not isinstance(value, int) or isinstance(value, bool):
        raise Problem(f"{config.vary!r} is not a whole number: members cannot be told apart by it", ("vary",))
    return value
