"""What a node's program in its Slurm job does by itself. All of it together: tests/integration/test_slurm_nodes.py."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from terry.cluster.core.model import Device, DeviceKind, DeviceRecord
from terry.cluster.files import durable, inbox, lease
from terry.cluster.files.live import Live
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.locks import Lock
from terry.cluster.nodes import member as ray_node
from terry.cluster.ports import ClusterKey, NodeOrder, NodeState
from terry.cluster.ray.daemons import INSTANCE_VARIABLE, instance, runtime_folder
from terry.cluster.scheduling.demand import DeviceLoad
from terry.cluster.slurm.worker import LEAVES, Worker, _answers, clear_siblings

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkspacePaths:
    monkeypatch.setenv(INSTANCE_VARIABLE, "55")
    made = WorkspacePaths(tmp_path / "w")
    durable.make_folder(made.queue)
    return made


@pytest.fixture
def worker(workspace: WorkspacePaths) -> Iterator[Worker]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    yield Worker(workspace, "queue", "queue-1", 60.0)
    signal.set_wakeup_fd(-1)
    for number, handler in kept.items():
        signal.signal(number, handler)


def show(workspace: WorkspacePaths, *devices: DeviceRecord, idle: tuple[str, ...] = ()) -> None:
    loads = tuple(
        DeviceLoad(device_id=d.device.id, free=1.0, idle_since=NOW if d.device.id in idle else None) for d in devices
    )
    workspace.live.write_bytes(msgspec.json.encode(Live(time=NOW, epoch=1, devices=devices, loads=loads)))


def device(node: str, **more: object) -> DeviceRecord:
    made = Device(id=f"{node}:cpu", node=node, node_id="x", kind=DeviceKind.CPU, capacity=1.0)
    return DeviceRecord(device=made, **more)  # type: ignore[arg-type]


def asked(workspace: WorkspacePaths) -> list[inbox.Message]:
    inbox.prepare(workspace)
    return [letter.message for letter in inbox.take(workspace)]


def hold(workspace: WorkspacePaths, *, stopped: bool = False) -> None:
    """There is a controller, or it has ended on purpose."""
    held = lease.Lease(epoch=1, host="c1", pid=1, started="x", heartbeat=NOW, stopped=stopped)
    workspace.lease.write_bytes(msgspec.json.encode(held))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_told_it_drains_its_devices_and_waits_until_nothing_runs_there(
    worker: Worker, workspace: WorkspacePaths, number: signal.Signals
) -> None:
    hold(workspace)
    os.kill(os.getpid(), number)
    show(workspace, device("queue-1"), device("queue-2"))
    thread = threading.Thread(target=worker._move_jobs_away)
    thread.start()
    while not (messages := asked(workspace)):
        assert thread.is_alive()
    assert [(m.device, m.reason) for m in messages if isinstance(m, inbox.Drain)] == [("queue-1:cpu", LEAVES)]
    show(workspace, device("queue-1", drained=True, drain_reason=LEAVES), device("queue-2"))
    thread.join(1.0)
    assert thread.is_alive(), "a job still runs there"
    show(workspace, device("queue-1", drained=True, drain_reason=LEAVES), device("queue-2"), idle=("queue-1:cpu",))
    thread.join(30.0)
    assert not thread.is_alive()
    assert len(asked(workspace)) == 1, "asked once"


def test_how_long_it_may_take(worker: Worker) -> None:
    """60 s before its end it is told; SIGTERM leaves less, whenever it comes."""
    before = time.monotonic()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert worker._leave_by is not None
    assert 50.0 < worker._leave_by - before < 60.0
    os.kill(os.getpid(), signal.SIGTERM)
    assert worker._leave_by - time.monotonic() < 21.0
    first = worker._leave_by
    os.kill(os.getpid(), signal.SIGUSR1)
    assert worker._leave_by == first


def test_after_down_it_waits_for_nothing(worker: Worker, workspace: WorkspacePaths) -> None:
    hold(workspace, stopped=True)
    show(workspace, device("queue-1"))
    os.kill(os.getpid(), signal.SIGTERM)
    worker._move_jobs_away()
    assert asked(workspace) == []


def test_the_next_of_its_name_takes_back_its_drain_and_no_others(worker: Worker, workspace: WorkspacePaths) -> None:
    by_hand = DeviceRecord(
        device=Device(id="queue-1:0", node="queue-1", node_id="x", kind=DeviceKind.GPU, capacity=1.0),
        drained=True,
        drain_reason="fan is noisy",
    )
    ours, others = (device(node, drained=True, drain_reason=LEAVES) for node in ("queue-1", "queue-2"))
    show(workspace, ours, by_hand, others)
    worker._take_back_drains()
    assert [m.device for m in asked(workspace) if isinstance(m, inbox.Undrain)] == ["queue-1:cpu"]


def test_several_on_one_node_know_nothing_of_each_other(
    workspace: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = runtime_folder(workspace)
    assert instance(workspace) == f"{workspace.id}-55"
    monkeypatch.setenv(INSTANCE_VARIABLE, "56")
    assert runtime_folder(workspace) != one
    monkeypatch.delenv(INSTANCE_VARIABLE)
    assert instance(workspace) == workspace.id
    for folder in one.parent.glob(f"terry-*-{workspace.id}*"):
        folder.rmdir()


def test_what_a_killed_one_has_left_is_removed(workspace: WorkspacePaths) -> None:
    own = runtime_folder(workspace)
    siblings = {name: own.with_name(own.name.replace("-55", f"-{name}")) for name in ("1", "2", "3", "x")}
    for name, folder in siblings.items():
        folder.mkdir()
        (folder / "worker.lock").touch()
        if name != "3":
            os.utime(folder, (1, 1))
    lock = Lock.take(siblings["2"] / "worker.lock", 0.0)
    os.utime(siblings["2"], (1, 1))
    clear_siblings(workspace)
    left = {name for name, folder in siblings.items() if folder.exists()}
    assert left == {"2", "3", "x"}, "one lives, one has begun just now, one is none of ours"
    lock.release()
    os.utime(siblings["3"], (1, 1))
    clear_siblings(workspace)
    assert {name for name, folder in siblings.items() if folder.exists()} == {"x"}
    (siblings["x"] / "worker.lock").unlink()
    siblings["x"].rmdir()
    own.rmdir()


def test_beside_the_head_it_is_a_node_of_its_own(workspace: WorkspacePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose head is there is in the cluster already; a Slurm job on it is not."""
    started: list[str] = []
    head = SimpleNamespace(is_here=True, incarnation="one")
    monkeypatch.setattr(ray_node, "facts", lambda *_: SimpleNamespace(address="10.0.0.1"))
    monkeypatch.setattr(ray_node, "own_address", lambda *_: "10.0.0.1")
    monkeypatch.setattr(ray_node, "misfit", lambda *_: None)
    monkeypatch.setattr(ray_node, "read_head", lambda _: head)
    monkeypatch.setattr(ray_node, "_report", lambda _order, state, **_: state)
    monkeypatch.setattr(ray_node, "_end", lambda _: None)
    monkeypatch.setattr(ray_node, "_start", lambda _workspace, order, _address: started.append(order.name))
    key = ClusterKey(workspace=str(workspace.root), address="10.0.0.1:1", incarnation="one", token="", versions={})
    order = NodeOrder(key=key, name="queue-1")
    assert ray_node._join(workspace, order, anew=True) is NodeState.JOINED
    monkeypatch.delenv(INSTANCE_VARIABLE)
    assert ray_node._join(workspace, order, anew=True) is NodeState.PRESENT
    assert started == ["queue-1"]


def test_whether_a_head_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert _answers(address)
    assert not _answers(address)
