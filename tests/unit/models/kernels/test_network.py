"""The compiled step against autograd in float64, and against itself at every level and number of threads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.models.config import ModelConfig
from terry.models.kernels.network import Network
from tests.unit.models.kernels.network import Case, at_level, config, levels, needs_kernels, threads

pytestmark = needs_kernels
CELLS = ["rnn", "gru", "lstm"]


def cases(*, dropout: bool = False) -> st.SearchStrategy[Case]:
    """Shapes with all remainders: of tiles, of lanes, of chunks of rows, of blocks of tokens."""
    settings_ = st.builds(
        config, st.sampled_from(CELLS), st.integers(1, 70), st.integers(1, 40), layers=st.integers(1, 3),
        tied=st.booleans(), onehot=st.booleans(), relu=st.booleans(), penalty=st.sampled_from([0.0, 1.5]),
        dropout=st.sampled_from([0.3]) if dropout else st.just(0.0),
    )  # fmt: skip
    shapes = st.tuples(st.integers(1, 20), st.integers(1, 12))
    return st.builds(Case, settings_, st.integers(2, 150), shapes, st.integers(0, 99), masked=st.booleans())


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_loss_state_and_gradients_are_those_of_float64(case: Case) -> None:
    loss, state, gradients = case.native(levels()[-1])
    exact, after, expected = case.exact()
    assert float(loss) == pytest.approx(exact, rel=1e-5)
    for ours, theirs in zip((p for layer in state for p in layer), (p for layer in after for p in layer), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        size = expected[name].abs().max().item()
        torch.testing.assert_close(gradient.double(), expected[name], rtol=2e-4, atol=2e-5 * size + 1e-9, msg=name)


@settings(max_examples=25, deadline=None)
@given(case=cases(dropout=True))
def test_every_level_and_number_of_threads_gives_the_same_bits(case: Case) -> None:
    expected = None
    for level in levels():
        for count in (1, 2, 4):
            with threads(count):
                loss, state, gradients = case.native(level)
            found = [loss, *(part.clone() for layer in state for part in layer), *gradients.values()]
            expected = expected or found
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), (level, count)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_with_dropout_are_the_slopes_of_the_loss(cell: str, tied: bool) -> None:
    """The masks are those of the step: along the gradient, the loss changes by its squared length."""
    case = Case(config(cell, 24, 20, layers=2, tied=tied, dropout=0.3), 30, (4, 9), 3, masked=False)
    _, _, gradients = case.native(levels()[-1])
    found = {name: gradient.clone() for name, gradient in gradients.items()}
    length = sum(float((g.double() ** 2).sum()) for g in found.values()) ** 0.5
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, parameter in case.model.named_parameters():
                parameter.add_(found[name], alpha=sign * (1 if sign == 1 else 2) * 1e-2 / length)
        losses.append(float(case.native(levels()[-1])[0]) * case.scale)
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(length, rel=0.01)


def test_dropout_is_another_at_each_step_and_the_same_at_one() -> None:
    case = Case(config("gru", 20, 16, dropout=0.5), 30, (4, 9), 3, masked=False)
    first, again, other = (float(case.native(levels()[-1], step)[0]) for step in (1, 1, 2))
    assert first == again != other


def test_rows_of_a_batch_do_not_know_of_each_other() -> None:
    case = Case(config("lstm", 33, 16), 30, (20, 9), 3, masked=False)
    network = Network(case.model, at_level(levels()[-1]), seed=1)
    _, state = network.loss(case.inputs, case.targets, None, case.state)
    together = [part.clone() for layer in state for part in layer]
    for row in range(20):
        mine = tuple(tuple(part[row : row + 1] for part in layer) for layer in case.state)
        _, state = network.loss(case.inputs[row : row + 1], case.targets[row : row + 1], None, mine)
        alone = [part for layer in state for part in layer]
        assert all(torch.equal(a[0], b[row]) for a, b in zip(alone, together, strict=True))


def test_the_state_goes_on_from_batch_to_batch_and_apart_from_that_of_validation() -> None:
    case = Case(config("gru", 33, 16), 30, (4, 12), 3, masked=False)
    network = Network(case.model, at_level(levels()[-1]), seed=1)
    _, whole = network.loss(case.inputs, case.targets, None, case.state, backward=True)
    expected = [part.clone() for layer in whole for part in layer]
    state = case.state
    for begin in (0, 5):
        part = slice(begin, 5 if begin == 0 else 12)
        _, state = network.loss(case.inputs[:, part], case.targets[:, part], None, state, backward=True)
        network.loss(case.inputs, case.targets, None, case.model.initial_state(4))
    found = [part for layer in state for part in layer]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("bad", [-1, 30])
def test_a_token_outside_of_the_vocabulary_is_refused(bad: int) -> None:
    case = Case(ModelConfig(hidden_size=8, embedding_size=8), 30, (2, 5), 3, masked=False)
    case.inputs[1, 2] = bad
    with pytest.raises(IndexError, match="vocabulary"):
        case.native(levels()[-1])
    with threads(2), pytest.raises(IndexError, match="vocabulary"):
        case.native(levels()[-1])


def test_what_a_mask_leaves_out_may_be_any_number() -> None:
    case = Case(ModelConfig(hidden_size=8, embedding_size=8), 30, (2, 5), 3, masked=True)
    loss, _, _ = case.native(levels()[-1])
    assert case.mask is not None
    case.targets[~case.mask] = -100
    assert torch.equal(case.native(levels()[-1])[0], loss)


def test_a_vocabulary_of_many_chunks_and_blocks() -> None:
    case = Case(config("gru", 70, 30, tied=True), 1000, (9, 40), 1, masked=True)
    loss, _, gradients = case.native(levels()[-1])
    exact, _, expected = case.exact()
    assert float(loss) == pytest.approx(exact, rel=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient.double(), expected[name], rtol=1e-3, atol=1e-7, msg=name)
