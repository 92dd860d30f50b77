"""What is simulated, and what came of it: a sweep's jobs with the durations that are known, and the figures told."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.client.reader import Reader
from terry.cluster.client.submitting import owner
from terry.cluster.core.model import DeviceKind, Job, SpecRef
from terry.cluster.core.policy import Policy
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.clock import now
from terry.cluster.simulation.engine import Arrival, SimulationOutcome
from terry.cluster.simulation.traces import Nodes

#: Seconds that jobs take which are no runs (data preparation, evaluation) where nothing is known.
_SMALL_JOB_S = 60.0


def policy_of(workspace: WorkspacePaths, file: Path | None) -> Policy:
    """The policy of a file to try, else the workspace's own. Raises UserError."""
    from terry.cluster.config import terry_yaml as config

    if file is None:
        return config.read(workspace).policy
    if not file.is_file():
        raise UserError("there is no such policy", file=file)
    return config.read_file(file).policy


def sweep_arrivals(
    workspace: WorkspacePaths,
    file: Path,
    overrides: Sequence[str],
    cluster: Nodes,
    spread: tuple[float, float] | None,
    seed: int,
) -> list[Arrival]:
    """The sweep's jobs, all at once, with the durations that finished runs of the workspace have taught.

    spread: shortest and longest duration of a run (seconds), drawn from `seed`; None: as taught. Raises UserError.
    """
    from terry.jobs.submitting.submission import SubmitOptions, prepare_submission

    kind = DeviceKind.GPU if any(d.kind is DeviceKind.GPU for d in cluster.devices) else DeviceKind.CPU
    nowhere = WorkspacePaths(workspace.root / "simulated")  # all jobs of the file are new to it; never written to
    planned = prepare_submission(nowhere, file, overrides, SubmitOptions(kind=kind), now(), owner())
    profiles = _profiles(workspace)
    draw, spec = random.Random(seed), SpecRef(path="simulated", offset=0, length=1)
    arrivals = []
    for line in planned.lines:
        job = msgspec.convert({**msgspec.to_builtins(line.job), "spec": spec}, Job)
        profile = profiles.get(f"{job.sweep}/{job.kind}")
        known = None if profile is None or spread is not None else profile.seconds.expect(job.labels)
        seconds = known if known is not None else _drawn(spread, draw, job.kind)
        arrivals.append(Arrival(at_s=0.0, job=job, seconds=seconds))
    return arrivals


def _profiles(workspace: WorkspacePaths) -> dict[str, Any]:
    if not workspace.exists:
        return {}
    reader = Reader(workspace)
    reader.jobs()
    return reader.state.profiles


def _drawn(spread: tuple[float, float] | None, draw: Any, kind: str) -> float:
    if kind != "train":
        return _SMALL_JOB_S
    if spread is None:
        raise UserError(
            "nobody knows how long a run takes: no run of this sweep has finished in this workspace; "
            "give --duration, such as '20 min' or '10 min..2 h'"
        )
    low, high = spread
    return float(low * (high / low) ** draw.random())


def _quantile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def _part(used: float, there: float) -> float | None:
    return used / there if there else None


def document_of(outcome: SimulationOutcome) -> dict[str, Any]:
    """What `simulate --json` prints."""
    waits = list(outcome.waits_s.values())
    used: dict[str, float] = {}
    for (kind, _), seconds in outcome.used_s.items():
        used[kind] = used.get(kind, 0.0) + seconds
    return {
        "jobs": outcome.jobs,
        "completed": outcome.completed,
        "failed": outcome.failed,
        "makespan_s": outcome.makespan_s,
        "wait_s": {
            "mean": sum(waits) / len(waits) if waits else 0.0,
            "median": statistics.median(waits) if waits else 0.0,
            **{name: _quantile(waits, part) for name, part in (("p95", 0.95), ("most", 1.0))},
        },
        "utilisation": {
            kind: {
                "devices": there,
                "whole": _part(used.get(kind, 0.0), there * outcome.makespan_s),
                "while_jobs_waited": _part(
                    outcome.contended_used_s.get(kind, 0.0), outcome.contended_there_s.get(kind, 0.0)
                ),
            }
            for kind, there in outcome.capacity.items()
        },
        "device_hours": [
            {"kind": kind, "user": user, "hours": seconds / 3600}
            for (kind, user), seconds in sorted(outcome.used_s.items())
        ],
        "user_wait_s": [
            {"user": user, "jobs": len(waited), "mean": statistics.fmean(waited), "median": statistics.median(waited)}
            for user, waited in sorted(outcome.user_waits_s.items())
        ],
        "restarts": outcome.restarts,
        "preempted": outcome.preempted,
        "node_deaths": outcome.node_deaths,
        "drained": outcome.drained,
        "never_placed": outcome.unplaced,
        "planning_ms": {"median": 1000 * _quantile(outcome.plan_s, 0.5), "p99": 1000 * _quantile(outcome.plan_s, 0.99)},
        "events": outcome.events,
    }
