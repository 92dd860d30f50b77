"""Drawing texts: right frequencies, the same text for a seed, settings that do what they say."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.models.averages import Average
from terry.models.ensemble import Ensemble
from terry.models.errors import ConfigError
from terry.models.next_token import nucleus_bound, pick
from terry.models.sample_text import Sampler, Shape, Text
from terry.models.sampling_settings import SamplingSettings
from tests.unit.models.test_ensemble import model, several

END = 1
SHAPE = Shape(prompt=(END,), ends=frozenset({END}), banned=frozenset({0}), max_words=30)


def draw(
    ensemble: Ensemble, count: int = 20, shape: Shape = SHAPE, *, seed: int = 7, batch_size: int = 256, **how: float
) -> list[Text]:
    return list(
        Sampler(ensemble).draw(shape, count, settings=SamplingSettings(**how), seed=seed, batch_size=batch_size)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("average", Average)
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 6, "top_p": 0.9, "repetition_penalty": 1.3}])
def test_a_seed_gives_the_same_texts_whatever_the_batch(average: Average, settings: dict[str, float]) -> None:
    shape = Shape(prompt=(END,), ends=frozenset({END}), banned=frozenset({0}), min_words=2, max_words=12)
    results = []
    for batch_size in (1, 3, 256):
        sampler = Sampler(Ensemble(several(), average=average))
        texts = list(sampler.draw(shape, 20, settings=SamplingSettings(**settings), seed=7, batch_size=batch_size))  # type: ignore[arg-type]
        ids = [(text.attempt, text.ids) for text in texts]
        results.append((ids, sampler.tally.attempts, sampler.tally.short, sampler.tally.long))
    assert results[0] == results[1] == results[2]
    assert len(results[0][0]) == 20
    assert results[0][1] > 20, "some attempts were too short, or the test shows nothing"


def test_another_seed_gives_other_texts() -> None:
    ensemble = Ensemble([model(1)])
    assert [t.ids for t in draw(ensemble, seed=1)] != [t.ids for t in draw(ensemble, seed=2)]


def test_the_texts_of_a_smaller_count_are_the_first_of_a_larger_one() -> None:
    ensemble = Ensemble([model(1)])
    assert [t.ids for t in draw(ensemble, 5)] == [t.ids for t in draw(ensemble, 20)][:5]


def test_first_tokens_come_as_often_as_the_model_says() -> None:
    """Chi-squared with 9 degrees of freedom: 27.9 is passed once in a thousand seeds, and the seed is fixed."""
    ensemble = Ensemble(several())
    texts = draw(ensemble, 2000, Shape(prompt=(END,), ends=frozenset(range(11)), banned=frozenset({0})))
    log_p, _ = ensemble.log_probabilities(torch.tensor([[END]]), ensemble.initial_state(1))
    p = log_p[0, 0].exp()
    p[0] = 0
    expected = (p / p.sum() * len(texts)).tolist()
    seen = Counter(text.ids[0] for text in texts)
    assert 0 not in seen
    assert sum((seen[i] - expected[i]) ** 2 / expected[i] for i in range(1, 11)) < 27.9


def test_log_probabilities_are_the_models_own() -> None:
    ensemble = Ensemble(several())
    for text in draw(ensemble, 5, temperature=0.5, top_k=4):
        inputs = torch.tensor([[END, *text.ids[:-1]]])
        log_p, _ = ensemble.log_probabilities(inputs, ensemble.initial_state(1))
        direct = sum(float(log_p[0, i, token]) for i, token in enumerate(text.ids))
        assert text.log_probability == pytest.approx(direct, rel=1e-4)
        assert text.drawn == len(text.ids)


def test_banned_tokens_never_come() -> None:
    banned = frozenset({0, 4, 5})
    shape = Shape(prompt=(END,), ends=frozenset({END}), banned=banned, max_words=50)
    assert not banned & {token for text in draw(Ensemble([model(1)]), 200, shape) for token in text.ids}


def test_lengths() -> None:
    shape = Shape(
        prompt=(END,),
        ends=frozenset({END}),
        banned=frozenset({0}),
        words=frozenset({3, 4, 5}),
        min_words=2,
        max_words=4,
    )
    sampler = Sampler(Ensemble([model(1)]))
    texts = list(sampler.draw(shape, 50, seed=3))
    assert all(2 <= sum(token in {3, 4, 5} for token in text.ids) <= 4 for text in texts)
    tally = sampler.tally
    assert (tally.texts, tally.attempts) == (50, 50 + tally.short + tally.long)
    assert tally.short > 0
    assert tally.long > 0
    assert texts[-1].attempt == tally.attempts - 1, "nothing is tried that is not needed"


def test_it_gives_up() -> None:
    never = Shape(prompt=(END,), ends=frozenset({END}), banned=frozenset({0}), words=frozenset(), min_words=1)
    sampler = Sampler(Ensemble([model(1)]))
    assert list(sampler.draw(never, 5, seed=3, max_attempts=17)) == []
    assert (sampler.tally.attempts, sampler.tally.texts) == (17, 0)


def test_a_given_beginning_is_gone_on_from() -> None:
    ensemble = Ensemble(several())
    shape = Shape(prompt=(END, 3, 4, 5), given=3, ends=frozenset({END}), banned=frozenset({0}))
    texts = draw(ensemble, 300, shape)
    assert all(text.ids[:3] == (3, 4, 5) for text in texts)
    log_p, _ = ensemble.log_probabilities(torch.tensor([[END, 3, 4, 5]]), ensemble.initial_state(1))
    likeliest = int(log_p[0, -1, 1:].argmax()) + 1
    assert Counter(text.ids[3] for text in texts).most_common(1)[0][0] == likeliest


def test_top_k_one_takes_the_likeliest() -> None:
    texts = draw(Ensemble([model(1)]), 3, Shape(prompt=(END,), ends=frozenset(range(11))), top_k=1)
    ensemble = Ensemble([model(1)])
    log_p, _ = ensemble.log_probabilities(torch.tensor([[END]]), ensemble.initial_state(1))
    assert {text.ids[0] for text in texts} == {int(log_p[0, 0].argmax())}


def test_a_temperature_near_0_takes_the_likeliest_too_and_a_high_one_anything() -> None:
    shape = Shape(prompt=(END,), ends=frozenset(range(11)), banned=frozenset({0}))
    ensemble = Ensemble([model(1)])
    likeliest = {text.ids for text in draw(ensemble, 3, shape, top_k=1)}
    assert {text.ids for text in draw(ensemble, 30, shape, temperature=1e-300)} == likeliest
    assert {text.ids for text in draw(ensemble, 300, shape, temperature=1e300)} == {(i,) for i in range(1, 11)}


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999999])
def test_the_nucleus_is_the_same_however_it_is_found(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    q = torch.randn(7, 40, dtype=torch.float64).mul_(3).softmax(1)
    bounds = []
    for first in (1, 2, 8, 64):
        monkeypatch.setattr("terry.models.next_token._LIKELIEST", first)
        bounds.append(nucleus_bound(q, share))
    assert all(torch.equal(bound, bounds[0]) for bound in bounds)
    for row, bound in zip(q, bounds[0].flatten(), strict=True):
        inside = row[row >= bound]
        assert float(inside.sum()) >= share
        assert float(inside.sum() - inside.min()) < share


def test_a_small_top_p_takes_the_likeliest_too() -> None:
    shape = Shape(prompt=(END,), ends=frozenset(range(11)))
    likeliest = {text.ids for text in draw(Ensemble([model(1)]), 3, shape, top_k=1)}
    assert {text.ids for text in draw(Ensemble([model(1)]), 30, shape, top_p=1e-6)} == likeliest


def test_a_low_temperature_keeps_to_what_is_likely_and_a_penalty_varies() -> None:
    ensemble, long = Ensemble([model(1)]), Shape(prompt=(END,), ends=frozenset({END}), banned=frozenset({0}))

    def kinds(**how: float) -> float:
        texts = [text.ids for text in draw(ensemble, 60, long, **how)]
        return sum(len(set(ids)) for ids in texts) / sum(map(len, texts))

    assert kinds(repetition_penalty=5.0) > kinds()
    cold = [t.log_probability / t.drawn for t in draw(ensemble, 60, long, temperature=0.5)]
    warm = [t.log_probability / t.drawn for t in draw(ensemble, 60, long, temperature=2.0)]
    assert sum(cold) > sum(warm)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(any), min_size=1, max_size=5),
    st.floats(0, 1, exclude_max=True),
)
def test_pick_takes_the_first_column_that_passes(rows: list[list[float]], number: float) -> None:
    q = torch.tensor(rows, dtype=torch.float64)
    for row, column in zip(rows, pick(q, torch.full((len(rows),), number, dtype=torch.float64)).tolist(), strict=True):
        assert row[column] > 0
        assert math.fsum(row[:column]) <= number * math.fsum(row) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 0.0}, "temperature must be more than 0 and finite, not 0"),
        ({"temperature": -1.0}, "temperature must be more than 0 and finite, not -1"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top-k must be at least 1"),
        ({"top_p": 0.0}, "top-p must be more than 0"),
        ({"top_p": 1.5}, "top-p"),
        ({"repetition_penalty": 0.5}, "repetition penalty must be at least 1"),
    ],
)
def test_impossible_settings(settings: dict[str, float], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        SamplingSettings(**settings)  # type: ignore[arg-type]


def test_the_members_stay_as_they_are() -> None:
    member = model(1)
    draw(Ensemble([member]), 2)
    assert member.output_bias.dtype == torch.float32
