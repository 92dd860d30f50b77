"""What a report says of the selected runs: read from the workspace's files, put together as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from terry.cluster.client.reader import Reader
from terry.cluster.client.results import config_of, made_of, ranking, result_row_of
from terry.cluster.core.model import SUCCESSES, JobRecord
from terry.cluster.errors import UserError
from terry.cluster.host.clock import now
from terry.data_prep.config import DatasetConfig
from terry.jobs.sweeps.spec import RunConfig
from terry.jobs.sweeps.sweep import pruned
from terry.logs.records.curves import Curve, read_curve
from terry.logs.records.results import ResultRow, best_first, read_result
from terry.logs.report.content import EnsembleFigures, Incident, Recipe, Report, Sample
from terry.logs.statistics.seeds import Configuration, Ranked, is_seed
from terry.logs.view.timeline import end_in_words

#: Texts of one model, and characters of one text, that a page shows.
_TEXTS, _CHARACTERS = 5, 2000
#: Configurations whose curves are drawn; more is a thicket.
_DRAWN = 40
_NOT_TRAINED = frozenset({"prepare", "evaluate", "sample"})


def report_of(reader: Reader, selectors: Sequence[str]) -> Report:
    """The report. Raises UserError where none of the selected runs has ended."""
    records = [record for record in reader.select_jobs(selectors) if record.job.kind != "prepare"]
    trained = [record for record in records if record.job.kind not in _NOT_TRAINED]
    rows = best_first(result_row_of(reader, record) for record in trained if record.state.is_final)
    if not rows:
        raise UserError("none of these runs has ended yet, so there is nothing to report")
    ranked, figure = _ranked(rows)
    configs = {record.job.id: config_of(reader, record) for record in trained}
    return Report(
        title=" ".join(selectors) or reader.workspace.root.name,
        workspace=str(reader.workspace.root),
        made_at=now(),
        version=version("terry-cluster"),
        figure=figure,
        ranked=tuple(ranked),
        rows=tuple(rows),
        states=dict(Counter(str(record.state) for record in records)),
        alike=_alike(list(configs.values())),
        curves=dict(_curves(reader, ranked, trained)),
        incidents=tuple(_incidents(records)),
        ensembles=tuple(_ensembles(reader, records)),
        samples=tuple(_samples(reader, records)),
        made_of=_made_of(reader, trained),
        recipes=tuple(_recipes(reader, ranked, {record.job.id: record for record in trained}, configs)),
    )


def _ranked(rows: Sequence[ResultRow]) -> tuple[list[Ranked], str]:
    """Nothing is ranked where the runs have no loss in common."""
    try:
        return ranking(rows, None)
    except UserError:
        return [], ""


def _alike(configs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Settings that all runs have, with one value."""
    from terry.cluster.config.typed import flatten

    flat = [flatten(config) for config in configs]
    first = flat[0] if flat else {}
    shared = {key: value for key, value in first.items() if all(key in c and c[key] == value for c in flat[1:])}
    return {key: str(value) for key, value in shared.items() if value is not None}


def _curves(
    reader: Reader, ranked: Sequence[Ranked], records: Iterable[JobRecord]
) -> Iterator[tuple[str, tuple[Curve, ...]]]:
    by_id = {record.job.id: record for record in records}
    for each in ranked[:_DRAWN]:
        runs = [by_id[row.id] for row in each.configuration.runs]
        read = [read_curve(reader.workspace.run(r.job.id), r.job.id, r.first_attempt) for r in runs]
        yield each.configuration.name, tuple(curve for curve in read if curve.steps)


def _incidents(records: Iterable[JobRecord]) -> Iterator[Incident]:
    for record in records:
        lines = [
            f"attempt {attempt.number} on {attempt.device}: {_ended(attempt.end.reason, attempt.end.message)}"
            for attempt in record.attempts
            if attempt.end is not None and attempt.end.reason not in SUCCESSES
        ]
        if lines:
            after = "completed in the end" if record.state == "completed" else f"now {record.state}"
            yield Incident(run=record.job.id, lines=(*lines, after))


def _ended(reason: Any, message: str) -> str:
    said = message.splitlines()[0][:300] if message else ""
    return f"{end_in_words(reason)}: {said}" if said else end_in_words(reason)


def _ensembles(reader: Reader, records: Iterable[JobRecord]) -> Iterator[EnsembleFigures]:
    for record in records:
        if record.job.kind != "evaluate" or record.state != "completed":
            continue
        found = read_result(reader.workspace.run(record.job.id))
        members = [m for m in found.get("members", ()) if isinstance(m, dict)]
        if len(members) < 2:
            continue
        perplexities = [p for m in members if (p := _number(m.get("perplexity"))) is not None]
        yield EnsembleFigures(
            name=str(found.get("ensemble", record.job.id)),
            size=len(members),
            perplexity=_number(found.get("perplexity")),
            mean_member=_number(found.get("mean_member_perplexity")),
            best_member=min(perplexities, default=None),
        )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _samples(reader: Reader, records: Iterable[JobRecord]) -> Iterator[Sample]:
    """The newest texts of each model; what begins with `#` says how they were made."""
    for record in records:
        folder = reader.workspace.run(record.job.id).root / "samples"
        files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
        if not files:
            continue
        lines = files[-1].read_text(encoding="utf-8", errors="replace").splitlines()
        texts = [line for line in lines if line.strip() and not line.startswith("#")]
        yield Sample(model=record.job.id, texts=tuple(text[:_CHARACTERS] for text in texts[:_TEXTS]))


def _made_of(reader: Reader, records: Iterable[JobRecord]) -> dict[str, tuple[str, ...]]:
    """Hashes and versions over all runs: one value where they agree."""
    values: dict[str, dict[str, None]] = {}
    for record in records:
        for key, value in made_of(reader.workspace.run(record.job.id)).items():
            values.setdefault(key, {})[str(value)] = None
    return {key: tuple(found) for key, found in values.items()}


def _recipes(
    reader: Reader, ranked: Sequence[Ranked], records: Mapping[str, JobRecord], configs: Mapping[str, dict[str, Any]]
) -> Iterator[Recipe]:
    for place, each in enumerate(ranked, 1):
        name = f"{each.configuration.sweep}-{place:03d}"
        first = records[each.configuration.runs[0].id]
        document = recipe(name, each.configuration, configs[first.job.id], _data_sets(reader, first))
        yield Recipe(
            name=each.configuration.name, command=f"terry-cluster submit {name}.yaml", sweep_file=_as_yaml(document)
        )


def recipe(
    name: str, configuration: Configuration, config: Mapping[str, Any], data_sets: Mapping[str, Any]
) -> dict[str, Any]:
    """A sweep file that makes the runs of one configuration, with their seeds; defaults are left out. Pure."""
    document: dict[str, Any] = {"name": name}
    seeds = dict.fromkeys(v for run in configuration.runs for key, v in run.labels.items() if is_seed(key))
    run = _stripped(pruned(config, msgspec.to_builtins(RunConfig())))
    run.pop("seeds", None)
    rule = run.pop("halving", None)
    if len(seeds) > 1 and all(seed.isdigit() for seed in seeds):
        document["seeds"] = [int(seed) for seed in seeds]
        own = config.get("command") or config.get("entrypoint")
        run.get("parameters" if own else "training", {}).pop("seed", None)
    if data_sets:
        document["datasets"] = {
            key: pruned(value, msgspec.to_builtins(DatasetConfig())) for key, value in data_sets.items()
        }
    document["run"] = _stripped(run)
    if rule is not None:
        document["sweep"] = {"halving": rule}
    return document


def _stripped(value: Any) -> Any:
    """Without keys that say nothing: None, and sections of nothing else."""
    if not isinstance(value, Mapping):
        return value
    found = {key: _stripped(inner) for key, inner in value.items() if inner is not None}
    return {key: inner for key, inner in found.items() if inner != {}}


def _data_sets(reader: Reader, record: JobRecord) -> dict[str, Any]:
    """The data sets that the run reads, as a sweep file says them: from the jobs that prepared them."""
    jobs = reader.jobs()
    found = {}
    for other in record.job.depends_on:
        known = jobs.get(other)
        if known is not None and known.job.kind == "prepare":
            config = config_of(reader, known)
            found[str(config.get("name", other))] = _stripped(config.get("dataset", {}))
    return found


def _as_yaml(document: Mapping[str, Any]) -> str:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    plain = msgspec.to_builtins(document)
    return str(yaml.dump(plain, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=False))
