"""Texts by the compiled kernels: those of float64 probabilities, the same bits at every level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.models.averages import Average
from terry.models.config import CELLS
from terry.models.ensemble import Ensemble
from terry.models.kernels import library
from terry.models.kernels.laid_out import library_for
from terry.models.kernels.text_steps import LaidOutEnsemble, NativeSteps
from terry.models.language_model import LanguageModel
from terry.models.sample_text import Sampler, Shape, Text
from terry.models.sampling_settings import SamplingSettings
from terry.models.text_steps import TorchSteps
from tests.unit.models.kernels.network import at_level, config, levels, needs_kernels, threads

pytestmark = [needs_kernels, pytest.mark.timeout(900)]
END, BANNED = 1, 0


def model(
    cell: str, units: int, vocabulary: int, seed: int, *, size: int = 5, layers: int = 1, tied: bool = False,
    onehot: bool = False, relu: bool = False,
) -> LanguageModel:  # fmt: skip
    """An untrained model with opinions."""
    torch.manual_seed(seed)
    made = LanguageModel(config(cell, units, size, layers=layers, tied=tied, onehot=onehot, relu=relu), vocabulary)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made.eval()


models = st.builds(
    model, st.sampled_from(list(CELLS)), st.integers(1, 70), st.shared(st.integers(3, 400), key="tokens"),
    st.integers(0, 99), size=st.integers(1, 40), layers=st.integers(1, 3), tied=st.booleans(), onehot=st.booleans(),
    relu=st.booleans(),
)  # fmt: skip
ways = st.builds(
    SamplingSettings, temperature=st.sampled_from([1.0, 1.0, 0.6, 1.8]), top_k=st.sampled_from([None, None, None, 3]),
    top_p=st.sampled_from([None, None, None, 0.9]), repetition_penalty=st.sampled_from([1.0, 1.0, 1.0, 1.3]),
)  # fmt: skip


def exact_copy(ensemble: Ensemble) -> Ensemble:
    members = []
    for member in ensemble.members:
        copied = LanguageModel(member.config, member.vocabulary_size)
        copied.load_state_dict(member.state_dict())
        members.append(copied.double().requires_grad_(False))
    return Ensemble(members, average=ensemble.average, weights=ensemble.weights)


@torch.no_grad()
def both(
    ensemble: Ensemble, how: SamplingSettings, banned: Sequence[int], prompt: Sequence[int]
) -> tuple[NativeSteps, TorchSteps]:
    laid = LaidOutEnsemble(ensemble, at_level(levels()[-1]))
    return NativeSteps(laid, how, banned, prompt), TorchSteps(exact_copy(ensemble), how, banned, prompt)


@settings(max_examples=30, deadline=None)
@given(
    members=st.lists(models, min_size=1, max_size=3), how=ways, average=st.sampled_from(Average),
    seed=st.integers(0, 999), ban=st.booleans(),
)  # fmt: skip
def test_the_tokens_are_those_of_float64(
    members: list[LanguageModel], how: SamplingSettings, average: Average, seed: int, ban: bool
) -> None:
    """With rows that begin and end in between."""
    ensemble = Ensemble(members, average=average, weights=list(range(1, len(members) + 1)))
    ours, theirs = both(ensemble, how, [BANNED] if ban else [], [2, END])
    draw = np.random.default_rng(seed)
    last: list[int] = []
    for step in range(6):
        if step % 3 == 0:
            more = int(draw.integers(1, 9))
            ours.begin(more), theirs.begin(more)
            last += [END] * more
        seen = [{token} for token in last]
        numbers = draw.random(len(last)).tolist()
        found, expected = (steps.draw(last, numbers, seen) for steps in (ours, theirs))
        assert found[0] == expected[0]
        assert found[1] == pytest.approx(expected[1], rel=1e-4, abs=1e-4)
        going = [i for i in range(len(last)) if draw.random() < 0.8]
        ours.keep(going), theirs.keep(going)
        last = [found[0][i] for i in going]
        if not last:
            break


@pytest.mark.parametrize("count", [1, 3])
def test_a_number_beside_a_boundary_is_looked_at_in_float64(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the rounding of float32, on either side of every boundary between two tokens."""
    ensemble = Ensemble([model("gru", 30, 200, seed) for seed in range(count)])
    ours, theirs = both(ensemble, SamplingSettings(), [], [END])
    looked: list[int] = []
    exactly = NativeSteps._exactly

    def count_them(self: NativeSteps, rows: Sequence[int], *more: Sequence[object]) -> tuple[list[int], list[float]]:
        looked.append(len(rows))
        return exactly(self, rows, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(NativeSteps, "_exactly", count_them)
    log_p, _ = exact_copy(ensemble).log_probabilities(torch.tensor([[END]]), exact_copy(ensemble).initial_state(1))
    ends = log_p[0, 0].exp().cumsum(0)[:-1].tolist()
    for aside in (-1e-8, 1e-8):
        numbers = [end + aside for end in ends]
        for steps in (ours, theirs):
            steps.keep([])
            steps.begin(len(numbers))
        found = ours.draw([END] * len(numbers), numbers, [()] * len(numbers))[0]
        assert found == theirs.draw([END] * len(numbers), numbers, [()] * len(numbers))[0]
    assert looked == [199, 199]


def test_most_numbers_are_not_beside_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else there would be nothing gained."""
    ours, _ = both(Ensemble([model("gru", 30, 200, 1)]), SamplingSettings(), [], [END])
    looked: list[int] = []
    exactly = NativeSteps._exactly

    def count_them(self: NativeSteps, rows: Sequence[int], *more: Sequence[object]) -> tuple[list[int], list[float]]:
        looked.append(len(rows))
        return exactly(self, rows, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(NativeSteps, "_exactly", count_them)
    ours.begin(1000)
    ours.draw([END] * 1000, np.random.default_rng(1).random(1000).tolist(), [()] * 1000)
    assert sum(looked) < 50


def texts(ensemble: Ensemble, batch_size: int, **how: float) -> list[Text]:
    shape = Shape(prompt=(2, END), ends=frozenset({END}), banned=frozenset({BANNED}), max_words=30)
    drawn = Sampler(ensemble).draw(shape, 12, settings=SamplingSettings(**how), seed=3, batch_size=batch_size)  # type: ignore[arg-type]
    return list(drawn)


@pytest.mark.parametrize("how", [{}, {"temperature": 0.8}, {"top_k": 9}])
def test_every_level_number_of_threads_and_batch_gives_the_same_bits(
    how: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log probabilities, too."""
    ensemble = Ensemble([model("lstm", 33, 300, 1, layers=2), model("gru", 20, 300, 2)][: 1 if how else 2])
    expected = None
    for level in levels():
        monkeypatch.setenv(library.VARIABLE, library.LEVELS[level])
        for count, batch_size in ((1, 1), (2, 5), (4, 256)):
            with threads(count):
                found = texts(ensemble, batch_size, **how)
            if how.get("top_k"):  # torch's softmax of what is looked at in float64 has bits of its own
                found = [text.ids for text in found]  # type: ignore[misc]
            expected = expected or found
            assert found == expected, (level, count)


def test_without_kernels_the_texts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = Ensemble([model("gru", 40, 300, seed) for seed in (1, 2)])
    ours = [text.ids for text in texts(ensemble, 8)]
    monkeypatch.setenv(library.VARIABLE, "off")
    assert library_for(ensemble) is None
    assert [text.ids for text in texts(ensemble, 8)] == ours


def test_a_prompt_outside_of_the_vocabulary_is_refused() -> None:
    with pytest.raises(IndexError, match="vocabulary"):
        both(Ensemble([model("gru", 8, 20, 1)]), SamplingSettings(), [], [20, END])
