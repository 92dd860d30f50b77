"""The chunked loss against torch's, in value and gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from terry.models import cross_entropy
from terry.models.cross_entropy import SMALL_VOCABULARY, LogitsBuffer, cross_entropy_sum, language_model_loss


def inputs(rows: int, size: int, vocabulary: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * 31 + vocabulary)
    shapes = ((rows, size), (vocabulary, size), (vocabulary,))
    h, w, b = (torch.randn(s, dtype=dtype, generator=generator).requires_grad_() for s in shapes)
    return h, w, b


def gradients(loss: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss * 0.37, of)


@pytest.mark.parametrize("rows", [1, 4, 5, 13])
@pytest.mark.parametrize("vocabulary", [2, 7, 65, 1030])
@pytest.mark.parametrize("masked", [False, True])
def test_value_and_gradients_are_those_of_torch(rows: int, vocabulary: int, masked: bool) -> None:
    h, w, b = inputs(rows, 3, vocabulary)
    targets = torch.arange(rows) * 7 % vocabulary
    counts = torch.arange(rows) % 3 > 0 if masked else None
    ours = cross_entropy_sum(h, w, b, targets, counts, LogitsBuffer(rows=4))
    each = functional.cross_entropy(functional.linear(h, w, b), targets, reduction="none")
    theirs = (each * counts).sum() if counts is not None else each.sum()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, h, w, b), gradients(theirs, h, w, b))


def test_gradients_are_those_found_numerically() -> None:
    tensors = inputs(5, 3, 4)
    targets = torch.tensor([0, 3, 1, 1, 2])

    def loss(*of: Tensor) -> Tensor:
        return cross_entropy_sum(*of, targets, None, LogitsBuffer(rows=2))

    found = torch.autograd.grad(loss(*tensors), tensors)
    step = 1e-6
    for i, gradient in enumerate(found):
        for place in range(gradient.numel()):
            moved = [[t.detach().clone() for t in tensors] for _ in range(2)]
            moved[0][i].view(-1)[place] += step
            moved[1][i].view(-1)[place] -= step
            slope = (loss(*moved[0]) - loss(*moved[1])) / (2 * step)
            assert gradient.view(-1)[place].item() == pytest.approx(slope.item(), abs=1e-8)


def test_a_second_backward_pass_is_refused_rather_than_wrong() -> None:
    h, w, b = inputs(4, 3, 5)
    loss = cross_entropy_sum(h, w, b, torch.zeros(4, dtype=torch.int64))
    torch.autograd.grad(loss, (h, w, b), retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        torch.autograd.grad(loss, (h, w, b))


def test_no_gradient_is_computed_where_none_can_be_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    h, w, b = inputs(4, 3, 5)
    made: list[tuple[bool, ...]] = []
    kept = cross_entropy._Gradients

    def spy(*args: Tensor, wanted: tuple[bool, bool, bool]) -> object:
        made.append(wanted)
        return kept(*args, wanted=wanted)

    monkeypatch.setattr(cross_entropy, "_Gradients", spy)
    with torch.no_grad():
        cross_entropy_sum(h, w, b, torch.zeros(4, dtype=torch.int64))
    cross_entropy_sum(h, w.detach(), b, torch.zeros(4, dtype=torch.int64))
    assert made == [(False, False, False), (True, False, True)]


def test_a_target_of_no_probability_has_a_large_finite_loss() -> None:
    h = torch.tensor([[1.0, 0.0]])
    w = torch.tensor([[500.0, 0.0], [-500.0, 0.0], [0.0, 0.0]])
    assert cross_entropy_sum(h, w, None, torch.tensor([1])).item() == pytest.approx(1000.0)


def test_huge_and_tiny_scores_neither_overflow_nor_vanish() -> None:
    h = torch.ones(3, 1)
    w = torch.tensor([[1e4], [1e4], [-1e4]])
    assert cross_entropy_sum(h, w, None, torch.tensor([0, 1, 0])).item() == pytest.approx(3 * math.log(2))


def test_only_wanted_gradients_are_computed() -> None:
    h, w, b = inputs(6, 3, 5)
    loss = cross_entropy_sum(h, w.detach(), b, torch.zeros(6, dtype=torch.int64))
    found = torch.autograd.grad(loss, (h, b))
    assert [g.shape for g in found] == [h.shape, b.shape]
    with torch.no_grad():
        assert cross_entropy_sum(h, w, b, torch.zeros(6, dtype=torch.int64)).item() == loss.item()


def test_the_buffer_is_used_again_and_follows_larger_vocabularies() -> None:
    workspace = LogitsBuffer(rows=4)
    values = []
    for vocabulary in (5, 50, 5):
        h, w, b = inputs(9, 3, vocabulary, torch.float32)
        values.append(cross_entropy_sum(h, w, b, torch.zeros(9, dtype=torch.int64), None, workspace).item())
    assert values[0] == values[2] != values[1]


def test_under_autocast_the_loss_stays_float32_and_close() -> None:
    h, w, b = inputs(40, 16, 30, torch.float32)
    targets = torch.arange(40) % 30
    exact = cross_entropy_sum(h, w, b, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = cross_entropy_sum(h, w, b, targets)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)
    for one, other in zip(gradients(rough, h, w), gradients(exact, h, w), strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.03 * other.norm()


@pytest.mark.parametrize("vocabulary", [SMALL_VOCABULARY, SMALL_VOCABULARY + 1])
@pytest.mark.parametrize("masked", [False, True])
def test_small_and_large_vocabularies_have_the_loss_of_torch(vocabulary: int, masked: bool) -> None:
    h, w, b = inputs(7, 3, vocabulary)
    targets = torch.arange(7)
    counts = torch.arange(7) % 3 > 0 if masked else None
    ours = language_model_loss(h, w, b, targets, counts, LogitsBuffer(rows=4))
    each = functional.cross_entropy(functional.linear(h, w, b), targets, reduction="none")
    theirs = each.sum() if counts is None else each[counts].sum()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, h, w, b), gradients(theirs, h, w, b))


@pytest.mark.parametrize("vocabulary", [SMALL_VOCABULARY, SMALL_VOCABULARY + 1])
def test_rows_that_do_not_count_may_hold_anything(vocabulary: int) -> None:
    h, w, b = inputs(4, 3, vocabulary)
    with torch.no_grad():
        h[1] = math.nan
    counts = torch.tensor([True, False, True, True])
    loss = language_model_loss(h, w, b, torch.arange(4), counts, LogitsBuffer())
    found = gradients(loss, h, w, b)
    assert all(bool(torch.isfinite(g).all()) for g in (loss, *found))
    assert found[0][1].abs().sum() == 0


def test_rows_whose_target_has_vanished_do_not_change_the_others() -> None:
    h, w, b = inputs(9, 3, 200, torch.float32)
    with torch.no_grad():
        b[17] = -1e4
    targets = torch.tensor([3, 17, 4, 5, 17, 6, 7, 8, 17])
    ours = cross_entropy_sum(h, w, b, targets, None, LogitsBuffer(rows=4))
    theirs = functional.cross_entropy(functional.linear(h, w, b), targets, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, h, w, b), gradients(theirs, h, w, b))


def test_what_is_not_a_number_stays_so() -> None:
    h, w, b = inputs(6, 3, 200, torch.float32)
    with torch.no_grad():
        h[4] = math.nan
    assert math.isnan(cross_entropy_sum(h, w, b, torch.arange(6)).item())


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (128, 128), (129, 65), (700, 117), (2000, 125)])
def test_chunks_are_of_like_size(count: int, rows: int) -> None:
    assert LogitsBuffer().rows(count, torch.empty(8000, 50)) == rows
