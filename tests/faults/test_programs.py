"""Programs that know nothing of us, through the queue: paused, killed, out of time, put back. Real Ray and programs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from terry.cluster.core.model import EndReason, JobState
from terry.logs.records.metrics import read_series
from tests.faults.workspace_under_fire import UnderFire

pytestmark = pytest.mark.timeout(600)

#: Saves where it is when it is told to end, as training scripts do, and goes on from there if it is told to resume.
PROGRAM = """
import os, signal, sys, time

def save(*_):
    with open("state.new", "w") as file:
        file.write(str(step))
    os.replace("state.new", "state")
    sys.exit(1)

step = 0
signal.signal(signal.SIGTERM, save)
if sys.argv[1] == "resume" and os.path.exists("state"):
    step = int(open("state").read())
print("begun", sys.argv[1], step, flush=True)
while not os.path.exists("finish"):
    if os.path.exists("go"):
        step += 1
        print(f"step {step} loss {1 / step}", flush=True)
    if os.path.exists("crash"):
        os.remove("crash")
        with open("state", "w") as file:
            file.write(str(step))
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(0.02)
"""


def submit(place: UnderFire, name: str, **run: object) -> str:
    """A sweep of one program; returns the job."""
    (place.folder / "slow.py").write_text(PROGRAM)
    script = str(place.folder / "slow.py")
    settings = {
        "command": ["python3", script, "begin"],
        "resume_command": ["python3", script, "resume"],
        "metrics": {"step": "^step ([0-9]+)", "loss": "loss ([0-9.e-]+)"},
        "working_folder": "run",
        "resources": {"cpus": 1},
        **run,
    }
    (place.folder / f"{name}.yaml").write_text(json.dumps({"name": name, "run": settings}))
    place.run("submit", str(place.folder / f"{name}.yaml"))
    return f"{name}-0001"


def output(place: UnderFire, job: str, attempt: int) -> str:
    path = place.workspace.run(job).attempt(attempt).stdout
    return path.read_text() if path.exists() else ""


def work(place: UnderFire, job: str) -> Path:
    return place.workspace.run(job).work


def begun(place: UnderFire, job: str, attempt: int) -> str:
    """The first line of an attempt."""
    found: str = place.until(lambda: output(place, job, attempt).partition("\n")[0])
    return found


def test_a_paused_program_is_told_and_goes_on_by_its_resume_command_also_after_a_crash(place: UnderFire) -> None:
    job = submit(place, "program")
    assert begun(place, job, 1) == "begun begin 0"
    (work(place, job) / "go").touch()
    place.until(lambda: "step 3 " in output(place, job, 1))
    place.run("pause", job)
    place.until(lambda: place.state_of(job) is JobState.HELD)
    assert place.ends(job) == [EndReason.PAUSED]
    saved = int((work(place, job) / "state").read_text())
    assert saved >= 3
    assert not place.at_work()

    place.run("resume", job)
    assert begun(place, job, 2) == f"begun resume {saved}"
    (work(place, job) / "crash").touch()
    assert begun(place, job, 3).startswith("begun resume ")
    (work(place, job) / "finish").touch()
    place.finish("program")
    assert place.ends(job) == [EndReason.PAUSED, EndReason.CRASHED, EndReason.SUCCESS]
    assert place.attempts(job)[1].end.signal == signal.SIGSEGV  # type: ignore[union-attr]
    steps = [row["step"] for row in read_series(place.workspace.run(job)) if "loss" in row]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > saved


def test_a_program_out_of_time_is_told_and_ended(place: UnderFire) -> None:
    job = submit(place, "late", time_limit=1)
    place.until(lambda: place.state_of(job) is JobState.FAILED)
    assert place.ends(job) == [EndReason.TIME_LIMIT]
    assert (work(place, job) / "state").read_text() == "0", "it has had time to write its state"


def test_a_program_that_puts_itself_back_goes_on_later(place: UnderFire) -> None:
    script = "test $TERRY_ATTEMPT -gt 2 || exit 75"
    job = submit(place, "again", command=["sh", "-c", script], resume_command=["sh", "-c", script])
    place.finish("again")
    assert place.ends(job) == [EndReason.PREEMPTED, EndReason.PREEMPTED, EndReason.SUCCESS]
    assert os.listdir(work(place, job)) == []  # noqa: PTH208
