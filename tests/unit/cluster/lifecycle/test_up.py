"""Where the head is to be, and what is said where it can be nowhere. ssh is a script here; no Ray is started."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from terry.cluster.config.nodes import NodesConfig
from terry.cluster.config.terry_yaml import parse
from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.lease import Lease, Liveness
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.lifecycle import liveness, up
from terry.cluster.lifecycle.up import ensure_up, head_hosts
from terry.cluster.ray.head import Head

#: What another node's clock says.
LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    """Two hosts by ssh."""
    found = WorkspacePaths(tmp_path / "runs")
    found.cluster.mkdir(parents=True)
    found.config.write_text("nodes: {lab: {kind: ssh, hosts: [seawolf, quattro]}}\n")
    return found


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`ssh`: it answers what stands in the file, by host, or not at all. Returns the folder; `asked` says who was."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "ssh"
    script.write_text(
        f"""#!/bin/sh
while [ "$1" != -- ]; do shift; done
echo "$2" >> {folder}/asked
[ -e {folder}/"$2" ] || {{ echo "ssh: connect to host $2 port 22: No route to host" >&2; exit 255; }}
. {folder}/"$2"
"""
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def asked(ssh: Path) -> list[str]:
    return (ssh / "asked").read_text().split() if (ssh / "asked").exists() else []


def nodes(text: str) -> NodesConfig:
    return parse(text, Path("terry.yaml")).nodes


def record_head(workspace: WorkspacePaths, name: str) -> None:
    head = Head(
        host=name, boot_id="b", address="10.0.0.1:1", incarnation="one", name=name, started_at=datetime.now(UTC)
    )
    durable.write_json(workspace.head, head)


def test_where_the_head_may_be(workspace: WorkspacePaths) -> None:
    both = "nodes: {lab: {kind: ssh, hosts: [seawolf, quattro]}"
    assert head_hosts(workspace, nodes(both + "}")) == ["seawolf", "quattro"]
    assert head_hosts(workspace, nodes("")) == []
    assert head_hosts(workspace, nodes(both + ", here: {kind: local}}")) == []
    assert head_hosts(workspace, nodes(f"head: porto\n{both}}}")) == ["porto"]
    record_head(workspace, "quattro")
    assert head_hosts(workspace, nodes(both + "}")) == ["quattro", "seawolf"], "where it was before"


def test_the_next_host_is_asked_where_the_first_is_gone(workspace: WorkspacePaths, ssh: Path) -> None:
    (ssh / "quattro").write_text("echo started\n")
    said: list[str] = []
    assert ensure_up(workspace, wait=True, progress=said.append)
    assert asked(ssh) == ["seawolf", "quattro"]
    assert any("seawolf: ssh: connect to host seawolf port 22: No route to host" in line for line in said)


def test_what_a_person_has_to_fix_there_is_told_here(workspace: WorkspacePaths, ssh: Path) -> None:
    (ssh / "seawolf").write_text("echo 'terry.yaml:3: that is wrong' >&2; exit 2\n")
    with pytest.raises(UserError, match=r"seawolf: terry\.yaml:3: that is wrong"):
        ensure_up(workspace, wait=True)
    assert asked(ssh) == ["seawolf"]


def test_no_host_at_all(workspace: WorkspacePaths, ssh: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"no host can be the head\. seawolf: .* must work from here.*; quattro: "):
        ensure_up(workspace, wait=True)
    assert not ensure_up(workspace, wait=False), "a submission is on disk all the same"
    assert "the jobs wait for `terry-cluster up`" in capfd.readouterr().err


@pytest.fixture
def beating(workspace: WorkspacePaths, monkeypatch: pytest.MonkeyPatch) -> Callable[[Lease], None]:
    """Has a controller of another node renew its lease whenever somebody waits. Its clock is an hour off."""

    def begin(held: Lease) -> None:
        durable.write_json(workspace.lease, held)
        beats = itertools.count(1)

        def beat(_: float) -> None:
            moment = LATER - timedelta(hours=1, seconds=-next(beats))
            durable.write_json(workspace.lease, msgspec.structs.replace(held, heartbeat=moment))

        monkeypatch.setattr(liveness.time, "sleep", beat)

    return begin


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a second has waited for ten."""
    now = itertools.count(1000.0, 1.0)
    monkeypatch.setattr(liveness.clock, "monotonic", lambda: next(now))
    monkeypatch.setattr(liveness.time, "sleep", lambda _: None)


def test_a_controller_that_renews_its_lease_is_left_where_it_is(
    workspace: WorkspacePaths, ssh: Path, monkeypatch: pytest.MonkeyPatch, beating: Callable[[Lease], None]
) -> None:
    """Its host cannot be reached from here, but it lives: a second one would only take its jobs away."""
    (ssh / "quattro").write_text("echo started\n")
    record_head(workspace, "seawolf")
    beating(Lease(epoch=1, host="seawolf", pid=1, started="1", heartbeat=LATER))
    monkeypatch.setattr(up, "bring_nodes", lambda *_: [])
    assert not ensure_up(workspace, wait=True)
    assert asked(ssh) == ["seawolf"]


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_one_that_stands_still_is_dead_whatever_the_clocks_say(
    workspace: WorkspacePaths, ssh: Path, monkeypatch: pytest.MonkeyPatch, passing: None, hours: int
) -> None:
    """By a clock that is an hour ahead it would have lived for another hour."""
    (ssh / "quattro").write_text("echo started\n")
    record_head(workspace, "seawolf")
    moment = datetime.now(UTC) + timedelta(hours=hours)
    durable.write_json(workspace.lease, Lease(epoch=1, host="seawolf", pid=1, started="1", heartbeat=moment))
    monkeypatch.setattr(up, "bring_nodes", lambda *_: [])
    assert ensure_up(workspace, wait=True)
    assert asked(ssh) == ["seawolf", "quattro"]


def test_one_that_died_since_a_command_saw_it_live_is_dead(
    workspace: WorkspacePaths, ssh: Path, monkeypatch: pytest.MonkeyPatch, passing: None
) -> None:
    """`submit` has seen it renew its lease a few seconds before the power went."""
    (ssh / "quattro").write_text("echo started\n")
    record_head(workspace, "seawolf")
    for beat in (1, 2):
        held = Lease(epoch=1, host="seawolf", pid=1, started="1", heartbeat=LATER, beat=beat)
        durable.write_json(workspace.lease, held)
        found = liveness.liveness(workspace)
    assert found is Liveness.ALIVE
    monkeypatch.setattr(up, "bring_nodes", lambda *_: [])
    assert ensure_up(workspace, wait=True)
    assert asked(ssh) == ["seawolf", "quattro"]


def test_submit_asks_nobody_where_a_controller_lives(
    workspace: WorkspacePaths, ssh: Path, beating: Callable[[Lease], None]
) -> None:
    beating(Lease(epoch=1, host="seawolf", pid=1, started="1", heartbeat=LATER))
    assert not ensure_up(workspace, wait=False)
    assert asked(ssh) == []


def test_a_workspace_that_another_version_runs_is_refused_with_what_to_do(
    workspace: WorkspacePaths, beating: Callable[[Lease], None]
) -> None:
    beating(Lease(epoch=3, host="elsewhere", pid=1, started="x", heartbeat=LATER, version="0.1.0"))
    with pytest.raises(UserError, match=r"0\.1\.0, and here .* the older one. `terry-cluster down`, then `terry-c"):
        ensure_up(workspace, wait=False)


def test_a_head_that_is_to_move_writes_checkpoints_first_and_says_so(
    workspace: WorkspacePaths, ssh: Path, beating: Callable[[Lease], None]
) -> None:
    workspace.config.write_text("head: porto\nnodes: {lab: {kind: ssh, hosts: [seawolf, quattro, porto]}}\n")
    record_head(workspace, "quattro")
    workspace.token.write_text("secret")
    beating(Lease(epoch=3, host="quattro", pid=1, started="x", heartbeat=LATER))
    (ssh / "quattro").write_text("echo ended\n")
    (ssh / "porto").write_text("echo started\n")
    said: list[str] = []
    ensure_up(workspace, wait=True, progress=said.append)
    assert asked(ssh)[:2] == ["quattro", "porto"], "the old one first: it ends in an orderly way"
    moves = next(i for i, line in enumerate(said) if line.startswith("terry.yaml has the head on porto"))
    assert "it is on quattro" in said[moves]
    assert said[moves + 1] == "quattro has ended; its jobs have written their checkpoints"


def test_a_head_that_stays_is_not_asked_to_end(
    workspace: WorkspacePaths, ssh: Path, beating: Callable[[Lease], None]
) -> None:
    workspace.config.write_text("head: quattro\nnodes: {lab: {kind: ssh, hosts: [seawolf, quattro]}}\n")
    record_head(workspace, "quattro")
    workspace.token.write_text("secret")
    beating(Lease(epoch=3, host="quattro", pid=1, started="x", heartbeat=LATER))
    (ssh / "quattro").write_text("echo started\n")
    said: list[str] = []
    ensure_up(workspace, wait=True, progress=said.append)
    assert not [line for line in said if "checkpoint" in line]
