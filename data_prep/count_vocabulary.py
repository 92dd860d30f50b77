"""From provisional ids to the vocabulary."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from terry.data_prep.lexicon import Lexicon
from terry.data_prep.tokens import MARKS, SPECIAL
from terry.data_prep.vocabulary import Vocabulary

#: Ids added up together, so that no large copies are made.
_STEP: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A vocabulary, and how to get to it."""

    #: the vocabulary, with occurrences in the train split
    vocabulary: Vocabulary
    #: the final id of each provisional one
    final: NDArray[np.uint32]
    #: distinct tokens in the train split
    distinct: int


def choose_vocabulary(
    lexicon: Lexicon, counts: NDArray[np.int64], template: Vocabulary, *, size: int, min_count: int
) -> Chosen:
    """The most frequent tokens; `template` gives the settings, `size` 0 means all that reach `min_count`.

    `counts` are occurrences by provisional id. Ties go by the tokens' order, so the order of reading does not matter.
    """
    tokens = _by_token(lexicon, counts)
    kept = np.flatnonzero(tokens.totals >= max(min_count, 1))
    if size and len(kept) > size - len(SPECIAL):
        places = size - len(SPECIAL)
        kept = kept[tokens.totals[kept] >= np.partition(tokens.totals[kept], -places)[-places]]
    kept = kept[np.lexsort((kept, -tokens.totals[kept]))][: size - len(SPECIAL) if size else None]
    final = _special_first(len(tokens.totals))
    final[kept + len(MARKS)] = np.arange(len(SPECIAL), len(SPECIAL) + len(kept))
    first_ids = tokens.first[kept].tolist()
    names = lexicon.names(set(first_ids))
    vocabulary = replace(
        template,
        tokens=SPECIAL + tuple(names[i] for i in first_ids),
        counts=(0,) * len(SPECIAL) + tuple(tokens.totals[kept].tolist()),
    )
    return Chosen(vocabulary=vocabulary, final=final[tokens.owner], distinct=int(np.count_nonzero(tokens.totals)))


def borrow(lexicon: Lexicon, counts: NDArray[np.int64], vocabulary: Vocabulary) -> Chosen:
    """The same for a vocabulary that is given: its tokens, with the counts found here."""
    tokens = _by_token(lexicon, counts)
    final = _special_first(len(tokens.totals))
    for number, (token, _) in enumerate(lexicon.groups()):
        final[number + len(MARKS)] = vocabulary.id_of(token)
    found = np.zeros(len(vocabulary), dtype=np.int64)
    np.add.at(found, final[len(MARKS) :], tokens.totals)
    found[: len(SPECIAL)] = 0
    counted = replace(vocabulary, counts=tuple(found.tolist()))
    return Chosen(vocabulary=counted, final=final[tokens.owner], distinct=int(np.count_nonzero(tokens.totals)))


def _special_first(others: int) -> NDArray[np.uint32]:
    """Final ids by number of token: the special ones are themselves, all others unknown so far."""
    final = np.zeros(others + len(MARKS), dtype=np.uint32)
    final[: len(MARKS)] = np.arange(len(MARKS))
    return final


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tokens:
    """Provisional ids put together by token. Tokens are numbered in their order, after the special ones."""

    #: the token's number of each provisional id
    owner: NDArray[np.uint32]
    #: occurrences of each token, special ones not included
    totals: NDArray[np.int64]
    #: one provisional id of each token, special ones not included
    first: NDArray[np.uint32]


def _by_token(lexicon: Lexicon, counts: NDArray[np.int64]) -> _Tokens:
    """Text that spells out a special token is not that token; it counts as a word that never occurred."""
    owners, first, reserved = _numbered(lexicon)
    owners[: len(MARKS)] = np.arange(len(MARKS))
    totals = np.zeros(len(first) + len(MARKS), dtype=np.int64)
    for begin in range(0, len(owners), _STEP):
        np.add.at(totals, owners[begin : begin + _STEP], counts[begin : begin + _STEP])
    totals = totals[len(MARKS) :]
    totals[reserved] = 0
    return _Tokens(owner=owners, totals=totals, first=first)


def _numbered(lexicon: Lexicon) -> tuple[NDArray[np.uint32], NDArray[np.uint32], list[int]]:
    """Tokens numbered in their order: the number of each id, one id of each token, and what spells special tokens."""
    ordered = lexicon.ordered()
    if ordered is not None:
        tokens, ids = ordered
        owners = np.zeros(lexicon.size, dtype=np.uint32)
        owners[ids] = np.arange(len(MARKS), len(MARKS) + len(ids))
        places = ((bisect_left(tokens, token), token) for token in SPECIAL)
        return owners, ids, [i for i, token in places if i < len(tokens) and tokens[i] == token]
    owner, first, reserved = array("I", bytes(4 * lexicon.size)), array("I"), []
    for number, (token, same) in enumerate(lexicon.groups()):
        for i in same:
            owner[i] = number + len(MARKS)
        first.append(same[0])
        if token in SPECIAL:
            reserved.append(number)
    return np.frombuffer(owner, dtype=np.uint32), np.frombuffer(first, dtype=np.uint32), reserved
