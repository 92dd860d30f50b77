"""The training loop, from top to bottom. It knows no file names and no cluster: `Hooks` are told and decide.

The device is looked at only every `log_every` steps, at validations, and before a state is given away. Each look
makes sure that losses, weights and the optimizer's memory are finite; the first two kinds of look also remember the
moment (`_good`). When something is not finite, the steps since the last good moment are done again with every tensor
looked at: that names the first bad one and its step, and costs nothing before.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from terry.models.compiling import compile_layers
from terry.models.config import ModelConfig, OnNan, Optimizer, OptimizerConfig, TrainingConfig
from terry.models.determinism import prepare_process, seed_everything
from terry.models.errors import NotFinite
from terry.models.evaluate import evaluate
from terry.models.guards import Utilisation, require_finite, require_finite_losses, watch_layers
from terry.models.kernels.chosen import ChosenKernels
from terry.models.language_model import LanguageModel
from terry.models.protocols import BatchSource, Hooks, Reason, StepRecord, TrainResult, ValidRecord
from terry.models.state import RunState, TrainingProgress, good_of, with_good
from terry.models.step import Stepper
from terry.models.training_state import TrainingState, TrainingStateBuffers

#: A checkpoint that is due waits so long for the next moment that is remembered anyway, seconds.
SAVE_WITHIN_S = 10.0


class Trainer:
    """Trains one language model. `resume` before `run` goes on from a training state, bit for bit as if never stopped.

    embedding: pre-trained vectors, (vocabulary_size, embedding_size). Raises ConfigError where settings contradict.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        optimizer_config: OptimizerConfig,
        training_config: TrainingConfig,
        vocabulary_size: int,
        train: BatchSource,
        valid: BatchSource | None = None,
        device: str | torch.device = "cpu",
        hooks: Hooks | None = None,
        *,
        embedding: Tensor | None = None,
    ) -> None:
        self._optimizing, self._config = optimizer_config, training_config
        self._train, self._valid, self._hooks = train, valid, hooks or Hooks()
        self.device = torch.device(device)
        prepare_process(training_config, self.device)
        seed_everything(training_config.seed)
        self.model = LanguageModel(model_config, vocabulary_size, embedding).to(self.device)
        if training_config.compile:
            compile_layers(self.model, self.device)
        #: steps of the whole run
        self.total_steps = min(len(train) * training_config.epochs, training_config.max_steps or 2**62)
        self._now = RunState.fresh(self.model, optimizer_config, train, self.total_steps)
        self._stepper = Stepper(optimizer_config, training_config, self._now)
        #: what computes the steps
        self.kernels = ChosenKernels(model_config, optimizer_config, training_config, self._now)
        self._stepper.native = self.kernels.native
        self._buffers, self._good_buffers = TrainingStateBuffers(), TrainingStateBuffers(on_device=True)
        self._good: TrainingState | None = None
        self._saved = -1  # step of the newest training state that was given away
        self._due_since: float | None = None
        self._best_saved = -1  # step of the newest one given away as the best
        self._checked = -1  # step at which all was found to be finite
        self._judged, self._pruned = -1, False  # step at which `Hooks.prune` was asked, and its answer
        self._first_loss: float | None = None  #: of the first step, where this trainer has taken it
        self._utilisation = Utilisation(self.device)
        self._clock, self._clock_tokens = time.perf_counter(), 0

    @property
    def progress(self) -> TrainingProgress:
        """How far training is."""
        return self._now.progress

    def resume(self, training_state: TrainingState) -> None:
        """Go on from there. Raises StateError, or ValueError where the data is another."""
        self._restore(training_state)
        self._good, self._saved, self._checked = good_of(training_state), training_state.step, -1
        self._best_saved = self._now.progress.best_step or -1
        threads, device = int(training_state.state["threads"]), str(training_state.state["device"])
        if device != self.device.type:
            self._hooks.warn(f"saved on {device}, going on with {self.device.type}: the last bits will differ")
            return
        if warning := self.kernels.go_on_with(training_state.state.get("kernels")):
            self._hooks.warn(warning)
        self._stepper.native = self.kernels.native
        if device == "cpu" and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
            why = "" if self._stepper.native else ": another number would change the last bits"
            self._hooks.warn(f"going on with {threads} threads, as before{why}")

    def run(self) -> TrainResult:
        """Train to the end, or until told to stop. Raises NotFinite, and what the hooks raise."""
        self.model.train()
        if self._good is None and self._config.guards:
            self._good = self._now.capture(self._good_buffers)
        while True:
            try:
                if (reason := self._reason_to_end()) is not None:
                    self._save()
                    self._report_early_stop(reason)
                    return self._result(reason)
                self._one_epoch()
            except NotFinite as problem:
                self._roll_back(self._exactly(problem))

    def _one_epoch(self) -> None:
        """From where the data stands to the end of the epoch, or until something ends the training."""
        progress, hooks = self._now.progress, self._hooks
        if self._validate_if_due():
            self._remember()
        for batch in () if self._out_of_steps() else self._train.epoch(progress.epoch):
            self._stepper.take(batch)
            self._after_step()
            if self._gave_up() or self._out_of_steps() or hooks.should_stop():
                break
        if progress.step == (progress.epoch + 1) * len(self._train) and not hooks.should_stop():
            self._end_epoch()
        if self._out_of_steps() and not hooks.should_stop():
            self._end_in_mid_epoch()

    # between steps

    def _after_step(self) -> None:
        """Records, validation, checkpoints."""
        progress = self._now.progress
        if progress.step == 1:
            self._look_at_first_loss()
        known = self._first_loss if progress.train_loss is None else progress.train_loss
        self._hooks.progress(progress.step, self.total_steps, self._epochs(), known)
        logs = progress.step % self._config.log_every == 0
        if logs:
            self._check()
            self._record()
        if self._validate_if_due() or logs:
            self._remember()
        self._save_if_due()

    def _end_epoch(self) -> None:
        progress, config = self._now.progress, self._config
        self._check(anew=True)
        last = progress.epoch + 1 == config.epochs
        if (config.valid_every is None or last) and not self._validate():
            return  # told to stop meanwhile: the epoch is ended after resuming
        progress.epoch += 1
        progress.epoch_loss, progress.epoch_tokens = 0.0, 0
        self._remember()
        self._save_if_due()

    def _end_in_mid_epoch(self) -> None:
        """`max_steps` ends a run with a validation, too."""
        self._check(anew=True)
        if self._validate():
            self._remember()

    def _reason_to_end(self) -> Reason | None:
        progress = self._now.progress
        if self._lost_patience():
            return Reason.early_stopped
        if self._is_pruned():
            return Reason.pruned
        out_of_steps = self._out_of_steps() and progress.validated_at == progress.step
        if progress.epoch >= self._config.epochs or out_of_steps:
            return Reason.completed
        return Reason.stopped if self._hooks.should_stop() else None

    def _gave_up(self) -> bool:
        return self._lost_patience() or self._is_pruned()

    def _lost_patience(self) -> bool:
        return self._config.patience is not None and self._now.progress.bad >= self._config.patience

    def _is_pruned(self) -> bool:
        """Whether others do so much better that this training ends; asked once at each validation."""
        progress = self._now.progress
        fresh = progress.step > 0 and progress.validated_at == progress.step and progress.step < self.total_steps
        if not fresh or progress.best_loss is None:
            return False
        if self._judged != progress.step:
            self._pruned = self._hooks.prune(progress.step, self._epochs(), progress.best_loss)
            self._judged = progress.step
        return self._pruned

    def _out_of_steps(self) -> bool:
        return self._config.max_steps is not None and self._now.progress.step >= self._config.max_steps

    def _epochs(self) -> float:
        return self._now.progress.step / len(self._train)

    # looking at the device

    def _check(self, *, anew: bool = False) -> None:
        """Wait for the device, add up the losses, and make sure that all is finite. Raises NotFinite.

        anew: also where this step was looked at: a device at fault spoils memory between steps as well.
        """
        progress, pending = self._now.progress, self._stepper.pending
        losses = torch.stack([loss for loss, _ in pending]).tolist() if pending else []
        tokens = [count for _, count in pending]
        pending.clear()
        if self._config.guards and (anew or self._checked != progress.step):
            require_finite_losses(progress.step - len(losses) + 1, losses)
            require_finite("value", progress.step, self._now.trained)
            require_finite("optimizer's memory", progress.step, self._now.memory())
            self._checked = progress.step
        for loss, count in zip(losses, tokens, strict=True):
            progress.interval_loss += loss
            progress.interval_tokens += count
            progress.epoch_loss += loss
            progress.epoch_tokens += count
        self._clock_tokens += sum(tokens)

    def _look_at_first_loss(self) -> None:
        """What whoever watches sees until the first record, which can be minutes away."""
        total, count = self._stepper.pending[0]
        self._first_loss = float(total) / max(count, 1)
        if self._config.guards:
            for text in self._now.guard.first_loss(self._first_loss):
                self._hooks.warn(text)

    def _record(self) -> None:
        """Tell what happened since the last record."""
        progress = self._now.progress
        now = time.perf_counter()
        progress.train_loss = progress.interval_loss / max(progress.interval_tokens, 1)
        progress.interval_loss, progress.interval_tokens = 0.0, 0
        record = StepRecord(
            step=progress.step,
            epoch=self._epochs(),
            loss=progress.train_loss,
            lr=self._now.rates.at(progress.step - 1, progress.epoch),
            gradient_norm=None if self._stepper.gradient_norm is None else float(self._stepper.gradient_norm),
            tokens_per_s=self._clock_tokens / max(now - self._clock, 1e-9),
            utilisation=self._utilisation.share(),
            update_ratios=self._stepper.ratios,
        )
        self._clock, self._clock_tokens = now, 0
        self._hooks.on_step(record)
        if self._config.guards:
            share = self._now.rates.share(progress.step - 1, progress.epoch)
            warnings = self._now.guard.record(progress.step, record.loss, record.update_ratios, share=share)
            warnings += self._now.guard.utilisation(record.utilisation, str(self.device))
            for text in warnings:
                self._hooks.warn(text)

    # validation

    def _validate_if_due(self) -> bool:
        """Validate where `valid_every` says so and it is not done yet; whether it was done now."""
        progress, every = self._now.progress, self._config.valid_every
        if every is None or not progress.step or progress.step % every or progress.validated_at == progress.step:
            return False
        self._check()
        return self._validate()

    def _validate(self) -> bool:
        """Measure, and let the annealer, the average and early stopping know. False where told to stop meanwhile."""
        progress = self._now.progress
        if progress.validated_at == progress.step:
            return True
        loss = self._measure()
        if loss is None:
            return False
        if self._config.guards:
            require_finite_losses(progress.step, [loss], "validation loss")
        best = progress.best_loss is None or loss < progress.best_loss
        progress.bad = 0 if best else progress.bad + 1
        if best:
            progress.best_loss, progress.best_step = loss, progress.step
        progress.validated_at = progress.step
        if self._valid is not None:
            progress.valid_loss = loss
            self._hooks.on_valid(
                ValidRecord(
                    step=progress.step,
                    epoch=self._epochs(),
                    loss=loss,
                    best=loss if progress.best_loss is None else progress.best_loss,
                    is_best=best,
                )
            )
        self._let_know(loss)
        return True

    def _measure(self) -> float | None:
        """Loss of the validation data, else of the epoch's training data so far; None where told to stop."""
        progress = self._now.progress
        if self._valid is None:
            return progress.epoch_loss / max(progress.epoch_tokens, 1)
        started = time.perf_counter()
        with self._now.predicting(), self._stepper.precision():
            native = self._stepper.native
            found = evaluate(
                self.model, self._valid.epoch(0, 0), self.device, should_stop=self._hooks.should_stop,
                loss=None if native is None else native.loss,
            )  # fmt: skip
        self._clock += time.perf_counter() - started  # no part of the speed of training
        return None if found is None else found.loss

    def _let_know(self, loss: float) -> None:
        now = self._now
        if now.rates.annealer is not None:
            now.rates.annealer.see(loss)
        if self._optimizing.name is Optimizer.asgd and not now.average.active:
            epochs = now.progress.step // len(self._train)
            if now.trigger.see(loss, epochs):
                now.average.begin()

    # training states

    def _remember(self) -> None:
        """This moment is good: a run goes back to it after NaN, and a checkpoint may be made of it."""
        if self._config.guards:
            self._good = self._now.capture(self._good_buffers)
        progress = self._now.progress
        if progress.best_step == progress.step != self._best_saved:
            self._save(best=True)
            self._best_saved = progress.step

    def _save_if_due(self) -> None:
        """Give a training state away where one is due, if possible at a moment that is remembered."""
        if self._saved == self._now.progress.step or not self._hooks.checkpoint_due():
            self._due_since = None
            return
        now = time.monotonic()
        if self._due_since is None:
            self._due_since = now
        if self._at_good() or now - self._due_since >= SAVE_WITHIN_S:
            self._save()

    def _save(self, *, best: bool = False) -> None:
        """Give a training state of this moment away; never one that holds NaN. Raises NotFinite."""
        step = self._now.progress.step
        if self._saved == step and not best:
            return
        self._check(anew=True)
        training_state = self._now.capture(self._buffers)
        if self._good is not None and not self._at_good():
            training_state = with_good(training_state, self._good)
        self._hooks.save(training_state, best=best)
        self._saved, self._due_since = step, None

    def _at_good(self) -> bool:
        """Whether this moment is the one remembered."""
        if not self._config.guards:
            return True
        return self._good is not None and self._good.step == self._now.progress.step

    # NaN

    def _exactly(self, problem: NotFinite) -> NotFinite:
        """Do the steps since the last good moment again, looking at every tensor, to name the first bad one."""
        self._back_to_good()
        self._stepper.inspecting = True
        try:
            with watch_layers(self.model, lambda: self._now.progress.step + 1):
                for batch in self._train.epoch(self._now.progress.epoch):
                    if self._now.progress.step >= problem.step:
                        break
                    self._stepper.take(batch)
        except NotFinite as exact:
            return exact
        finally:
            self._stepper.inspecting = False
        return problem  # it does not come back: a GPU that does not compute the same bits every time, or validation

    def _back_to_good(self) -> None:
        assert self._good is not None
        self._now.optimizer.zero_grad(set_to_none=True)
        self._stepper.pending.clear()
        self._checked = -1
        self._restore(self._good)

    def _restore(self, training_state: TrainingState) -> None:
        self._now.restore(training_state)
        self.kernels.restored()

    def _roll_back(self, problem: NotFinite) -> None:
        """Go on from the last good moment with a smaller rate, or raise."""
        self._back_to_good()
        progress, limits = self._now.progress, self._config.rollback
        if self._config.on_nan is OnNan.fail:
            raise problem
        if progress.rollbacks >= limits.maximum:
            tried = f"after {progress.rollbacks} rollbacks, with the learning rate times {self._now.rates.scale:g}"
            raise NotFinite(f"{problem}, {tried}", step=problem.step, tensor=problem.tensor) from problem
        progress.rollbacks += 1
        self._now.rates.scale *= limits.factor
        self._remember()
        self._hooks.warn(
            f"{problem}; back to step {progress.step} with the learning rate times {self._now.rates.scale:g} "
            f"({progress.rollbacks} of {limits.maximum} times)"
        )

    # the end

    def _report_early_stop(self, reason: Reason) -> None:
        progress = self._now.progress
        if reason is Reason.early_stopped and progress.best_loss is not None:
            self._hooks.warn(
                f"step {progress.step}: training ends early, after {progress.bad} validations without a new best "
                f"(training.patience): the lowest loss is {progress.best_loss:.3f}, of step {progress.best_step}"
            )

    def _result(self, reason: Reason) -> TrainResult:
        progress = self._now.progress
        return TrainResult(
            reason=reason,
            step=progress.step,
            epoch=self._epochs(),
            train_loss=progress.train_loss,
            valid_loss=progress.valid_loss,
            best_loss=progress.best_loss,
            best_step=progress.best_step,
            rollbacks=progress.rollbacks,
        )
