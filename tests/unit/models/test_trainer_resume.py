"""A run that was stopped and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.models import cells, cross_entropy
from terry.models.config import (
    AnnealConfig,
    Kernels,
    ModelConfig,
    Nonlinearity,
    Optimizer,
    OptimizerConfig,
    Precision,
    Schedule,
    TrainingConfig,
)
from terry.models.errors import StateError
from terry.models.protocols import BatchSource
from terry.models.training_state import TrainingState
from tests.helpers import toy
from tests.helpers.toy import has_bfloat16_lstm

CELLS = ("rnn", "gru", "lstm", "torch.nn:GRUCell")
EPOCHS, STEPS = 2, 14


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["torch's loss", "loss in chunks"])
def either_loss(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy's vocabulary is small: the way of large ones has to be asked for."""
    if request.param == "loss in chunks":
        monkeypatch.setattr(cross_entropy, "SMALL_VOCABULARY", 0)


def model_config(cell: str) -> ModelConfig:
    return ModelConfig(cell=cell, hidden_size=6, layers=2, embedding_size=5, dropout=0.2)


def optimizer_config(name: Optimizer) -> OptimizerConfig:
    anneal = AnnealConfig(minimum=1e-4)
    return OptimizerConfig(name=name, lr=0.05, clip_norm=1.0, anneal=anneal, warmup_steps=3, average_after=1)


def training_config(threads: int) -> TrainingConfig:
    return TrainingConfig(epochs=EPOCHS, log_every=3, threads=threads)


def through_json(training_state: TrainingState) -> TrainingState:
    return TrainingState(
        step=training_state.step,
        model=training_state.model,
        optimizer=training_state.optimizer,
        state=json.loads(json.dumps(dict(training_state.state), allow_nan=False)),
    )


def run(
    settings_: tuple[ModelConfig, OptimizerConfig, TrainingConfig], stop: int | None, start: TrainingState | None
) -> TrainingState:
    hooks = toy.Recorder(stop_after=stop)
    trainer = toy.trainer(*settings_, hooks)
    if start is not None:
        trainer.resume(through_json(start))
    trainer.run()
    return hooks.last


@pytest.mark.usefixtures("either_loss")
@pytest.mark.parametrize("name", list(Optimizer))
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_and_optimizer_resumes_bit_for_bit(cell: str, name: Optimizer) -> None:
    training = TrainingConfig(epochs=EPOCHS, log_every=3, threads=1, kernels=Kernels.torch)
    settings_ = (model_config(cell), optimizer_config(name), training)
    whole = run(settings_, None, None)
    stop = 1 + sum(map(ord, cell + name)) % (STEPS - 1)
    assert whole.step == STEPS
    assert toy.differences(whole, run(settings_, None, run(settings_, stop, None))) == []


@pytest.mark.parametrize("name", list(Optimizer))
@pytest.mark.parametrize("cell", CELLS)
def test_and_by_the_kernels_that_a_run_has_unless_told_otherwise(cell: str, name: Optimizer) -> None:
    settings_ = (model_config(cell), optimizer_config(name), training_config(1))
    whole = run(settings_, None, None)
    stop = 1 + sum(map(ord, cell + name)) % (STEPS - 1)
    assert whole.step == STEPS
    assert toy.differences(whole, run(settings_, None, run(settings_, stop, None))) == []


@pytest.mark.parametrize(
    ("cell", "name"), [*((cell, Optimizer.adam) for cell in CELLS), *(("gru", name) for name in Optimizer)]
)
def test_at_two_threads_too(cell: str, name: Optimizer) -> None:
    settings_ = (
        ModelConfig(cell=cell, hidden_size=64, embedding_size=64),  # large enough for the threads to share the work
        optimizer_config(name),
        TrainingConfig(max_steps=4, log_every=3, threads=2),
    )
    assert toy.differences(run(settings_, None, None), run(settings_, None, run(settings_, 2, None))) == []


@settings(max_examples=8, deadline=None)
@given(stops=st.lists(st.integers(1, STEPS - 1), min_size=1, max_size=4, unique=True).map(sorted))
def test_any_number_of_stops_at_any_steps_changes_nothing(stops: list[int]) -> None:
    settings_ = (
        ModelConfig(
            cell="lstm", hidden_size=5, embedding_size=5, layers=2, dropout=0.3, variational=True, weight_drop=0.2,
            dropout_words=0.1, tie_weights=True, activation_penalty=2.0, slowness_penalty=1.0,
        ),
        OptimizerConfig(name=Optimizer.asgd, lr=0.5, nonmonotone=1, clip_norm=0.25, schedule=Schedule.cosine),
        TrainingConfig(epochs=EPOCHS, log_every=4, valid_every=3, threads=1),
    )  # fmt: skip
    training_state = None
    for stop in stops:
        training_state = run(settings_, stop, training_state)
        assert training_state.step == stop
    assert toy.differences(run(settings_, None, None), run(settings_, None, training_state)) == []


@pytest.mark.usefixtures("either_loss")
def test_padded_examples_resume_bit_for_bit() -> None:
    def last(stop: int | None, start: TrainingState | None) -> TrainingState:
        hooks = toy.Recorder(stop_after=stop)
        trainer = toy.trainer(hooks=hooks, data=toy.examples, valid=lambda: toy.examples(1))
        if start is not None:
            trainer.resume(start)
        trainer.run()
        return hooks.last

    for stop in (3, 8):
        assert toy.differences(last(None, None), last(None, last(stop, None))) == []


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_rows_projected_once_resume_bit_for_bit_though_the_last_batch_is_too_short_for_it(
    cell: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "_LSTM_WORK", 0)
    ways = []
    layer = type(cells.make_layer(cell, 1, 1, nonlinearity=Nonlinearity.tanh, weight_drop=0.0))
    decide = layer.prefers_ids
    monkeypatch.setattr(layer, "prefers_ids", lambda *args: (ways.append(decide(*args)), ways[-1])[1])

    def last(stop: int | None, start: TrainingState | None) -> TrainingState:
        hooks = toy.Recorder(stop_after=stop)
        model = ModelConfig(
            cell=cell, hidden_size=32, embedding_size=32, layers=2, tie_weights=True, weight_drop=0.2,
            dropout_words=0.1, dropout_between=0.2, dropout_output=0.2,
        )  # fmt: skip
        training = TrainingConfig(epochs=EPOCHS, log_every=3, threads=threads, kernels=Kernels.torch)
        trainer = toy.trainer(model, training=training, hooks=hooks, data=lambda: toy.stream(tokens=435, batch_size=8))
        if start is not None:
            trainer.resume(through_json(start))
        trainer.run()
        return hooks.last

    whole = last(None, None)
    assert ways == EPOCHS * [*7 * [True], False]
    for stop in (3, 7, 8, 9):
        assert toy.differences(whole, last(None, last(stop, None))) == []


@pytest.mark.parametrize("cell", CELLS)
def test_with_products_in_bfloat16_too(cell: str) -> None:
    training = TrainingConfig(epochs=EPOCHS, log_every=3, threads=1, precision=Precision.bf16)
    settings_ = (model_config(cell), OptimizerConfig(lr=0.02), training)
    whole, half = run(settings_, None, None), run(settings_, 9, None)
    if cell == "lstm" and has_bfloat16_lstm():  # its state is in bfloat16, and must come back as that
        assert half.optimizer["hidden/0/0"].dtype == torch.bfloat16
    assert toy.differences(whole, run(settings_, None, half)) == []


def test_a_snapshot_taken_in_passing_is_as_good_as_one_taken_at_a_stop() -> None:
    settings_ = (model_config("gru"), optimizer_config(Optimizer.adam), training_config(1))
    hooks = toy.Recorder(save_at=(4, 9))
    toy.trainer(*settings_, hooks).run()
    passing = [training_state for training_state, _ in hooks.saved if training_state.step < STEPS]
    assert len(passing) >= 2
    for training_state in passing:
        assert toy.differences(hooks.last, run(settings_, None, training_state)) == []


def test_the_best_snapshot_can_be_resumed_from_too() -> None:
    settings_ = (model_config("gru"), OptimizerConfig(lr=0.1), training_config(1))
    hooks = toy.Recorder()
    toy.trainer(*settings_, hooks).run()
    best = next(training_state for training_state, is_best in hooks.saved if is_best)
    assert best.step == best.state["progress"]["best_step"]
    assert toy.differences(hooks.last, run(settings_, None, best)) == []


def test_resuming_keeps_the_number_of_threads() -> None:
    settings_ = (model_config("gru"), optimizer_config(Optimizer.adam))
    first = run((*settings_, training_config(2)), 5, None)
    hooks = toy.Recorder()
    trainer = toy.trainer(*settings_, training_config(1), hooks)
    trainer.resume(first)
    assert torch.get_num_threads() == 2
    assert "2 threads" in hooks.warnings[0]


@pytest.mark.parametrize(
    "other",
    [
        (ModelConfig(cell="lstm", hidden_size=6, embedding_size=5), None),
        (ModelConfig(hidden_size=7, embedding_size=5), None),
    ],
)
def test_a_snapshot_of_another_model_is_refused(other: tuple[ModelConfig, None]) -> None:
    hooks = toy.Recorder(stop_after=3)
    toy.trainer(hooks=hooks).run()
    with pytest.raises(StateError):
        toy.trainer(other[0]).resume(hooks.last)


def test_a_snapshot_over_other_data_is_refused() -> None:
    hooks = toy.Recorder(stop_after=3)
    toy.trainer(hooks=hooks).run()

    def longer() -> BatchSource:
        return toy.stream(tokens=500)

    with pytest.raises(ValueError, match="position"):
        toy.trainer(data=longer).resume(hooks.last)


def test_a_snapshot_of_a_later_version_is_refused() -> None:
    hooks = toy.Recorder(stop_after=3)
    toy.trainer(hooks=hooks).run()
    last = hooks.last
    later = TrainingState(step=3, model=last.model, optimizer=last.optimizer, state={**last.state, "version": 99})
    with pytest.raises(StateError, match="version 99"):
        toy.trainer().resume(later)
