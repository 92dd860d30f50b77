"""The last step done, in memory that outlives the process that wrote it."""

from __future__ import annotations

import os
import signal

from terry.cluster.agent import pulse
from terry.cluster.agent.attempt import Pace


def test_what_a_killed_process_said_last_is_still_there() -> None:
    descriptor = pulse.make()
    pid = os.fork()
    if pid == 0:
        mine = pulse.Pulse(descriptor)
        for step in range(1, 12_346):
            mine.beat(step)
        mine.beat()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert pulse.look(descriptor) == (12_345, 12_346, 0, 0)
    os.close(descriptor)


def test_without_anybody_who_looks_it_does_no_harm() -> None:
    pulse.Pulse().beat(3)


def test_the_pace_is_the_median_of_what_was_seen() -> None:
    pace = Pace()
    assert pace.median_s == 0.0
    now = 0.0
    for step, seconds in enumerate((0.0, 2.0, 3.0, 400.0, 3.0), 100):  # one validation between two steps
        now += seconds
        pace.at(step, now)
        pace.at(step, now + 0.5)
    assert pace.median_s == 3.0
    pace.at(4, now + 1.0)  # a rollback is no step
    pace.at(14, now + 2.0)
    assert pace.median_s == 3.0
