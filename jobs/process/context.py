"""RunContext: all that a running job may use. The one argument of every entry point, ours and a user's own."""

from __future__ import annotations

import copy
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from terry.cluster.agent.evidence import ErrorReport
from terry.cluster.agent.pulse import Pulse
from terry.cluster.config.words import seconds
from terry.cluster.core.model import EndReason
from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.process.halving import Halving, HalvingVerdict, Siblings, configuration_of, group_of
from terry.jobs.process.order import Order
from terry.jobs.process.progress import ProgressWriter, Rate
from terry.jobs.process.stop import StopFlag, Stopped
from terry.jobs.submitting.records import JobLine
from terry.jobs.sweeps.spec import HalvingUnit, RunConfig
from terry.logs.records.metrics import FROM_SCRATCH, OWN, MetricsWriter
from terry.logs.records.results import read_result
from terry.logs.records.tensorboard import EventWriter
from terry.logs.records.values import Refused, as_count, number, pack, unpack, whole

if TYPE_CHECKING:
    from terry.jobs.process.checkpoints import Checkpoint, CheckpointStore
    from terry.jobs.process.loop import LoopState
    from terry.models.training_state import TrainingState, TrainingStateBuffers

__all__ = ["RunContext"]


#: Fields of model.Progress that a job may tell, and what each is.
_LIVE: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("step", "total_steps", "checkpoint_step"), whole),
    **dict.fromkeys(("epoch", "loss", "valid_loss", "tokens_per_s", "steps_per_s"), number),
    "phase": lambda value, name: _phase(value, name),
}


def _phase(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"{name} must be text, not {value!r}")
    return value[:200].encode("utf-8", "backslashreplace").decode()


def _live(name: str, value: Any) -> Any:
    """A field of the live figures. Raises Refused with its name."""
    if name not in _LIVE:
        raise Refused(f"progress has no field {name!r}; it has {', '.join(_LIVE)}: `log` takes any name")
    return None if value is None else _LIVE[name](value, name)


def _measurement(name: str) -> str:
    """The name of a measurement. Raises Refused where it cannot be one."""
    if name in OWN:
        raise Refused(f"log: {name!r} is a name that each line has of its own; call it otherwise, as 'own_{name}'")
    if not name.isprintable():
        raise Refused(f"log: {name!r} is no name for a measurement: it has characters that cannot be printed")
    return name


def _own_result(result: object, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a run hands in, as result.json has it."""
    if result is None:
        return {}
    if not isinstance(result, Mapping):
        raise Refused(f"finish: the result must be a mapping, as {{'loss': 0.1}}, not {type(result).__name__}")
    own = {}
    for key, value in result.items():
        if not isinstance(key, str) or not key.isprintable():
            raise Refused(f"finish: a name must be text that can be printed, not {key!r}")
        packed = pack(value, key)
        same = key == "step" and as_count(packed) is not None
        own[f"result.{key}" if key in about and not same else str(key)] = packed
    return own


class LaunchError(RuntimeError):
    """The device that was asked for is not the one that is used. Another device may do."""


class ProgramFailed(RuntimeError):
    """A program that is run as a job has failed."""

    def __init__(self, message: str, reason: EndReason) -> None:
        super().__init__(message)
        self.reason = reason


class Superseded(RuntimeError):
    """A later attempt of the same job has begun: this one was given up, and lives on where nobody could end it."""


class RunContext:
    """One attempt of one job: what it is asked to do, what it may write, and when it must leave.

    A training function of your own needs little of it (examples/own_training.py is one that runs)::

        def main(ctx: RunContext) -> None:
            checkpoint = ctx.load_checkpoint()
            step = checkpoint.step if checkpoint else 0
            while step < ctx.parameters["steps"]:
                step += 1
                ...
                ctx.log(step, loss=loss)
                if ctx.checkpoint_due():
                    ctx.save_checkpoint(step, model.state_dict())
                if ctx.should_stop():
                    ctx.leave()
            ctx.finish({"loss": loss})
    """

    def __init__(self, order: Order, line: JobLine, progress: ProgressWriter, stop: StopFlag) -> None:
        self.job_id = order.job_id
        self.sweep = order.sweep
        self.attempt = order.attempt
        self.first_attempt = order.first_attempt  #: what attempts before this one left does not count
        self.device = order.device  #: `cpu` or `cuda:0`, as torch calls it
        self.gpu_uuid = order.gpu_uuid  #: of the GPU that was granted; empty: none
        self.memory_share = order.memory_share  #: of the GPU's memory
        self.gpu_memory_bytes = order.gpu_memory_bytes  #: all of the GPU's; 0: unknown
        self.threads = order.threads  #: CPU threads that the job may use
        self.workspace: WorkspacePaths = order.place
        self.run = order.run
        self.run_dir: Path = order.run.root
        self.identity = line.job.identity  #: hash of all that decides what comes out
        self.former = line.job.former  #: what that was before the run was made longer
        self._result_from = order.result_from or order.first_attempt
        self.settings: dict[str, Any] = unpack(line.config)  #: the configuration as plain values
        self.step = 0  #: the last step that was told with `log` or `progress`
        self.finished = False
        self.folder = line.folder  #: of the sweep file, for code and programs of people's own
        self.result_so_far: dict[str, Any] = {}
        self.asked_to_stop = False  #: True once `should_stop` has said so
        self._line = line
        self._progress = progress
        self._pulse = Pulse(order.pulse_fd)
        self._rate = Rate()
        self._stop = stop
        self._metrics: MetricsWriter | None = None
        self._events: EventWriter | None = None
        self._buffers: TrainingStateBuffers | None = None
        self._loop: LoopState | None = None
        self._ends_early: HalvingVerdict | None = None
        self._checkpointed = time.monotonic()

    # what is asked

    @functools.cached_property
    def config(self) -> RunConfig:
        """The run's typed configuration."""
        return msgspec.convert(self.settings, RunConfig)

    @property
    def parameters(self) -> dict[str, Any]:
        """The `parameters:` of the run, for an entry point of your own."""
        return copy.deepcopy(self.settings.get("parameters") or {})

    @functools.cached_property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Results of the jobs that this one depends on, by data set name."""
        return {
            name: json.loads(self.workspace.run(job).result.read_bytes()) for name, job in self._line.inputs.items()
        }

    def dataset_folder(self, name: str | None = None) -> Path:
        """Folder of a prepared data set; that of the run's own where no name is given."""
        name = self.config.data.dataset if name is None else name
        return self.workspace.root / str(self.inputs[name]["folder"])

    # leaving

    def should_stop(self) -> bool:
        """True once the job was asked to leave: save a checkpoint, then call `leave`."""
        self.asked_to_stop = self._stop.requested
        return self.asked_to_stop

    def leave(self) -> None:
        """End this attempt; the job goes on later from its newest checkpoint."""
        raise Stopped

    def finish(self, result: Mapping[str, Any] | None = None) -> None:
        """Write result.json: the job is done, however its process ends. Its values are kept exactly.

        A name that result.json has of its own (`job`, `attempt`, `finished_at`) stands there as `result.job`. Raises
        Refused, with its name, for what cannot be kept; OSError; and Superseded where a later attempt has begun.
        """
        about = {"job": self.job_id, "attempt": self.attempt, "finished_at": datetime.now(UTC), "step": self.step}
        if self._ends_early is not None:
            about["stopped_early"] = str(self._ends_early)
        own = _own_result(result, about)
        self.flush()
        self._require_current()
        self.sync()
        if self._ends_early is not None:
            durable.write_json(self.run.attempt(self.attempt).early, self._early())
        durable.write_json(self.run.result, {**about, **own})
        self.finished = True
        self._pulse.finish()

    @property
    def handed_in(self) -> int | None:
        """The earlier attempt that wrote a result, and whose end nobody has seen; None where there is none."""
        found = read_result(self.run)
        attempt = as_count(found.get("attempt"))
        counts = attempt is not None and self._result_from <= attempt < self.attempt
        return attempt if counts and "stopped_early" not in found else None

    def _early(self) -> ErrorReport:
        assert self._ends_early is not None
        return ErrorReport(
            reason=EndReason.STOPPED_EARLY,
            message=str(self._ends_early),
            step=self._ends_early.step,
            first_step_done=True,
        )

    def prune(self, step: int, loss: float, *, epoch: float | None = None) -> bool:
        """True where the sweep's `halving` ends this run here, for others do better: save a checkpoint, then `finish`.

        Ask after each validation. loss: the lowest so far, nats. epoch: how far the run is, needed where the rule
        counts epochs. Asked again at the same step, after a crash, the answer is the same. Raises OSError, Superseded.
        """
        rule = self._halving
        if rule is None:
            return False
        if rule.rule.unit is HalvingUnit.epoch and epoch is None:
            raise UserError("sweep.halving counts epochs: the entry point must give `epoch=`, or set `unit: step`")
        at = float(step) if rule.rule.unit is HalvingUnit.step or epoch is None else epoch
        self._ends_early = rule.verdict(step, at, loss)
        return self._ends_early is not None

    @functools.cached_property
    def _halving(self) -> Halving | None:
        rule = self.config.halving
        if rule is None:
            return None
        data = self.dataset_folder().name if self.config.data.dataset else ""
        seeds = len(self.config.seeds or ())
        together = Siblings(configuration=configuration_of(self.config), seeds=seeds) if seeds > 1 else None
        return Halving(
            rule,
            self.workspace.rungs(self.sweep, group_of(rule, self.config.main, data)),
            self.run.halving,
            job_id=self.job_id,
            attempt=self.attempt,
            first_attempt=self.first_attempt,
            siblings=together,
            before_writing=self._require_current,
        )

    def _require_current(self) -> None:
        """An attempt that lives on in a node that was cut off must leave alone what is its successor's."""
        newest = max((number for number, _ in self.run.attempts()), default=0)
        if newest > self.attempt:
            raise Superseded(f"attempt {newest} of {self.job_id} has begun: attempt {self.attempt} writes nothing more")

    # saying how it goes

    @property
    def measured(self) -> bool:
        """True once this attempt may have measured something."""
        return self._metrics is not None

    def log(self, step: int, /, **values: Any) -> None:
        """Measurements of a step: to metrics.jsonl, TensorBoard and the dashboard.

        Numbers of any kind (Python's, NumPy's, a tensor of one), NaN and infinities too. Raises OSError, and Refused,
        with its name, for what is no number.
        """
        step = whole(step, "step")
        numbers = {key: number(value, _measurement(key)) for key, value in values.items()}
        if self._metrics is None:
            self.begin(FROM_SCRATCH)
        assert self._metrics is not None
        assert self._events is not None
        now = time.time()
        self._metrics.log(step, now, numbers)
        self._events.log(step, now, numbers)
        shown = {key: numbers[key] for key in ("loss", "valid_loss", "epoch", "tokens_per_s") if key in values}
        self.progress(step=step, **shown)

    def progress(self, **fields: Any) -> None:
        """Fields of model.Progress that changed, for the dashboard: step, total_steps, epoch, loss, phase, ...

        With `total_steps` once, the dashboard tells when the run will end, by the pace of its steps.
        """
        fields = {name: _live(name, value) for name, value in fields.items()}
        if fields.get("step") is not None:
            self.step = fields["step"]
            fields.setdefault("steps_per_s", self._rate.at(self.step, time.monotonic()))
        self._pulse.beat(self.step)
        self._progress.report(fields)

    def beat(self) -> None:
        """Still at work, though no step is done: in a long validation, say. A run without a sign is ended as hung."""
        self._pulse.beat()

    def begin(self, start: int) -> None:
        """This attempt goes on from step `start` (FROM_SCRATCH: from none): what was measured later is void."""
        if self._metrics is None:
            self._metrics = MetricsWriter(self.run.attempt(self.attempt).metrics)
            self._events = EventWriter(self.run.tensorboard, self.attempt, start)
        self._metrics.start(start)
        self.step = max(start, 0)
        self._pulse.beat(self.step)

    def sync(self) -> None:
        """Bring all measurements to the disk: before a checkpoint is published, and at the end."""
        if self._metrics is not None:
            self._metrics.sync()

    # checkpoints

    @functools.cached_property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints. Measurements up to a checkpoint's step are on the disk before it is published."""
        from terry.jobs.process.checkpoints import CheckpointStore

        return CheckpointStore(
            self.run.checkpoints,
            self.attempt,
            self.config.checkpoint.keep,
            first_attempt=self.first_attempt,
            before_publish=lambda _: self._before_publish(),
        )

    def _before_publish(self) -> None:
        self._require_current()
        self.sync()

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint, None where there is none: where this attempt goes on from."""
        checkpoint = self.checkpoints.load_latest(warn=lambda text: print(text, file=sys.stderr))
        self.begin(FROM_SCRATCH if checkpoint is None else checkpoint.step)
        if checkpoint is not None:
            self.progress(step=checkpoint.step, checkpoint_step=checkpoint.step)
        return checkpoint

    def restore(self, **parts: Any) -> int:
        """Put a plain PyTorch loop back where its newest checkpoint left it; returns the step, 0 the first time.

        parts: by names of your own: modules, optimizers, schedules, whatever has a `state_dict`, generators, and
        `terry.jobs.process.loop.Batches` around a DataLoader. `save` saves the same. The generators that all code
        shares are part of it. Raises Refused, with its name, for a part that has no state.
        """
        from terry.jobs.process.loop import LoopState

        self._loop = LoopState(parts)
        checkpoint = self.load_checkpoint()
        if checkpoint is None:
            return 0
        self._loop.load(checkpoint)
        return checkpoint.step

    def save(self, step: int, *, best: bool = False) -> None:
        """A checkpoint of what was given to `restore`. Raises as `save_checkpoint` does."""
        if self._loop is None:
            raise RuntimeError("save: say first what there is to save, with `step = ctx.restore(model=model, ...)`")
        model, others, state = self._loop.save()
        self.save_checkpoint(step, model, optimizer=others, state=state, best=best)

    def checkpoint_due(self) -> bool:
        """True once `checkpoint.every` has passed since the last checkpoint, and when the job shall leave."""
        return self.should_stop() or time.monotonic() - self._checkpointed >= self._every

    def save_checkpoint(
        self,
        step: int,
        model: Mapping[str, Any],
        *,
        optimizer: Mapping[Any, Any] | None = None,
        state: Mapping[Any, Any] | None = None,
        best: bool = False,
    ) -> None:
        """Save all that the step after `step` depends on; written in the background from a copy.

        model: tensors by name, as `state_dict()` gives them. optimizer, state: whatever else there is, nested as it
        may be: an optimizer's `state_dict()`, states of generators, numbers, text, lists. All comes back as it was. A
        second one at a step takes the place of the first. best: what is given here is the best so far, and is kept.

        Raises Refused, with its name, for what cannot be kept; OSError where an earlier one could not be written.
        """
        from terry.jobs.process.trees import parts_of
        from terry.models.training_state import TrainingStateBuffers

        step = whole(step, "step")
        tensors, others, packed = parts_of(model, optimizer or {}, state or {})
        if self._buffers is None:
            self._buffers = TrainingStateBuffers()
        self._save(replace(self._buffers.capture(step, tensors, others, {}), state=packed), best=best)

    def save_training_state(self, training_state: TrainingState, *, best: bool = False) -> None:
        """Save it in the background. Raises Refused, and OSError where an earlier one could not be written."""
        from terry.jobs.process.trees import parts_of

        *_, packed = parts_of({}, {}, training_state.state)
        self._save(replace(training_state, state=packed), best=best)

    def _save(self, training_state: TrainingState, *, best: bool) -> None:
        self.checkpoints.save_async(training_state, best=best)
        self._checkpointed = time.monotonic()
        self._progress.report({"checkpoint_step": training_state.step})

    @functools.cached_property
    def _every(self) -> float:
        return seconds(self.config.checkpoint.every)

    # the end

    def flush(self) -> None:
        """Wait until all checkpoints are written. Raises OSError."""
        if "checkpoints" in self.__dict__:
            self.checkpoints.flush()

    def close(self) -> None:
        """Say how far it came, and close what is open."""
        if self._progress.now:
            self._progress.report({}, at_once=True)
        for writer in (self._metrics, self._events):
            if writer is not None:
                writer.close()
        self._metrics = self._events = None
