"""The model's parts: initial weights, dropout, tied weights, pre-trained vectors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from terry.models import cells, torch_kernels
from terry.models.config import Init, Input, ModelConfig
from terry.models.dropout import drop, drop_words
from terry.models.errors import ConfigError
from terry.models.language_model import LanguageModel, detached
from tests.helpers.toy import has_bfloat16_lstm

IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


def model(vocabulary: int = 50, **settings: object) -> LanguageModel:
    torch.manual_seed(4)
    defaults: dict[str, object] = {"hidden_size": 8, "embedding_size": 6}
    return LanguageModel(ModelConfig(**(defaults | settings)), vocabulary)  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "torch.nn:GRUCell", "torch.nn:LSTMCell"])
@pytest.mark.parametrize("kind", list(Input))
def test_shapes(cell: str, kind: Input) -> None:
    one = model(cell=cell, input=kind, layers=2, last_size=5)
    hidden, state = one(IDS, one.initial_state(2))
    assert hidden.shape == (2, 4, 5)
    assert one.logits(hidden).shape == (2, 4, 50)
    assert [part.shape for layer in state for part in layer][::-1][0] == (2, 5)
    assert torch.equal(hidden[:, -1], state[-1][0])


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_reading_in_two_parts_with_the_state_carried_is_reading_at_once(cell: str) -> None:
    one = model(cell=cell, layers=2)
    whole, last = one(IDS, one.initial_state(2))
    first, state = one(IDS[:, :1], one.initial_state(2))
    second, end = one(IDS[:, 1:], detached(state))
    torch.testing.assert_close(torch.cat((first, second), 1), whole)
    torch.testing.assert_close(end, last)


@pytest.mark.parametrize("init", list(Init))
def test_an_untrained_model_is_hardly_better_or_worse_than_a_guess(init: Init) -> None:
    one = model(8000, hidden_size=100, embedding_size=100, init=init)
    total, _, _ = one.loss(IDS, IDS + 1, None, one.initial_state(2))
    assert total.item() / 8 == pytest.approx(math.log(8000), rel=0.02)


def test_initial_weights_are_as_their_names_say() -> None:
    assert max(p.abs().max().item() for p in model(init=Init.uniform, init_range=0.04).parameters()) <= 0.04
    orthogonal = model(init=Init.orthogonal).layers[0].weight_hh
    for gate in orthogonal.split(8):
        torch.testing.assert_close(gate @ gate.t(), torch.eye(8), atol=1e-5, rtol=0)
    small = model(init=Init.fan_in, hidden_size=100)
    assert small.decoder.abs().max() <= 0.1
    assert small.layers[0].bias_ih.abs().max() == 0


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_rows_that_are_projected_once_for_many_tokens_change_neither_loss_nor_gradients(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.randint(0, 10, (4, 21), generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(cells, "_LSTM_WORK", 0)

    def trained(*, by_table: bool) -> list[Tensor]:
        torch.manual_seed(7)
        made = model(10, cell=cell, tie_weights=True, embedding_size=8, dropout_words=0.3, dropout_output=0.2).train()
        monkeypatch.setattr(cells, "_REPEATED", 4 if by_table else 1e9)
        x, table = made._embed(ids[:, :-1].t())
        assert (x.dtype == torch.int64 and table is not None) == by_table
        torch.manual_seed(8)
        total, _, _ = made.loss(ids[:, :-1], ids[:, 1:], None, made.initial_state(4))
        total.backward()
        return [total.detach(), *(p.grad for p in made.parameters() if p.grad is not None)]

    for one, other in zip(trained(by_table=True), trained(by_table=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_a_state_from_a_short_batch_is_taken_up_by_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_LSTM_WORK", 0)
    ids = torch.randint(0, 10, (4, 21), generator=torch.Generator().manual_seed(3))
    one = model(10, cell="lstm").train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, _, state = one.loss(ids[:, :3], ids[:, 1:4], None, one.initial_state(4))
        assert state[0][1].dtype == (torch.bfloat16 if has_bfloat16_lstm() else torch.float32)
        long, _, _ = one.loss(ids[:, :20], ids[:, 1:], None, state)
    long.backward()
    assert one.layers[0].weight_hh.grad is not None
    exact, _, _ = one.loss(ids[:, :20], ids[:, 1:], None, one.initial_state(4))
    assert long.item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_state_in_bfloat16_is_taken_up_whoever_left_it(monkeypatch: pytest.MonkeyPatch, cell: str) -> None:
    """A run goes on where torch has no kernel in bfloat16, after one where it has."""
    monkeypatch.setattr(torch_kernels, "_works", lambda *_: False)
    monkeypatch.setattr(torch_kernels, "_tried", {})
    ids = torch.randint(0, 10, (4, 21), generator=torch.Generator().manual_seed(3))
    one = model(10, cell=cell).train()
    state = tuple(tuple(part.bfloat16() for part in layer) for layer in one.initial_state(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _, after = one.loss(ids[:, :20], ids[:, 1:], None, state)
    total.backward()
    assert after[0][0].dtype == torch.float32, "by the own loop"
    exact, _, _ = one.loss(ids[:, :20], ids[:, 1:], None, one.initial_state(4))
    assert total.item() == pytest.approx(exact.item(), rel=0.02)


def test_the_forget_gate_may_begin_open() -> None:
    with_bias, without = model(cell="lstm", forget_bias=1.0), model(cell="lstm")
    change = with_bias.layers[0].bias_ih - without.layers[0].bias_ih
    assert change[8:16].tolist() == pytest.approx([1.0] * 8)
    assert change[:8].abs().max() == change[16:].abs().max() == 0


def test_tied_weights_are_one_tensor_with_one_gradient() -> None:
    one = model(tie_weights=True, embedding_size=8)
    assert [name for name, p in one.named_parameters() if p.shape == (50, 8)] == ["embedding"]
    total, _, _ = one.loss(IDS, IDS + 1, None, one.initial_state(2))
    total.backward()
    assert one.embedding is not None
    assert one.embedding.grad is not None
    separate = LanguageModel(ModelConfig(hidden_size=8, embedding_size=8), 50)
    separate.load_state_dict({**one.state_dict(), "output_weight": one.decoder.detach()})
    total, _, _ = separate.loss(IDS, IDS + 1, None, separate.initial_state(2))
    total.backward()
    assert separate.embedding is not None
    torch.testing.assert_close(one.embedding.grad, separate.embedding.grad + separate.decoder.grad)


def test_pretrained_vectors_are_taken_and_stay_where_frozen() -> None:
    vectors = torch.randn(50, 6)
    frozen = LanguageModel(ModelConfig(hidden_size=8, embedding_size=6, freeze_embedding=True), 50, vectors)
    assert torch.equal(frozen.state_dict()["embedding"], vectors)
    total, _, _ = frozen.loss(IDS, IDS, None, frozen.initial_state(2))
    total.backward()
    assert frozen.embedding is not None
    assert frozen.embedding.grad is None
    with pytest.raises(ConfigError, match=r"\(50, 6\).*needs \(50, 7\)"):
        LanguageModel(ModelConfig(hidden_size=8, embedding_size=7), 50, vectors)
    with pytest.raises(ConfigError, match="onehot"):
        LanguageModel(ModelConfig(hidden_size=8, input=Input.onehot), 50, vectors)


def kept(x: Tensor) -> Tensor:
    return x != 0


def test_a_locked_mask_is_the_same_at_every_step_and_another_in_every_row() -> None:
    x = torch.ones(6, 3, 40)
    locked = kept(drop(x, 0.5, locked=True, training=True))
    assert (locked == locked[0]).all()
    assert (locked[0, 0] != locked[0, 1]).any()
    free = kept(drop(x, 0.5, locked=False, training=True))
    assert (free[0] != free[1]).any()
    assert torch.equal(drop(x, 0.5, locked=True, training=False), x)


@pytest.mark.parametrize("locked", [False, True])
def test_dropout_keeps_the_mean(locked: bool) -> None:
    torch.manual_seed(0)
    dropped = drop(torch.ones(50, 50, 50), 0.3, locked=locked, training=True)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_words_are_dropped_whole() -> None:
    table = drop_words(torch.ones(400, 5), 0.25, training=True)
    assert ((table == 0).all(1) | (table == 1 / 0.75).all(1)).all()
    assert 0.15 < (table[:, 0] == 0).float().mean() < 0.35


def test_penalties_are_those_of_the_awd_lstm_paper() -> None:
    one = model(activation_penalty=2.0, slowness_penalty=3.0)
    _, penalty, _ = one.loss(IDS, IDS, None, one.initial_state(2))
    hidden, _ = one(IDS, one.initial_state(2))
    expected = 2 * hidden.pow(2).mean() + 3 * (hidden[:, 1:] - hidden[:, :-1]).pow(2).mean()
    torch.testing.assert_close(penalty, expected)


def test_activations_are_penalised_after_dropout_and_their_changes_before() -> None:
    """As in the paper's section 4.7: AR of m * h_t, TAR of h_t - h_(t+1)."""

    def penalty(**weights: float) -> Tensor:
        torch.manual_seed(2)
        one = model(dropout_output=0.5, **weights).train()
        torch.manual_seed(3)
        return one.loss(IDS, IDS, None, one.initial_state(2))[1]

    torch.manual_seed(2)
    one = model(dropout_output=0.5).train()
    raw, _ = one._run(IDS, one.initial_state(2))
    torch.manual_seed(3)
    output, _ = one(IDS, one.initial_state(2))
    assert not torch.equal(output.transpose(0, 1), raw)
    torch.testing.assert_close(penalty(activation_penalty=2.0), 2 * output.pow(2).mean())
    torch.testing.assert_close(penalty(slowness_penalty=3.0), 3 * (raw[1:] - raw[:-1]).pow(2).mean())


def test_fan_in_is_that_of_each_weight() -> None:
    """One-hot input has as many inputs as tokens: WildML's U is within 1/sqrt(8000), W within 1/sqrt(100)."""
    one = model(8000, init=Init.fan_in, input=Input.onehot, hidden_size=100)
    for weight, inputs in ((one.layers[0].weight_ih, 8000), (one.layers[0].weight_hh, 100), (one.decoder, 100)):
        assert weight.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.01)


def test_a_vocabulary_needs_two_tokens() -> None:
    with pytest.raises(ConfigError, match="at least 2 tokens"):
        model(1)
