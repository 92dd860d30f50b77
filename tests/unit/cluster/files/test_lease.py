"""The lease: epochs grow, the superseded stop, the dead are known."""

from __future__ import annotations

import itertools
import math
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from terry.cluster.core import events as e
from terry.cluster.errors import LostLease
from terry.cluster.files import lease
from terry.cluster.files.journal import Journal, read
from terry.cluster.files.lease import Liveness
from terry.cluster.files.paths import WorkspacePaths
from tests.helpers.queue_values import at


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    return WorkspacePaths(tmp_path / "workspace")


def alive(found: lease.Lease) -> bool:
    return lease.Watch().look(found) is Liveness.ALIVE


def test_each_controller_has_a_higher_epoch_and_the_one_before_stops(workspace: WorkspacePaths) -> None:
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


def test_of_two_with_one_epoch_the_one_that_wrote_last_has_it(workspace: WorkspacePaths) -> None:
    held = lease.acquire(workspace, at(0))
    other = msgspec.structs.replace(held.lease, host="another")
    workspace.lease.write_bytes(msgspec.json.encode(other))
    with pytest.raises(LostLease, match="another"):
        held.check()


def test_the_lock_keeps_a_second_controller_of_this_node_out(workspace: WorkspacePaths, tmp_path: Path) -> None:
    first = lease.acquire(workspace, at(0), lock_file=tmp_path / "lock")
    with pytest.raises(lease.LockHeld, match="alive on this node"):
        lease.acquire(workspace, at(1), lock_file=tmp_path / "lock")
    first.check()
    first.close()
    assert lease.acquire(workspace, at(2), lock_file=tmp_path / "lock").epoch == 2


def test_the_lock_goes_with_its_process(workspace: WorkspacePaths, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from terry.cluster.files import lease; from terry.cluster.files.paths import WorkspacePaths\n"
        f"workspace, lock = WorkspacePaths(Path({str(workspace.root)!r})), Path({str(lock)!r})\n"
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
        assert alive(found), "on its own node a process that lives is alive, however old its heartbeat"
        process.kill()
        process.wait()
        assert not alive(found)
    assert lease.acquire(workspace, at(1), lock_file=lock, wait_s=5.0).epoch == 2


class Clock:
    """An observer's monotonic clock."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def elsewhere(workspace: WorkspacePaths, offset_s: float = 0.0) -> Callable[[], lease.Lease]:
    """A controller on another node, whose clock is off; call it to let it show that it lives."""
    held = lease.acquire(workspace, at(offset_s))
    held.lease = msgspec.structs.replace(held.lease, host="another")
    workspace.lease.write_bytes(msgspec.json.encode(held.lease))
    seconds = itertools.count(1)

    def beat() -> lease.Lease:
        held.heartbeat(at(offset_s + next(seconds)))
        return held.lease

    return beat


@pytest.mark.parametrize("offset_s", [0.0, 25.0, -25.0, 3600.0, -3600.0])
def test_on_another_node_it_lives_as_long_as_its_lease_changes(workspace: WorkspacePaths, offset_s: float) -> None:
    """However far its clock is off: nobody compares it with another."""
    beat, clock = elsewhere(workspace, offset_s), Clock(5000.0)
    watch = lease.Watch(clock)
    seen = beat()
    assert watch.look(seen) is Liveness.UNKNOWN, "one look tells nothing"
    for _ in range(30):
        clock.now += 1.0
        assert watch.look(beat()) is Liveness.ALIVE
    last = lease.read(workspace)
    for _ in range(17):
        clock.now += 1.0
        assert watch.look(last) is Liveness.ALIVE
    found = []
    for _ in range(5):
        clock.now += 1.0
        found.append(watch.look(last))
    assert found[-1] is Liveness.DEAD
    clock.now += 1.0
    assert watch.look(beat()) is Liveness.ALIVE, "it was only silent"


def test_a_clock_that_is_set_while_it_is_watched_changes_nothing(workspace: WorkspacePaths) -> None:
    held, clock = lease.acquire(workspace, at(0)), Clock()
    watch = lease.Watch(clock)
    for step in (0, -3600, 3600, 0, -25, 25):
        clock.now += 1.0
        held.heartbeat(at(step))
        seen = msgspec.structs.replace(held.lease, host="another")
        found = watch.look(seen)
    assert found is Liveness.ALIVE


def test_one_that_stands_still_from_the_beginning_is_dead_after_20_s_of_watching(workspace: WorkspacePaths) -> None:
    beat, clock = elsewhere(workspace), Clock()
    watch, seen = lease.Watch(clock), beat()
    for _ in range(20):
        assert watch.look(seen) is Liveness.UNKNOWN
        clock.now += 1.0
    assert watch.look(seen) is Liveness.DEAD


def test_an_observer_that_was_away_itself_begins_anew(workspace: WorkspacePaths) -> None:
    """Stopped for 95 s, frozen, or in a snapshot: that nobody looked is not the controller's silence."""
    beat, clock = elsewhere(workspace), Clock()
    watch, seen = lease.Watch(clock), beat()
    watch.look(seen)
    clock.now += 95.0
    assert watch.look(seen) is Liveness.UNKNOWN
    assert watch.silent_s(seen) == 0.0
    clock.now += 1.0
    assert watch.look(beat()) is Liveness.ALIVE


def test_what_one_command_has_seen_the_next_goes_on_from(workspace: WorkspacePaths) -> None:
    beat, clock = elsewhere(workspace), Clock()
    seen = beat()
    first = lease.Watch(clock, away_s=math.inf)
    first.look(seen)
    clock.now += 21.0
    assert lease.Watch(clock, first.sight, math.inf).look(seen) is Liveness.DEAD, "without waiting again"
    assert lease.Watch(clock, first.sight, math.inf).look(beat()) is Liveness.UNKNOWN, "when, in those 21 s?"
    clock.now = 5.0
    assert lease.Watch(clock, first.sight, math.inf).look(beat()) is Liveness.ALIVE
    clock.now = -5.0
    assert lease.Watch(clock, first.sight, math.inf).look(beat()) is Liveness.UNKNOWN, "another boot's clock"


def test_one_that_ended_on_purpose_is_not_alive(workspace: WorkspacePaths) -> None:
    held = lease.acquire(workspace, at(0))
    held.release(at(1))
    found = lease.read(workspace)
    assert found is not None
    assert found.stopped
    assert not alive(found)


def test_a_reused_pid_is_not_taken_for_the_controller(workspace: WorkspacePaths) -> None:
    held = lease.acquire(workspace, at(0))
    assert held.lease.pid == os.getpid()
    assert alive(held.lease)
    assert not alive(msgspec.structs.replace(held.lease, started="12345@another-boot"))


def test_a_lease_that_is_lost_or_damaged_is_no_lease(workspace: WorkspacePaths) -> None:
    assert lease.read(workspace) is None
    held = lease.acquire(workspace, at(0))
    workspace.lease.write_bytes(b"\x00\x00")
    assert lease.read(workspace) is None
    held.check()
    held.raise_epoch(41, at(1))
    assert held.epoch == 42
    assert lease.acquire(workspace, at(2)).epoch == 43


# epochs


def test_an_epoch_is_taken_once_however_many_start_at_the_same_moment(workspace: WorkspacePaths) -> None:
    workspace.queue.mkdir(parents=True)
    taken: list[lease.HeldLease] = []
    start = threading.Barrier(8)

    def take() -> None:
        start.wait()
        taken.append(lease.acquire(workspace, at(0)))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held.epoch for held in taken) == [*range(1, 9)]
    *others, newest = sorted(taken, key=lambda held: held.epoch)
    newest.check()
    for held in others:
        with pytest.raises(LostLease, match="took over"):
            held.check()


def test_a_heartbeat_that_comes_after_a_takeover_does_not_take_the_workspace_back(workspace: WorkspacePaths) -> None:
    """It has looked, and then it stood still while another took the workspace: its lease lies over the other's."""
    first = lease.acquire(workspace, at(0))
    second = lease.acquire(workspace, at(1))
    workspace.lease.write_bytes(msgspec.json.encode(first.lease))
    second.check()
    with pytest.raises(LostLease, match=r"controller 2 on .* \(pid \d+\) took over from 1"):
        first.check()


def test_epochs_go_on_where_lease_and_epochs_were_lost(workspace: WorkspacePaths) -> None:
    for _ in range(9):
        lease.acquire(workspace, at(0))
    assert len([*workspace.epochs.iterdir()]) <= 4, "old ones are removed"
    workspace.lease.unlink()
    assert lease.acquire(workspace, at(0)).epoch == 10
    shutil.rmtree(workspace.epochs)
    assert lease.acquire(workspace, at(0)).epoch == 11


def test_a_queue_that_was_replaced_is_not_written_to(workspace: WorkspacePaths) -> None:
    """A backup was put in its place: what this controller knows is of the queue that was there before."""
    held = lease.acquire(workspace, at(0))
    workspace.queue.rename(workspace.root / "before")
    shutil.copytree(workspace.root / "before", workspace.queue)
    with pytest.raises(LostLease, match="was replaced"):
        held.check()


@pytest.mark.parametrize("seed", range(20))
def test_two_heads_that_start_at_once_never_both_write(workspace: WorkspacePaths, seed: int) -> None:
    """With clocks an hour apart: whatever both believe to have journalled is in the journal, and in one order."""
    acknowledged: list[tuple[int, int]] = []
    start = threading.Barrier(2)

    def head(number: int) -> None:
        chance = random.Random(seed * 2 + number)
        start.wait()
        try:
            held = lease.acquire(workspace, at(3600.0 * number))
            journal = Journal.open(workspace.journal, epoch=held.epoch)
            for i in range(6):
                time.sleep(chance.random() * 0.003)
                journal.append([e.Released(time=at(i), job_id=f"{number}-{i}")])
                held.check()
                journal.commit()
                acknowledged.append((held.epoch, journal.seq))
        except (LostLease, FileExistsError):
            return

    threads = [threading.Thread(target=head, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there = [(entry.epoch, entry.seq) for entry in read(workspace.journal)]
    assert [seq for _, seq in there] == [*range(1, len(there) + 1)]
    last = max(epoch for epoch, _ in acknowledged)
    assert [entry for entry in acknowledged if entry[0] == last] == [entry for entry in there if entry[0] == last]
    assert [epoch for epoch, _ in there] == sorted(epoch for epoch, _ in there), "never in turns"
