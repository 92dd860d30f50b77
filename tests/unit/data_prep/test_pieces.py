"""The numbers of pieces are those that a dictionary would give, however often places of the table collide."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep.pieces import Pieces

TEXTS = st.lists(st.lists(st.text("abé ", max_size=3)), max_size=5)


@settings(deadline=None)
@given(calls=TEXTS, bits=st.integers(1, 6))
def test_pieces_have_the_numbers_that_a_dictionary_gives_however_small_the_table(
    calls: list[list[str]], bits: int
) -> None:
    pieces, expected = Pieces(bits=bits), dict[str, int]()
    for call in calls:
        numbers, fresh = pieces.numbers(pl.Series(call, dtype=pl.String))
        assert fresh.to_list() == list(dict.fromkeys(piece for piece in call if piece not in expected))
        for piece in call:
            expected.setdefault(piece, len(expected))
        assert numbers.tolist() == [expected[piece] for piece in call]
        assert len(pieces) == len(expected)


def test_all_numbers_are_given_anew_when_the_table_was_full() -> None:
    pieces = Pieces(capacity=2, bits=4)
    pieces.numbers(pl.Series(["b", "a"]))
    assert pieces.full
    pieces.clear()
    numbers, fresh = pieces.numbers(pl.Series(["a", "c", "a"]))
    assert (numbers.tolist(), fresh.to_list(), pieces.full) == ([0, 1, 0], ["a", "c"], True)
