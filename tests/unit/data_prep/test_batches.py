"""Batches: every target once, the standard's arithmetic, and positions restored exactly."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep.batches import Batch, ExampleBatches, StreamBatches
from terry.data_prep.errors import DataError
from terry.data_prep.mixing import shuffled

Batches = StreamBatches | ExampleBatches


def tokens_of(count: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.arange(count, dtype=np.uint16)


@settings(deadline=None)  # files on a busy machine take their time
@given(st.integers(4, 300), st.integers(1, 6), st.integers(1, 40))
def test_streams_follow_the_word_language_model_example(count: int, batch_size: int, bptt: int) -> None:
    """Against a direct reading of that example's batchify and get_batch."""
    if count // batch_size < 2:
        return
    data = torch.arange(count)
    rows = count // batch_size
    columns = data.narrow(0, 0, rows * batch_size).view(batch_size, -1).t().contiguous()
    expected = []
    for i in range(0, columns.size(0) - 1, bptt):
        length = min(bptt, columns.size(0) - 1 - i)
        expected.append((columns[i : i + length].t(), columns[i + 1 : i + 1 + length].t()))
    batches = StreamBatches(tokens_of(count), batch_size=batch_size, bptt=bptt)
    found = list(batches.epoch(3))
    assert len(found) == len(expected) == batches.steps() == len(batches)
    for batch, (inputs, targets) in zip(found, expected, strict=True):
        assert torch.equal(batch.inputs, inputs)
        assert torch.equal(batch.targets, targets)
        assert batch.inputs.dtype == torch.int64
        assert batch.inputs.is_contiguous()
        assert batch.targets.is_contiguous()
        assert batch.mask is None
    assert [batch.reset for batch in found] == [True] + [False] * (len(found) - 1)
    assert sum(batch.tokens for batch in found) == batches.tokens_per_epoch == batch_size * (rows - 1)


def test_too_few_tokens_say_what_would_be_right() -> None:
    with pytest.raises(DataError, match="batch_size can be 5 at most"):
        StreamBatches(tokens_of(10), batch_size=6, bptt=3)
    with pytest.raises(DataError, match="at least 1"):
        StreamBatches(tokens_of(10), batch_size=0, bptt=3)
    with pytest.raises(DataError, match="no examples"):
        ExampleBatches(tokens_of(0), np.zeros(1, dtype=np.int64), boundary=1, batch_size=2)


def examples_of(lengths: list[int], boundary: int = 1) -> tuple[Any, Any]:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = (np.arange(offsets[-1]) + 10).astype(np.uint16)
    tokens[offsets[1:] - 1] = boundary
    return tokens, offsets


def rows_of(batch: Batch) -> list[tuple[list[int], list[int]]]:
    mask = torch.ones_like(batch.targets, dtype=torch.bool) if batch.mask is None else batch.mask
    return [
        (inputs[keep].tolist(), targets[keep].tolist())
        for inputs, targets, keep in zip(batch.inputs, batch.targets, mask, strict=True)
    ]


@settings(deadline=None)  # files on a busy machine take their time
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 7), st.integers(1, 3), st.booleans())
def test_examples_are_given_once_each_and_shifted_by_one(
    lengths: list[int], batch_size: int, pool: int, shuffle: bool
) -> None:
    tokens, offsets = examples_of(lengths)
    batches = ExampleBatches(tokens, offsets, boundary=1, batch_size=batch_size, seed=5, shuffle=shuffle, pool=pool)
    for epoch in range(2):
        found = list(batches.epoch(epoch))
        assert len(found) == batches.steps()
        seen = []
        for batch in found:
            assert batch.reset
            rows = rows_of(batch)
            assert batch.tokens == sum(len(targets) for _, targets in rows)
            if batch.mask is not None:
                assert not batch.inputs[~batch.mask].any()
                assert not batch.targets[~batch.mask].any()
            for inputs, targets in rows:
                assert inputs == [1, *targets[:-1]]
                seen.append(targets)
        every = [tokens[a:b].tolist() for a, b in itertools.pairwise(offsets)]
        assert (seen if not shuffle else sorted(seen)) == (every if not shuffle else sorted(every))
        assert sum(batch.tokens for batch in found) == batches.tokens_per_epoch


def test_rows_of_a_batch_are_of_like_length_and_epochs_differ() -> None:
    rng = np.random.default_rng(1)
    tokens, offsets = examples_of(rng.integers(1, 60, 3000).tolist())
    batches = ExampleBatches(tokens, offsets, boundary=1, batch_size=16, seed=3)
    first, second = list(batches.epoch(0)), list(batches.epoch(1))
    padded = sum(batch.targets.numel() for batch in first)
    assert padded < 1.05 * batches.tokens_per_epoch
    assert [b.targets.shape for b in first] != [b.targets.shape for b in second]
    assert not torch.equal(first[0].targets, second[0].targets)
    again = ExampleBatches(tokens, offsets, boundary=1, batch_size=16, seed=3)
    assert all(torch.equal(a.targets, b.targets) for a, b in zip(first, again.epoch(0), strict=True))


def kinds() -> list[Batches]:
    tokens, offsets = examples_of([3, 5, 2, 9, 4, 4, 1, 7, 6, 2, 8])
    return [
        StreamBatches(tokens, batch_size=3, bptt=4),
        ExampleBatches(tokens, offsets, boundary=1, batch_size=2, seed=9),
    ]


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) and a.reset == b.reset


@pytest.mark.parametrize("kind", [0, 1])
@settings(deadline=None)  # files on a busy machine take their time
@given(stop=st.integers(0, 15))
def test_a_restored_position_goes_on_exactly(kind: int, stop: int) -> None:
    whole = [batch for epoch in range(3) for batch in kinds()[kind].epoch(epoch)]
    batches, given_out = kinds()[kind], []
    stop = min(stop, len(whole) - 1)
    for epoch in range(3):
        for batch in batches.epoch(epoch):
            if len(given_out) == stop:
                break
            given_out.append(batch)
            state = json.loads(json.dumps(batches.state_dict()))
        if len(given_out) == stop:
            break
    restored = kinds()[kind]
    if stop:
        restored.load_state_dict(state)
    rest = [batch for epoch in range(restored.position()["epoch"], 3) for batch in restored.epoch(epoch)]
    assert len(given_out) + len(rest) == len(whole)
    assert all(same(a, b) for a, b in zip(given_out + rest, whole, strict=True))


def test_position_is_behind_the_batch_given_out() -> None:
    batches = kinds()[0]
    run = batches.epoch(2)
    next(run)
    assert batches.position() == {"epoch": 2, "batch": 1}
    assert same(next(kinds()[0].epoch(2, start=1)), next(run))


def test_positions_of_other_data_are_refused() -> None:
    stream, example = kinds()
    with pytest.raises(DataError, match="belongs to batches made with"):
        example.load_state_dict(stream.state_dict())
    with pytest.raises(DataError, match="no batch 99 in epoch 0"):
        stream.load_state_dict({**stream.state_dict(), "batch": 99})


def test_shuffled_is_the_same_for_ever() -> None:
    assert shuffled(10, seed=1, stream=0).tolist() == shuffled(10, seed=1, stream=0).tolist()
    assert sorted(shuffled(1000, seed=-4, stream=7).tolist()) == list(range(1000))
    assert shuffled(8, 1, 0).tolist() == FIRST_ORDER


FIRST_ORDER = [6, 0, 7, 4, 3, 1, 2, 5]


def test_device_transfer_keeps_what_is_there() -> None:
    batch = next(kinds()[1].epoch(0))
    moved = batch.to("cpu")
    assert moved.inputs.data_ptr() == batch.inputs.data_ptr()
    assert moved.tokens == batch.tokens
