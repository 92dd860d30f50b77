"""What a sweep under fire must have in common with the undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from terry.cluster.core.model import EndReason, JobRecord, JobState
from terry.jobs.sweeps.command import COMMAND
from terry.logs.records.metrics import read_series
from tests.faults.workspace_under_fire import UnderFire

#: Measurements of time: no two runs agree in them.
OF_TIME = frozenset({"time", "tokens_per_s", "utilisation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came out of a run."""

    weights: str  #: sha256 of the final weights; of a program: what it has counted to
    best_weights: str
    rollbacks: int
    series: list[dict[str, Any]]  #: all measurements but those of time


def reference_of(place: UnderFire, sweeps: list[str]) -> dict[str, Outcome]:
    """Outcomes of undisturbed sweeps by settings. Raises AssertionError where they were not undisturbed."""
    records = [record for sweep in sweeps for record in _runs(place, sweep)]
    found = {_settings(r): outcome(place, r) for r in records}
    assert len(found) == len(records) >= 20
    assert all(r.attempt == 1 for r in records), "the reference was disturbed"
    assert len({o.weights for o in found.values()}) == len(found), "two runs are the same"
    assert any(o.rollbacks for o in found.values()), "no run rolls back"
    return found


def outcome(place: UnderFire, record: JobRecord) -> Outcome:
    """Read what a run left."""
    run = place.workspace.run(record.job.id)
    result = json.loads(run.result.read_bytes())
    series = [{k: v for k, v in row.items() if k not in OF_TIME} for row in read_series(run, record.first_attempt)]
    if record.job.entrypoint == COMMAND:
        final = (run.root / "work" / "final.txt").read_text(encoding="ascii")
        return Outcome(weights=final, best_weights=final, rollbacks=0, series=series)
    return Outcome(
        weights=result["model_sha256"],
        best_weights=result["best_model_sha256"],
        rollbacks=result["rollbacks"],
        series=series,
    )


def differences(place: UnderFire, sweeps: list[str], reference: dict[str, Outcome]) -> Iterator[str]:
    """All that is not as it was undisturbed, and every attempt that is not accounted for."""
    for sweep in sweeps:
        records = _runs(place, sweep)
        if not records or {_settings(r) for r in records} != {key for key in reference if _alike(key, records[0])}:
            yield f"{sweep} has other runs than the reference"
        for record in records:
            for text in (*_attempts(place, record), *_outcome(place, record, reference[_settings(record)])):
                yield f"{record.job.id}: {text}"


def _runs(place: UnderFire, sweep: str) -> list[JobRecord]:
    return [r for r in place.state().jobs.values() if r.job.sweep == sweep and r.job.kind == "train"]


def _settings(record: JobRecord) -> str:
    return json.dumps(record.job.labels, sort_keys=True)


def _alike(settings: str, record: JobRecord) -> bool:
    """Whether these settings are those of a run of the record's kind: a training's, or a program's."""
    return json.loads(settings).keys() >= record.job.labels.keys()


def _attempts(place: UnderFire, record: JobRecord) -> Iterator[str]:
    ends = [a.end.reason if a.end else None for a in record.attempts]
    if record.state is not JobState.COMPLETED or ends.count(EndReason.SUCCESS) != 1:
        yield f"is {record.state}, its attempts ended {ends}"
    if None in ends:
        yield "has an attempt without an end"
    on_disk = {number for number, _ in place.workspace.run(record.job.id).attempts()}
    if unknown := on_disk - {a.number for a in record.attempts}:
        yield f"attempts {sorted(unknown)} are on disk and not in the journal"


def _outcome(place: UnderFire, record: JobRecord, wanted: Outcome) -> Iterator[str]:
    try:
        found = outcome(place, record)
    except OSError as error:
        yield f"has no result: {error}"
        return
    if (found.weights, found.best_weights) != (wanted.weights, wanted.best_weights):
        yield f"has other weights: {found.weights} instead of {wanted.weights}"
    if found.rollbacks != wanted.rollbacks:
        yield f"rolled back {found.rollbacks} times instead of {wanted.rollbacks}"
    if found.series != wanted.series:
        steps, expected = [row["step"] for row in found.series], [row["step"] for row in wanted.series]
        missing, more = sorted(set(expected) - set(steps)), sorted(set(steps) - set(expected))
        other = [row["step"] for row, right in zip(found.series, wanted.series, strict=False) if row != right]
        yield f"measurements: missing {missing[:5]}, too many {more[:5]}, different {other[:5]}"
