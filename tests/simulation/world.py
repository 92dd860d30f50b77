"""A random life of a workspace: jobs, people, failures, and controllers that die between any two steps. Seeded."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from terry.cluster.controller.loop import Controller
from terry.cluster.core.events import encode_line
from terry.cluster.core.model import AttemptEnd, Device, EndReason, JobState
from terry.cluster.core.policy import Limit, Policy, Preemption
from terry.cluster.core.state_document import to_snapshot, validate
from terry.cluster.core.state_machine import State, apply, due
from terry.cluster.files import inbox
from terry.cluster.files.durable import Calls
from terry.cluster.files.journal import read
from terry.cluster.files.paths import WorkspacePaths
from tests.fakes.pool import FakeClock, FakePool
from tests.helpers.queue_values import NoSync, job_line, make_cpu, make_gpu, write_submission


class Died(Exception):
    """The controller's process was killed here."""


class Mortal(NoSync):
    """System calls before any of which the process may be killed; a killed process calls no more."""

    def __init__(self, chaos: random.Random) -> None:
        self.chaos = chaos
        self.dead = False
        self.danger = 0.0

    def _live(self) -> None:
        if self.dead or self.chaos.random() < self.danger:
            self.dead = True
            raise Died

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._live()
        return super().open(path, flags, mode)

    def write(self, descriptor: int, data: memoryview) -> int:
        self._live()
        if len(data) > 1 and self.chaos.random() < self.danger:
            super().write(descriptor, data[: self.chaos.randrange(1, len(data))])
            self.dead = True
            raise Died
        return super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._live()

    def close(self, descriptor: int) -> None:
        Calls.close(self, descriptor)
        if not self.dead:  # for the dead the kernel closes
            self._live()

    def rename(self, source: Path, target: Path) -> None:
        self._live()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._live()
        if path.parent.name == "journal":  # kept, so that the whole history can be replayed
            archive = path.parent.with_name("archive")
            archive.mkdir(exist_ok=True)
            shutil.copy(path, archive / path.name)
        super().unlink(path)

    def truncate(self, descriptor: int, length: int) -> None:
        self._live()
        super().truncate(descriptor, length)


class MortalPool(FakePool):
    """Its controller may be killed just before or after any call."""

    calls: Mortal

    def launch(self, order: Any) -> None:
        self.calls._live()
        super().launch(order)
        self.calls._live()

    def stop(self, *args: Any) -> None:
        self.calls._live()
        super().stop(*args)

    def acknowledge(self) -> None:
        self.calls._live()
        super().acknowledge()
        self.calls._live()

    def attach(self, epoch: int, holder: str = "") -> None:
        self.calls._live()
        super().attach(epoch, holder)


class CheckedController(Controller):
    """Validates the state after each event."""

    def _record(self, event: Any) -> None:
        super()._record(event)
        validate(self.state)


#: How a person may set `policy:`.
POLICIES = [
    Policy(),
    Policy(preemption=Preemption(after_s=0.0), aging_s=600.0),
    Policy(user_limits={"*": Limit(jobs=2)}, node_limits={"*": Limit(jobs=1)}, longest_first=False),
    Policy(half_life_s=900.0, backfill=False, preemption=Preemption(difference=2, after_s=10.0)),
]

ENDS = [
    *[AttemptEnd(reason=EndReason.SUCCESS)] * 8,
    AttemptEnd(reason=EndReason.CRASHED, signal=11, step=7),
    AttemptEnd(reason=EndReason.KILLED, signal=9),
    AttemptEnd(reason=EndReason.EXCEPTION, first_step_done=True),
    AttemptEnd(reason=EndReason.DEVICE_OUT_OF_MEMORY),
    AttemptEnd(reason=EndReason.HOST_OUT_OF_MEMORY),
    AttemptEnd(reason=EndReason.HUNG),
    AttemptEnd(reason=EndReason.LAUNCH_ERROR),
    AttemptEnd(reason=EndReason.NOT_FINITE),
    AttemptEnd(reason=EndReason.DISK_FULL),
    AttemptEnd(reason=EndReason.CRASHED, device_fault="Xid 79"),
]


class World:
    """One workspace and what happens in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.workspace = WorkspacePaths(folder)
        folder.mkdir()
        self.clock = FakeClock()
        self.pool = MortalPool(self._devices(), chaos=random.Random(seed + 1))
        self.controller: CheckedController | None = None
        self.submitted: list[str] = []
        self.sweeps = 0
        self.deaths = 0
        self.last_epoch = 0

    def _devices(self) -> list[Device]:
        devices = [
            make_cpu(f"c{i}", cores=self.random.choice([1.0, 2.0, 4.0])) for i in range(self.random.randint(1, 2))
        ]
        return devices + [make_gpu("g", i) for i in range(self.random.randint(0, 2))]

    # the controller's life

    def turn(self, danger: float = 0.0) -> None:
        """One turn of the controller, which is started if it is dead, and may die at any step."""
        calls = Mortal(self.random) if self.controller is None else self.pool.calls
        calls.danger = danger
        self.pool.calls = calls
        try:
            if self.controller is None:
                self.controller = CheckedController(
                    self.workspace, self.pool, self.clock, calls=calls, policy=self.policy
                )
                self.controller.recover()
                assert self.controller.state.epoch > self.last_epoch, "epochs grow"
                self.last_epoch = self.controller.state.epoch
            self.controller.turn(0.0)
        except Died:
            self.die()
        else:
            self.check_settled()
            if self.controller.stopped:
                self.controller = None
        self.clock.advance(self.random.choice([0.0, 0.3, 0.3, 2.0, 2.0, 61.0]))

    def die(self) -> None:
        """SIGKILL: nothing is written any more, the kernel closes the files."""
        if self.controller is not None:
            self.deaths += 1
            self.pool.calls.dead = True
            self.controller.close()
            self.controller = None

    def check_settled(self) -> None:
        """After a turn nothing is owed, and what is on disk is the state."""
        assert self.controller is not None
        assert due(self.controller.state) == []

    # what happens

    def happen(self) -> None:
        """One random thing, then a turn."""
        what = self.random.choices(
            [self.submit, self.ask, self.end_some, self.break_something, self.mend, self.die, lambda: None],
            [2, 3, 8, 1, 3, 0.5, 3],
        )[0]
        what()
        self.turn(danger=self.random.choice([0.0, 0.0, 0.0, 0.01, 0.1]))

    def submit(self) -> None:
        self.sweeps += 1
        sweep = f"s{self.sweeps}"
        ids = [f"{sweep}-{i}" for i in range(self.random.randint(1, 6))]
        lines = []
        for i, job_id in enumerate(ids):
            known = self.submitted + ids[:i]
            needs = self.random.sample(known, min(len(known), self.random.choice([0, 0, 0, 1, 2, 3])))
            lenient = {"minimum": self.random.randint(1, len(needs))} if needs and self.random.random() < 0.4 else {}
            lines.append(job_line(job_id, needs, **lenient, **self._details()))
        self.random.shuffle(lines)
        write_submission(self.workspace, sweep, lines)
        self.submitted += ids
        self._send(inbox.Submit(sweep=sweep))

    def _send(self, message: inbox.Message) -> None:
        inbox.send(self.workspace, message, NoSync())

    def policy(self) -> Policy:
        """One of a few, which a person changes now and then."""
        return POLICIES[int(self.clock.now().timestamp()) // 100 % len(POLICIES)]

    def _details(self) -> dict[str, Any]:
        gpus = any(d.kind == "gpu" for d in self.pool.devices)
        share = self.random.choice([0.25, 0.5, 1.0])
        wants = {"gpus": share} if gpus and self.random.random() < 0.5 else {"cpus": share}
        return {
            "resources": {**wants, "exclusive": self.random.random() < 0.1},
            "priority": self.random.randint(-1, 1),
            "held": self.random.random() < 0.05,
        }

    def ask(self) -> None:
        some = tuple(self.random.sample(self.submitted, min(len(self.submitted), self.random.randint(0, 3))))
        device = self.random.choice(self.pool.devices).id
        message = self.random.choice(
            [
                inbox.Cancel(job_ids=some),
                inbox.Pause(job_ids=some),
                inbox.Resume(job_ids=some),
                inbox.Resume(job_ids=some),
                inbox.Resubmit(job_ids=some, from_scratch=self.random.random() < 0.3),
                inbox.SetPriority(job_ids=some, priority=self.random.randint(-2, 2)),
                inbox.Drain(device=device),
                inbox.Undrain(device=device),
                inbox.Shutdown(),
                inbox.Submit(sweep=f"s{max(1, self.sweeps)}"),
                None,
            ]
        )
        if message is None:
            (self.workspace.inbox / "new").mkdir(parents=True, exist_ok=True)
            (self.workspace.inbox / "new" / f"{self.random.random()}.json").write_bytes(b'{"type":"Cancel","job')
        else:
            self._send(message)

    def end_some(self) -> None:
        for job_id, _ in sorted(self.pool.running()):
            if self.random.random() < 0.5:
                step = self.random.choice([None, None, 1, 2, 3])
                self.pool.end(job_id, replace(self.random.choice(ENDS), checkpoint_step=step))

    def break_something(self) -> None:
        device = self.random.choice(self.pool.devices)
        if self.random.random() < 0.5:
            self.pool.kill_node(device.node)
        elif self.pool.is_alive(device.id):
            self.pool.kill_agent(device.id)

    def mend(self) -> None:
        for device in self.pool.devices:
            if not self.pool.is_alive(device.id) and self.random.random() < 0.7:
                if self.random.random() < 0.5:
                    self.pool.restore_node(device.node)
                else:
                    self.pool.restart_agent(device.id)

    # the end

    def come_to_rest(self) -> State:
        """Everything is mended, nobody asks for anything: all that can end must end."""
        for device in self.pool.devices:
            if not self.pool.is_alive(device.id):
                self.pool.restart_agent(device.id)
        for _ in range(400):
            self.turn()
            if self.controller is None:  # a shutdown was asked for
                continue
            held = [r.job.id for r in self.controller.state.jobs.values() if r.state is JobState.HELD]
            if held:
                self._send(inbox.Resume(job_ids=tuple(held)))
            for record in list(self.controller.state.devices.values()):
                if record.drained:
                    self._send(inbox.Undrain(device=record.device.id))
            for job_id, attempt in sorted(self.pool.running()):
                record = self.controller.state.jobs.get(job_id)  # what is not wanted the controller has to stop
                if record is not None and record.attempt == attempt and record.state is JobState.RUNNING:
                    self.pool.end(job_id, AttemptEnd(reason=EndReason.SUCCESS))
            self.clock.advance(301.0)
            if all(r.state.is_final for r in self.controller.state.jobs.values()) and not self.pool.running():
                break
        assert self.controller is not None
        return self.controller.state


def replayed(workspace: WorkspacePaths) -> list[bytes]:
    """The state after each event, by the whole journal alone."""
    state = State()
    snapshots = []
    for entry in read(_whole_journal(workspace)):
        apply(state, entry.event)
        snapshots.append(to_snapshot(state))
    return snapshots


def history(workspace: WorkspacePaths) -> list[bytes]:
    """All lines of the journal, from the first."""
    return [encode_line(entry.seq, entry.epoch, entry.event) for entry in read(_whole_journal(workspace))]


def _whole_journal(workspace: WorkspacePaths) -> Path:
    archive = workspace.queue / "archive"
    shutil.copytree(workspace.journal, archive, dirs_exist_ok=True)
    return archive
