"""The hand-written sequences against torch.nn and against numerical gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from terry.models.cells import Gru, Lstm, Rnn, make_layer
from terry.models.config import ModelConfig, Nonlinearity
from terry.models.errors import ConfigError
from terry.models.language_model import LanguageModel

KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "tanh": (Rnn, nn.RNN),
    "relu": (
        lambda i, h: Rnn(i, h, nonlinearity=Nonlinearity.relu),
        lambda i, h: nn.RNN(i, h, nonlinearity="relu"),
    ),
    "gru": (Gru, nn.GRU),
    "lstm": (Lstm, nn.LSTM),
}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def pair(kind: str, inputs: int = 3, units: int = 4) -> tuple[Any, Any]:
    """Our layer and torch's, with the same weights, float64."""
    torch.manual_seed(3)
    ours, theirs = (make(inputs, units).double() for make in KINDS[kind])
    with torch.no_grad():
        for name in NAMES:
            getattr(ours, name).copy_(getattr(theirs, f"{name}_l0"))
    return ours, theirs


def start(layer: Any, batch: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    return tuple(
        torch.randn(batch, layer.hidden_size, dtype=torch.float64, generator=generator).requires_grad_()
        for _ in range(layer.states)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [1, 2, 5])
def test_outputs_states_and_all_gradients_are_those_of_torch(kind: str, time: int) -> None:
    ours, theirs = pair(kind)
    x = torch.randn(time, 2, 3, dtype=torch.float64)
    ins, state = [x.clone().requires_grad_() for _ in range(2)], start(ours)
    state2 = tuple(s.detach().clone().requires_grad_() for s in state)
    out, last = ours(ins[0], state)
    hx = tuple(s.unsqueeze(0) for s in state2)
    out2, last2 = theirs(ins[1], hx if len(hx) > 1 else hx[0])
    last2 = last2 if isinstance(last2, tuple) else (last2,)
    torch.testing.assert_close(out, out2)
    torch.testing.assert_close(last, tuple(s.squeeze(0) for s in last2))
    weights = torch.randn_like(out)
    for outputs, lasts in ((out, last), (out2, last2)):
        ((outputs * weights).sum() + sum(s.pow(3).sum() for s in lasts)).backward()
    torch.testing.assert_close(ins[0].grad, ins[1].grad)
    for one, other in zip(state, state2, strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    for name in NAMES:
        torch.testing.assert_close(getattr(ours, name).grad, getattr(theirs, f"{name}_l0").grad)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_found_numerically(kind: str) -> None:
    ours, _ = pair(kind, 2, 3)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    names = list(NAMES)
    values = [getattr(ours, name).detach().clone().requires_grad_() for name in names]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        states, weights = rest[: ours.states], rest[ours.states :]
        out, last = torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x, states))
        return (out, *last)

    assert torch.autograd.gradcheck(run, (x, *start(ours), *values))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_for_one_hot_input_are_those_found_numerically(kind: str) -> None:
    ours, _ = pair(kind, 3, 3)
    ids = torch.tensor([[0, 2], [1, 1], [2, 0]])
    values = [getattr(ours, name).detach().clone().requires_grad_() for name in NAMES]

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        states, weights = given[: ours.states], given[ours.states :]
        out, last = torch.func.functional_call(ours, dict(zip(NAMES, weights, strict=True)), (ids, states))
        return (out, *last)

    assert torch.autograd.gradcheck(run, (*start(ours), *values))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_stand_for_one_hot_vectors(kind: str) -> None:
    ours, _ = pair(kind, inputs=5)
    ids = torch.tensor([[0, 4], [3, 3], [1, 0]])
    dense = nn.functional.one_hot(ids, 5).double()
    for_ids, for_dense = ours(ids, start(ours))[0], ours(dense, start(ours))[0]
    torch.testing.assert_close(for_ids, for_dense)
    by_ids = torch.autograd.grad(for_ids.pow(2).sum(), ours.weight_ih)
    by_dense = torch.autograd.grad(for_dense.pow(2).sum(), ours.weight_ih)
    torch.testing.assert_close(by_ids, by_dense)


@pytest.mark.parametrize(("path", "states"), [("torch.nn:GRUCell", 1), ("torch.nn:LSTMCell", 2)])
def test_a_cell_by_import_path_is_run_step_by_step(path: str, states: int) -> None:
    layer = make_layer(path, 3, 4, nonlinearity=Nonlinearity.tanh, weight_drop=0.0).double()
    whole = (nn.GRU if states == 1 else nn.LSTM)(3, 4).double()
    with torch.no_grad():
        for name in NAMES:
            getattr(whole, f"{name}_l0").copy_(getattr(layer.cell, name))
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    assert layer.states == states
    out, last = layer(x, tuple(torch.zeros(2, 4, dtype=torch.float64) for _ in range(states)))
    torch.testing.assert_close(out, whole(x)[0])
    torch.testing.assert_close(last[0], out[-1])


@pytest.mark.parametrize("path", ["no.such.module:Cell", "torch.nn:NoSuchCell", "math:sin"])
def test_a_cell_that_is_none_is_refused_by_name(path: str) -> None:
    with pytest.raises(ConfigError, match=f"model.cell: {path}"):
        LanguageModel(ModelConfig(cell=path), 10)


def test_dropped_recurrent_weights_are_dropped_once_for_the_whole_sequence() -> None:
    layer = Rnn(2, 50, weight_drop=0.5)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, 0.01)
    dropped = layer.recurrent()
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 0.02])
    assert 0.4 < (dropped == 0).float().mean() < 0.6
    layer.eval()
    assert torch.equal(layer.recurrent(), layer.weight_hh)
