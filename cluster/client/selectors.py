"""SELECTOR: how people name jobs on the command line. Pure.

A job id, a prefix of one that fits no other, a sweep's or ensemble's name, a glob on ids, or `state:failed`.
Names are united; `state:` then keeps those in one of the given states: `cells state:failed` are the failed jobs of
`cells`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from terry.cluster.core.model import JobRecord, JobState
from terry.cluster.errors import UserError, nearest

#: Ensemble name -> ids of its members.
Ensembles = Mapping[str, Collection[str]]

_STATE = "state:"
_GLOB = set("*?[")


def select_jobs(
    selectors: Sequence[str], jobs: Mapping[str, JobRecord], ensembles: Ensembles | None = None
) -> list[JobRecord]:
    """The jobs that are meant, in the order of `jobs`; none given: all.

    Raises UserError where a selector means nothing, or a prefix more than one job.
    """
    names = [s for s in selectors if not s.startswith(_STATE)]
    states = {_state(s) for s in selectors if s.startswith(_STATE)}
    chosen = set().union(*(_named(name, jobs, ensembles or {}) for name in names)) if names else None
    return [
        record
        for job_id, record in jobs.items()
        if (chosen is None or job_id in chosen) and (not states or record.state in states)
    ]


def select_job(selector: str, jobs: Mapping[str, JobRecord], ensembles: Ensembles | None = None) -> JobRecord:
    """The one job that is meant. Raises UserError where it is none or several."""
    found = select_jobs([selector], jobs, ensembles)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"no job is in {selector!r}")
    raise UserError(f"{selector!r} means {len(found):,} jobs ({few(r.job.id for r in found)}); name one of them")


def _state(selector: str) -> JobState:
    name = selector.removeprefix(_STATE).lower()
    try:
        return JobState(name)
    except ValueError:
        hint = nearest(name, map(str, JobState), "") or "."
        raise UserError(f"{name!r} is no state{hint} The states are {', '.join(JobState)}") from None


def _named(name: str, jobs: Mapping[str, JobRecord], ensembles: Ensembles) -> set[str]:
    """Ids of the jobs that one name means."""
    if name in jobs:
        return {name}
    if _GLOB & set(name):
        found = {job_id for job_id in jobs if fnmatchcase(job_id, name)}
    else:
        found = {job_id for job_id, record in jobs.items() if record.job.sweep == name}
        found |= set(ensembles.get(name, ())) & jobs.keys()
        found = found or _by_prefix(name, jobs)
    if not found:
        raise UserError(_nothing(name, jobs, ensembles))
    return found


def _by_prefix(prefix: str, jobs: Mapping[str, JobRecord]) -> set[str]:
    found = sorted(job_id for job_id in jobs if job_id.startswith(prefix)) if prefix else []
    if len(found) > 1:
        raise UserError(
            f"{prefix!r} is the beginning of {len(found):,} job ids ({few(found)}); "
            f"write more of the id, or '{prefix}*' for all of them"
        )
    return set(found)


def _nothing(name: str, jobs: Mapping[str, JobRecord], ensembles: Ensembles) -> str:
    """The error for a selector that means no job: says what there is."""
    if not jobs:
        return f"{name!r} means no job: nothing was submitted in this workspace yet"
    sweeps = list(dict.fromkeys(record.job.sweep for record in jobs.values()))
    hint = nearest(name, [*sweeps, *ensembles, *jobs], "") or "."
    there = f"sweeps: {few(sweeps)}" + (f"; ensembles: {few(ensembles)}" if ensembles else "")
    return (
        f"no job, sweep, ensemble or glob is {name!r}{hint} There are these {there}; `terry-cluster status --all` "
        "lists the jobs"
    )


def few(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - 5:,} more" if len(listed) > 6 else ""
    return ", ".join(listed[: 5 if more else 6]) + more
