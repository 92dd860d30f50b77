"""Entry point `terry.jobs.train:main`: data, model and trainer put together, told of by a RunContext."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from terry.cluster.errors import UserError
from terry.data_prep.dataset import Dataset
from terry.jobs.process.checkpoints import read_manifest
from terry.jobs.process.context import RunContext
from terry.jobs.process.device_check import require_device, require_on
from terry.jobs.process.reading import train_batches, valid_batches
from terry.models.protocols import Hooks, Reason, StepRecord, TrainResult, ValidRecord, perplexity
from terry.models.trainer import Trainer
from terry.models.training_state import TrainingState


def main(ctx: RunContext) -> None:
    """Train, from the newest checkpoint where there is one. result.json has losses, speed and the weights' hashes."""
    require_device(ctx.device, ctx.gpu_uuid)
    ctx.progress(phase="reading")
    config = ctx.config
    dataset = Dataset.open(ctx.dataset_folder())
    hooks = RunHooks(ctx, {"identity": ctx.identity, "data": dataset.manifest.hash})
    trainer = Trainer(
        config.model,
        config.optimizer,
        config.training,
        dataset.manifest.vocabulary_size,
        train_batches(config, dataset.split("train")),
        valid_batches(config, dataset.split("valid")),
        ctx.device,
        hooks,
        embedding=_embedding(dataset),
    )
    require_on(ctx.device, trainer.model.named_parameters())
    _resume(ctx, trainer, hooks)
    print(f"kernels: {trainer.kernels}; threads: {torch.get_num_threads()}", flush=True)
    ctx.progress(phase="training")
    result = trainer.run()
    if result.reason is Reason.stopped:
        ctx.leave()
    ctx.flush()
    ctx.finish(_result(ctx, trainer, result, hooks))


def _embedding(dataset: Dataset) -> torch.Tensor | None:
    vectors = dataset.embeddings()
    return None if vectors is None else torch.from_numpy(np.array(vectors))


def _resume(ctx: RunContext, trainer: Trainer, hooks: RunHooks) -> None:
    checkpoint = ctx.load_checkpoint()
    if checkpoint is None:
        return
    saved = checkpoint.state.get("made_of")
    shorter = [{**hooks.made_of, "identity": identity} for identity in ctx.former]  # before it was extended
    if saved not in (hooks.made_of, *shorter):
        raise UserError(
            f"{checkpoint.path} is of another run or other data ({saved}, here {hooks.made_of}); "
            "`resubmit --from-scratch` begins anew"
        )
    trainer.resume(checkpoint.training_state)


def _result(ctx: RunContext, trainer: Trainer, result: TrainResult, hooks: RunHooks) -> dict[str, Any]:
    """What result.json says of the training."""
    last, best = ctx.checkpoints.latest, ctx.checkpoints.best()
    assert last is not None, "a training ends with a checkpoint"
    judged = result.train_loss if result.best_loss is None else result.best_loss
    return {
        "reason": result.reason,
        "epoch": result.epoch,
        "train_loss": result.train_loss,
        "valid_loss": result.valid_loss,
        "best_loss": result.best_loss,
        "best_step": result.best_step,
        "perplexity": None if judged is None else perplexity(judged),
        "rollbacks": result.rollbacks,
        "tokens_per_s": hooks.tokens_per_s,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "device": ctx.device,
        "kernels": str(trainer.kernels).partition(" ")[0],
        "checkpoint": last.name,
        "model_sha256": read_manifest(last).files["model.safetensors"].sha256,
        "best_checkpoint": None if best is None else best.name,
        "best_model_sha256": None if best is None else read_manifest(best).files["model.safetensors"].sha256,
    }


class RunHooks(Hooks):
    """Passes on to the RunContext what the trainer says, and to the trainer what the cluster wants."""

    def __init__(self, ctx: RunContext, made_of: dict[str, str]) -> None:
        self.made_of = made_of  #: hashes of configuration and data, checked when a checkpoint is loaded
        self.tokens_per_s: float | None = None  #: mean over this attempt
        self._ctx = ctx
        self._records = 0

    def on_step(self, record: StepRecord) -> None:
        """Log it."""
        self._records += 1
        before = self.tokens_per_s or 0.0
        self.tokens_per_s = before + (record.tokens_per_s - before) / self._records
        self._ctx.log(record.step, **record.values())

    def on_valid(self, record: ValidRecord) -> None:
        """Log it."""
        self._ctx.log(record.step, **record.values())

    def progress(self, step: int, total_steps: int, epoch: float, loss: float | None) -> None:
        """Tell the dashboard."""
        self._ctx.progress(step=step, total_steps=total_steps, epoch=epoch, loss=loss)

    def checkpoint_due(self) -> bool:
        """Whether it is time for one."""
        return self._ctx.checkpoint_due()

    def save(self, training_state: TrainingState, *, best: bool) -> None:
        """Write it in the background, with what it was made of."""
        self._ctx.save_training_state(
            replace(training_state, state={**training_state.state, "made_of": self.made_of}), best=best
        )

    def should_stop(self) -> bool:
        """Whether the job was asked to leave. Asked at each batch, also of a validation, which does no step."""
        self._ctx.beat()
        return self._ctx.should_stop()

    def prune(self, step: int, epoch: float, best_loss: float) -> bool:
        """Whether others of the sweep do so much better that this run ends."""
        return self._ctx.prune(step, best_loss, epoch=epoch)

    def warn(self, message: str) -> None:
        """To stderr.log, where `logs --stderr` finds it."""
        print(f"warning: {message}", file=sys.stderr, flush=True)
