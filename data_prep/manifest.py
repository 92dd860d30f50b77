"""What a prepared data set says about itself: `manifest.json` in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from terry.data_prep.config import Level, Unit
from terry.data_prep.errors import DataError

#: Version of the folder's layout; part of the content hash, so a new layout makes a new folder.
FORMAT_VERSION = 1
#: Raised whenever the same files and settings give other tokens than before, so that what older releases made is not
#: taken for what this one would make. A test with a fixed result says when.
RESULT_VERSION = 3
MANIFEST_NAME = "manifest.json"
VOCABULARY_NAME = "vocabulary.json"
REPORT_NAME = "report.json"
EMBEDDINGS_NAME = "embeddings.npy"
SPLITS = ("train", "valid", "test")


class DatasetFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the data set."""

    #: size
    bytes: int
    #: of the whole file, hexadecimal
    sha256: str


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was read."""

    #: as found
    path: str
    #: size on disk, packed where it is packed
    bytes: int
    #: of the bytes on disk, hexadecimal
    sha256: str


class SplitEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One split."""

    #: examples in it
    examples: int
    #: tokens in it, boundary tokens included
    tokens: int
    #: tokens in it, boundary tokens not included
    words: int
    #: those of them that the vocabulary lacks
    unknown: int


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything needed to use and to reproduce a data set."""

    #: layout of the folder
    version: int
    #: name in the sweep file
    name: str
    #: content hash: sources, settings, layout and the tools that decide the result
    hash: str
    #: what one example is
    unit: Unit
    #: what one token is
    level: Level
    #: entries in the vocabulary
    vocabulary_size: int
    #: hash of the vocabulary
    vocabulary_sha256: str
    #: share of the train split's tokens that the vocabulary knows
    coverage: float
    #: NumPy's name of the token type
    dtype: str
    #: train, valid, test
    splits: dict[str, SplitEntry]
    #: every other file of the folder
    files: dict[str, DatasetFile]
    #: files that were read
    sources: list[SourceEntry]
    #: the settings, enums by name
    settings: dict[str, Any]
    #: versions of what decided the result
    tools: dict[str, str]
    #: note on the licence
    licence: str | None = None
    #: share of the words that have a pre-trained vector
    embedding_rate: float | None = None


def encode(value: object) -> bytes:
    """Readable JSON with a line break at the end."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def dataset_folders(root: Path) -> list[Path]:
    """Folders below `root` that should be data sets, by name; those that are being built are not."""
    inside = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in inside if folder.is_dir() and not folder.name.startswith(".")]


def read_manifest(folder: Path) -> DatasetManifest:
    """The manifest of a data set whose files are all there and have the right sizes. Raises DataError.

    It needs neither NumPy nor any other heavy import, so that data sets are listed quickly.
    """
    path = folder / MANIFEST_NAME
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{folder} is not a prepared data set: {path.name} cannot be read ({error.strerror})") from None
    try:
        manifest = msgspec.json.decode(raw, type=DatasetManifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(folder, f"its manifest cannot be understood ({error})") from None
    if manifest.version != FORMAT_VERSION:
        raise DataError(
            f"{folder} has layout {manifest.version}; this release reads {FORMAT_VERSION}: prepare it again"
        )
    for name, entry in manifest.files.items():
        _check_size(folder, name, entry.bytes)
    return manifest


def _check_size(folder: Path, name: str, size: int) -> None:
    if Path(name).name != name:
        raise damaged(folder, f"its manifest names a file elsewhere: {name!r}")
    try:
        found = (folder / name).stat().st_size
    except OSError as error:
        raise damaged(folder, f"{name} is missing ({error.strerror})") from None
    if found != size:
        raise damaged(folder, f"{name} has {found} bytes, not {size}")


def damaged(folder: Path, what: str) -> DataError:
    """The error about a folder that is not as it was made."""
    return DataError(f"{folder} is damaged: {what}; move the folder away and prepare it again")
