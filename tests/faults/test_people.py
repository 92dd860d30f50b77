"""What people do to running work, and what a full disk does to it: real Ray, real trainings, the command line."""

from __future__ import annotations

import json
import shlex

import pytest

from terry.cluster.core.model import EndReason, JobRecord, JobState
from tests.faults.small_disk import SmallDisk
from tests.faults.workspace_under_fire import UnderFire

pytestmark = pytest.mark.timeout(600)


def records(place: UnderFire, name: str) -> list[JobRecord]:
    return [r for r in place.state().jobs.values() if r.job.sweep == name and r.job.kind == "train"]


def test_a_sweep_is_paused_frees_its_device_and_goes_on(place: UnderFire) -> None:
    place.submit("pause", epochs=320)
    running = [job["id"] for job in place.until_training("pause")]
    place.run("pause", "pause")
    place.until(lambda: all(r.state in {JobState.HELD, JobState.COMPLETED} for r in records(place, "pause")))
    assert not place.at_work()
    assert any(place.ends(job)[-1] is EndReason.PAUSED for job in running)
    place.run("resume", "pause")
    place.finish("pause")
    place.assert_each_done_once("pause")
    for job in running:
        assert place.ends(job) in ([EndReason.PAUSED, EndReason.SUCCESS], [EndReason.SUCCESS])


def test_jobs_are_cancelled_and_resubmitted_one_by_one_and_by_selection(place: UnderFire) -> None:
    place.submit("cancel", epochs=400)
    first = place.until_training("cancel")[0]["id"]
    place.run("cancel", first)
    place.until(lambda: place.state_of(first) is JobState.CANCELLED)
    place.run("cancel", "cancel")
    place.until(lambda: all(r.state is JobState.CANCELLED for r in records(place, "cancel")))
    assert EndReason.CANCELLED in place.ends(first)
    assert "cancelled" in place.run("explain", first).stdout

    place.run("resubmit", first)
    place.until(lambda: place.state_of(first) is JobState.RUNNING)
    assert place.until(lambda: _start(place, first, 2)) > 0, "from its checkpoint"
    place.run("cancel", first)
    place.until(lambda: place.state_of(first) is JobState.CANCELLED)

    place.run("resubmit", "--from-scratch", first)
    place.until(lambda: place.state_of(first) is JobState.RUNNING)
    assert place.until(lambda: _start(place, first, 3)) == -1, "from nothing"
    assert place.state().jobs[first].first_attempt == 3
    place.run("cancel", "state:running")
    place.until(lambda: all(r.state is JobState.CANCELLED for r in records(place, "cancel")))
    assert [a.series for a in place.attempts(first)] == [1, 2, 3], "the history stays"


def _start(place: UnderFire, job: str, attempt: int) -> int | None:
    """The step that an attempt went on from, once it has said so; -1: from none."""
    path = place.workspace.run(job).attempt(attempt).metrics
    lines = path.read_text().splitlines() if path.exists() else []
    return int(json.loads(lines[0])["start"]) if lines else None


def test_a_full_disk_holds_jobs_and_stops_nothing_for_good(place: UnderFire, disk: SmallDisk) -> None:
    place.submit("full", epochs=25)
    place.until_training("full")
    epoch = place.state().epoch
    disk.fill()
    try:
        place.until(lambda: not place.at_work())  # no job could go on
        place.state()  # what stands in the journal is whole
        told = place.run("cancel", "full", check=False).stderr
        assert told.startswith(f"error: {place.workspace.inbox}/tmp/"), "people are told where"
        assert told.endswith(": the disk is full\n")
    finally:
        disk.free()
    held = place.until(lambda: [r for r in records(place, "full") if r.state is JobState.HELD])
    assert all("no space left" in r.reason.lower() for r in held)
    assert "make room" in place.run("explain", held[0].job.id).stdout.lower()
    place.until(lambda: _resumed_and_done(place, "full"))
    place.assert_each_done_once("full")
    assert place.state().epoch >= epoch


def _resumed_and_done(place: UnderFire, name: str) -> bool:
    """Let go on what is held, now or a little later (its end was not heard of yet); True once all is done."""
    if any(r.state is JobState.HELD for r in records(place, name)):
        place.run("resume", name)
    return all(r.state is JobState.COMPLETED for r in records(place, name))


def test_a_command_is_run_at_the_end_of_a_sweep(place: UnderFire) -> None:
    told = place.folder / "told"
    command = f'echo "$TERRY_EVENT $TERRY_SWEEP $TERRY_STATE" >> {shlex.quote(str(told))}'
    try:
        place.workspace.config.write_text(f"notify: {{command: {json.dumps(command)}}}\n")
        place.submit("notify", epochs=2)
        place.finish("notify")
        place.until(told.exists)
        assert told.read_text() == "sweep notify completed\n"
        place.workspace.config.write_text("notify: {comand: true}\n")
        place.run("down")
        said = place.run("up", check=False)
        assert said.returncode == 2
        assert "terry.yaml:1: notify.comand: unknown key; did you mean 'command'?" in said.stderr
    finally:
        place.workspace.config.unlink()  # others use the workspace after us
