"""Averages of predictions: exact identities, log space, members that take turns in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.models.averages import Average
from terry.models.config import ModelConfig
from terry.models.ensemble import (
    Ensemble,
    EnsembleReport,
    evaluate_members,
    mean_log_probabilities,
    mean_weights,
    scaled_weights,
    weights_by_loss,
)
from terry.models.errors import ConfigError
from terry.models.evaluate import evaluate
from terry.models.language_model import LanguageModel
from tests.helpers.toy import VOCABULARY, examples, stream


def model(seed: int, cell: str = "gru", size: int = 6, vocabulary: int = VOCABULARY) -> LanguageModel:
    """An untrained model with opinions: its weights are large."""
    torch.manual_seed(seed)
    made = LanguageModel(ModelConfig(cell=cell, hidden_size=size, embedding_size=5), vocabulary)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(8)
    return made.eval()


def several() -> list[LanguageModel]:
    return [model(1), model(2, "lstm", 9), model(3, "rnn", 4)]


def report(members: Sequence[LanguageModel], data: Callable[[], object] = stream, **how: object) -> EnsembleReport:
    openers = [lambda member=member: member for member in members]
    return evaluate_members(openers, lambda: data().epoch(), **how)  # type: ignore[arg-type, attr-defined]


@pytest.mark.parametrize("average", Average)
@pytest.mark.parametrize("data", [stream, examples])
def test_identical_members_are_the_single_model(average: Average, data: Callable[[], object]) -> None:
    single = evaluate(model(1), data().epoch(), "cpu")  # type: ignore[attr-defined]
    assert single is not None
    found = report([model(1)] * 5, data, average=average)
    assert found.ensemble.perplexity == pytest.approx(single.perplexity, rel=1e-6)
    assert [one.perplexity for one in found.first] == pytest.approx([single.perplexity] * 5, rel=1e-6)
    assert found.ensemble.tokens == single.tokens


def test_an_ensemble_of_one_is_that_member_to_the_last_digit() -> None:
    for average in Average:
        found = report([model(1)], average=average)
        assert found.ensemble == found.members[0]


@pytest.mark.parametrize("average", Average)
@pytest.mark.parametrize("data", [stream, examples])
def test_single_members_are_those_of_the_usual_evaluation(average: Average, data: Callable[[], object]) -> None:
    found = report(several(), data, average=average)
    for one, member in zip(found.members, several(), strict=True):
        alone = evaluate(member, data().epoch(), "cpu")  # type: ignore[attr-defined]
        assert alone is not None
        assert one.loss == pytest.approx(alone.loss, rel=1e-6)
        assert one.tokens == alone.tokens


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=6))
def test_the_arithmetic_mean_is_never_worse_than_the_geometric_mean_of_perplexities(seeds: list[int]) -> None:
    found = report([model(seed) for seed in seeds], lambda: stream(tokens=60))
    for n in range(1, len(seeds) + 1):
        bound = math.exp(math.fsum(one.loss for one in found.members[:n]) / n)
        assert found.first[n - 1].perplexity <= bound * (1 + 1e-9)


@pytest.mark.parametrize("average", Average)
def test_the_order_of_members_does_not_matter(average: Average) -> None:
    weights = [0.5, 0.2, 0.3]
    one = report(several(), average=average, weights=weights)
    other = report(several()[::-1], average=average, weights=weights[::-1])
    assert one.ensemble.loss == pytest.approx(other.ensemble.loss, rel=1e-6)
    assert one.gain == pytest.approx(other.gain, rel=1e-5)


@pytest.mark.parametrize("average", Average)
@pytest.mark.parametrize("data", [stream, examples])
@pytest.mark.parametrize("at_once", [1, 2])
def test_members_that_take_turns_give_the_same_figures(
    average: Average, data: Callable[[], object], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terry.models.ensemble._KEPT", 2 * 4 * 7 * VOCABULARY)  # blocks of two batches
    opened = []

    def opener(number: int) -> Callable[[], LanguageModel]:
        def open_it() -> LanguageModel:
            opened.append(number)
            return several()[number]

        return open_it

    turns = evaluate_members([opener(i) for i in range(3)], lambda: data().epoch(), average=average, at_once=at_once)  # type: ignore[attr-defined]
    assert len(opened) >= 3
    together = report(several(), data, average=average)
    for one, other in zip((*turns.members, *turns.first), (*together.members, *together.first), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-12)
        assert one.tokens == other.tokens


def test_evaluation_is_the_mean_of_probabilities_that_the_ensemble_predicts() -> None:
    """Two ways to one number: by targets only, and by whole distributions."""
    batch = stream().batch(0)
    for average in Average:
        ensemble = Ensemble(several(), average=average, weights=[3, 2, 1])
        log_p, _ = ensemble.log_probabilities(batch.inputs, ensemble.initial_state(len(batch.inputs)))
        assert torch.allclose(log_p.exp().sum(-1), torch.ones(log_p.shape[:-1]), atol=1e-5)
        direct = -log_p.gather(2, batch.targets.unsqueeze(2)).mean()

        class One:
            def epoch(self) -> object:
                return iter([stream().batch(0)])

        found = report(several(), One, average=average, weights=[3, 2, 1])
        assert found.ensemble.loss == pytest.approx(float(direct), rel=1e-5)


@pytest.mark.parametrize("exponent", [-30, -100, -300])
def test_log_space_holds_for_tiny_probabilities(exponent: int) -> None:
    """1e-30 and 3e-30 average to 2e-30; far below what a float32 can hold, too."""
    tiny = exponent * math.log(10)
    log_p = torch.tensor([[tiny, 0.0], [tiny + math.log(3), 0.0]], dtype=torch.float64)
    mean = mean_log_probabilities(log_p, (0.5, 0.5), Average.arithmetic)
    assert float(mean[0]) == pytest.approx(tiny + math.log(2), rel=1e-12)
    product = mean_log_probabilities(log_p, (0.5, 0.5), Average.geometric)
    assert float(product[0]) == pytest.approx(tiny + math.log(3) / 2, rel=1e-12)
    single = mean_log_probabilities(log_p.float(), (0.5, 0.5), Average.arithmetic)
    assert float(single[0]) == pytest.approx(tiny + math.log(2), rel=1e-6)


def test_one_sure_member_keeps_a_token_possible() -> None:
    log_p = torch.tensor([[-1e4, 0.0], [math.log(0.5), math.log(0.5)]])
    mean = mean_log_probabilities(log_p, (0.5, 0.5), Average.arithmetic)
    assert mean.exp().tolist() == pytest.approx([0.25, 0.75])
    assert math.isinf(float(mean_log_probabilities(log_p, (0.5, 0.5), Average.geometric).exp()[0].log()))


def test_weights_by_loss() -> None:
    assert weights_by_loss([math.log(100), math.log(200)]) == pytest.approx((2 / 3, 1 / 3))
    assert scaled_weights(None, 4) == (0.25,) * 4


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.inf], [1.0, math.nan]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError):
        Ensemble([model(1), model(2)], weights=weights)


def test_members_of_different_vocabularies_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"one vocabulary; theirs have \[11, 12\] tokens"):
        Ensemble([model(1), model(2, vocabulary=12)])
    one, other = model(1), model(2)
    one.vocabulary_sha256, other.vocabulary_sha256 = "a", "b"
    Ensemble([one, model(3)])
    with pytest.raises(ConfigError, match="one vocabulary; theirs are 2 different ones of 11 tokens"):
        Ensemble([one, other])
    with pytest.raises(ConfigError, match="at least one member"):
        Ensemble([])


def test_the_mean_of_weights() -> None:
    first, second = model(1).state_dict(), model(2).state_dict()
    mean = mean_weights([first, second])
    assert torch.allclose(mean["output_bias"], (first["output_bias"] + second["output_bias"]) / 2)
    assert mean_weights([first])["output_bias"].equal(first["output_bias"])
    with pytest.raises(ConfigError):
        mean_weights([first, model(1, "lstm").state_dict() | {"more": torch.zeros(1)}])
