"""Tables of `status` and `nodes`, as wide as the terminal is."""

from __future__ import annotations

from dataclasses import replace

from terry.cluster.core.model import JobState
from terry.logs.text.status import device_lines, job_lines, remark
from tests.helpers.views import DEVICES, job

LONG = replace(DEVICES[0], model="NVIDIA RTX 6000 Ada Generation", jobs=tuple(f"cells-{n:04}" for n in range(9)))


def test_a_narrow_terminal_shows_state_and_jobs_of_a_device() -> None:
    lines = device_lines([LONG], width=80)
    assert lines[0].split()[-2:] == ["STATE", "JOBS"]
    assert "MODEL" not in lines[0]
    assert "online  cells-0000 cells-0001" in lines[1]
    assert all(len(line) <= 80 for line in lines)


def test_a_wide_one_shows_all() -> None:
    lines = device_lines([LONG], width=200)
    assert lines[0].split() == ["DEVICE", "KIND", "MODEL", "USED", "BUSY", "MEMORY", "TEMP", "STATE", "JOBS"]
    assert lines[1].endswith("cells-0008")


def test_jobs_with_long_names_are_told_apart_in_a_narrow_terminal() -> None:
    """By the end of the name and by their settings, which come before the device; figures are never cut."""
    labels = {"cell": "gru", "optimizer": "adam", "seed": "2"}
    named = [
        job(n, JobState.RUNNING, id=f"what-we-do-for-the-paper-{n:04}", labels=labels, loss=4.5 + n) for n in (1, 2)
    ]
    lines = job_lines(named, width=80)
    assert lines[0].split()[:3] == ["JOB", "STATE", "SETTINGS"]
    for line, n in zip(lines[1:], (1, 2), strict=True):
        assert line.split()[0].endswith(f"-{n:04}")
        assert "gru adam seed=2" in line
        assert f"{4.5 + n:.4f}" in line
        assert len(line) <= 80


def test_only_the_state_is_coloured_whatever_a_job_is_called() -> None:
    named = job(1, JobState.RUNNING, id="running-0001")
    lines = job_lines([named], paint=lambda word, _: f"<{word}>")
    assert lines[1].startswith("running-0001  <running>")


def test_the_note_of_a_failure_is_the_error() -> None:
    """By which rule it is final, `explain` says."""
    rule = "an exception before the first step is a bug (KeyError: 'x')"
    failed = job(1, JobState.FAILED, reason=rule, message="KeyError: 'x'")
    assert remark(failed) == "KeyError: 'x'"
