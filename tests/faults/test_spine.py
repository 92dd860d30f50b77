"""Kill everything that can be killed, one after the other: each run ends with the weights of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from terry.cluster.core.model import EndReason
from terry.cluster.host.processes import in_session
from tests.faults.absent_disk import AbsentDisk
from tests.faults.workspace_under_fire import UnderFire, kill, titled

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def reference(place: UnderFire) -> dict[str, str]:
    """Weights of the sweep undisturbed."""
    place.submit("reference")
    place.finish("reference")
    weights = place.weights("reference")
    assert len(weights) == len(set(weights.values())) == 4
    assert all(job["attempt"] == 1 for job in place.status("reference"))
    return weights


def check(place: UnderFire, name: str, reference: dict[str, str]) -> None:
    """The sweep finishes, each run once, with the reference's weights, and leaves no process."""
    place.finish(name)
    place.assert_each_done_once(name)
    assert place.weights(name) == reference
    place.until(lambda: not place.at_work())  # the forkservers alone


def test_jobs_that_segfault_again_and_again_end_with_the_same_weights(
    place: UnderFire, reference: dict[str, str]
) -> None:
    place.submit("segfaults")
    chance = random.Random(11)
    hit: set[str] = set()
    for _ in range(5):
        job = chance.choice(place.until_training("segfaults"))["id"]
        hit.add(job)
        before = len(place.ends(job))
        kill([p for p in place.job_processes() if p.pid == place.pid_of(job)], signal.SIGSEGV)
        place.until(lambda job=job, before=before: len(place.ends(job)) > before)  # type: ignore[misc]
    check(place, "segfaults", reference)
    for job in hit:
        story = place.run("explain", job).stdout
        assert "SIGSEGV" in story
        assert "trainer.py" in story, "the Python stack is shown"
    others = [job for job in place.status("segfaults") if job["id"] not in hit]
    assert all(job["attempt"] == 1 for job in others), "the others never noticed"


def test_the_controller_is_killed_and_its_successor_takes_the_running_jobs_over(
    place: UnderFire, reference: dict[str, str]
) -> None:
    place.submit("controller")
    running = {job["id"]: place.pid_of(job["id"]) for job in place.until_training("controller")}
    epoch = place.state().epoch
    kill([place.actor("ControllerActor")])
    place.until(lambda: place.state().epoch > epoch)
    check(place, "controller", reference)
    for job, pid in running.items():
        assert [attempt.pid for attempt in place.attempts(job)] == [pid], "not started again"


def test_who_watches_the_jobs_is_killed(place: UnderFire, reference: dict[str, str]) -> None:
    place.submit("watchers")
    hit: set[str] = set()
    for victim in (place.forkserver, lambda: place.actor("AgentActor")):
        running = [job["id"] for job in place.until_training("watchers")]
        before = {job: len(place.ends(job)) for job in running}
        kill([victim()])
        place.until(lambda before=before: all(len(place.ends(job)) > n for job, n in before.items()))  # type: ignore[misc]
        hit |= {job for job in running if place.ends(job)[before[job]] is EndReason.AGENT_LOST}
    assert hit
    check(place, "watchers", reference)
    assert all(set(place.ends(job)) == {EndReason.AGENT_LOST, EndReason.SUCCESS} for job in hit)


def test_rays_own_daemons_are_killed(place: UnderFire, reference: dict[str, str]) -> None:
    place.submit("raylet")
    place.until_training("raylet")
    head = place.ray_processes()
    kill([p for p in head if Path(f"/proc/{p.pid}/exe").readlink().name == "raylet"])
    check(place, "raylet", reference)


def test_a_controller_that_starts_while_the_file_system_is_away_is_there_once_it_is_back(
    place: UnderFire, reference: dict[str, str]
) -> None:
    place.submit("away")
    place.until_training("away")
    epoch, controller = place.state().epoch, place.actor("ControllerActor")
    cluster = os.getsid(controller.pid)
    disk = AbsentDisk(place.workspace.root)
    if not disk.hang():
        place.run("cancel", "away")
        pytest.skip("a FUSE file system cannot be mounted here: that needs root and /dev/fuse")
    try:
        disk.lose()
        kill([controller])
        place.until(lambda: set(titled("ControllerActor", in_session(cluster))) - {controller})
    finally:
        disk.lift()
    place.until(lambda: place.state().epoch > epoch)
    check(place, "away", reference)


def test_outages(place: UnderFire, reference: dict[str, str]) -> None:
    """Submitted while nothing runs; down and up in the middle; everything killed at once, as by a power cut."""
    place.run("down")
    assert place.everything() == []
    place.submit("outages")  # starts the cluster by itself, and has returned long before that is up
    stopped = {job["id"] for job in place.until_training("outages")}
    place.run("down")
    assert place.everything() == []
    assert all(job["state"] == "pending" for job in place.status("outages") if job["id"] in stopped)
    assert all(set(place.ends(job)) <= {EndReason.PREEMPTED, EndReason.SUCCESS} for job in stopped)
    place.run("up")
    place.until_training("outages")
    while left := place.everything():
        kill(left)
    place.run("up")
    check(place, "outages", reference)
