"""Several Unix users on one node: none can see or steer another's runs, but in a group's workspace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.beds import Bed, why_not
from tests.testbed.users import Users

pytestmark = [pytest.mark.timeout(400), pytest.mark.skipif(bool(why_not()), reason=why_not())]

_SWEEP = """
name: {name}
run: {{entrypoint: "stays:main", resources: {{cpus: 1}}}}
sweep: {{grid: {{parameters.number: [1]}}}}
"""
_STAYS = """
def main(context):
    step = 0
    while not context.should_stop():
        step += 1
        context.log(step, loss=1.0)
        __import__("time").sleep(0.05)
"""


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    bed = Bed(tmp_path_factory.mktemp("bed"))
    bed.up("login")
    yield Users(bed, "login", "ann", "bob", "carol")
    bed.down()


def until(what: Callable[[], Any], timeout: float = 120.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.2)
    return found


def submit(users: Users, user: str, workspace: Path, name: str) -> str:
    """A job that runs until it is stopped; its id."""
    home = f"/tmp/home-{user}"
    for file, text in ((f"{name}.yaml", _SWEEP.format(name=name)), ("stays.py", _STAYS)):
        assert users.run(user, "sh", "-c", 'printf %s "$1" > "$2"', "sh", text, f"{home}/{file}").returncode == 0
    users.terry(user, workspace, "submit", f"{home}/{name}.yaml")
    found: str = users.json(user, workspace, "status", name)[0]["id"]
    return found


def state(users: Users, user: str, workspace: Path, job: str) -> str:
    found: str = users.json(user, workspace, "status", job)[0]["state"]
    return found


def test_two_users_have_a_workspace_each_on_one_node(users: Users) -> None:
    places = {user: Path(f"/tmp/home-{user}/runs") for user in ("ann", "bob")}
    jobs = {user: submit(users, user, place, f"of-{user}") for user, place in places.items()}
    for user, place in places.items():
        until(lambda user=user, place=place: state(users, user, place, jobs[user]) == "running")  # type: ignore[misc]

    done = users.terry("bob", places["ann"], "status", check=False)
    assert done.returncode == 2
    assert "permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert users.terry("bob", places["ann"], "cancel", jobs["ann"], check=False).returncode == 2
    folders = users.run("bob", "sh", "-c", "ls -d /tmp/terry-*; cat /tmp/terry-*/token").stdout
    assert folders.count("/tmp/terry-") >= 2
    assert users.bed.on("login", "cat", f"{places['ann']}/queue/cluster/token").stdout not in folders
    assert users.bed.on("login", "cat", f"{places['bob']}/queue/cluster/token").stdout in folders, "bob's own"
    mine = users.run("bob", "sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep TERRY_JOB_ID")
    assert jobs["ann"] not in mine.stdout

    assert state(users, "ann", places["ann"], jobs["ann"]) == "running"
    for user, place in places.items():
        users.terry(user, place, "down")
    assert users.bed.on("login", "pgrep", "-x", "raylet").stdout == ""


def test_in_a_groups_workspace_each_cancels_only_their_own(users: Users) -> None:
    place = Path("/tmp/lab/runs")
    users.bed.on("login", "install", "-d", "-o", "carol", "-g", "lab", "-m", "2770", "/tmp/lab")
    users.terry("carol", place, "init", "--group", "lab")
    users.terry("carol", place, "up")
    jobs = {user: submit(users, user, place, f"lab-of-{user}") for user in ("ann", "bob")}
    for user, job in jobs.items():
        until(lambda user=user, job=job: state(users, user, place, job) == "running")  # type: ignore[misc]

    users.terry("bob", place, "cancel", jobs["ann"], check=False)
    users.terry("bob", place, "cancel", jobs["bob"])
    until(lambda: state(users, "bob", place, jobs["bob"]) == "cancelled")
    assert state(users, "ann", place, jobs["ann"]) == "running", "asked before, and refused"
    users.terry("ann", place, "cancel", jobs["ann"])
    until(lambda: state(users, "ann", place, jobs["ann"]) == "cancelled")
    assert users.run("ann", "cat", f"{place}/queue/cluster/token").returncode != 0, "the token is carol's alone"
    users.terry("carol", place, "down")
