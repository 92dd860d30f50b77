"""Settings that do nothing in the runs of a sweep: refused where no run reads them, told where only some do not.

What needs what is declared where a setting is (see terry.data_prep.idle); what depends on the data set is here. A grid
may share a setting over several cells, so that one run that reads it is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from terry.cluster.config.yaml_file import Problem
from terry.data_prep.config import DatasetConfig
from terry.data_prep.idle import Idle, applies, idle_settings
from terry.jobs.sweeps.spec import TRAIN, RunConfig


def idle_in(run: RunConfig) -> Iterable[Idle]:
    """The idle settings of a run of ours; of a run of somebody's own code nothing is known."""
    return idle_settings(run) if run.main == TRAIN else ()


def check_idle(runs: Sequence[RunConfig], datasets: Mapping[str, DatasetConfig], *, overridden: bool) -> list[str]:
    """What to tell about settings that do nothing in some of the runs. Raises Problem for one that no run reads.

    overridden: the command line changed the file's settings, of which one may be idle then: that is told only.
    """
    found: dict[tuple[str, ...], list[Idle]] = {}
    for run in runs:
        for idle in idle_in(run):
            found.setdefault(idle.path, []).append(idle)
    told = []
    for path, several in found.items():
        if not overridden and not any(run.main != TRAIN or applies(run, path) for run in runs):
            raise Problem(f"does nothing here: it needs {several[0].needs}; leave it out", path)
        told.append(f"{'.'.join(path)} does nothing in {len(several)} of {len(runs)} runs: it needs {several[0].needs}")
    return told + _without_validation(runs, datasets)


def _without_validation(runs: Sequence[RunConfig], datasets: Mapping[str, DatasetConfig]) -> list[str]:
    """Early stopping looks at the training loss where there is no text to validate on; that is told."""
    blind: dict[str, None] = {}
    for run in runs:
        dataset = datasets.get(run.data.dataset)
        if run.main != TRAIN or dataset is None or run.training.patience is None:
            continue
        if dataset.split.valid == 0 and dataset.valid_source is None:
            blind[run.data.dataset] = None
    return [
        f"training.patience will look at the training loss: the data set {name!r} has no valid split" for name in blind
    ]
