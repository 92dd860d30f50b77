"""Which files a data set is made of."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from terry.data_prep.config import DatasetConfig, Format, Paragraphs, source_list, unread_settings
from terry.data_prep.encodings import detect, given, head_of
from terry.data_prep.errors import DataError
from terry.data_prep.looks import LINES_SAMPLE, Lines, lines_in

_PACKED: Final = (".gz", ".bz2", ".xz")
_FORMATS: Final = {
    ".csv": Format.csv,
    ".tsv": Format.tsv,
    ".tab": Format.tsv,
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".json": Format.jsonl,
    ".parquet": Format.parquet,
    ".arrow": Format.arrow,
    ".feather": Format.arrow,
    ".txt": Format.text,
    ".text": Format.text,
    ".md": Format.text,
}


#: What the `datasets` library writes beside its tables: about them, not texts.
_ABOUT_DATASETS: Final = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
#: Endings that are told one by one of a folder's files.
_SHOWN: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file to read."""

    #: the file
    path: Path
    #: its layout, never `auto`
    format: Format
    #: the split that it is, or None where `split` decides
    split: str | None
    #: size on disk
    bytes: int
    #: whether it is the only file of the data set
    alone: bool = True
    #: whether each line of it is a text of its own, as far as `paragraphs: auto` leaves that to the file
    lines_are_texts: bool = False
    #: what a person should know about its lines
    note: str = ""


def find_sources(config: DatasetConfig, base: Path) -> list[Source]:
    """All files of a data set, those of each pattern by name. Relative paths start at `base`. Raises DataError."""
    found: list[Source] = []
    for split, value in ((None, config.source), ("valid", config.valid_source), ("test", config.test_source)):
        if value is not None:
            found += _matching(value, split, config.format, base)
    paths = [source.path for source in found]
    twice = next((path for path in paths if paths.count(path) > 1), None) if len(set(paths)) < len(paths) else None
    if twice is not None:
        raise DataError(f"{twice} is both in source and in valid_source or test_source")
    for key, readers in unread_settings(config, {source.format for source in found}):
        first = found[0]
        why = "" if config.format is not Format.auto or _known(first.path) else ", as its name says nothing else"
        raise DataError(
            f"{first.path} is read as {first.format.value}{why}, where `{key}` does nothing: it is for {readers}. "
            f"Say which `format` the file has, or leave {key} out",
            key,
        )
    return found if len(found) == 1 else [dataclasses.replace(source, alone=False) for source in found]


def with_lines(sources: list[Source], config: DatasetConfig) -> list[Source]:
    """The sources, of plain texts with what their lines are, where `paragraphs: auto` leaves that to them."""
    if config.paragraphs is not Paragraphs.auto or not config.in_paragraphs:
        return sources
    return [_with_lines(source, config) if source.format is Format.text else source for source in sources]


def _with_lines(source: Source, config: DatasetConfig) -> Source:
    encoding = detect(source.path) if config.encoding is None else given(source.path, config.encoding)
    kind, note = lines_in(head_of(source.path, encoding, LINES_SAMPLE))
    return dataclasses.replace(source, lines_are_texts=kind is Lines.texts, note=note)


def _matching(value: Any, split: str | None, layout: Format, base: Path) -> list[Source]:
    paths: dict[Path, None] = {}
    for pattern in source_list(value):
        paths.update(dict.fromkeys(_expand(pattern, base)))
    return [
        Source(
            path=path,
            format=_format_of(path) if layout is Format.auto else layout,
            split=split,
            bytes=path.stat().st_size,
        )
        for path in paths
    ]


def _expand(pattern: str, base: Path) -> list[Path]:
    """The files that one pattern means: a file, all files of known kinds below a folder, or what a glob matches."""
    path = base / Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and _known(p) and not _hidden(p, path))
        if not inside:
            raise DataError(f"{pattern!r}: the folder {path} has no files ending in {', '.join(_FORMATS)}")
        return inside
    matched = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())  # noqa: PTH207
    if not matched:
        raise DataError(f"{pattern!r}: there is no such file, and it matches none (looked for {path})")
    return matched


def left_out(config: DatasetConfig, base: Path) -> list[str]:
    """For each folder of `config`: what was taken from it and what was left, where something was; in words."""
    values = [value for value in (config.source, config.valid_source, config.test_source) if value is not None]
    folders = [base / Path(p).expanduser() for value in values for p in source_list(value)]
    return [text for folder in folders if folder.is_dir() and (text := _left_in(folder))]


def _left_in(folder: Path) -> str:
    every = [path for path in folder.rglob("*") if path.is_file()]
    files = [path for path in every if not _hidden(path, folder)]
    taken = Counter(_plain_suffix(path) for path in files if _known(path))
    left = Counter(path.suffix.lower() or "no ending" for path in files if not _known(path))
    hidden = len(every) - len(files)
    if not left and len({_FORMATS[suffix] for suffix in taken}) < 2:
        return ""
    text = f"of the folder {folder} were read: {_tally(taken)}"
    text += f"; left out, as their names say no format that is read: {_tally(left)}" if left else ""
    return text + (f"; hidden ones, left out: {hidden:,}" if hidden else "")


def _tally(found: Counter[str]) -> str:
    most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    shown = ", ".join(f"{count:,} {name}" for name, count in most)
    others = found.total() - sum(count for _, count in most)
    return shown + (f" and {others:,} others" if others else "")


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _plain_suffix(path: Path) -> str:
    name = Path(path.stem) if path.suffix.lower() in _PACKED else path
    return name.suffix.lower()


def _known(path: Path) -> bool:
    return _plain_suffix(path) in _FORMATS and path.name not in _ABOUT_DATASETS


def _format_of(path: Path) -> Format:
    return _FORMATS.get(_plain_suffix(path), Format.text)


def fingerprint(path: Path, advance: Callable[[int], None]) -> str:
    """sha256 of a file as it lies on disk; `advance` hears of each piece of bytes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                advance(len(chunk))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def state_of(path: Path) -> tuple[int, ...]:
    """What is another when somebody has written to a file. Raises DataError where it is gone."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
