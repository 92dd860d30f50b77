"""When will it be done? From measured speeds, with a range. Pure: no clock, no files.

A running job ends when its steps are done at its own pace. What the others will take is learnt from the jobs that have
ended, with all their retries: a model of factors, one for the job's sweep and kind, one for each of its settings, one
for the device (a least-squares fit of the logarithms, each factor drawn towards 1 as long as few jobs speak for it).
The queue is then played forward by list scheduling (Graham 1966): whenever a slot is free, the next job takes it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: A duration is never trusted closer than this, however alike the finished jobs were.
_LEAST_DOUBT = 0.05

#: How far the range reaches where only one job, or only unfinished ones, could be measured.
_UNMEASURED_DOUBT = 0.3

#: Only so many of the newest jobs of a group are learnt from.
_SAMPLES = 400

#: So many jobs with factor 1 are taken as seen of each setting and device: one odd job says little.
_PRIOR = 1.0

_ROUNDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """Seconds from now, with the range in which the end is expected."""

    seconds: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationSample:
    """What one job took."""

    group: str  #: sweep and kind
    seconds: float  #: on devices, over all its attempts
    device: str = ""  #: where it ran; empty: on several
    labels: Mapping[str, str] = field(default_factory=dict)  #: the settings in which the jobs of its sweep differ
    finished: bool = True  #: False: projected from how far it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A job that holds a slot."""

    group: str
    sweep: str
    device: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    remaining_s: float | None  #: by its own measured pace; None: not measured yet
    elapsed_s: float  #: of all its attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A job that waits for a slot."""

    group: str
    sweep: str
    labels: Mapping[str, str] = field(default_factory=dict)
    done_s: float = 0.0  #: of its work, this much is saved in a checkpoint


def remaining_seconds(
    *, step: int | None, total_steps: int | None, steps_per_s: float | None, age_s: float = 0.0, ran_s: float = 0.0
) -> float | None:
    """Seconds until the last step of a running job, `age_s` seconds after its speed was measured; None: not known.

    ran_s: how long it took to get to `step`, from step 0 and with all that is not a step (validation, checkpoints);
    0: not known. The mean of both paces counts.
    """
    if step is None or not total_steps or not steps_per_s or steps_per_s <= 0 or not math.isfinite(steps_per_s):
        return None
    left = max(0, total_steps - step)
    now = left / steps_per_s
    overall = left * ran_s / step if step > 0.05 * total_steps and ran_s > 0 else now
    return max(0.0, (now + overall) / 2 - age_s)


class Durations:
    """What jobs take, learnt from samples; the newest stand last."""

    def __init__(self, samples: Iterable[DurationSample], models: Mapping[str, str] | None = None) -> None:
        """models: what each device is (`NVIDIA H100`): alike devices are expected to be alike fast."""
        self._models = models or {}
        self._groups: dict[str, _Fit] = {}
        by_group: dict[str, list[DurationSample]] = {}
        for sample in samples:
            if sample.seconds > 0:
                by_group.setdefault(sample.group, []).append(sample)
        for group, found in by_group.items():
            self._groups[group] = _Fit([(s, self._effects(s)) for s in found[-_SAMPLES:]])

    def _effects(self, sample: DurationSample) -> tuple[str, ...]:
        return (*_settings(sample.labels), *self._places(sample.device))

    def _places(self, device: str) -> tuple[str, ...]:
        if not device:
            return ()
        model = self._models.get(device)
        return (f"\0{model}", f"\0\0{device}") if model else (f"\0\0{device}",)

    def seconds(self, group: str, labels: Mapping[str, str]) -> float | None:
        """What a job of these settings takes on a device of ordinary speed; None where nothing is known."""
        fit = self._groups.get(group)
        if fit is None:
            return None
        return fit.typical * fit.factor(_settings(labels)) if fit.has_effects else fit.typical

    def slowness(self, group: str, device: str) -> float:
        """How many times longer than on a device of ordinary speed jobs take on this one."""
        fit = self._groups.get(group)
        return 1.0 if fit is None else fit.factor(self._places(device))

    def doubt(self, group: str, jobs: float) -> float:
        """Relative doubt about the sum of so many jobs' durations, one after another: twice its standard error."""
        fit = self._groups.get(group)
        if fit is None or fit.number < 2:
            return _UNMEASURED_DOUBT
        return max(_LEAST_DOUBT, 2 * fit.spread * math.sqrt(1 / fit.number + 1 / max(1.0, jobs)))


def _settings(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in labels.items())


class _Fit:
    """log(seconds) = mean + the effects of settings and device, by rounds of backfitting."""

    def __init__(self, samples: Sequence[tuple[DurationSample, tuple[str, ...]]]) -> None:
        self._effects: dict[str, float] = {}
        self.number = sum(sample.finished for sample, _ in samples)
        logs = [math.log(sample.seconds) for sample, _ in samples]
        uses: dict[str, list[int]] = {}
        for row, (_, effects) in enumerate(samples):
            for effect in effects:
                uses.setdefault(effect, []).append(row)
        mean = sum(logs) / len(logs)
        rest = [value - mean for value in logs]
        # What holds for all samples is the mean's; what holds for one alone cannot be told from chance.
        distinct = {effect: rows for effect, rows in uses.items() if 1 < len(rows) < len(samples)}
        for _ in range(_ROUNDS if distinct else 0):
            for effect, rows in distinct.items():
                change = sum(rest[row] for row in rows) + len(rows) * self._effects.get(effect, 0.0)
                new = change / (len(rows) + _PRIOR)
                moved = new - self._effects.get(effect, 0.0)
                self._effects[effect] = new
                for row in rows:
                    rest[row] -= moved
        self.spread = math.sqrt(sum(r * r for r in rest) / max(1, len(rest) - 1))
        # The mean of what exp makes of the logarithms' errors (Duan 1983, "smearing").
        self.typical = math.exp(mean) * sum(math.exp(r) for r in rest) / len(rest)

    @property
    def has_effects(self) -> bool:
        """False where no setting and no device makes a difference that is known."""
        return bool(self._effects)

    def factor(self, effects: Iterable[str]) -> float:
        """Product of the factors; 1 for those that are not known."""
        return math.exp(sum(self._effects.get(effect, 0.0) for effect in effects))


def forecast(
    running: Sequence[Running], queue: Sequence[Queued], durations: Durations, idle: Sequence[str]
) -> dict[str, Eta]:
    """When each sweep ends, by name. Sweeps with a job of unknown duration are left out; so is everything behind it.

    `queue` stands in the order in which jobs are placed; `idle` holds the device of each slot that is free.
    """
    play = _Play(durations)
    for job in running:
        play.run(job)
    for device in idle:
        play.free(device)
    for waiting in queue:
        if not play.place(waiting):
            play.unknown.update(q.sweep for q in queue)
            break
    return play.etas()


class _Play:
    """Slots and when each is free, played forward."""

    def __init__(self, durations: Durations) -> None:
        self.unknown: set[str] = set()  #: sweeps whose end cannot be told
        self._durations = durations
        self._slots: list[tuple[float, int, str]] = []  # a heap: when free, a number, device
        self._ends: dict[str, float] = {}
        self._placed: dict[str, tuple[str, int]] = {}  # sweep -> group of its last job, number of its jobs
        self._slowness: dict[tuple[str, str], float] = {}

    def run(self, job: Running) -> None:
        """A job that runs already."""
        left = job.remaining_s
        if left is None:
            whole = self._durations.seconds(job.group, job.labels)
            left = None if whole is None else max(0.0, whole * self._slow(job.group, job.device) - job.elapsed_s)
        if left is None:
            self.unknown.add(job.sweep)
        self._slots.append((left or 0.0, len(self._slots), job.device))
        heapq.heapify(self._slots)
        self._ends[job.sweep] = max(self._ends.get(job.sweep, 0.0), left or 0.0)

    def free(self, device: str) -> None:
        """A slot that is free now."""
        heapq.heappush(self._slots, (0.0, len(self._slots), device))

    def place(self, job: Queued) -> bool:
        """Give the job the slot that is free first. False where it is not known when that is, or what it takes."""
        whole = self._durations.seconds(job.group, job.labels)
        if whole is None or not self._slots:
            return False
        begin, number, device = self._slots[0]
        # What is done already is not done again; a tenth at least is left, for starting anew costs something, too.
        end = begin + max(0.1 * whole, whole - job.done_s) * self._slow(job.group, device)
        heapq.heapreplace(self._slots, (end, number, device))
        self._ends[job.sweep] = max(self._ends.get(job.sweep, 0.0), end)
        self._placed[job.sweep] = job.group, self._placed.get(job.sweep, ("", 0))[1] + 1
        return True

    def _slow(self, group: str, device: str) -> float:
        if (group, device) not in self._slowness:
            self._slowness[group, device] = self._durations.slowness(group, device)
        return self._slowness[group, device]

    def etas(self) -> dict[str, Eta]:
        """The end of each sweep, with its range."""
        return {sweep: self._eta(sweep, end) for sweep, end in self._ends.items() if sweep not in self.unknown}

    def _eta(self, sweep: str, end: float) -> Eta:
        group, jobs = self._placed.get(sweep, ("", 0))
        doubt = self._durations.doubt(group, jobs / len(self._slots)) if jobs else _LEAST_DOUBT
        return Eta(seconds=end, low=end * max(0.0, 1 - doubt), high=end * (1 + doubt))
