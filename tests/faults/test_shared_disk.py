"""The queue on file systems that several hosts share, each with caches of its own: NFS, SMB, Lustre as they are."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from terry.cluster.client.setup import make_workspace
from terry.cluster.controller.loop import Controller
from terry.cluster.core.model import AttemptEnd, EndReason, JobState
from terry.cluster.errors import LostLease
from terry.cluster.files import durable, inbox, lease, origin
from terry.cluster.files.lease import Liveness, Watch
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from tests.fakes.pool import FakeClock, FakePool
from tests.faults.shared_disk import KINDS, client
from tests.helpers.queue_values import at, job_line, make_cpu, write_submission

#: Seconds that NFS's clients cache for, longer than a test takes: what they have seen once they see for all of it.
#: SMB's do for a second (mount.cifs(8), actimeo).
FOR_EVER = 600.0


@pytest.fixture(params=[name for name in KINDS if name != "nfs-squashed" or os.geteuid() == 0])
def hosts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[WorkspacePaths, WorkspacePaths]]:
    """The same workspace, as two hosts see it."""
    monkeypatch.setattr(origin, "_stands", lambda *_, **__: False)  # no host has the other's mount
    (tmp_path / "server").mkdir(mode=0o777)
    (tmp_path / "server").chmod(0o777)
    kind: str = request.param
    cached_s = 1.0 if kind == "smb" else FOR_EVER
    with (
        client(tmp_path / "server", tmp_path / "seawolf", kind, cached_s) as one,
        client(tmp_path / "server", tmp_path / "quattro", kind, cached_s) as other,
    ):
        yield WorkspacePaths(one / "lab"), WorkspacePaths(other / "lab")


def told(workspace: WorkspacePaths, number: int, jobs: int = 4) -> list[str]:
    """Submit from a host: ids of what was acknowledged."""
    ids = [f"s-{number}{i:03}" for i in range(jobs)]
    write_submission(workspace, "s", [job_line(i) for i in ids], number)
    inbox.send(workspace, inbox.Submit(sweep="s"))
    return ids


@pytest.mark.timeout(300)
def test_what_one_host_submits_the_controller_of_the_other_does(hosts: tuple[WorkspacePaths, WorkspacePaths]) -> None:
    """Both look at everything before it changes, and again and again; snapshots come and go under the reader."""
    seawolf, quattro = hosts
    make_workspace(seawolf)
    clock, pool = FakeClock(), FakePool([make_cpu(cores=4.0)])
    controller = Controller(seawolf, pool, clock)
    controller.recover()
    known: list[str] = []
    for number in range(1, 9):
        known += told(quattro, number)
        for _ in range(3):
            controller.turn(0)
            for job_id, _ in sorted(pool.running()):
                pool.end(job_id, AttemptEnd(reason=EndReason.SUCCESS, message="x" * 3000))
            clock.advance(61.0)
            assert read_state(quattro).seq == controller.state.seq
        controller._snapshots.save(controller.state, controller._journal, clock.monotonic())
        assert set(known) <= set(read_state(quattro).jobs), "what was submitted is there, as it was acknowledged"
    for _ in range(9):
        controller.turn(0)
        for job_id, _ in sorted(pool.running()):
            pool.end(job_id, AttemptEnd(reason=EndReason.SUCCESS))
    controller.turn(0)
    assert {record.state for record in read_state(quattro).jobs.values()} == {JobState.COMPLETED}
    controller.close()


@pytest.mark.timeout(300)
def test_a_controller_that_was_superseded_notices_before_its_next_commit(
    hosts: tuple[WorkspacePaths, WorkspacePaths],
) -> None:
    seawolf, quattro = hosts
    make_workspace(seawolf)
    first = lease.acquire(seawolf, at(0))
    for i in range(3):
        first.check()
        first.heartbeat(at(i))
        assert lease.read(quattro) == first.lease
    second = lease.acquire(quattro, at(9))
    assert second.epoch > first.epoch
    with pytest.raises(LostLease):
        first.check()
    second.check()
    second.heartbeat(at(10))
    with pytest.raises(LostLease):
        first.heartbeat(at(11))


@pytest.mark.timeout(300)
def test_a_controller_elsewhere_is_seen_to_live_while_it_changes_its_lease(
    hosts: tuple[WorkspacePaths, WorkspacePaths],
) -> None:
    """It replaces the file, and whoever looks right then must not take it for none."""
    seawolf, quattro = hosts
    make_workspace(seawolf)
    held, seconds = lease.acquire(seawolf, at(0)), itertools.count()
    watch, stop = Watch(lambda: next(seconds) / 15), threading.Event()

    def beat() -> None:
        while not stop.wait(0.7):  # as a controller does it, a little faster
            held.heartbeat(at(0))

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        seen = [watch.look(_elsewhere(lease.read(quattro))) for _ in range(60) if not stop.wait(0.05)]
    finally:
        stop.set()
        beating.join()
    assert Liveness.DEAD not in seen
    assert Liveness.ALIVE in seen


def _elsewhere(found: lease.Lease | None) -> lease.Lease | None:
    """As a host of another name sees it."""
    return None if found is None else msgspec.structs.replace(found, host="seawolf")


_REPLACE = """
import sys
from pathlib import Path
from terry.cluster.files.durable import write_bytes
for i in range(400):
    write_bytes(Path(sys.argv[1]), b"%d " % i * 5000, sync=False)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("hosts", ["nfs", "lustre"], indirect=True)
def test_a_file_that_is_replaced_while_it_is_read_is_read_whole(hosts: tuple[WorkspacePaths, WorkspacePaths]) -> None:
    """On NFS the old one is gone for whoever reads it (ESTALE)."""
    seawolf, quattro = hosts
    make_workspace(seawolf)
    durable.write_bytes(seawolf.live, b"0 " * 5000)
    with subprocess.Popen([sys.executable, "-c", _REPLACE, str(seawolf.live)]) as writer:
        reads = 0
        while writer.poll() is None:
            assert len(set(durable.read_bytes(quattro.live).split())) == 1
            reads += 1
    assert writer.returncode == 0
    assert reads > 20


@pytest.mark.parametrize("hosts", ["nfs"], indirect=True)
def test_such_a_file_system_is_what_it_says(hosts: tuple[WorkspacePaths, WorkspacePaths]) -> None:
    """Of the emulation: without these the tests above would say nothing."""
    seawolf, quattro = (workspace.root.parent for workspace in hosts)
    assert not (quattro / "new").exists()
    (seawolf / "new").write_bytes(b"1")
    assert not (quattro / "new").exists(), "its absence is cached"
    assert [path.name for path in quattro.iterdir()] == ["new"], "opening a folder asks the server"
    (seawolf / "file").write_bytes(b"old")
    with (quattro / "file").open("rb", buffering=0) as reader, (seawolf / "file").open("ab", buffering=0) as writer:
        assert reader.read(2) == b"ol"
        writer.write(b"er")
        assert reader.read() == b"d", "what is written is not there before it is fsynced"
        os.fsync(writer.fileno())
        assert reader.read() == b"er"
        writer.close()
        (seawolf / "other").write_bytes(b"new")
        (seawolf / "other").rename(seawolf / "file")
        with pytest.raises(OSError, match="Stale") as caught:
            reader.read()
        assert caught.value.errno == errno.ESTALE
    assert (quattro / "file").read_bytes() == b"new"
