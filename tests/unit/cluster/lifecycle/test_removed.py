"""A host that terry.yaml no longer names: drained, left alone while jobs run there, ended, forgotten; or taken back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from terry.cluster.config.nodes import NodesConfig
from terry.cluster.config.terry_yaml import parse
from terry.cluster.core.model import Device, DeviceKind, DeviceRecord
from terry.cluster.files import durable, inbox
from terry.cluster.files.live import Live
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.lifecycle.removed import REASON, RemovedHosts, removed_nodes
from terry.cluster.nodes.join import MARK
from terry.cluster.nodes.records import reports, write_report
from terry.cluster.ports import ClusterKey, ClusterView, NodeReport, NodeState
from terry.cluster.scheduling.demand import DeviceLoad

BOTH = "nodes: {lab: {kind: ssh, hosts: [seawolf, quattro]}}"
ONE = "nodes: {lab: {kind: ssh, hosts: [seawolf]}}"
KEY = ClusterKey(workspace="/w", address="10.0.0.1:6379", incarnation="one", token="secret", versions={})
VIEW = ClusterView(key=KEY, members=frozenset({"seawolf", "quattro"}))


def nodes(text: str) -> NodesConfig:
    return parse(text, Path("terry.yaml")).nodes


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    found = WorkspacePaths(tmp_path / "runs")
    durable.make_folder(found.cluster)
    for name in ("seawolf", "quattro"):
        write_report(found, NodeReport(name=name, host=name, state=NodeState.JOINED))
    return found


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`ssh` that says that nothing is left there, and writes down whom it has asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    report = msgspec.json.encode(NodeReport(name="quattro", state=NodeState.ENDED)).decode()
    (folder / "ssh").write_text(
        f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\necho "$*" >> {folder}/asked\ncat > /dev/null\n'
        f"echo '{MARK}{report}'\n"
    )
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "asked"


def show(workspace: WorkspacePaths, *, busy: bool = True, drained: bool = False, reason: str = REASON) -> None:
    device = Device(id="quattro:cpu", node="quattro", node_id="x", kind=DeviceKind.CPU, capacity=2.0)
    now = datetime.now(UTC)
    load = DeviceLoad(device_id=device.id, free=0.0, idle_since=None if busy else now)
    known = DeviceRecord(device=device, drained=drained, drain_reason=reason if drained else "")
    workspace.live.write_bytes(msgspec.json.encode(Live(time=now, epoch=1, devices=(known,), loads=(load,))))


def asked_for(workspace: WorkspacePaths) -> list[inbox.Message]:
    inbox.prepare(workspace)
    return [letter.message for letter in inbox.take(workspace)]


def test_only_what_ssh_has_brought_and_nobody_names_is_removed(workspace: WorkspacePaths) -> None:
    known = reports(workspace)
    queue = NodeReport(name="queue-1", state=NodeState.JOINED)
    everybody = {**known, "queue-1": queue}
    there = ["seawolf", "quattro", "queue-1"]
    assert removed_nodes(nodes(BOTH), everybody, there, "login") == []
    assert [r.name for r in removed_nodes(nodes(ONE), everybody, there, "login")] == ["quattro"]
    assert removed_nodes(nodes(ONE), everybody, ["seawolf"], "login") == [], "it is not in"
    assert removed_nodes(nodes(ONE), everybody, there, "quattro") == [], "the head moves by `up`"


def test_it_drains_first_and_is_ended_when_nothing_runs_there(workspace: WorkspacePaths, ssh: Path) -> None:
    removed = RemovedHosts(workspace)
    show(workspace)
    assert removed.tend(nodes(BOTH), VIEW, "login") == []
    assert asked_for(workspace) == []
    (said,) = removed.tend(nodes(ONE), VIEW, "login")
    assert (said.name, said.is_in) == ("quattro", True)
    assert "no longer in terry.yaml" in said.problem
    (asked,) = asked_for(workspace)
    assert isinstance(asked, inbox.Drain)
    assert (asked.device, asked.reason) == ("quattro:cpu", REASON)
    show(workspace, drained=True)
    assert len(removed.tend(nodes(ONE), VIEW, "login")) == 1
    assert not ssh.exists(), "a job still runs there"
    show(workspace, drained=True, busy=False)
    assert removed.tend(nodes(ONE), VIEW, "login") == []
    assert ssh.read_text().startswith("-- quattro ")
    assert set(reports(workspace)) == {"seawolf"}


def test_one_that_cannot_be_reached_stays_named(workspace: WorkspacePaths, ssh: Path) -> None:
    (ssh.parent / "ssh").write_text("#!/bin/sh\necho 'ssh: connect to host quattro port 22: No route' >&2; exit 255\n")
    show(workspace, drained=True, busy=False)
    (said,) = RemovedHosts(workspace).tend(nodes(ONE), VIEW, "login")
    assert "it cannot be ended" in said.problem
    assert "No route" in said.problem
    assert "quattro" in reports(workspace)


def test_named_again_it_takes_jobs_again_unless_a_person_has_drained_it(workspace: WorkspacePaths) -> None:
    show(workspace, drained=True)
    RemovedHosts(workspace).tend(nodes(BOTH), VIEW, "login")
    (asked,) = asked_for(workspace)
    assert isinstance(asked, inbox.Undrain)
    show(workspace, drained=True, reason="fan is noisy")
    RemovedHosts(workspace).tend(nodes(BOTH), VIEW, "login")
    assert len(asked_for(workspace)) == 1
