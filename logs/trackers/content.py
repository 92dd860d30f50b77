"""A run as any tracker takes it: settings, one curve whatever crashed in between, final figures. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Of a line of measurements, what is no measurement.
_OWN = frozenset({"step", "time"})
#: In the fingerprint: raised where a later version writes the same run in another way.
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """A run that has ended."""

    key: str  #: the same wherever its workspace is copied to; no other run's
    name: str  #: the job's id
    sweep: str
    state: str  #: completed, failed, cancelled
    settings: Mapping[str, Any]  #: all of its configuration, by dotted key
    tags: Mapping[str, str]
    figures: Mapping[str, Any]  #: as `results` has them
    curve: tuple[Mapping[str, Any], ...]  #: ascending steps: {"step": ..., "time": ..., "loss": ...}
    began: float = 0.0  #: seconds since 1970
    ended: float = 0.0

    def fingerprint(self) -> str:
        """Changes where anything of it has."""
        parts = [self.key, self.name, self.sweep, self.state, self.settings, self.tags, self.figures, self.curve]
        text = json.dumps([_FORMAT, *parts, self.began, self.ended], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def points(self) -> Iterator[tuple[str, int, float, float]]:
        """Name, step, time and value of all that was measured; NaN and infinities among them."""
        time = self.began
        for row in self.curve:
            time = _number(row.get("time")) or time
            for name, value in row.items():
                if name not in _OWN and (number := _number(value)) is not None:
                    yield name, int(row["step"]), time, number

    def numbers(self) -> dict[str, float]:
        """The final figures that are numbers."""
        found = {name: _number(value) for name, value in self.figures.items()}
        return {name: value for name, value in found.items() if value is not None}

    def not_finite(self) -> dict[str, str]:
        """For each measurement or figure with NaN or infinities: how many, and where the first stands."""
        found: dict[str, list[tuple[int, float]]] = {}
        for name, step, _, value in self.points():
            if not math.isfinite(value):
                found.setdefault(name, []).append((step, value))
        told = {name: f"{in_words(at[0][1])} at step {at[0][0]}, {len(at)} in all" for name, at in found.items()}
        finals = {f"final/{k}": in_words(v) for k, v in self.numbers().items() if not math.isfinite(v)}
        return told | finals

    @property
    def last_step(self) -> int:
        """Of the curve, or of the result where that says more."""
        steps = [int(row["step"]) for row in self.curve[-1:]]
        return max([0, *steps, int(self.numbers().get("steps", 0) or 0)])


class Tracker(Protocol):
    """Where runs are written. All of it is idempotent: what is there as it is now is left alone."""

    def there(self, run: TrackedRun) -> str | None:
        """The fingerprint of a run as it stands there, whole; None where it does not."""

    def write(self, run: TrackedRun) -> None:
        """Write it, in place of what an earlier export or one that was killed has left of it."""

    def close(self) -> None:
        """All is on disk, or sent."""


@dataclass(slots=True)
class Exported:
    """What an export came to."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  #: were there, and have changed since
    unchanged: list[str] = field(default_factory=list)


def export(run: TrackedRun, tracker: Tracker, exported: Exported) -> None:
    """Bring one run there, unless it is."""
    before, now = tracker.there(run), run.fingerprint()
    if before == now:
        exported.unchanged.append(run.name)
        return
    tracker.write(run)
    (exported.new if before is None else exported.changed).append(run.name)


def in_words(value: float) -> str:
    """NaN, Infinity or -Infinity."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number(value: object) -> float | None:
    """None of text, of true and false, and of what no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
