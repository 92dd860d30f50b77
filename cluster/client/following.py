"""Following jobs until they have ended: reads files a few times a second, and only what changed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from terry.cluster.client.awaited import Awaited
from terry.cluster.client.reader import Reader
from terry.cluster.core.model import JobRecord, JobState
from terry.cluster.host.clock import now
from terry.logs.format import plural, printable
from terry.logs.text.status import eta_words, in_words
from terry.logs.view.build import ViewBuilder
from terry.logs.view.timeline import of_job
from terry.logs.view.view import JobView, TimelineEntry, View

#: How often the workspace is looked at (seconds), and how often a summary is said.
_LOOK_S, _SUMMARY_S = 0.2, 15.0


def until_ended(
    reader: Reader, awaited: Awaited, notify: Callable[[str], None] | None, timeout_s: float | None
) -> tuple[list[JobRecord], bool]:
    """Wait until all these jobs have ended, or the time is over. Returns how they stand, and whether all have ended.

    notify: told what happens, line by line, and now and then how all stand.
    """
    follower = Follower(notify or (lambda _: None))
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        stamp = reader.stamp()
        ended, records = awaited.have_ended(), awaited.records()
        follower.notify(records)
        if ended:
            return records, True
        if notify is not None:
            follower.summary(reader, frozenset(record.job.id for record in records))
        if not until_news(reader, stamp, deadline):
            return records, False


def until_news(reader: Reader, stamp: object, deadline: float | None) -> bool:
    """Wait until something changed on disk, or a second has passed (so that a summary is said). False: time is over."""
    until = time.monotonic() + 1.0
    while time.monotonic() < until and reader.stamp() == stamp:
        left = _LOOK_S if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(_LOOK_S, left))
    return deadline is None or time.monotonic() < deadline


def any_failed(jobs: Iterable[JobRecord | JobView]) -> bool:
    """True where a job failed or was cancelled."""
    bad = {JobState.FAILED, JobState.CANCELLED}
    return any(job.state in bad for job in jobs)


class Follower:
    """Says in words what happened to jobs since it was last asked, once each; and now and then how all stand."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._seen: dict[str, tuple[JobRecord, frozenset[TimelineEntry]]] = {}
        self._first = True
        self._notified_at = time.monotonic()

    def notify(self, records: Collection[JobRecord]) -> None:
        """Say what is new. What had happened before the first call is not."""
        new: list[TimelineEntry] = []
        for record in records:
            before = self._seen.get(record.job.id)
            if before is not None and before[0] is record:
                continue
            entries = frozenset(of_job(record))
            new += entries - before[1] if before else (() if self._first else entries)
            self._seen[record.job.id] = (record, entries)
        self._first = False
        for entry in sorted(new):
            self._notify(f"{_clock(entry.time)} {entry.job_id} {printable(entry.text)}")
            self._notified_at = time.monotonic()

    def summary(self, reader: Reader, wanted: Collection[str]) -> None:
        """Say how all stand, when nothing was said for a while."""
        if time.monotonic() - self._notified_at < _SUMMARY_S:
            return
        self._notified_at = time.monotonic()
        self._notify(f"{_clock(now())} {summary_line(ViewBuilder().view(reader.read()), wanted)}")


def summary_line(view: View, wanted: Collection[str]) -> str:
    """`3 running, 9 completed; ETA 12m; the controller ...`."""
    states = Counter(job.state for job in view.jobs if job.id in wanted)
    sweeps = {job.sweep for job in view.jobs if job.id in wanted}
    ends = [sweep.eta for sweep in view.sweeps if sweep.name in sweeps and sweep.eta]
    last = max(ends, key=lambda eta: eta.seconds, default=None)
    words = [in_words(states)] + ([f"ETA {eta_words(last)}"] if last else [])
    held = states[JobState.HELD]
    if held and held == sum(n for state, n in states.items() if not state.is_final):
        words.append(f"{plural(held, 'job')} held: `terry-cluster resume` lets them go on")
    if states[JobState.PENDING] and not any(states[state] for state in JobState if state.holds_device):
        words += [f"no more nodes: {printable(reason)}" for reason in view.absent[:1]]
    if view.controller.advice:
        words.append(printable(view.controller.advice))
    return "; ".join(words)


def _clock(time_: datetime) -> str:
    return f"{time_.astimezone():%H:%M:%S}"
