"""The lease: epochs grow, the superseded stop, the dead are known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from terry.cluster.errors import LostLease
from terry.cluster.files import lease
from terry.cluster.files.paths import Workspace
from tests.helpers.queue_values import at


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_each_controller_has_a_higher_epoch_and_the_one_before_stops(workspace: Workspace) -> None:
    first = lease.acquire(workspace, at(0))
    first.check()
    second = lease.acquire(workspace, at(1))
    assert (first.epoch, second.epoch) == (1, 2)
    second.check()
    for act in (first.check, lambda: first.heartbeat(at(2)), lambda: first.release(at(2))):
        with pytest.raises(LostLease, match="controller 2"):
            act()
    found = lease.read(workspace)
    assert found is not None
    assert found.epoch == 2


def test_of_two_with_one_epoch_the_one_that_wrote_last_has_it(workspace: Workspace) -> None:
    held = lease.acquire(workspace, at(0))
    other = msgspec.structs.replace(held.lease, host="another")
    workspace.lease.write_bytes(msgspec.json.encode(other))
    with pytest.raises(LostLease, match="another"):
        held.check()


def test_the_lock_keeps_a_second_controller_of_this_machine_out(workspace: Workspace, tmp_path: Path) -> None:
    first = lease.acquire(workspace, at(0), lock_file=tmp_path / "lock")
    with pytest.raises(lease.LockHeld, match="alive on this machine"):
        lease.acquire(workspace, at(1), lock_file=tmp_path / "lock")
    first.check()
    first.let_go()
    assert lease.acquire(workspace, at(2), lock_file=tmp_path / "lock").epoch == 2


def test_the_lock_goes_with_its_process(workspace: Workspace, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from terry.cluster.files import lease; from terry.cluster.files.paths import Workspace\n"
        f"workspace, lock = Workspace(Path({str(workspace.root)!r})), Path({str(lock)!r})\n"
        "held = lease.acquire(workspace, datetime.now(UTC), lock_file=lock)\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(lease.LockHeld):
            lease.acquire(workspace, at(1), lock_file=lock)
        found = lease.read(workspace)
        assert found is not None
        assert found.pid == process.pid
        assert found.alive(at(10**9)), "on its own machine a process that lives is alive, however old its heartbeat"
        process.kill()
        process.wait()
        assert not found.alive(found.heartbeat)
    assert lease.acquire(workspace, at(1), lock_file=lock, wait_s=5.0).epoch == 2


def test_on_another_machine_the_heartbeat_decides(workspace: Workspace) -> None:
    held = lease.acquire(workspace, at(0))
    assert held.lease.alive(at(lease.DEAD_AFTER_S - 1), host="another")
    assert not held.lease.alive(at(lease.DEAD_AFTER_S + 1), host="another")
    held.heartbeat(at(100))
    found = lease.read(workspace)
    assert found is not None
    assert found.alive(at(101), host="another")


def test_one_that_ended_on_purpose_is_not_alive(workspace: Workspace) -> None:
    held = lease.acquire(workspace, at(0))
    held.release(at(1))
    found = lease.read(workspace)
    assert found is not None
    assert found.stopped
    assert not found.alive(at(1))


def test_a_reused_pid_is_not_taken_for_the_controller(workspace: Workspace) -> None:
    held = lease.acquire(workspace, at(0))
    assert held.lease.pid == os.getpid()
    assert held.lease.alive(at(0))
    assert not msgspec.structs.replace(held.lease, started="12345@another-boot").alive(at(0))


def test_a_lease_that_is_lost_or_damaged_is_no_lease(workspace: Workspace) -> None:
    assert lease.read(workspace) is None
    held = lease.acquire(workspace, at(0))
    workspace.lease.write_bytes(b"\x00\x00")
    assert lease.read(workspace) is None
    held.check()
    held.raise_epoch(41, at(1))
    assert lease.acquire(workspace, at(2)).epoch == 43
