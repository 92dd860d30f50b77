"""A workspace knows itself: copied, restored, moved, or shown by another path or host."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from terry.cluster.client.reader import Reader
from terry.cluster.files import durable, lease, live, origin
from terry.cluster.files.origin import Standing
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.locks import Lock
from terry.cluster.host.processes import Process, boot_id, find
from terry.cluster.lifecycle.on_head import cluster_status, take_down_on_head
from terry.cluster.nodes.member import NodeRecord
from terry.cluster.ray.daemons import runtime_folder
from terry.cluster.ray.head import Head, read_head
from tests.helpers.controller_bench import Bench
from tests.helpers.queue_values import at


@pytest.fixture
def daemon() -> Iterator[Process]:
    """Stands for Ray's: in a session of its own."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        found = find(process.pid)
        assert found is not None
        yield found
        process.kill()


@pytest.fixture
def original(tmp_path: Path, daemon: Process) -> WorkspacePaths:
    """A workspace with a head and a controller that live."""
    found = WorkspacePaths(tmp_path / "ws")
    durable.make_folder(found.cluster)
    origin.settle(found)
    lease.acquire(found, at(0))
    head = Head(
        host=os.uname().nodename,
        boot_id=boot_id(),
        address="127.0.0.1:1",
        session=daemon.pid,
        gcs=(daemon.pid, daemon.start),
        raylet=(daemon.pid, daemon.start),
        started_at=datetime.now(UTC),
    )
    durable.write_json(found.head, head)
    durable.write_bytes(found.token, b"secret", mode=0o600)
    return found


def copied(workspace: WorkspacePaths) -> WorkspacePaths:
    shutil.copytree(workspace.root, workspace.root.with_name("copy"))
    return WorkspacePaths(workspace.root.with_name("copy"))


def test_down_in_a_copy_leaves_the_originals_cluster_alone(original: WorkspacePaths, daemon: Process) -> None:
    copy = copied(original)
    assert not take_down_on_head(copy)
    assert daemon.alive
    assert read_head(original) is not None
    assert lease.read(original) is not None


def test_in_a_copy_head_lease_and_figures_count_as_absent_and_it_is_said(original: WorkspacePaths) -> None:
    durable.write_json(original.live, live.Live(time=at(0), epoch=1))
    copy = copied(original)
    assert (read_head(copy), lease.read(copy), live.read(copy)) == (None, None, None)
    assert not cluster_status(copy).controller
    known = Reader(copy).read()
    assert not known.controller.alive
    assert known.notice == f"this is a copy of {original.root}, whose cluster is left alone"
    assert Reader(original).read().controller.alive
    assert Reader(original).read().notice == ""


def test_a_copy_becomes_a_workspace_of_its_own(original: WorkspacePaths) -> None:
    before = origin.read(original)
    copy = copied(original)
    assert origin.settle(copy) == f"this is a copy of {original.root}, whose cluster is left alone"
    assert origin.settle(copy) == "", "said once"
    assert origin.standing(copy) is Standing.OWN
    after = origin.read(copy)
    assert before is not None
    assert after is not None
    assert after.id != before.id
    assert not copy.token.exists(), "with it whoever has the copy could join the original's cluster"
    assert lease.acquire(copy, at(5)).epoch == 2, "epochs go on from those that were copied"
    assert origin.read(original) == before


def test_a_copys_controller_goes_on_with_what_was_copied(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.submit("s-1")
    bench.turn()
    shutil.copytree(bench.workspace.root, tmp_path / "copy")
    before = bench.workspace
    bench.workspace = WorkspacePaths(tmp_path / "copy")
    bench.new_controller()
    assert bench.controller.state.epoch == 2
    held = lease.read(before)
    assert held is not None
    assert held.epoch == 1


def test_a_workspace_that_is_moved_stays_what_it_is(original: WorkspacePaths) -> None:
    before = origin.read(original)
    moved = WorkspacePaths(original.root.with_name("elsewhere"))
    original.root.rename(moved.root)
    assert origin.standing(moved) is Standing.MOVED
    assert read_head(moved) is not None, "its cluster may still run, and `down` must find it"
    assert origin.settle(moved) == f"this workspace was moved here from {original.root}"
    after = origin.read(moved)
    assert before is not None
    assert after is not None
    assert (after.id, after.path) == (before.id, str(moved.root))
    assert origin.standing(moved) is Standing.OWN


@pytest.mark.parametrize("path", ["/mnt/lab/ws", None])
def test_another_host_sees_the_same_folder_by_another_device_or_path(
    original: WorkspacePaths, path: str | None
) -> None:
    """NFS: the inode is the server's, the number of the device is each client's own."""
    known = origin.read(original)
    assert known is not None
    seen = msgspec.structs.replace(known, device=known.device + 7, host="seawolf", path=path or known.path)
    durable.write_json(original.origin, seen)
    assert origin.standing(original) is (Standing.MOVED if path else Standing.OWN)
    assert lease.read(original) is not None
    assert read_head(original) is not None


def test_a_backup_in_its_place_is_told_from_a_backup_on_another_host(original: WorkspacePaths) -> None:
    backup = original.root.with_name("backup")
    shutil.copytree(original.root, backup)  # made while the original stands: else it might get the same inode again
    shutil.rmtree(original.root)
    backup.rename(original.root)
    assert origin.standing(original) is Standing.RESTORED
    assert read_head(original) is not None, "a cluster that still runs is this path's"
    known = origin.read(original)
    assert known is not None
    durable.write_json(original.origin, msgspec.structs.replace(known, host="seawolf"))
    assert origin.standing(original) is Standing.COPY
    assert read_head(original) is None, "that of seawolf runs on, on its own disk"


def test_a_clone_of_the_whole_file_system_is_a_copy_where_the_original_stands(
    original: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that is mounted elsewhere: the same inode, another device, another path."""
    copy = copied(original)
    known = origin.read(copy)
    assert known is not None
    inode = copy.queue.stat().st_ino
    assert known.inode != inode
    there = original.queue.stat()
    clone = msgspec.structs.replace(known, inode=inode)
    durable.write_json(copy.origin, clone)
    assert origin.standing(copy) is Standing.MOVED, "nobody stands where it came from"
    monkeypatch.setattr(origin, "_stands", lambda found, beside: beside.st_ino != there.st_ino)
    assert origin.standing(copy) is Standing.COPY


def test_two_paths_of_one_folder_are_one_workspace(original: WorkspacePaths) -> None:
    """By a link, or mounted twice: locks and actors go by the path, so there must be one."""
    other = original.root.with_name("link")
    other.symlink_to(original.root)
    assert origin.canonical(WorkspacePaths(other)) == original
    assert origin.canonical(original) == original
    assert origin.canonical(copied(original)).root.name == "copy"


def test_one_that_an_earlier_version_wrote_is_its_own(original: WorkspacePaths) -> None:
    original.origin.unlink()
    assert origin.standing(original) is Standing.UNKNOWN
    assert read_head(original) is not None
    origin.settle(original)
    assert origin.standing(original) is Standing.OWN


def test_down_leaves_nothing_on_the_nodes_own_disk(original: WorkspacePaths, daemon: Process) -> None:
    folder = runtime_folder(original)
    (folder / "ray" / "session").mkdir(parents=True)
    (folder / "token").write_text("secret")
    (folder / "controller.lock").touch()
    take_down_on_head(original)
    assert not folder.exists()
    assert not daemon.alive


def test_down_ends_what_is_left_of_a_node_that_became_the_head(original: WorkspacePaths) -> None:
    """Its raylet died with the head that it had joined; what that had started beside itself lives on."""
    folder = runtime_folder(original)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as beside:
        left = find(beside.pid)
        assert left is not None
        gone = (left.pid, left.start - 1)
        record = NodeRecord(boot_id=boot_id(), incarnation="i", session=left.pid, raylet=gone, started_at=at(0))
        durable.write_json(folder / "node.json", record)
        take_down_on_head(original)
        ended = not left.alive
        beside.kill()
    assert ended
    assert not folder.exists()


def test_down_leaves_what_somebody_holds_and_data_sets_that_were_sent_here(original: WorkspacePaths) -> None:
    folder = runtime_folder(original)
    (folder / "away" / "datasets").mkdir(parents=True)
    (folder / "node.lock").touch()
    lock = Lock.take(folder / "node.lock", 5.0)
    take_down_on_head(original)
    assert {path.name for path in folder.iterdir()} == {"away", "node.lock"}
    lock.release()


def test_a_lock_that_was_removed_while_it_was_opened_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = Lock.try_take(path)
    assert first is not None
    path.unlink()
    second = Lock.try_take(path)
    assert second is not None
    assert Lock.try_take(path) is None
