"""`sweep.halving`: where the rungs stand at which runs are judged (terry.jobs.process.halving), told to the author."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from terry.cluster.config.yaml_file import Problem
from terry.jobs.sweeps.spec import TRAIN, EnsembleConfig, HalvingConfig, HalvingUnit, RunConfig

#: Epochs are sums and quotients of floats.
_ALMOST = 1e-9


def passed(rule: HalvingConfig, at: float) -> int:
    """Rungs passed after `at` epochs or steps; 0 before the first."""
    if at < rule.after - _ALMOST:
        return 0
    count = 1
    while rule.after * rule.factor**count <= at + _ALMOST:
        count += 1
    return count


def rungs_before(rule: HalvingConfig, end: float) -> list[float]:
    """Where the rungs stand of a run that ends after `end` epochs or steps; none at its very end."""
    return [rule.after * rule.factor**k for k in range(passed(rule, end - 2 * _ALMOST))]


def explain(rule: HalvingConfig, runs: Sequence[RunConfig], ensembles: Mapping[str, EnsembleConfig]) -> list[str]:
    """What the author of a sweep file may want to know of it. Raises Problem where no run would ever be judged."""
    ends = [end for run in runs if (end := _end(rule.unit, run)) is not None]
    longest = max(ends) if len(ends) == len(runs) else None
    at = rungs_before(rule, longest) if longest is not None else [rule.after, rule.after * rule.factor]
    if not at:
        text = f"no run would be judged: the longest has {longest:g} {rule.unit}s, the first rung is not before its end"
        raise Problem(text, ("halving", "after"))
    more = "" if longest is not None else ", ..."
    found = [
        f"halving: runs are judged after {rule.unit} {', '.join(f'{x:g}' for x in at)}{more}; of those at a rung the "
        f"best 1 in {rule.factor} go on"
    ]
    found += [
        f"halving may stop members of the ensemble {name} early; `best: N` takes only the best runs"
        for name, ensemble in ensembles.items()
        if ensemble.best is None
    ]
    return found


def _end(unit: HalvingUnit, run: RunConfig) -> float | None:
    """Epochs or steps of a whole run, as far as its file says."""
    if run.main != TRAIN:
        return None
    return run.training.epochs if unit is HalvingUnit.epoch else run.training.max_steps
