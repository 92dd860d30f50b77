"""A prepared data set on disk: memory-mapped token arrays, a vocabulary and a manifest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terry.data_prep.errors import DataError
from terry.data_prep.manifest import (
    EMBEDDINGS_NAME,
    SPLITS,
    VOCABULARY_NAME,
    DatasetManifest,
    damaged,
    dataset_folders,
    read_manifest,
)
from terry.data_prep.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One split; the arrays are mapped from the file, so opening costs nothing and processes share the memory."""

    #: train, valid or test
    name: str
    #: token ids of all examples one after another, shape (tokens,); each example ends with its boundary token
    tokens: NDArray[np.integer]
    #: where examples begin, shape (examples + 1,), int64; the last entry is the number of tokens
    offsets: NDArray[np.int64]
    #: id of the token that ends, and so starts, an example
    boundary: int

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.offsets) - 1

    def example(self, i: int) -> NDArray[np.integer]:
        """Tokens of example `i`, boundary token included."""
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """An opened data set."""

    #: its folder
    path: Path
    #: what it says about itself
    manifest: DatasetManifest
    #: its tokens
    vocabulary: Vocabulary

    @classmethod
    def open(cls, path: Path | str) -> Dataset:
        """Open a folder. Sizes of all files are checked here, contents by `verify`. Raises DataError."""
        folder = Path(path)
        manifest = read_manifest(folder)
        vocabulary = Vocabulary.from_json((folder / VOCABULARY_NAME).read_bytes())
        if len(vocabulary) != manifest.vocabulary_size:
            raise damaged(folder, f"its vocabulary has {len(vocabulary)} tokens, not {manifest.vocabulary_size}")
        return cls(path=folder, manifest=manifest, vocabulary=vocabulary)

    @property
    def boundary(self) -> int:
        """Id of the token that ends, and so starts, an example."""
        return Vocabulary.boundary(self.manifest.unit)

    def split(self, name: str) -> Split:
        """The split `train`, `valid` or `test`; it may be empty."""
        if name not in SPLITS:
            raise DataError(f"no split is called {name!r}; there are {', '.join(SPLITS)}")
        entry = self.manifest.splits[name]
        tokens = _map(self.path / f"{name}.tokens.npy")
        offsets = _map(self.path / f"{name}.offsets.npy")
        if len(tokens) != entry.tokens or len(offsets) != entry.examples + 1 or offsets[-1] != entry.tokens:
            raise damaged(self.path, f"the arrays of {name} are not as long as its manifest says")
        return Split(name=name, tokens=tokens, offsets=offsets, boundary=self.boundary)

    def embeddings(self) -> NDArray[np.float32] | None:
        """Pre-trained vectors, shape (vocabulary, dimensions), rows of zeros where there is none; None without any."""
        return _map(self.path / EMBEDDINGS_NAME) if EMBEDDINGS_NAME in self.manifest.files else None

    def verify(self) -> None:
        """Read every file and compare its hash with the manifest. Raises DataError that names the first bad one."""
        for name, entry in self.manifest.files.items():
            with (self.path / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                    raise damaged(self.path, f"the content of {name} has changed")


def list_datasets(root: Path) -> list[Dataset | DataError]:
    """All data sets below `root` by name; a damaged one is given as the error it raises."""
    found: list[Dataset | DataError] = []
    for folder in dataset_folders(root):
        try:
            found.append(Dataset.open(folder))
        except DataError as error:
            found.append(error)
    return found


def _map(path: Path) -> Any:
    """Map an array; an empty one cannot be mapped, so it is read."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        return np.load(path, allow_pickle=False)
