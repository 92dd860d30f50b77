"""`seeds:` at the top of a sweep file: every configuration runs once with each of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from terry.cluster.config.yaml_file import Problem
from terry.cluster.errors import UserError
from terry.jobs.sweeps.axes import Point, Setting, keys_of
from terry.jobs.sweeps.overrides import Override
from terry.jobs.sweeps.spec import TRAIN, HalvingConfig
from terry.logs.format import plural

#: The setting of our own training, and that of other people's code and programs.
OURS, THEIRS = "training.seed", "parameters.seed"


def seed_key(base: Mapping[str, Any], points: Iterable[Point]) -> str:
    """The setting that holds the seed. base: `run:`, typed."""
    own = base.get("command") or base.get("entrypoint") not in {None, TRAIN}
    varied = (key for point in points for setting in point for key in keys_of(setting))
    return THEIRS if own or any(key in {"command", "entrypoint"} for key in varied) else OURS


def with_seeds(points: Sequence[Point], seeds: Sequence[int], key: str) -> list[Point]:
    """Each point once with each seed; the seeds of one stand together. Raises Problem where it has one of its own."""
    for point in points:
        for setting in point:
            if key in keys_of(setting):
                text = f"{key!r} is varied here, and by `seeds:` at the top of the file; keep one of them"
                raise Problem(text, setting.where)
    return [(*point, Setting(key, seed, ("seeds",))) for point in points for seed in seeds]


def refuse_another(key: str, base: Mapping[str, Any], overrides: Iterable[Override]) -> None:
    """A seed that is set besides would do nothing, or make all runs alike. Raises Problem, UserError."""
    section, name = key.split(".")
    for override in overrides:
        if override.path == (section, name):
            text = f"`seeds:` of the file sets it; write seeds=[{override.value}] instead"
            raise UserError(f"{override.text}: {text}")
    given = base.get(section)
    if isinstance(given, Mapping) and name in given:
        text = "does nothing here: `seeds:` at the top of the file sets it; leave one of them out"
        raise Problem(text, ("run", section, name))


def in_words(seeds: Sequence[int] | None, points: Iterable[Point], key: str, rule: HalvingConfig | None) -> list[str]:
    """For people: what `seeds:` makes of the file. points: of the runs that are left."""
    if not seeds:
        return []
    configurations = {tuple((s.key, repr(s.value)) for s in point if s.key != key) for point in points}
    found = [f"seeds: {plural(len(configurations), 'configuration')}, each with {key} {_named(seeds)}"]
    if rule is not None and len(seeds) > 1:
        found.append(
            f"halving judges configurations: by the mean of their {len(seeds)} seeds, once all of them have come to a "
            "rung, and then they end or go on together"
        )
    return found


def _named(seeds: Sequence[int]) -> str:
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds[:10])) + (", ..." if len(seeds) > 10 else "")
