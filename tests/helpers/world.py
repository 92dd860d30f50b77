"""A workspace as the real controller makes it, on fake devices and with a clock that the test moves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from terry.cluster.client.setup import make_workspace
from terry.cluster.controller.loop import Controller
from terry.cluster.core.model import AttemptEnd, Device, DeviceKind, DeviceUse, EndReason, JobRecord, Progress
from terry.cluster.files import durable, inbox
from terry.cluster.files.live import Live
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting.submission import SubmitOptions, prepare_submission, publish
from tests.fakes.pool import FakeClock, FakePool

START = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)

#: The module of `entrypoint: whaling:main`: a training of one's own needs no data set.
OWN_CODE = "def main(ctx): ...\n"

SWEEP = """\
name: {name}
run:
  entrypoint: whaling:main
  model: {{cell: gru, hidden_size: 32}}
  optimizer: {{name: adam, lr: 0.001}}
  resources: {{cpus: 1}}
sweep:
  grid:
    training.seed: [{seeds}]
"""

CRASH = """\
Fatal Python error: Segmentation fault

Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait

Current thread 0x00007f0000000002 (most recent call first):
  File "/opt/terry/models/embedding.py", line 88 in backward
  File "/opt/terry/models/trainer.py", line 140 in step
  File "/opt/terry/jobs/train.py", line 61 in main
"""


def device(name: str = "seawolf:cpu", cores: float = 2.0) -> Device:
    """A device of a fake pool."""
    node = name.partition(":")[0]
    return Device(
        id=name,
        node=node,
        node_id=f"{node}@1",
        kind=DeviceKind.CPU,
        capacity=cores,
        model="EPYC",
        host_cores=int(cores),
    )


class World:
    """A workspace with a controller that turns when told."""

    def __init__(self, folder: Path, *devices: Device) -> None:
        self.folder = folder
        self.workspace = WorkspacePaths(folder / "runs")
        self.clock = FakeClock(START)
        self.pool = FakePool(devices or [device()])
        make_workspace(self.workspace)
        self.controller = Controller(self.workspace, self.pool, self.clock)
        self.controller.recover()

    def submit(self, name: str, runs: int, *, hold: bool = False) -> None:
        """Put a sweep of so many runs on disk; no controller has taken it yet."""
        path = self.folder / f"{name}.yaml"
        path.write_text(SWEEP.format(name=name, seeds=", ".join(str(seed) for seed in range(1, runs + 1))))
        (self.folder / "whaling.py").write_text(OWN_CODE)
        options = SubmitOptions(hold=hold)
        publish(self.workspace, prepare_submission(self.workspace, path, (), options, self.clock.now(), "ahab"))

    def turn(self, seconds: float = 1.0, times: int = 1) -> None:
        """Let time pass, and the controller act."""
        for _ in range(times):
            self.clock.advance(seconds)
            self.controller.turn(0.0)

    def record(self, job_id: str) -> JobRecord:
        """What the queue knows of a job."""
        return self.controller.state.jobs[job_id]

    def measure(self, job_id: str, first: int, last: int, *, start: int | None = None, every: int = 10) -> None:
        """The newest attempt measures its loss, falling, from step `first` to `last`."""
        folder = self.workspace.run(job_id).attempt(self.record(job_id).attempt)
        folder.root.mkdir(parents=True, exist_ok=True)
        with folder.metrics.open("a") as stream:
            if start is not None:
                stream.write(json.dumps({"start": start}) + "\n")
            for step in range(first, last + 1, every):
                loss = 2 + 4 * math.exp(-step / 400)
                stream.write(json.dumps({"step": step, "time": 0, "loss": loss, "tokens_per_s": 5000.0}) + "\n")

    def progress(self, *steps: tuple[str, int], total: int = 1000, uses: tuple[DeviceUse, ...] = ()) -> None:
        """What live.json says of running jobs: (job id, step); and of devices."""
        said = tuple(
            Progress(
                job_id=job_id,
                attempt=self.record(job_id).attempt,
                step=step,
                total_steps=total,
                epoch=step / 100,
                loss=2 + 4 * math.exp(-step / 400),
                tokens_per_s=5000.0,
                steps_per_s=10.0,
                phase="training",
                time=self.clock.now(),
            )
            for job_id, step in steps
        )
        live = Live(time=self.clock.now(), epoch=self.controller.state.epoch, progress=said, uses=uses)
        durable.write_json(self.workspace.live, live)

    def finish(self, job_id: str, loss: float = 2.5, steps: int = 1000) -> None:
        """The job's process ends well, with a result."""
        result = {"job": job_id, "attempt": 1, "step": steps, "loss": loss, "valid_loss": loss + 0.1}
        durable.write_json(self.workspace.run(job_id).result, {**result, "tokens_per_s": 5000.0})
        self.end(job_id, AttemptEnd(reason=EndReason.SUCCESS, exit_code=0, step=steps, first_step_done=True))

    def crash(self, job_id: str, step: int = 412, checkpoint: int | None = 400) -> None:
        """The job's process ends by a segmentation fault, and leaves its stack."""
        folder = self.workspace.run(job_id).attempt(self.record(job_id).attempt)
        folder.crash.write_text(CRASH)
        folder.stderr.write_text("loading\nTrue fact: whales are mammals\n")
        end = AttemptEnd(
            reason=EndReason.CRASHED,
            signal=11,
            message="SIGSEGV in backward (models/embedding.py:88)",
            step=step,
            checkpoint_step=checkpoint,
            first_step_done=True,
            max_rss_bytes=300 << 20,
            cpu_s=42.0,
        )
        self.end(job_id, end)

    def fail(self, job_id: str) -> None:
        """The job's process raises before its first step."""
        folder = self.workspace.run(job_id).attempt(self.record(job_id).attempt)
        text = 'Traceback (most recent call last):\n  File "lab.py", line 3, in main\nValueError: no such optimizer'
        error = {"reason": "exception", "message": "ValueError: no such optimizer", "traceback": text}
        folder.error.write_text(json.dumps(error))
        self.end(job_id, AttemptEnd(reason=EndReason.EXCEPTION, exit_code=1, message="ValueError: no such optimizer"))

    def end(self, job_id: str, end: AttemptEnd) -> None:
        """The job's process ends."""
        self.pool.end(job_id, replace(end))
        self.turn()

    def stop_controller(self) -> None:
        """The controller ends on purpose."""
        inbox.send(self.workspace, inbox.Shutdown())
        self.turn(times=3)
        assert self.controller.stopped


def busy(world: World) -> None:
    """Eight runs on two cores: one done, one crashed and going on, one failed, the others running and waiting."""
    world.submit("cells", 8)
    world.turn(times=3)
    world.measure("cells-0001", 10, 400, start=-1)
    world.turn(60)
    world.finish("cells-0001")
    world.crash("cells-0002")
    world.turn(times=3)
    world.fail("cells-0003")
    world.turn(times=3)
