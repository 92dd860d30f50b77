"""SELECTOR: how people name jobs on the command line. Pure.

A job id, a prefix of one that fits no other, a sweep's or ensemble's name, a glob on ids: names, which are united.
Then what they must be (terry.cluster.client.filters): `state:failed`, `tag:paper`, `setting:cell=gru`, `loss<4.5`.
`cells state:failed` are the failed jobs of `cells`.

Jobs that are put away, and those that another one has replaced, are meant only by their id, or where they are asked
for: `is:archived`, `is:removed`, `is:replaced`, `is:any`.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from terry.cluster.client.filters import Facts, asks_for_hidden, is_filter, matcher
from terry.cluster.core.model import JobRecord
from terry.cluster.errors import UserError, nearest

#: Ensemble name -> ids of its members.
Ensembles = Mapping[str, Collection[str]]

_GLOB = set("*?[")


def select_jobs(
    selectors: Sequence[str],
    jobs: Mapping[str, JobRecord],
    ensembles: Ensembles | None = None,
    *,
    hidden: Container[str] = (),
    facts: Facts | None = None,
) -> list[JobRecord]:
    """The jobs that are meant, in the order of `jobs`; none given: all that are not hidden.

    hidden: ids of jobs that are meant only by name. facts: what filters want to know of jobs beyond their records.
    Raises UserError where a selector means nothing, or a prefix more than one job.
    """
    names = [s for s in selectors if not is_filter(s)]
    filters = [s for s in selectors if is_filter(s)]
    fits = matcher(filters, facts or Facts())
    whole: Container[str] = () if asks_for_hidden(filters) else hidden
    chosen = set().union(*(_named(name, jobs, ensembles or {}, whole) for name in names)) if names else None
    return [
        record
        for job_id, record in jobs.items()
        if (job_id not in whole if chosen is None else job_id in chosen) and fits(record)
    ]


def select_job(
    selector: str,
    jobs: Mapping[str, JobRecord],
    ensembles: Ensembles | None = None,
    *,
    hidden: Container[str] = (),
    facts: Facts | None = None,
) -> JobRecord:
    """The one job that is meant. Raises UserError where it is none or several."""
    found = select_jobs([selector], jobs, ensembles, hidden=hidden, facts=facts)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"no job is in {selector!r}")
    raise UserError(f"{selector!r} means {len(found):,} jobs ({few(r.job.id for r in found)}); name one of them")


def _named(name: str, jobs: Mapping[str, JobRecord], ensembles: Ensembles, hidden: Container[str]) -> set[str]:
    """Ids of the jobs that one name means. An ensemble's members belong to it also where they are put away."""
    if name in jobs:
        return {name}
    if _GLOB & set(name):
        found = {job_id for job_id in jobs if fnmatchcase(job_id, name)}
    else:
        found = {job_id for job_id, record in jobs.items() if record.job.sweep == name}
    shown = {job_id for job_id in found if job_id not in hidden}
    if not _GLOB & set(name):
        shown |= set(ensembles.get(name, ())) & jobs.keys()
        shown = shown or (set() if found else _by_prefix(name, jobs))
    if not shown and not found:
        raise UserError(_nothing(name, jobs, ensembles))
    return shown


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
