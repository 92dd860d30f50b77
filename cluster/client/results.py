"""What came out of runs, as plain values: a row for each, what sets them apart, their curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from terry.cluster.client import facts
from terry.cluster.client.reader import Reader
from terry.cluster.core.model import JobRecord
from terry.cluster.errors import UserError
from terry.cluster.files.paths import Run
from terry.logs.records.results import ResultRow, read_outcome, read_result, result_row

if TYPE_CHECKING:
    from terry.logs.records.curves import Curve
    from terry.logs.statistics.comparison import Difference
    from terry.logs.statistics.seeds import Ranked
    from terry.logs.text.compare import Compared

#: More curves than this are no picture.
_CURVES = 200

#: Kinds of jobs that are no runs.
NO_RUNS = frozenset({"prepare", "evaluate"})


def result_rows(reader: Reader, selectors: Sequence[str]) -> list[ResultRow]:
    """A row for each final run; jobs that prepare data are none."""
    records = [r for r in reader.select_jobs(selectors) if r.state.is_final and r.job.kind != "prepare"]
    return [result_row_of(reader, record) for record in records]


def result_row_of(reader: Reader, record: JobRecord) -> ResultRow:
    """The row of one run that has ended."""
    return result_row(record, read_result(reader.workspace.run(record.job.id)))


def ranking(
    rows: Sequence[ResultRow], figure: str | None, *, lower_is_better: bool = True, bootstrap_seed: int | None = None
) -> tuple[list[Ranked], str]:
    """Configurations by the mean of a figure over their seeds, and the figure's name. UserError where there is none."""
    from functools import partial

    from terry.logs.statistics.seeds import by_configuration, rank
    from terry.logs.statistics.summary import summarise

    name = _figure(rows, figure)
    summarised = partial(summarise, lower_is_better=lower_is_better, bootstrap_seed=bootstrap_seed)
    found = rank(by_configuration(rows), name, lower_is_better=lower_is_better, summarise_with=summarised)
    return found, name


def seeds_compared(
    reader: Reader, selectors: Sequence[str], figure: str | None
) -> tuple[str, list[Difference], str] | None:
    """The first configuration's name, each other one beside it, and the figure compared.

    None where no configuration was run with several seeds, or there is but one. Raises UserError for a figure that no
    run has.
    """
    from terry.logs.statistics.comparison import compare_all
    from terry.logs.statistics.seeds import by_configuration, has_seeds

    rows = [row for row in result_rows(reader, selectors) if row.kind not in NO_RUNS]
    found = by_configuration(rows)
    if len(found) < 2 or not has_seeds(found):
        return None
    name = _figure(rows, figure)
    first, others = found[0], found[1:]
    return first.name, compare_all(first.scores(name), [(c.name, c.scores(name)) for c in others], first.name), name


def _figure(rows: Sequence[ResultRow], asked: str | None) -> str:
    from terry.logs.statistics.seeds import figure_of, score

    if asked is None:
        found = figure_of(rows)
        if found is None:
            raise UserError("these runs have no loss in common; say `--by FIGURE`")
        return found
    if not any(score(row, asked) is not None for row in rows):
        known = sorted({key for row in rows for key in row.figures if score(row, key) is not None})
        raise UserError(f"no run has a figure {asked!r}; they have: {', '.join(known) or 'none'}")
    return asked


def compared(reader: Reader, selectors: Sequence[str]) -> list[Compared]:
    """What the selected runs were made of, and what came of each. Raises UserError where they are fewer than two."""
    records = [r for r in reader.select_jobs(selectors) if r.job.kind not in NO_RUNS]
    if len(records) < 2:
        few = records[0].job.id if records else "no run"
        raise UserError(f"that means {few}, which is not enough to compare: name two or more runs, or a whole sweep")
    return [_compared(reader, record) for record in records]


def _compared(reader: Reader, record: JobRecord) -> Compared:
    """What a run was made of, and what came of it: so far, where it has not ended."""
    from terry.cluster.config.typed import flatten
    from terry.logs.text.compare import Compared

    run = reader.workspace.run(record.job.id)
    result = read_result(run)
    if not result and record.attempts:
        seen = read_outcome(run, record)
        result = {"step": seen.step, "epoch": seen.epoch, "loss": seen.loss, "valid_loss": seen.valid_loss}
    config = config_of(reader, record)
    return Compared(row=result_row(record, result), settings=flatten(config), made_of=made_of(run))


def config_of(reader: Reader, record: JobRecord) -> dict[str, Any]:
    """The run's configuration, from the submission's line."""
    return facts.config_of(reader.workspace, record)


def made_of(run: Run) -> dict[str, Any]:
    """Hashes of code and data and versions of packages, from spec.yaml; empty where the run has not begun."""
    import yaml

    try:
        content = yaml.load(run.spec.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise UserError(f"cannot be read: {error}", file=run.spec) from None
    if not isinstance(content, dict):
        raise UserError("cannot be read: it is not a mapping", file=run.spec)
    hashes = {f"code of {name}": value for name, value in content.get("hashes", {}).items() if name != "identity"}
    data = {f"data {name}": value.get("folder") for name, value in content.get("inputs", {}).items()}
    return hashes | data | {f"version of {name}": value for name, value in content.get("versions", {}).items()}


def curves(reader: Reader, records: Sequence[JobRecord]) -> list[Curve]:
    """Loss curves of these jobs, without those that measured none. UserError where none did, or they are too many."""
    from terry.logs.records.curves import read_curve

    if len(records) > _CURVES:
        raise UserError(f"{len(records):,} curves are too many for one picture; select {_CURVES} at most")
    read = [read_curve(reader.workspace.run(r.job.id), r.job.id, r.first_attempt) for r in records]
    found = [curve for curve in read if curve.steps]
    if not found:
        raise UserError("none of these runs has measured a loss yet")
    return found


def seed_groups(records: Sequence[JobRecord]) -> dict[str, str]:
    """Run -> its configuration, where runs differ in their seed alone; empty where none do."""
    from terry.logs.statistics.seeds import is_seed

    names: dict[str, str] = {}
    sweeps = {record.job.sweep for record in records}
    for record in records:
        settings = [f"{key}={value}" for key, value in record.job.labels.items() if not is_seed(key)]
        sweep = [record.job.sweep] if len(sweeps) > 1 or not settings else []
        names[record.job.id] = " ".join([*sweep, *settings])
    return names if len(set(names.values())) < len(names) else {}


def groups(reader: Reader, records: Sequence[JobRecord], by: str | None) -> dict[str, str]:
    """Curve name -> the value of the setting that colours them; `by` is its short name, or as a sweep file has it."""
    if by is None:
        return {}
    known = list(dict.fromkeys(key for record in records for key in record.job.labels))
    if by in known:
        return {record.job.id: f"{by}={record.job.labels.get(by, '-')}" for record in records}
    from terry.cluster.config.typed import flatten

    settings = {record.job.id: flatten(config_of(reader, record)) for record in records}
    if not any(by in of_run for of_run in settings.values()):
        raise UserError(f"these runs have no setting {by!r}; they differ in: {', '.join(known) or 'nothing'}")
    return {job_id: f"{by}={of_run.get(by, '-')}" for job_id, of_run in settings.items()}
