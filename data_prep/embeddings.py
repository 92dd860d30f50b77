"""Pre-trained word vectors, matched against a vocabulary: word2vec (text or binary) and GloVe files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from terry.data_prep.encodings import open_unpacked
from terry.data_prep.errors import DataError
from terry.data_prep.tokens import SPECIAL
from terry.data_prep.vocabulary import Vocabulary

_Row = tuple[bytes, bytes]
_PIECE: Final = 1 << 20
_REPORT_EVERY: Final = 4096


def load_embeddings(
    path: Path, vocabulary: Vocabulary, tick: Callable[[int], None] = lambda _: None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors for a vocabulary, shape (tokens, dimensions), and which tokens have one; the others have zeros.

    The file is streamed; only the vectors of known words are converted. The first vector of a word counts. In a
    lower-cased vocabulary a word's own spelling goes before capitalised ones. `tick` hears how many bytes of the file
    have been read. Raises DataError.
    """
    with open_unpacked(path) as (file, report):
        first = file.readline(1 << 20)
        head = first.split()
        if len(head) == 2 and all(part.isdigit() for part in head):
            count, size = map(int, head)
            binary = _is_binary(path, size)
            rows = _binary_rows(file, count, size, path) if binary else _text_rows(file, size, path, 2)
        else:
            binary, size = False, len(head) - 1
            rows = _with_first(first, _text_rows(file, size, path, 2), size, path)
        if size < 1:
            raise DataError(f"{path}:1: not word vectors: expected a word and its numbers, found {first[:60]!r}")
        return _match(_reporting(rows, lambda: tick(report())), vocabulary, size, binary=binary, path=path)


def _reporting(rows: Iterator[_Row], report: Callable[[], None]) -> Iterator[_Row]:
    for number, row in enumerate(rows):
        if number % _REPORT_EVERY == 0:
            report()
        yield row


def _is_binary(path: Path, size: int) -> bool:
    """Binary vectors can be told from text by the first of them, which does not parse as numbers."""
    with open_unpacked(path) as (file, _):
        file.readline()
        parts = file.readline(1 << 20).rstrip().rsplit(b" ", size)
    try:
        [float(part) for part in parts[1:]]
    except ValueError:
        return True
    return len(parts) != size + 1


def _text_rows(file: BinaryIO, size: int, path: Path, line: int) -> Iterator[_Row]:
    for number, raw in enumerate(file, line):
        if not raw.strip():
            continue
        parts = raw.rstrip().rsplit(b" ", size)
        if len(parts) != size + 1:
            raise DataError(f"{path}:{number}: {len(parts) - 1} numbers, the first line has {size}")
        yield parts[0], raw[len(parts[0]) :]


def _with_first(first: bytes, rest: Iterator[_Row], size: int, path: Path) -> Iterator[_Row]:
    parts = first.rstrip().rsplit(b" ", size) if size > 0 else []
    if len(parts) != size + 1:
        raise DataError(f"{path}:1: not word vectors: expected a word and its numbers, found {first[:60]!r}")
    yield parts[0], first[len(parts[0]) :]
    yield from rest


def _binary_rows(file: BinaryIO, count: int, size: int, path: Path) -> Iterator[_Row]:
    """Each word ends with a blank, behind which its numbers follow; some writers put a line break behind those."""
    buffer, at, width = b"", 0, 4 * size
    for number in range(count):
        while (end := buffer.find(b" ", at)) < 0 or len(buffer) <= end + width:
            more = file.read(_PIECE)
            if not more:
                raise DataError(f"{path} is cut short: vector {number + 1} of {count} is not whole")
            buffer, at = buffer[at:] + more, 0
        yield buffer[at:end].lstrip(b"\n"), buffer[end + 1 : end + 1 + width]
        at = end + 1 + width


def _match(
    rows: Iterator[_Row], vocabulary: Vocabulary, size: int, *, binary: bool, path: Path
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    vectors = np.zeros((len(vocabulary), size), dtype=np.float32)
    exact = np.zeros(len(vocabulary), dtype=np.bool_)
    other_case = np.zeros(len(vocabulary), dtype=np.bool_)
    for raw, numbers in rows:
        word = raw.decode("utf-8", "replace")
        place = vocabulary.index.get(word)
        if place is None and vocabulary.lowercase:
            place = vocabulary.index.get(word.lower())
            if place is None or exact[place] or other_case[place]:
                continue
            other_case[place] = True
        elif place is None or exact[place]:
            continue
        else:
            exact[place] = True
        vectors[place] = _numbers(numbers, binary=binary, word=word, path=path)
    found = exact | other_case
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(f"{path}: the vector of {vocabulary.tokens[bad[0]]!r} has numbers that are not finite")
    found[: len(SPECIAL)] = False
    vectors[: len(SPECIAL)] = 0
    return vectors, found


def _numbers(raw: bytes, *, binary: bool, word: str, path: Path) -> NDArray[np.float32]:
    if binary:
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)
    try:
        return np.array(raw.split(), dtype=np.float32)
    except ValueError:
        raise DataError(f"{path}: the vector of {word!r} is not made of numbers") from None
