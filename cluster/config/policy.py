"""`policy:` of terry.yaml, read and checked.

policy:
  fair_share:
    half_life: 1 day             # half of what was used so long ago is forgotten
    users: {ann: 2}              # twice the share of everybody else
    sweeps: {"urgent-*": 4}      # among the sweeps of one user
  limits:                        # at once: jobs, gpus (shares count as such), cpus (cores)
    users: {bob: {gpus: 2}, "*": {gpus: 8, jobs: 100}}
    sweeps: {"*": {jobs: 50}}
    nodes: {quattro: {jobs: 8}}
  aging: 1 day                   # a job that waits gains one level of priority for each so long
  backfill: true                 # short jobs may use room that is kept for a larger one
  longest_first: true            # within a sweep, once durations are known
  preemption: {difference: 10, after: 5 min, at_most: 3}     # left out: whatever runs runs on
"""

from __future__ import annotations

from terry.cluster.config.section import Section, seconds
from terry.cluster.core.policy import HALF_LIFE_S, Limit, Policy, Preemption

_KEYS = ("fair_share", "limits", "aging", "backfill", "longest_first", "preemption")


def policy_of(section: Section) -> Policy:
    """The policy that a section is. Raises UserError: file, line, what would be right."""
    section.allow(_KEYS)
    half_life, users, sweeps = _fair_share(section)
    limits = section.part("limits") if section.has("limits") else None
    if limits is not None:
        limits.allow(("users", "sweeps", "nodes"))
    return Policy(
        half_life_s=half_life,
        user_weights=users,
        sweep_weights=sweeps,
        user_limits=_limits(limits, "users"),
        sweep_limits=_limits(limits, "sweeps"),
        node_limits=_limits(limits, "nodes", keys=("jobs",)),
        aging_s=seconds(section, "aging", 86_400.0),
        backfill=_yes_or_no(section, "backfill"),
        longest_first=_yes_or_no(section, "longest_first"),
        preemption=_preemption(section),
    )


def _fair_share(section: Section) -> tuple[float, dict[str, float], dict[str, float]]:
    if not section.has("fair_share"):
        return HALF_LIFE_S, {}, {}
    part = section.part("fair_share")
    part.allow(("half_life", "users", "sweeps"))
    return seconds(part, "half_life", HALF_LIFE_S), _weights(part, "users"), _weights(part, "sweeps")


def _weights(section: Section, key: str) -> dict[str, float]:
    if not section.has(key):
        return {}
    table = section.part(key)
    return {str(name): _number(table, name, "a weight above 0", least=1e-6) for name in table.values}


def _limits(section: Section | None, key: str, keys: tuple[str, ...] = ("jobs", "gpus", "cpus")) -> dict[str, Limit]:
    if section is None or not section.has(key):
        return {}
    table = section.part(key)
    return {str(name): _limit(table.part(name), keys) for name in table.values}


def _limit(section: Section, keys: tuple[str, ...]) -> Limit:
    section.allow(keys)
    if not section.values:
        raise section.error(keys[0], "is missing: a limit says how many " + ", ".join(keys) + " may be in use at once")
    given = {str(key): _number(section, key, "a number, 0 or more", least=0.0) for key in section.values}
    if "jobs" in given and given["jobs"] != int(given["jobs"]):
        raise section.error("jobs", f"must be a whole number, not {given['jobs']:g}")
    jobs = int(given["jobs"]) if "jobs" in given else None
    return Limit(jobs=jobs, gpus=given.get("gpus"), cpus=given.get("cpus"))


def _preemption(section: Section) -> Preemption | None:
    if section.values.get("preemption", False) is False:
        return None
    if section.values["preemption"] is True:
        return Preemption()
    part = section.part("preemption")
    part.allow(("difference", "after", "at_most"))
    values = {}
    for key, least in (("difference", 1), ("at_most", 0)):
        value = part.values.get(key, getattr(Preemption(), key))
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise part.error(key, f"must be a whole number, {least} or more, not {value!r}")
        values[key] = value
    return Preemption(**values, after_s=seconds(part, "after", Preemption().after_s, least=0.0))


def _number(section: Section, key: str, what: str, *, least: float) -> float:
    value = section.values[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
        raise section.error(key, f"must be {what}, not {value!r}")
    return float(value)


def _yes_or_no(section: Section, key: str) -> bool:
    value = section.values.get(key, True)
    if not isinstance(value, bool):
        raise section.error(key, f"must be true or false, not {value!r}")
    return value
