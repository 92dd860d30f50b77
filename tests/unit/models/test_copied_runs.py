"""The longest copied run, against a search by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.models.copied_runs import longest_copied_runs

IDS = st.lists(st.integers(0, 3), max_size=12)


def by_hand(sample: list[int], text: list[int]) -> int:
    windows = {tuple(text[i:j]) for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    found = [j - i for i in range(len(sample)) for j in range(i + 1, len(sample) + 1) if tuple(sample[i:j]) in windows]
    return max(found, default=0)


@settings(deadline=None)
@given(st.lists(IDS, max_size=4), st.lists(st.integers(0, 4), max_size=40))
def test_against_a_search_by_hand(samples: list[list[int]], text: list[int]) -> None:
    found = longest_copied_runs(samples, np.array(text, dtype=np.uint16))
    assert found == [by_hand(sample, text) for sample in samples]


def test_a_run_is_followed_only_so_far() -> None:
    text = np.arange(500, dtype=np.uint16)
    assert longest_copied_runs([list(range(100, 400))], text, longest=50) == [50]
    assert longest_copied_runs([list(range(100, 140)), [7, 7]], text) == [40, 1]
