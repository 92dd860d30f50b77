"""Several Unix users on one node: none can see or steer another's runs, but in a group's workspace."""

from __future__ import annotations

import json
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


_OPENS_FILES = """
def main(context):
    import pathlib, subprocess, time
    (context.run_dir / "mine.txt").write_text("mine")
    subprocess.run(["sh", "-c", "mkdir -p deep && echo hers > deep/hers.txt"], cwd=context.run_dir, check=True)
    context.log(1, loss=1.0)
    print("hello", flush=True)
    context.finish({"loss": 1.0})
"""


def test_a_groups_workspace_depends_on_nobodys_umask_and_one_closed_file_on_nobody_else(users: Users) -> None:
    place = Path("/tmp/lab/closed runs")
    on = users.bed.on
    on("login", "install", "-d", "-o", "carol", "-g", "lab", "-m", "2770", "/tmp/lab")
    users.umask = "077"
    users.terry("carol", place, "init", "--group", "lab")
    users.terry("carol", place, "up")
    try:
        users.write("ann", "opens.py", _OPENS_FILES)
        users.write("ann", "opens.yaml", _SWEEP.format(name="opens").replace("stays", "opens"))
        users.terry("ann", place, "submit", "/tmp/home-ann/opens.yaml")
        users.terry("bob", place, "wait", "opens", "--timeout", "120")
        find = 'cd "$1" && find sweeps runs queue/journal ! -perm -g+r'
        closed = on("login", "sh", "-c", find, "sh", str(place)).stdout
        assert closed == "", "all that the submission and the job have made is the group's"
        there = on("login", "find", f"{place}/runs/opens-0001").stdout
        for name in ("mine.txt", "hers.txt", "metrics.jsonl", "stdout.log", "source/opens.py", "result.json", "tb/"):
            assert name in there, there
        assert "hello" in users.terry("bob", place, "logs", "opens-0001").stdout
        assert users.json("bob", place, "results", "opens", "--each")[0]["loss"] == 1.0
        said = users.terry("bob", place, "doctor", check=False).stdout
        assert "cannot be read" not in said, said

        # What an older version, or a person by hand, has left closed: before the controller has looked at it.
        controller = str(json.loads(on("login", "cat", f"{place}/queue/lease.json").stdout)["pid"])
        assert on("login", "kill", "-STOP", controller).returncode == 0
        users.write("ann", "shut.yaml", _SWEEP.format(name="shut").replace("stays", "opens"))
        users.terry("ann", place, "submit", "/tmp/home-ann/shut.yaml")
        users.run("ann", "chmod", "-R", "g-rwx", f"{place}/sweeps/shut")
        on("login", "kill", "-CONT", controller)
        on("login", "chmod", "g-rw", f"{place}/runs/opens-0001/result.json")
        for trap in ("sweeps/trap", "runs/mine-0001"):
            users.run("bob", "ln", "-s", "/tmp/home-bob", f"{place}/{trap}")
        mine = submit(users, "bob", place, "mine")
        assert {job["id"] for job in users.json("bob", place, "status")} >= {"opens-0001", mine}
        assert "cannot be read" in users.terry("bob", place, "status").stdout
        users.terry("bob", place, "results", "opens")
        doctor = users.terry("bob", place, "doctor", check=False)
        said = " ".join(doctor.stdout.split())
        repair = f"ann repairs it with `chmod -R g+rwX '{place}/sweeps/shut'`"
        assert repair in said, said
        assert f"carol repairs it with `chmod -R g+rwX '{place}/runs/opens-0001'`" in said
        said = " ".join(users.terry("ann", place, "doctor", check=False).stdout.split())
        assert "sweeps/trap is a link that bob has put there: it is not followed" in said
        trapped = users.terry("ann", place, "submit", "/tmp/home-ann/shut.yaml", "name=trap", check=False)
        assert "is a link that bob has put there" in trapped.stderr, trapped
        users.terry("bob", place, "cancel", mine)
        until(lambda: state(users, "bob", place, mine) == "cancelled")
        assert not on("login", "sh", "-c", "ls -d /tmp/home-bob/attempts /tmp/home-bob/submission-*").stdout

        assert users.run("ann", "chmod", "-R", "g+rwX", f"{place}/sweeps/shut").returncode == 0
        users.terry("bob", place, "wait", "shut", "--timeout", "120")
    finally:
        users.umask = "022"
        users.terry("carol", place, "down", check=False)
