"""Who serves the workspace after a Slurm job with the head has ended. On a real Slurm: test_slurm_nodes.py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.files import durable, lease
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.processes import boot_id
from terry.cluster.lifecycle import liveness, slurm_head
from terry.cluster.lifecycle import slurm as up_slurm
from terry.cluster.lifecycle.slurm_head import Succession
from terry.cluster.ray.head import Head
from terry.cluster.slurm import next_head
from terry.cluster.slurm.commands import Slurm, SlurmError
from terry.cluster.slurm.plan import HEAD_NODE, Phase, SlurmJob

NOW = datetime.now(UTC)


class FakeSlurm(Slurm):
    """Remembers what it was asked; a job that is told to end is gone when it is looked at next."""

    def __init__(self, *jobs: SlurmJob) -> None:
        self.there = list(jobs)
        self.asked: list[tuple[str, ...]] = []
        self.refuses = False

    def jobs(self) -> tuple[SlurmJob, ...]:
        return tuple(self.there)

    def submit_head(self, group: SlurmGroup, after: str | None = None) -> str:
        self.asked.append(("submit", group.name, after or ""))
        if self.refuses:
            raise SlurmError("too many jobs")
        return "8"

    def end_head(self, job_id: str) -> None:
        self.asked.append(("end", job_id))
        self.there = [job for job in self.there if job.id != job_id]

    def free(self, job_id: str) -> None:
        self.asked.append(("free", job_id))

    def cancel(self, ids: object) -> None:
        found = tuple(ids)  # type: ignore[call-overload]
        self.asked += [("cancel", *found)] if found else []
        self.there = [job for job in self.there if job.id not in found]


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspacePaths:
    made = WorkspacePaths(tmp_path / "w")
    durable.make_folder(made.cluster)
    made.config.write_text("head: slurm\nnodes:\n  queue: {kind: slurm, gres: 'gpu:1'}\n")
    return made


def job(number: int, phase: Phase = Phase.RUNNING, reason: str = "") -> SlurmJob:
    return SlurmJob(id=str(number), node=HEAD_NODE, phase=phase, reason=reason, host="c1")


@pytest.fixture
def watched(workspace: WorkspacePaths, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A controller on another node was last seen to live so long ago."""
    moment = [1000.0]
    monkeypatch.setattr(liveness.clock, "monotonic", lambda: moment[0])
    monkeypatch.setattr(liveness.time, "sleep", lambda _: moment.__setitem__(0, moment[0] + 3.0))

    def seen(age_s: float) -> None:
        held = lease.Lease(epoch=1, host="c1", pid=1, started="x", heartbeat=NOW, beat=int(moment[0]))
        for changed in (held, msgspec.structs.replace(held, beat=held.beat + 1)):
            workspace.lease.write_bytes(msgspec.json.encode(changed))
            liveness.liveness(workspace)
            moment[0] += 1.0
        moment[0] += age_s - 1.0

    return seen


def record(workspace: WorkspacePaths, host: str) -> None:
    head = Head(host=host, boot_id=boot_id(), address="10.0.0.1:1", started_at=NOW)
    workspace.head.write_bytes(msgspec.json.encode(head))


def test_a_head_that_is_at_work_asks_for_one_successor(
    workspace: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = FakeSlurm()
    next_head.write(workspace, "7", "6")
    succession = Succession(workspace, slurm, "7")
    succession.provide()
    assert slurm.asked == [], "a head that never is must not bring forth another"
    monkeypatch.setattr(Succession, "_is_at_work", lambda _: True)
    succession.provide()
    succession.provide()
    assert slurm.asked == [("submit", "queue", "7")]
    assert next_head.read(workspace) == next_head.NextHead(job="8", after="7")


def test_a_refused_successor_is_asked_for_later(workspace: WorkspacePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = FakeSlurm()
    slurm.refuses = True
    next_head.write(workspace, "7", "6")
    succession = Succession(workspace, slurm, "7")
    monkeypatch.setattr(Succession, "_is_at_work", lambda _: True)
    succession.provide()
    succession.provide()
    assert len(slurm.asked) == 1, "not at once"
    assert next_head.read(workspace) is None, "what it says of us is over"
    monkeypatch.setattr(slurm_head.time, "monotonic", lambda: 1e9)
    slurm.refuses = False
    succession.provide()
    assert len(slurm.asked) == 2
    assert next_head.read(workspace) is not None


def test_a_head_that_was_given_up_ends(workspace: WorkspacePaths) -> None:
    record(workspace, "elsewhere")
    succession = Succession(workspace, FakeSlurm(), "7")
    assert not succession.is_over, "the predecessor's is there until ours is"
    record(workspace, slurm_head.socket.gethostname())
    assert not succession.is_over
    record(workspace, "elsewhere")
    assert succession.is_over


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """What `up` and `down` ask."""
    slurm = FakeSlurm(job(9, Phase.PENDING, "Dependency"), job(10, Phase.PENDING, "Dependency"), job(8))
    monkeypatch.setattr(up_slurm, "Slurm", lambda _: slurm)
    return slurm


def up(workspace: WorkspacePaths) -> list[str]:
    said: list[str] = []
    from terry.cluster.config import terry_yaml as config

    up_slurm.ensure_head_job(workspace, config.read_nodes(workspace), wait=False, notify=said.append)
    return said


def test_up_does_not_wait_until_slurm_has_noticed_a_crash(
    workspace: WorkspacePaths, here: FakeSlurm, watched: Callable[[float], None]
) -> None:
    watched(1.0)
    assert up(workspace) == []
    watched(40.0)
    assert up(workspace) == []
    assert here.asked == [], "it may only be starting anew"
    here.there.pop(1)
    watched(90.0)
    assert up(workspace) == ["the head's Slurm job 8 on c1 is silent: 9 does not wait for its end"]
    assert here.asked == [("free", "9")]
    here.there = []
    up(workspace)
    assert here.asked[1:] == [("submit", "queue", "")]


def test_down_cancels_the_successor_first(workspace: WorkspacePaths, here: FakeSlurm) -> None:
    next_head.write(workspace, "9", "8")
    assert up_slurm.end_head_job(workspace, notify=lambda _: None)
    assert here.asked == [("cancel", "10", "9"), ("end", "8")]
    assert next_head.read(workspace) is None
    assert not up_slurm.end_head_job(workspace, notify=lambda _: None)


def test_whom_up_waits_for() -> None:
    dead, next_one = job(8), job(9, Phase.PENDING, "Dependency")
    assert up_slurm._coming([next_one, dead]) == dead
    freed = job(9, Phase.PENDING, "Resources")
    assert up_slurm._coming([freed, dead]) == freed
    assert up_slurm._coming([next_one]) == next_one
    assert up_slurm._coming([]) is None
