"""Kill everything that can be killed, one after the other: each run ends with the weights of an undisturbed one."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from terry.cluster.model import EndReason
from tests.faults.workspace_under_fire import UnderFire, kill

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderFire]:
    found = UnderFire(tmp_path_factory.mktemp("fire"))
    yield found
    found.run("down", check=False)
    kill(found.everything())


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
    place.until(lambda: len(place.job_processes()) == 1)  # the forkserver alone


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


@pytest.mark.parametrize("victim", ["agent", "forkserver"])
def test_who_watches_the_jobs_is_killed(place: UnderFire, reference: dict[str, str], victim: str) -> None:
    place.submit(victim)
    running = place.until_training(victim)
    kill([place.actor("AgentActor") if victim == "agent" else place.forkserver()])
    check(place, victim, reference)
    for job in running:
        assert place.ends(job["id"]) in ([EndReason.AGENT_LOST, EndReason.SUCCESS], [EndReason.SUCCESS])


def test_rays_own_daemons_are_killed(place: UnderFire, reference: dict[str, str]) -> None:
    place.submit("raylet")
    place.until_training("raylet")
    head = place.ray_processes()
    kill([p for p in head if Path(f"/proc/{p.pid}/exe").readlink().name == "raylet"])
    check(place, "raylet", reference)


def test_down_and_up_in_the_middle(place: UnderFire, reference: dict[str, str]) -> None:
    place.submit("updown")
    running = place.until_training("updown")
    place.run("down")
    assert place.everything() == []
    assert all(job["state"] == "pending" for job in place.status("updown") if job["id"] in {r["id"] for r in running})
    place.run("up")
    check(place, "updown", reference)
    for job in running:
        assert place.ends(job["id"]) in ([EndReason.PREEMPTED, EndReason.SUCCESS], [EndReason.SUCCESS])


def test_everything_is_killed_at_once(place: UnderFire, reference: dict[str, str]) -> None:
    place.submit("reboot")
    place.until_training("reboot")
    while left := place.everything():
        kill(left)
    place.run("up")
    check(place, "reboot", reference)


def test_what_is_submitted_while_nothing_runs_is_done_after_up(place: UnderFire, reference: dict[str, str]) -> None:
    place.run("down")
    assert place.everything() == []
    place.submit("asleep")  # starts the cluster by itself, and has returned long before that is up
    check(place, "asleep", reference)


def test_down_leaves_no_process(place: UnderFire) -> None:
    place.run("up")
    place.run("down")
    assert place.everything() == []
