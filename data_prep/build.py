"""Third pass: count, choose the vocabulary, and write the arrays of the splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from terry.data_prep.collect_tokens import Collected
from terry.data_prep.filter_rows import Selection, read_chunks
from terry.data_prep.manifest import SPLITS, DatasetFile, SplitEntry
from terry.data_prep.tokens import MARKS, UNKNOWN

#: Tokens handled together.
SLICE: Final = 1 << 21
#: Lengths up to here are counted one by one, for the median.
LONGEST_COUNTED: Final = 1 << 16

_COLUMNS = (("kept.lengths.u32", np.uint32), ("kept.codes.u8", np.uint8))


class HashedFile:
    """A file that is written once, from its beginning to its end, and hashed on the way."""

    def __init__(self, path: Path) -> None:
        self._path, self._size, self._digest = path, 0, hashlib.sha256()

    def __enter__(self) -> HashedFile:
        self._file = self._path.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes | memoryview) -> int:
        """Append."""
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)
        return len(data)

    def header(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
        """Append the header of a .npy file; the array's bytes must follow."""
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self, description)

    @property
    def entry(self) -> DatasetFile:
        """Size and hash of what was written."""
        return DatasetFile(bytes=self._size, sha256=self._digest.hexdigest())


def write_file(folder: Path, name: str, content: bytes) -> DatasetFile:
    """Write a small file."""
    with HashedFile(folder / name) as file:
        file.write(content)
    return file.entry


def write_array(folder: Path, name: str, array: NDArray[np.generic]) -> DatasetFile:
    """Write an array as a .npy file."""
    with HashedFile(folder / name) as file:
        file.header(array.dtype, array.shape)
        file.write(array.tobytes())
    return file.entry


def token_slices(collected: Collected) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
    """All tokens in pieces: provisional ids, and the code of each one's example (see `Selection`)."""
    with (collected.folder / "tokens.u32").open("rb") as file:
        for lengths, codes in read_chunks(collected.folder, *_COLUMNS):
            ends = np.cumsum(lengths)
            starts = ends - lengths
            for begin in range(0, int(ends[-1]), SLICE):
                end = min(begin + SLICE, int(ends[-1]))
                overlap = np.clip(np.minimum(ends, end) - np.maximum(starts, begin), 0, None)
                yield np.fromfile(file, dtype=np.uint32, count=end - begin), np.repeat(codes, overlap)


def count_train(collected: Collected, tick: Callable[[int], None]) -> NDArray[np.int64]:
    """Occurrences of each provisional id in the train split."""
    counts = np.zeros(collected.lexicon.size, dtype=np.int64)
    done = 0
    for ids, codes in token_slices(collected):
        mine = ids[codes == 1]
        if len(counts) <= SLICE:
            counts += np.bincount(mine, minlength=len(counts))
        else:
            seen, often = np.unique(mine, return_counts=True)
            counts[seen] += often
        done += len(ids)
        tick(done)
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the third pass wrote."""

    #: by file name
    files: dict[str, DatasetFile]
    #: by split name
    splits: dict[str, SplitEntry]
    #: token type
    dtype: str
    #: number of kept examples of each length (boundary not counted), the last entry for all longer ones
    lengths: NDArray[np.int64]
    #: tokens of the longest example, boundary not counted
    longest: int


def write_splits(
    collected: Collected,
    selection: Selection,
    final: NDArray[np.uint32],
    vocabulary_size: int,
    folder: Path,
    tick: Callable[[int], None],
) -> Written:
    """Write `<split>.tokens.npy` and `<split>.offsets.npy` for train, valid and test."""
    dtype = np.dtype("<u2") if vocabulary_size <= 1 << 16 else np.dtype("<u4")
    table = final.astype(dtype)
    words, unknown = [0, 0, 0], [0, 0, 0]
    files: dict[str, DatasetFile] = {}
    writers = [HashedFile(folder / f"{name}.tokens.npy") for name in SPLITS]
    with writers[0], writers[1], writers[2]:
        for writer, count in zip(writers, selection.tokens, strict=True):
            writer.header(dtype, (count,))
        done = 0
        for ids, codes in token_slices(collected):
            tokens = table[ids]
            for i, writer in enumerate(writers):
                mine = tokens[codes == i + 1]
                missing = int((mine == UNKNOWN).sum())
                unknown[i] += missing
                words[i] += missing + int((mine >= len(MARKS)).sum())
                writer.write(mine.tobytes())
            done += len(ids)
            tick(done)
    files |= {f"{name}.tokens.npy": writer.entry for name, writer in zip(SPLITS, writers, strict=True)}
    lengths, longest = _write_offsets(collected, selection, folder, files)
    splits = {
        name: SplitEntry(examples=selection.examples[i], tokens=selection.tokens[i], words=words[i], unknown=unknown[i])
        for i, name in enumerate(SPLITS)
    }
    return Written(files=files, splits=splits, dtype=dtype.name, lengths=lengths, longest=longest)


def _write_offsets(
    collected: Collected, selection: Selection, folder: Path, files: dict[str, DatasetFile]
) -> tuple[NDArray[np.int64], int]:
    """Write where examples begin; returns the count of examples by length, and the greatest length."""
    counts, longest = np.zeros(LONGEST_COUNTED + 1, dtype=np.int64), 0
    writers = [HashedFile(folder / f"{name}.offsets.npy") for name in SPLITS]
    ends = [0, 0, 0]
    with writers[0], writers[1], writers[2]:
        for writer, examples in zip(writers, selection.examples, strict=True):
            writer.header(np.dtype("<i8"), (examples + 1,))
            writer.write(np.zeros(1, dtype="<i8").tobytes())
        for lengths, codes in read_chunks(collected.folder, *_COLUMNS):
            for i, writer in enumerate(writers):
                mine = lengths[codes == i + 1]
                if not len(mine):
                    continue
                offsets = ends[i] + np.cumsum(mine)
                ends[i] = int(offsets[-1])
                writer.write(offsets.astype("<i8").tobytes())
                counts += np.bincount(np.minimum(mine - 1, LONGEST_COUNTED), minlength=len(counts))
                longest = max(longest, int(mine.max()) - 1)
    files |= {f"{name}.offsets.npy": writer.entry for name, writer in zip(SPLITS, writers, strict=True)}
    return counts, longest
