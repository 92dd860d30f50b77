"""The loop: the same numbers as a loop written out, records, validation, early stopping, leaving when told."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from terry.models.config import (
    AnnealConfig,
    Init,
    ModelConfig,
    Optimizer,
    OptimizerConfig,
    Precision,
    Reduction,
    Schedule,
    TrainingConfig,
)
from terry.models.evaluate import evaluate
from terry.models.protocols import Reason
from terry.models.state import load_weights
from tests.helpers import toy

STEPS_PER_EPOCH = len(toy.stream())


def torch_gru(model: nn.Module) -> tuple[nn.Embedding, nn.GRU, nn.Linear]:
    """PyTorch's own modules with the weights of our model (one layer, 5 -> 6)."""
    state = model.state_dict()
    embedding, gru, linear = nn.Embedding(toy.VOCABULARY, 5), nn.GRU(5, 6, batch_first=True), nn.Linear(6, 11)
    with torch.no_grad():
        embedding.weight.copy_(state["embedding"])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(gru, f"{name}_l0").copy_(state[f"layers.0.{name}"])
        linear.weight.copy_(state["output_weight"])
        linear.bias.copy_(state["output_bias"])
    return embedding, gru, linear


def losses_of_a_plain_loop(model: nn.Module, config: OptimizerConfig, steps: int) -> list[float]:
    """What a loop in plain PyTorch gives: state carried over, cut off at each batch, zero in each epoch."""
    embedding, gru, linear = modules = torch_gru(model)
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.lr)
    losses: list[float] = []
    while len(losses) < steps:
        hidden = None
        for batch in toy.stream().epoch(0, 0):
            outputs, hidden = gru(embedding(batch.inputs), hidden)
            hidden = hidden.detach()
            logits = linear(outputs)
            total = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
            count = batch.tokens if config.loss_reduction is Reduction.mean else len(batch.inputs)
            optimizer.zero_grad()
            (total / count).backward()
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            optimizer.step()
            losses.append(float(total.detach()) / batch.tokens)
    return losses


@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_the_losses_are_those_of_a_plain_loop(reduction: Reduction, clip_norm: float | None) -> None:
    config = OptimizerConfig(lr=0.02, loss_reduction=reduction, clip_norm=clip_norm)
    hooks = toy.Recorder()
    trainer = toy.trainer(optimizer=config, training=TrainingConfig(epochs=2, log_every=1), hooks=hooks)
    expected = losses_of_a_plain_loop(trainer.model, config, 2 * STEPS_PER_EPOCH)
    trainer.run()
    assert [record.loss for record in hooks.records] == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("reduction", list(Reduction))
def test_penalties_are_a_part_of_what_the_gradient_is_taken_of(reduction: Reduction) -> None:
    model = ModelConfig(hidden_size=6, embedding_size=5, activation_penalty=200.0, slowness_penalty=100.0)
    sgd = OptimizerConfig(name=Optimizer.sgd, lr=0.5, loss_reduction=reduction)
    trainer = toy.trainer(model, sgd, TrainingConfig(max_steps=1))
    expected = copy.deepcopy(trainer.model)
    batch = next(iter(toy.stream().epoch(0, 0)))
    total, penalty, _ = expected.loss(batch.inputs, batch.targets, None, expected.initial_state(4))
    (total / (batch.tokens if reduction is Reduction.mean else 4) + penalty).backward()
    assert penalty > 0.1
    trainer.run()
    for name, parameter in expected.named_parameters():
        assert parameter.grad is not None
        wanted = parameter - 0.5 * parameter.grad
        torch.testing.assert_close(trainer.model.get_parameter(name), wanted, rtol=1e-5, atol=1e-6)


def test_a_record_is_the_mean_over_the_tokens_since_the_one_before() -> None:
    each, every_third = toy.Recorder(), toy.Recorder()
    toy.trainer(training=TrainingConfig(epochs=2, log_every=1), hooks=each).run()
    toy.trainer(training=TrainingConfig(epochs=2, log_every=3), hooks=every_third).run()
    tokens = [batch.tokens for batch in toy.stream().epoch(0)] * 2
    sums = [record.loss * count for record, count in zip(each.records, tokens, strict=True)]
    expected = [sum(sums[i : i + 3]) / sum(tokens[i : i + 3]) for i in (0, 3, 6, 9)]
    assert [record.loss for record in every_third.records] == pytest.approx(expected)
    assert [record.step for record in every_third.records] == [3, 6, 9, 12]
    assert every_third.records[-1].epoch == 12 / STEPS_PER_EPOCH


def test_a_record_names_all_that_is_logged() -> None:
    hooks = toy.Recorder()
    toy.trainer(hooks=hooks).run()
    values = hooks.records[0].values()
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))
    assert values["tokens_per_s"] > 0
    assert values["gradient_norm"] > 0
    assert 0 < values["update_ratio/layers.0.weight_hh"] < 1
    assert 0 <= values["utilisation"] <= 1
    assert all(isinstance(value, float) for value in values.values())


def test_validation_after_each_epoch_leaves_training_as_it_is() -> None:
    with_, without = toy.Recorder(), toy.Recorder()
    model = ModelConfig(hidden_size=6, embedding_size=5, dropout=0.3)
    toy.trainer(model, hooks=with_).run()
    toy.trainer(model, hooks=without, valid=None).run()
    assert [v.step for v in with_.validations] == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]
    assert without.validations == []
    assert [r.loss for r in with_.records] == [r.loss for r in without.records]


def test_valid_every_counts_steps_and_the_end_is_validated_too() -> None:
    hooks = toy.Recorder()
    toy.trainer(training=TrainingConfig(epochs=2, log_every=5, valid_every=3), hooks=hooks).run()
    assert [v.step for v in hooks.validations] == [3, 6, 9, 12, 14]


@pytest.mark.parametrize("max_steps", [4, STEPS_PER_EPOCH, 20])
def test_max_steps_ends_with_a_validation_and_a_snapshot(max_steps: int) -> None:
    hooks = toy.Recorder()
    result = toy.trainer(training=TrainingConfig(epochs=5, log_every=5, max_steps=max_steps), hooks=hooks).run()
    assert (result.reason, result.step) == (Reason.completed, max_steps)
    assert hooks.validations[-1].step == max_steps
    assert hooks.last.step == max_steps


def test_best_snapshots_are_those_of_new_lowest_validations() -> None:
    hooks = toy.Recorder()
    result = toy.trainer(optimizer=OptimizerConfig(lr=0.1), training=TrainingConfig(epochs=8), hooks=hooks).run()
    lowest = min(v.loss for v in hooks.validations)
    best = [v.step for v in hooks.validations if v.is_best]
    assert [training_state.step for training_state, is_best in hooks.saved if is_best] == best
    assert (result.best_loss, result.best_step) == (lowest, best[-1])


def test_early_stopping_after_so_many_validations_without_a_new_best() -> None:
    hooks = toy.Recorder()
    training = TrainingConfig(epochs=60, patience=2)
    result = toy.trainer(optimizer=OptimizerConfig(lr=0.1), training=training, hooks=hooks).run()
    assert result.reason is Reason.early_stopped
    assert [v.is_best for v in hooks.validations][-2:] == [False, False]
    assert result.best_step == hooks.validations[-3].step
    (told,) = (text for text in hooks.warnings if "patience" in text)
    assert told.startswith(f"step {result.step}: training ends early, after 2 validations without a new best")
    assert told.endswith(f"the lowest loss is {result.best_loss:.3f}, of step {result.best_step}")
    again = toy.trainer(optimizer=OptimizerConfig(lr=0.1), training=training)
    again.resume(hooks.last)
    assert again.run() == result


class Pruning(toy.Recorder):
    """Ends training at a step, and remembers when it was asked."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.asked = at, list[tuple[int, float]]()

    def prune(self, step: int, epoch: float, best_loss: float) -> bool:
        assert best_loss == min(record.loss for record in self.validations)
        self.asked.append((step, epoch))
        return step >= self.at


@pytest.mark.parametrize("valid_every", [None, 3])
def test_pruned_after_a_validation_it_ends_there_for_good(valid_every: int | None) -> None:
    hooks = Pruning(at=2 * STEPS_PER_EPOCH - 2)
    training = TrainingConfig(epochs=4, log_every=5, valid_every=valid_every)
    result = toy.trainer(training=training, hooks=hooks).run()
    steps = [7, 14] if valid_every is None else [3, 6, 9, 12]
    assert result.reason is Reason.pruned
    assert [step for step, _ in hooks.asked] == [v.step for v in hooks.validations] == steps
    assert [epoch for _, epoch in hooks.asked] == [step / STEPS_PER_EPOCH for step in steps]
    assert hooks.last.step == result.step == steps[-1]
    again = Pruning(at=hooks.at)
    again.validations = hooks.validations
    resumed = toy.trainer(training=training, hooks=again)
    resumed.resume(hooks.last)
    assert resumed.run() == result
    assert [step for step, _ in again.asked] == steps[-1:], "asked again, since it is the same moment"


def test_at_its_end_a_run_is_not_pruned() -> None:
    hooks = Pruning(at=2 * STEPS_PER_EPOCH)
    assert toy.trainer(training=TrainingConfig(epochs=2), hooks=hooks).run().reason is Reason.completed
    assert [step for step, _ in hooks.asked] == [STEPS_PER_EPOCH]


def test_a_run_without_validation_data_is_annealed_by_its_training_loss() -> None:
    hooks = toy.Recorder()
    config = OptimizerConfig(name=Optimizer.sgd, lr=30.0, clip_norm=5.0, anneal=AnnealConfig(minimum=1.0))
    training = TrainingConfig(epochs=12, log_every=STEPS_PER_EPOCH)
    toy.trainer(optimizer=config, training=training, hooks=hooks, valid=None).run()
    rate, best = 30.0, math.inf
    for record in hooks.records:
        assert record.lr == rate
        rate = max(rate / 2, 1.0) if record.loss >= best else rate
        best = min(best, record.loss)
    assert rate < 30.0


def test_told_to_stop_it_saves_at_once_and_leaves() -> None:
    hooks = toy.Recorder(stop_after=4)
    result = toy.trainer(hooks=hooks).run()
    assert (result.reason, result.step, hooks.last.step) == (Reason.stopped, 4, 4)


class StopsWhileValidating(toy.Recorder):
    """Says stop when it is asked for the second time without a step between: in a validation."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._at, self._asked = step, 0

    def should_stop(self) -> bool:
        if self.step == self._at:
            self._asked += 1
        return self._asked > 3


@pytest.mark.parametrize(("valid_every", "step"), [(None, STEPS_PER_EPOCH), (3, 3)])
def test_told_to_stop_in_a_validation_it_validates_after_resuming(valid_every: int | None, step: int) -> None:
    training = TrainingConfig(epochs=2, log_every=5, valid_every=valid_every)
    whole, first, second = toy.Recorder(), StopsWhileValidating(step), toy.Recorder()
    toy.trainer(training=training, hooks=whole).run()
    stopped = toy.trainer(training=training, hooks=first).run()
    assert (stopped.reason, stopped.step, first.validations) == (Reason.stopped, step, [])
    resumed = toy.trainer(training=training, hooks=second)
    resumed.resume(first.last)
    resumed.run()
    assert second.validations == whole.validations
    assert toy.differences(whole.last, second.last) == []


def test_a_strange_first_loss_is_reported() -> None:
    hooks = toy.Recorder()
    toy.trainer(ModelConfig(hidden_size=6, init=Init.uniform, init_range=9.0), hooks=hooks).run()
    assert any("the first loss is" in text and "2.398" in text for text in hooks.warnings)
    sound = toy.Recorder()
    toy.trainer(hooks=sound).run()
    assert not any("the first loss" in text for text in sound.warnings)


@pytest.mark.parametrize("optimizer", [OptimizerConfig(lr=1e-3, schedule=Schedule.cosine), OptimizerConfig(lr=1e-9)])
def test_the_end_of_a_schedule_is_no_reason_for_a_higher_rate(optimizer: OptimizerConfig) -> None:
    hooks = toy.Recorder()
    toy.trainer(optimizer=optimizer, training=TrainingConfig(epochs=4, log_every=1), hooks=hooks).run()
    told = any("a higher learning rate" in text for text in hooks.warnings)
    assert min(hooks.records[-1].update_ratios.values()) < 1e-4
    assert told == (optimizer.schedule is Schedule.none)


def test_averaged_weights_are_what_is_saved_and_validated() -> None:
    hooks = toy.Recorder()
    config = OptimizerConfig(name=Optimizer.asgd, lr=5.0, average_after=1)
    trainer = toy.trainer(optimizer=config, training=TrainingConfig(epochs=4), hooks=hooks)
    result = trainer.run()
    last = hooks.last
    assert not torch.equal(last.model["output_bias"], last.optimizer["raw/output_bias"])
    assert torch.equal(last.optimizer["raw/output_bias"], trainer.model.output_bias.detach())
    model = toy.trainer().model
    load_weights(model, last.model)
    found = evaluate(model, toy.stream(1, 150).epoch(), "cpu")
    assert found is not None
    assert found.loss == pytest.approx(result.valid_loss, rel=1e-6)  # by torch; the run's by its own kernels


def test_half_precision_products_train_too() -> None:
    hooks = toy.Recorder()
    training = TrainingConfig(epochs=20, log_every=7, precision=Precision.bf16)
    toy.trainer(optimizer=OptimizerConfig(lr=0.02), training=training, hooks=hooks).run()
    assert hooks.records[-1].loss < hooks.records[0].loss - 0.1


class Watcher(toy.Recorder):
    """Remembers what is told at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[float | None] = []

    def progress(self, step: int, total_steps: int, epoch: float, loss: float | None) -> None:
        super().progress(step, total_steps, epoch, loss)
        self.told.append(loss)


@pytest.mark.parametrize("guards", [True, False])
def test_whoever_watches_sees_a_loss_from_the_first_step_on(guards: bool) -> None:
    """That of the first step, until the first record; with `log_every: 50` that can take minutes."""
    often, seldom = Watcher(), Watcher()
    toy.trainer(training=TrainingConfig(max_steps=6, log_every=1, guards=guards), hooks=often).run()
    toy.trainer(training=TrainingConfig(max_steps=6, log_every=4, guards=guards), hooks=seldom).run()
    assert seldom.told[:4] == [often.records[0].loss] * 4
    assert seldom.told[4:] == [seldom.records[0].loss] * 2
