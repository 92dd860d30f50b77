"""Perplexity, held against exact identities."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from terry.data_prep.batches import ExampleBatches, StreamBatches
from terry.models.config import Input, ModelConfig
from terry.models.evaluate import Evaluation, evaluate
from terry.models.language_model import LanguageModel
from terry.models.protocols import BatchSource

TEXT = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3], dtype=np.uint16)


def model(vocabulary: int = 10, **settings: object) -> LanguageModel:
    return LanguageModel(ModelConfig(hidden_size=4, embedding_size=3, **settings), vocabulary).double()  # type: ignore[arg-type]


def read(one: LanguageModel, source: BatchSource) -> Evaluation:
    found = evaluate(one, source.epoch(0, 0), "cpu")
    assert found is not None
    return found


def constant(one: LanguageModel, logits: torch.Tensor) -> LanguageModel:
    """A model that says the same whatever it reads."""
    with torch.no_grad():
        one.decoder.zero_()
        one.output_bias.copy_(logits)
    return one


@pytest.mark.parametrize("vocabulary", [10, 65, 8000])
def test_a_uniform_model_has_the_vocabulary_as_its_perplexity(vocabulary: int) -> None:
    found = read(constant(model(vocabulary), torch.zeros(vocabulary)), StreamBatches(TEXT, batch_size=2, bptt=5))
    assert found.perplexity == pytest.approx(vocabulary, rel=1e-12)
    assert found.loss == pytest.approx(math.log(vocabulary), rel=1e-12)


def test_a_unigram_model_has_the_perplexity_computed_by_hand() -> None:
    counts = Counter(TEXT.tolist())
    probabilities = torch.tensor([(counts[i] + 1) / (len(TEXT) + 10) for i in range(10)], dtype=torch.float64)
    found = read(constant(model(), probabilities.log()), StreamBatches(TEXT, batch_size=1, bptt=4))
    by_hand = -sum(math.log(probabilities[token]) for token in TEXT[1:].tolist())
    assert found.tokens == len(TEXT) - 1
    assert found.total == pytest.approx(by_hand, rel=1e-12)
    assert found.perplexity == pytest.approx(math.exp(by_hand / (len(TEXT) - 1)), rel=1e-12)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("kind", list(Input))
def test_with_the_state_carried_the_length_of_a_piece_makes_no_difference(cell: str, kind: Input) -> None:
    one = model(cell=cell, input=kind, layers=2)
    whole = read(one, StreamBatches(TEXT, batch_size=1, bptt=100))
    for bptt in (1, 2, 5, 27):
        pieces = read(one, StreamBatches(TEXT, batch_size=1, bptt=bptt))
        assert pieces.tokens == whole.tokens
        assert pieces.total == pytest.approx(whole.total, rel=1e-12)


def test_the_loss_is_what_the_probabilities_of_each_token_say() -> None:
    one = model()
    ids = torch.from_numpy(TEXT.astype(np.int64)).unsqueeze(0)
    with torch.no_grad():
        hidden, _ = one(ids[:, :-1], one.initial_state(1))
        each = nn.functional.log_softmax(one.logits(hidden), -1).gather(2, ids[:, 1:].unsqueeze(2))
    assert read(one, StreamBatches(TEXT, batch_size=1, bptt=6)).total == pytest.approx(-each.sum().item(), rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_padding_does_not_count_and_every_end_of_sentence_does(batch_size: int) -> None:
    offsets = np.array([0, 2, 7, 8, 14, 28])
    one = model()
    found = read(one, ExampleBatches(TEXT, offsets, boundary=0, batch_size=batch_size))
    total = 0.0
    for begin, end in pairwise(offsets):
        targets = torch.from_numpy(TEXT[begin:end].astype(np.int64)).unsqueeze(0)
        inputs = torch.cat((torch.zeros(1, 1, dtype=torch.int64), targets[:, :-1]), 1)
        with torch.no_grad():
            total += one.loss(inputs, targets, None, one.initial_state(1))[0].item()
    assert found.tokens == len(TEXT)
    assert found.total == pytest.approx(total, rel=1e-12)


def test_evaluation_is_without_dropout_and_leaves_the_model_as_it_was() -> None:
    one = model(dropout=0.5, dropout_words=0.5, weight_drop=0.5)
    source = StreamBatches(TEXT, batch_size=2, bptt=5)
    one.train()
    assert read(one, source) == read(one, source)
    assert one.training


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(model(), [], "cpu")
