"""The provider of Slurm nodes over a Slurm in memory: what it asks for, what it says, when it is patient."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.core.model import Device, DeviceKind, DeviceRecord
from terry.cluster.files import durable
from terry.cluster.files.live import Live
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.nodes.records import write_report
from terry.cluster.ports import ClusterKey, ClusterView, NodeReport, NodeState
from terry.cluster.scheduling.demand import DeviceLoad, WaitingJobs
from terry.cluster.slurm import provider as slurm_nodes
from terry.cluster.slurm.plan import Phase, SlurmJob
from terry.cluster.slurm.provider import SlurmNodes
from tests.fakes.slurm import FakeSlurm

GROUP = SlurmGroup(name="queue", most=2, gres="gpu:1", idle_after=60.0)
KEY = ClusterKey(workspace="/w", address="10.0.0.1:6379", incarnation="one", token="secret", versions={})


class World:
    """A workspace whose controller says what a test wants, and a Slurm."""

    def __init__(self, root: Path) -> None:
        self.workspace = WorkspacePaths(root)
        durable.make_folder(self.workspace.cluster)
        self.slurm = FakeSlurm()
        self.nodes = SlurmNodes(self.workspace, [GROUP], self.slurm)
        self.waiting = 0
        self.step_s = 0.0  # by which the wall clock was set
        self.idle: dict[str, float | None] = {}  # node -> seconds for which it has been idle; None: busy

    def round(self, *, age_s: float = 0.0) -> dict[str, NodeReport]:
        """One round; what it has to say, by node."""
        now = datetime.now(UTC)
        devices = [Device(id=f"{n}:0", node=n, node_id="x", kind=DeviceKind.GPU, capacity=1.0) for n in self.idle]
        shown = Live(
            time=now - timedelta(seconds=age_s) + timedelta(seconds=self.step_s),
            steady=now - timedelta(seconds=age_s),
            epoch=1,
            devices=tuple(DeviceRecord(device=device) for device in devices),
            waiting=(WaitingJobs(kind=DeviceKind.GPU, share=1.0, count=self.waiting),) if self.waiting else (),
            loads=tuple(
                DeviceLoad(
                    device_id=f"{node}:0",
                    free=0.0 if idle is None else 1.0,
                    idle_since=None if idle is None else now - timedelta(seconds=idle),
                )
                for node, idle in self.idle.items()
            ),
        )
        self.workspace.live.write_bytes(msgspec.json.encode(shown))
        view = ClusterView(key=KEY, members=frozenset({*self.idle, "login"}))
        return {report.name: report for report in self.nodes.reconcile(view)}

    def asked_for(self) -> list[str]:
        return sorted(job.node for job in self.slurm.jobs())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_a_node_says_of_itself_is_not_overwritten(world: World) -> None:
    """It may have joined before we have heard that its Slurm job runs."""
    early = NodeReport(name="queue-1", state=NodeState.JOINED, time=datetime.now(UTC))
    write_report(world.workspace, early)  # of an earlier node of this name
    world.waiting = 1
    assert world.round()["queue-1"].state is NodeState.WAITING
    world.slurm.start("queue-1")
    write_report(world.workspace, NodeReport(name="queue-1", state=NodeState.JOINED, time=datetime.now(UTC)))
    assert world.round() == {}


def test_nodes_come_are_used_and_go(world: World) -> None:
    assert world.round() == {}
    world.waiting = 5
    said = world.round()
    assert world.asked_for() == ["queue-1", "queue-2"]
    assert {report.state for report in said.values()} == {NodeState.WAITING}
    assert world.round()["queue-1"].problem == "Slurm job 101 waits: Resources"
    assert world.round() == {}, "said once"
    world.slurm.start("queue-1")
    assert world.round()["queue-1"].problem == "Slurm job 101 starts on c1"
    world.idle, world.waiting = {"queue-1": None}, 1
    world.round()
    assert world.asked_for() == ["queue-1", "queue-2"]

    world.waiting = 0
    world.round()
    assert world.asked_for() == ["queue-1"], "nobody needs the other any more"
    world.idle = {"queue-1": 61.0}
    world.round()
    world.round()
    assert world.slurm.released == ["101"], "asked once"
    world.slurm.end("queue-1")
    world.idle = {}
    assert world.round()["queue-1"].state is NodeState.ENDED


def test_a_node_without_a_device_is_still_on_its_way(world: World) -> None:
    world.waiting = 1
    world.round()
    world.slurm.start("queue-1")
    view = ClusterView(key=KEY, members=frozenset({"queue-1"}))
    world.nodes.reconcile(view)
    assert world.asked_for() == ["queue-1"]


def test_old_word_of_the_controller_counts_for_nothing(world: World) -> None:
    world.waiting = 5
    assert world.round(age_s=60.0) == {}
    assert world.asked_for() == []


@pytest.mark.parametrize("step_s", [-3600.0, -25.0, 25.0, 3600.0])
def test_a_clock_that_is_set_lets_no_node_go_and_keeps_none(
    world: World, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """The controller's file is by the new time; how long a node was idle is by a clock that nobody sets."""
    world.slurm.put(SlurmJob(id="8", node="queue-1", phase=Phase.RUNNING))
    world.idle = {"queue-1": 30.0}
    world.round()
    world.step_s = step_s
    world.round()
    assert world.slurm.released == []
    world.idle = {"queue-1": 61.0}
    world.round()
    assert world.slurm.released == ["8"]


def test_word_that_does_not_change_any_more_counts_for_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(slurm_nodes.time, "monotonic", lambda: clock[0])
    world.round()
    stands = world.workspace.live.read_bytes()
    world.waiting = 1
    clock[0] += 31.0
    world.workspace.live.write_bytes(
        stands.replace(b'"waiting":[]', b'"waiting":[{"kind":"gpu","share":1.0,"count":1}]')
    )
    assert world.nodes.reconcile(ClusterView(key=KEY, members=frozenset())) == ()
    assert world.asked_for() == []
    world.round()
    assert world.asked_for() == ["queue-1"]


def test_what_slurm_refuses_is_said_and_not_asked_again_at_once(world: World) -> None:
    world.waiting, world.slurm.refusal = 1, "invalid partition specified: mian"
    said = world.round()["queue-1"]
    assert said.state is NodeState.UNFIT
    assert said.problem == "Slurm says: invalid partition specified: mian"
    assert "nodes.queue" in said.fix
    world.slurm.refusal = ""
    world.round()
    assert world.asked_for() == [], "patience"


def test_a_job_that_never_became_a_node_is_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(slurm_nodes.time, "monotonic", lambda: clock[0])
    world.waiting = 1
    world.round()
    world.slurm.start("queue-1")
    world.round()
    world.slurm.words["101"] = "bash: python: command not found"
    world.slurm.end("queue-1")
    said = world.round()["queue-1"]
    assert said.problem == "Slurm job 101 has ended before it was a node: bash: python: command not found"
    assert str(world.workspace.slurm) in said.fix
    for pause in (5.0, 10.0, 20.0):
        clock[0] += pause - 0.1
        world.round()
        assert world.asked_for() == []
        clock[0] += 0.2
        world.round()
        assert world.asked_for() == ["queue-1"]
        world.slurm.end("queue-1")
        world.round()


def test_what_the_node_itself_has_said_counts_more(world: World) -> None:
    world.waiting = 1
    world.round()
    own = NodeReport(name="queue-1", state=NodeState.UNFIT, problem="Ray is 2.1, on the head 2.60", fix="install it")
    write_report(world.workspace, own)
    world.slurm.end("queue-1")
    assert world.round()["queue-1"] == own


def test_jobs_of_no_group_and_those_that_do_not_go_are_ended(world: World) -> None:
    world.slurm.put(SlurmJob(id="7", node="former-1", phase=Phase.RUNNING))
    world.slurm.put(SlurmJob(id="8", node="queue-1", phase=Phase.RUNNING))
    world.idle = {"queue-1": 61.0}
    world.round()
    assert world.asked_for() == ["queue-1"]
    assert world.slurm.released == ["8"]
    world.nodes._leaving["8"] -= timedelta(seconds=200)
    world.round()
    assert world.asked_for() == []


def test_a_slurm_that_does_not_answer_is_unreachable(world: World) -> None:
    world.waiting, world.slurm.silence = 1, "there is no squeue on login"
    said = world.round()["queue-1"]
    assert said.state is NodeState.UNREACHABLE
    assert said.problem == "there is no squeue on login"
    assert world.nodes.end()[0].state is NodeState.UNREACHABLE


def test_the_end_of_all(world: World) -> None:
    world.waiting = 2
    world.round()
    assert {(r.name, r.state) for r in world.nodes.end()} == {
        ("queue-1", NodeState.ENDED),
        ("queue-2", NodeState.ENDED),
    }
    assert world.asked_for() == []
    assert world.nodes.end() == ()


@pytest.mark.parametrize("words", ["AssocMaxSubmitJobLimit", "QOSMaxSubmitJobPerUserLimit", "QOSGrpSubmitJobsLimit"])
def test_a_limit_of_slurm_that_is_reached_is_no_fault_of_terry_yaml(world: World, words: str) -> None:
    world.waiting = 1
    world.slurm.refusal = words
    said = world.round()["queue-1"]
    assert said.state is NodeState.WAITING
    assert words in said.problem
    assert "nothing has to be done" in said.fix
    world.slurm.refusal = "invalid partition specified: nowhere"
    again = World(world.workspace.root)
    again.slurm.refusal, again.waiting = world.slurm.refusal, 1
    assert again.round()["queue-1"].state is NodeState.UNFIT


def test_one_failed_squeue_is_forgotten_once_it_works(world: World) -> None:
    world.slurm.silence = "slurm_load_jobs error: Unable to contact slurm controller"
    said = world.round()
    for report in said.values():
        write_report(world.workspace, report)
    assert said["queue-1"].state is NodeState.UNREACHABLE
    world.slurm.silence = ""
    world.nodes._asked = -slurm_nodes._ASK_EVERY_S
    assert world.round()["queue-1"].state is NodeState.ENDED


def test_a_refusal_stays_while_it_is_why_nothing_comes_and_goes_once_nobody_asks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [1000.0]
    monkeypatch.setattr(slurm_nodes.time, "monotonic", lambda: moment[0])
    world.waiting = 1
    world.slurm.refusal = "invalid account"
    for report in world.round().values():
        write_report(world.workspace, report)
    assert world.round() == {}, "it is patient, and says no other"
    world.waiting, world.slurm.refusal = 0, ""
    moment[0] += 100.0
    assert world.round()["queue-1"].state is NodeState.ENDED


def test_what_may_stay_is_said_with_the_command_where_slurm_does_not_answer_at_the_end(world: World) -> None:
    write_report(world.workspace, NodeReport(name="queue-1", state=NodeState.JOINED))
    write_report(world.workspace, NodeReport(name="queue-2", state=NodeState.WAITING, problem="Slurm job 7 waits"))
    write_report(world.workspace, NodeReport(name="queue-3", state=NodeState.ENDED))
    world.slurm.silence = "Unable to contact slurm controller"
    (said,) = world.nodes.end()
    assert "Slurm jobs that may stay: queue-1, queue-2" in said.problem
    assert "scancel --user=" in said.fix
    assert "--name=terry-fake-queue-1 ; " in said.fix
    assert "--name=terry-fake-queue-2`" in said.fix


def test_a_slurm_job_that_waits_with_settings_that_were_corrected_is_asked_for_anew(world: World) -> None:
    """It waits for ever: PartitionTimeLimit, PartitionDown, a constraint that no node has."""
    world.waiting = 2
    world.round()
    world.slurm.start("queue-1")
    before = {job.node: job.id for job in world.slurm.jobs()}
    world.nodes = SlurmNodes(world.workspace, [replace(GROUP, partition="long", time="1:00:00")], world.slurm)
    world.round()
    now = {job.node: job for job in world.slurm.jobs()}
    assert set(now) == {"queue-1", "queue-2"}
    assert now["queue-1"].id == before["queue-1"], "what runs is left to run"
    assert now["queue-2"].id != before["queue-2"]
    assert now["queue-2"].settings == "long, 1:00:00"
    world.round()
    assert {job.node: job.id for job in world.slurm.jobs()} == {node: job.id for node, job in now.items()}, "once"


def test_one_of_an_earlier_version_whose_settings_nobody_knows_is_left_to_wait(world: World) -> None:
    world.waiting = 1
    world.slurm.put(SlurmJob(id="7", node="queue-1", phase=Phase.PENDING, state="PENDING", reason="Priority"))
    world.round()
    assert [job.id for job in world.slurm.jobs()] == ["7"]
