"""What every DevicePool must do. A subclass of PoolContract with a fixture `lab` runs all of it on one adapter.

The lab has a world (nodes, agents) that outlives pools, as Ray outlives controllers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

import msgspec
import pytest

from terry.cluster.core.model import AttemptEnd, Device, EndReason, StopGoal
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.ports import Appeared, DevicePool, Ended, LaunchOrder, Progress, Report, Started, Vanished
from terry.cluster.scheduling.demand import DeviceLoad, Need

#: Seconds after which what was waited for will not come any more.
WAIT_S = 60.0

R = TypeVar("R", bound=Report)


class Action(StrEnum):
    """What a job of the contract does."""

    SUCCEED = "succeed"  #: ends with success at once
    CRASH = "crash"  #: SIGSEGV
    FAIL = "fail"  #: an uncaught exception before its first step
    WAIT = "wait"  #: says its progress, then waits; at SIGTERM it obeys


class Lab(Protocol):
    """One world with one device at least, on which two jobs of share 1.0 have room."""

    workspace: WorkspacePaths

    def new_pool(self) -> DevicePool:
        """A pool as the next controller makes it; the one before is not used any more."""
        ...

    def entrypoint(self, action: Action) -> str:
        """The entry point of a job that does this."""
        ...

    def kill_agent(self, device_id: str) -> None:
        """SIGKILL for the agent of a device, which then comes back by itself."""
        ...


class Talk:
    """A pool, and all that it has said."""

    def __init__(self, lab: Lab, epoch: int, pool: DevicePool | None = None) -> None:
        self.lab = lab
        self.epoch = epoch
        self.pool = pool or lab.new_pool()
        self.reports: list[Report] = []
        self.progress: list[Progress] = []
        self.pool.attach(epoch)

    def poll(self, timeout_s: float = 0.2) -> None:
        poll = self.pool.poll(timeout_s)
        self.reports += poll.reports
        self.progress += poll.progress

    def until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not ready():
            assert time.monotonic() < deadline, f"it never came; all that was said: {self.reports}"
            self.poll()

    def said(self, kind: type[R], job_id: str, attempt: int = 1) -> list[R]:
        return [r for r in self.reports if isinstance(r, kind) and (r.job_id, r.attempt) == (job_id, attempt)]  # type: ignore[union-attr]

    def wait_for(self, kind: type[R], job_id: str, attempt: int = 1) -> R:
        self.until(lambda: bool(self.said(kind, job_id, attempt)))
        return self.said(kind, job_id, attempt)[0]

    def appeared(self) -> list[Appeared]:
        return [r for r in self.reports if isinstance(r, Appeared)]

    def device(self) -> Device:
        self.until(lambda: bool(self.appeared()))
        return self.appeared()[0].device

    def launch(self, job_id: str, action: Action, attempt: int = 1, epoch: int | None = None) -> LaunchOrder:
        order = LaunchOrder(
            epoch=self.epoch if epoch is None else epoch,
            job_id=job_id,
            sweep="contract",
            attempt=attempt,
            entrypoint=self.lab.entrypoint(action),
            workspace=str(self.lab.workspace.root),
            spec_path="sweeps/contract/submission-0001/jobs.jsonl",
            spec_offset=0,
            spec_length=0,
            device_id=self.device().id,
            share=1.0,
            threads=1,
        )
        self.pool.launch(order)
        return order


class PoolContract:
    """The contract."""

    @pytest.fixture
    def lab(self) -> Lab:
        """To be given by the subclass."""
        raise NotImplementedError

    @pytest.fixture
    def talk(self, lab: Lab) -> Talk:
        return Talk(lab, epoch=1)

    def test_attaching_makes_devices_appear(self, talk: Talk) -> None:
        device = talk.device()
        assert device.capacity >= 1.0
        assert device.id.startswith(f"{device.node}:")
        assert device.node_id
        assert device.agent, "an incarnation, so that another life of the agent is noticed"
        assert talk.appeared()[0].running == ()

    def test_its_own_devices_stay_however_idle(self, talk: Talk) -> None:
        """Only devices that are shared with others are given back."""
        device, now = talk.device(), datetime.now(UTC)
        idle = DeviceLoad(device_id=device.id, free=device.capacity, idle_since=now - timedelta(days=1))
        talk.pool.need(Need(time=now, devices=(device,), loads=(idle,)))
        talk.launch("j-1", Action.SUCCEED)
        talk.wait_for(Ended, "j-1")
        assert not any(isinstance(report, Vanished) for report in talk.reports)

    def test_a_job_starts_and_ends(self, talk: Talk, lab: Lab) -> None:
        talk.launch("j-1", Action.SUCCEED)
        assert talk.wait_for(Started, "j-1").pid > 0
        end = talk.wait_for(Ended, "j-1").end
        assert end.reason is EndReason.SUCCESS
        folder = lab.workspace.run("j-1").attempt(1)
        assert folder.launch.exists()
        written = msgspec.json.decode(folder.exit.read_bytes(), type=AttemptEnd)
        assert written == end, "exit.json is there before the report, and says the same"

    @pytest.mark.parametrize(
        ("action", "reason"), [(Action.CRASH, EndReason.CRASHED), (Action.FAIL, EndReason.EXCEPTION)]
    )
    def test_failures_are_named(self, talk: Talk, action: Action, reason: EndReason) -> None:
        talk.launch("j-1", action)
        end = talk.wait_for(Ended, "j-1").end
        assert end.reason is reason
        assert end.message
        assert (end.signal == 11) == (action is Action.CRASH)
        assert not end.first_step_done

    @pytest.mark.parametrize(
        ("goal", "reason"),
        [
            (StopGoal.CANCEL, EndReason.CANCELLED),
            (StopGoal.PAUSE, EndReason.PAUSED),
            (StopGoal.PREEMPT, EndReason.PREEMPTED),
        ],
    )
    def test_a_job_that_is_asked_to_stop_ends_for_that_reason(
        self, talk: Talk, goal: StopGoal, reason: EndReason
    ) -> None:
        talk.launch("j-1", Action.WAIT)
        talk.wait_for(Started, "j-1")
        talk.until(lambda: any(p.job_id == "j-1" for p in talk.progress))
        talk.pool.stop("j-1", 1, goal)
        assert talk.wait_for(Ended, "j-1").end.reason is reason

    def test_a_stop_right_after_the_launch_is_not_lost(self, talk: Talk) -> None:
        talk.launch("j-1", Action.WAIT)
        talk.pool.stop("j-1", 1, StopGoal.CANCEL)
        assert talk.wait_for(Ended, "j-1").end.reason is EndReason.CANCELLED

    def test_stopping_what_is_not_there_does_nothing(self, talk: Talk) -> None:
        talk.device()
        talk.pool.stop("nobody", 1, StopGoal.CANCEL)
        talk.launch("j-1", Action.SUCCEED)
        talk.wait_for(Ended, "j-1")
        assert talk.said(Ended, "nobody") == []

    def test_launching_twice_starts_one_process(self, talk: Talk) -> None:
        order = talk.launch("j-1", Action.WAIT)
        talk.pool.launch(order)
        talk.wait_for(Started, "j-1")
        talk.pool.launch(order)
        talk.launch("j-2", Action.SUCCEED)
        talk.wait_for(Ended, "j-2")
        assert len({report.pid for report in talk.said(Started, "j-1")}) == 1
        talk.pool.stop("j-1", 1, StopGoal.CANCEL)
        assert talk.wait_for(Ended, "j-1").end.reason is EndReason.CANCELLED

    def test_two_jobs_share_a_device(self, talk: Talk) -> None:
        for job_id in ("j-1", "j-2"):
            talk.launch(job_id, Action.WAIT)
        pids = {talk.wait_for(Started, job_id).pid for job_id in ("j-1", "j-2")}
        assert len(pids) == 2
        for job_id in ("j-1", "j-2"):
            talk.pool.stop(job_id, 1, StopGoal.CANCEL)
            talk.wait_for(Ended, job_id)

    def test_the_next_controller_finds_what_runs(self, talk: Talk, lab: Lab) -> None:
        talk.launch("j-1", Action.WAIT)
        pid = talk.wait_for(Started, "j-1").pid
        talk.pool.acknowledge()
        heir = Talk(lab, epoch=2)
        heir.until(lambda: any(("j-1", 1) in a.running for a in heir.appeared()))
        assert heir.said(Started, "j-1") in ([], [Started(job_id="j-1", attempt=1, pid=pid)])
        heir.pool.stop("j-1", 1, StopGoal.CANCEL)
        heir.wait_for(Ended, "j-1")

    def test_what_was_not_acknowledged_is_said_again(self, talk: Talk, lab: Lab) -> None:
        talk.launch("j-1", Action.SUCCEED)
        first = talk.wait_for(Ended, "j-1")
        heir = Talk(lab, epoch=2)
        assert heir.wait_for(Ended, "j-1") == first
        heir.pool.acknowledge()
        heir.launch("j-2", Action.SUCCEED)  # brings the acknowledgement to the agent
        heir.wait_for(Ended, "j-2")
        heir.pool.acknowledge()
        heir.launch("j-3", Action.SUCCEED)
        heir.wait_for(Ended, "j-3")
        last = Talk(lab, epoch=3)
        last.device()
        last.launch("j-4", Action.SUCCEED)
        last.wait_for(Ended, "j-4")
        assert last.said(Ended, "j-1") == []

    def test_an_end_is_said_before_the_device_appears_without_the_attempt(self, talk: Talk, lab: Lab) -> None:
        talk.launch("j-1", Action.SUCCEED)
        talk.wait_for(Ended, "j-1")
        heir = Talk(lab, epoch=2)
        heir.device()
        appeared = next(i for i, r in enumerate(heir.reports) if isinstance(r, Appeared) and not r.running)
        ended = next(i for i, r in enumerate(heir.reports) if isinstance(r, Ended) and r.job_id == "j-1")
        assert ended < appeared

    def test_orders_of_an_older_controller_are_not_carried_out(self, talk: Talk, lab: Lab) -> None:
        talk.device()
        heir = Talk(lab, epoch=2)
        heir.device()
        heir.launch("j-1", Action.SUCCEED, epoch=1)
        heir.launch("j-2", Action.SUCCEED)
        heir.wait_for(Ended, "j-2")
        assert heir.said(Started, "j-1") == []
        assert not lab.workspace.run("j-1").attempt(1).launch.exists()

    def test_an_agent_that_died_comes_back_as_another_without_its_jobs(self, talk: Talk, lab: Lab) -> None:
        talk.launch("j-1", Action.WAIT)
        talk.wait_for(Started, "j-1")
        device = talk.device()
        lab.kill_agent(device.id)
        talk.until(lambda: any(a.device.id == device.id and a.device.agent != device.agent for a in talk.appeared()))
        back = next(a for a in talk.appeared() if a.device.agent != device.agent and a.device.id == device.id)
        assert back.running == ()
        gone = [r for r in talk.reports if isinstance(r, Vanished)]
        assert {r.device_id for r in gone} <= {device.id}
        talk.launch("j-1", Action.SUCCEED, attempt=2)
        assert talk.wait_for(Ended, "j-1", attempt=2).end.reason is EndReason.SUCCESS

    def test_an_attempt_is_never_started_a_second_time(self, talk: Talk, lab: Lab) -> None:
        """Its folder belongs to a process that is gone: whoever orders it again is told so, or hears its end again."""
        order = talk.launch("j-1", Action.WAIT)
        talk.wait_for(Started, "j-1")
        lab.kill_agent(order.device_id)
        first = talk.device().agent
        talk.until(lambda: any(a.device.agent != first for a in talk.appeared()))
        talk.pool.launch(order)
        talk.launch("j-2", Action.SUCCEED)
        talk.wait_for(Ended, "j-2")
        assert len({report.pid for report in talk.said(Started, "j-1")}) == 1

    def test_wake_ends_a_poll(self, talk: Talk) -> None:
        talk.device()
        talk.poll()
        talk.pool.acknowledge()
        talk.pool.wake()
        begin = time.monotonic()
        talk.poll(WAIT_S)
        assert time.monotonic() - begin < WAIT_S / 2
