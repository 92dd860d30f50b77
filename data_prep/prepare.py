"""From text files to a data set on disk: named by its content, made once, published whole.

Three passes, all in bounded memory: text becomes provisional token ids (`collect`); lengths and hashes decide what is
kept and where it goes (`select`); counts decide the vocabulary and the arrays are written (`build`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from terry.data_prep.build import Written, count_train, write_array, write_file, write_splits
from terry.data_prep.collect_tokens import Collector
from terry.data_prep.config import DatasetConfig, Format, Level, Splitter, check_name, validate
from terry.data_prep.count_vocabulary import borrow, choose_vocabulary
from terry.data_prep.dataset import Dataset
from terry.data_prep.embeddings import load_embeddings
from terry.data_prep.errors import DataError, PreparationStoppedError
from terry.data_prep.filter_rows import filter_rows
from terry.data_prep.manifest import (
    EMBEDDINGS_NAME,
    FORMAT_VERSION,
    MANIFEST_NAME,
    REPORT_NAME,
    RESULT_VERSION,
    VOCABULARY_NAME,
    DatasetFile,
    DatasetManifest,
    SourceEntry,
    encode,
)
from terry.data_prep.publish import building, publish, remove_stale, turn
from terry.data_prep.report import DatasetReport
from terry.data_prep.sources import Source, find_sources, fingerprint, left_out, state_of, with_lines
from terry.data_prep.summary import samples_of, summarise, why_nothing
from terry.data_prep.tokens import SPECIAL
from terry.data_prep.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareProgress:
    """How far preparing is."""

    #: hashing, reading, counting, writing, matching vectors
    phase: str
    #: bytes or tokens done in this phase
    done: int
    #: bytes or tokens in this phase
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A data set that is ready."""

    #: its folder
    path: Path
    #: what it says about itself
    manifest: DatasetManifest
    #: whether it was made now; False if it was there
    built: bool
    #: what was found when it was made
    report: DatasetReport


def prepare(
    config: DatasetConfig,
    root: Path,
    *,
    name: str,
    base: Path,
    progress: Callable[[PrepareProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    others: Mapping[str, DatasetConfig] | None = None,
) -> Prepared:
    """Make or find the data set `root/<name>-<hash>`.

    The hash covers the settings, the sources' contents, the layout of the folder and the tools that decide the result.
    `base` is where relative paths start. `others` are the data sets that `vocabulary_from` may name.
    Raises DataError where settings or sources are at fault, PreparationStoppedError when `should_stop` says so.
    """
    return _Preparation(config, root, name, base, progress, should_stop, others or {}).run()


def load_report(path: Path) -> DatasetReport:
    """The report that lies in a data set's folder."""
    try:
        return msgspec.json.decode((path / REPORT_NAME).read_bytes(), type=DatasetReport)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path / REPORT_NAME} cannot be read: {error}") from None


def settings_of(config: DatasetConfig) -> dict[str, Any]:
    """The settings as plain values, without paths: where a file lies does not change what is made of it."""
    plain: dict[str, Any] = _plain(config)
    for key in ("source", "valid_source", "test_source", "embeddings", "vocabulary_from"):
        del plain[key]
    plain["clean"] = sorted(set(plain["clean"]))
    for field in dataclasses.fields(config):
        if "added" in field.metadata and getattr(config, field.name) == field.default:
            del plain[field.name]
    return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _read_as(source: Source) -> list[str]:
    """What was found out about a file that decides how it is read; nothing for what 0.1 reads alike."""
    return ["one text a line"] if source.lines_are_texts else []


def _tools(config: DatasetConfig, sources: list[Source]) -> dict[str, str]:
    """Versions of what decides the result. What this release reads as 0.1 did is found again by its name."""
    tools = {"terry": str(RESULT_VERSION), "unicode": unicodedata.unidata_version}
    if any(source.format is Format.jsonl for source in sources):
        tools["json lines"] = "2"
    if config.level is Level.word:
        tools["polars"] = version("polars")
    if config.splitter is Splitter.rules:
        tools["sentencex"] = version("sentencex")
    return tools


class _Preparation:
    """One call of `prepare`."""

    def __init__(
        self,
        config: DatasetConfig,
        root: Path,
        name: str,
        base: Path,
        progress: Callable[[PrepareProgress], None] | None,
        should_stop: Callable[[], bool] | None,
        others: Mapping[str, DatasetConfig],
    ) -> None:
        check_name(name)
        validate(config)
        self._config, self._root, self._name, self._base = config, root, name, base
        self._progress, self._should_stop, self._others = progress, should_stop, others

    def run(self) -> Prepared:
        sources = with_lines(find_sources(self._config, self._base), self._config)
        borrowed = self._borrowed()
        self._vectors = self._embeddings_path()
        self._states = {source.path: state_of(source.path) for source in sources}
        entries, vectors = self._fingerprints(sources)
        key = self._key(sources, entries, vectors, borrowed)
        target = self._root / f"{self._name}-{key[:12]}"
        if not target.is_dir():
            self._root.mkdir(parents=True, exist_ok=True)
            with turn(target, self._should_stop):
                remove_stale(self._root)
                if not target.is_dir():
                    return self._build(target, key, sources, entries, borrowed)
        return Prepared(path=target, manifest=Dataset.open(target).manifest, built=False, report=load_report(target))

    def _tick(self, phase: str, total: int) -> Callable[[int], None]:
        """What a pass calls as it goes: reports progress, and ends the preparation if that is asked for."""

        def tick(done: int) -> None:
            if self._should_stop is not None and self._should_stop():
                raise PreparationStoppedError(f"stopped while {phase}; nothing of {self._name} was published")
            if self._progress is not None:
                self._progress(PrepareProgress(phase=phase, done=min(done, total), total=total))

        return tick

    def _fingerprints(self, sources: list[Source]) -> tuple[list[SourceEntry], str | None]:
        """What was found of each source, and the hash of the file of vectors if there is one."""
        size = self._vectors.stat().st_size if self._vectors is not None else 0
        tick = self._tick("hashing", sum(source.bytes for source in sources) + size)
        done = 0

        def advance(size: int) -> None:
            nonlocal done
            done += size
            tick(done)

        entries = [SourceEntry(path=str(s.path), bytes=s.bytes, sha256=fingerprint(s.path, advance)) for s in sources]
        return entries, fingerprint(self._vectors, advance) if self._vectors is not None else None

    def _borrowed(self) -> Vocabulary | None:
        """The vocabulary that `vocabulary_from` means: of another data set of the file, or of a prepared folder."""
        wanted = self._config.vocabulary_from
        if wanted is None:
            return None
        if wanted == self._name:
            raise DataError(f"vocabulary_from: {wanted} is the data set itself")
        if wanted in self._others:
            rest = {name: config for name, config in self._others.items() if name != self._name}
            made = prepare(
                self._others[wanted],
                self._root,
                name=wanted,
                base=self._base,
                progress=self._progress,
                should_stop=self._should_stop,
                others=rest,
            )
            vocabulary = Dataset.open(made.path).vocabulary
        else:
            vocabulary = Dataset.open(self._prepared_folder(wanted)).vocabulary
        self._check_borrowed(vocabulary, wanted)
        return vocabulary

    def _prepared_folder(self, wanted: str) -> Path:
        """The folder of a prepared data set: a path, or its name as the listing shows it."""
        folder, listed = self._base / Path(wanted).expanduser(), self._root / Path(wanted).name
        if folder.is_dir():
            return folder
        if listed.is_dir() and wanted == listed.name:
            return listed
        names = ", ".join(name for name in self._others if name != self._name) or "none"
        raise DataError(
            f"vocabulary_from: no data set is called {wanted!r} (there are: {names}), none is prepared under this "
            f"name, nor is there a folder {folder}"
        )

    def _check_borrowed(self, vocabulary: Vocabulary, wanted: str) -> None:
        config = self._config
        mine = (config.level, config.tokenizer, config.lower)
        theirs = (vocabulary.level, vocabulary.tokenizer, vocabulary.lowercase)
        if mine != theirs:
            raise DataError(
                f"vocabulary_from: {wanted} has level {theirs[0].value}, tokenizer {theirs[1].value}, lowercase "
                f"{theirs[2]}; this data set has {mine[0].value}, {mine[1].value}, {mine[2]}: make them the same"
            )

    def _key(
        self, sources: list[Source], entries: list[SourceEntry], vectors: str | None, borrowed: Vocabulary | None
    ) -> str:
        self._tools = _tools(self._config, sources)
        described = {
            "version": FORMAT_VERSION,
            "settings": settings_of(self._config),
            "sources": [
                [s.split, s.format.value, e.sha256, *_read_as(s)] for s, e in zip(sources, entries, strict=True)
            ],
            "vocabulary": borrowed.sha256() if borrowed is not None else None,
            "embeddings": vectors,
            "tools": self._tools,
        }
        return hashlib.sha256(msgspec.json.encode(described, order="sorted")).hexdigest()

    def _embeddings_path(self) -> Path | None:
        if self._config.embeddings is None:
            return None
        path = self._base / Path(self._config.embeddings).expanduser()
        if not path.is_file():
            raise DataError(f"embeddings: there is no file {path}")
        return path

    def _build(
        self, target: Path, key: str, sources: list[Source], entries: list[SourceEntry], borrowed: Vocabulary | None
    ) -> Prepared:
        with building(self._root, target.name) as folder:
            manifest, report = self._fill(folder, key, sources, entries, borrowed)
            built = publish(folder, target)
        if not built:
            manifest, report = Dataset.open(target).manifest, load_report(target)
        return Prepared(path=target, manifest=manifest, built=built, report=report)

    def _fill(
        self, folder: Path, key: str, sources: list[Source], entries: list[SourceEntry], borrowed: Vocabulary | None
    ) -> tuple[DatasetManifest, DatasetReport]:
        """Write all files of the data set into `folder`."""
        config, work = self._config, folder / "work"
        work.mkdir()
        collected = Collector(config, work, self._tick("reading", sum(s.bytes for s in sources))).run(sources)
        self._check_unchanged()
        selection = filter_rows(collected, config)
        if not selection.examples[0]:
            raise DataError(f"{self._name}: nothing is left to train on: {why_nothing(collected, selection)}")
        counts = count_train(collected, self._tick("counting", collected.tokens))
        lexicon, size, least = collected.lexicon, config.vocabulary_size, config.min_count
        chosen = (
            borrow(lexicon, counts, borrowed)
            if borrowed is not None
            else choose_vocabulary(lexicon, counts, self._template(), size=size, min_count=least)
        )
        del counts
        vocabulary, final = chosen.vocabulary, chosen.final
        tick = self._tick("writing", collected.tokens)
        written = write_splits(collected, selection, final, len(vocabulary), folder, tick)
        files = dict(written.files)
        files[VOCABULARY_NAME] = write_file(folder, VOCABULARY_NAME, vocabulary.to_json().encode())
        rate = self._write_embeddings(folder, vocabulary, files)
        samples = samples_of(collected, final, vocabulary)
        report = summarise(
            f"{self._name}-{key[:12]}",
            config,
            collected,
            selection,
            written,
            vocabulary,
            chosen.distinct,
            rate,
            samples,
            left_out(config, self._base),
        )
        files[REPORT_NAME] = write_file(folder, REPORT_NAME, encode(report))
        manifest = self._manifest(key, entries, vocabulary, written, files, rate)
        write_file(folder, MANIFEST_NAME, encode(manifest))
        shutil.rmtree(work, onerror=_unless_gone)
        return manifest, report

    def _check_unchanged(self) -> None:
        """Refuse files that changed between hashing and reading: the name would promise another content."""
        for path, state in self._states.items():
            if state_of(path) != state:
                raise DataError(f"{path} changed while it was read; prepare again when it is complete")

    def _template(self) -> Vocabulary:
        config = self._config
        return Vocabulary(
            tokens=SPECIAL,
            counts=(0,) * len(SPECIAL),
            level=config.level,
            tokenizer=config.tokenizer,
            lowercase=config.lower,
            clean=tuple(sorted(set(config.clean), key=lambda step: step.value)),
        )

    def _write_embeddings(self, folder: Path, vocabulary: Vocabulary, files: dict[str, DatasetFile]) -> float | None:
        path = self._vectors
        if path is None:
            return None
        vectors, found = load_embeddings(path, vocabulary, self._tick("matching vectors", path.stat().st_size))
        files[EMBEDDINGS_NAME] = write_array(folder, EMBEDDINGS_NAME, vectors)
        return float(found.sum()) / max(len(vocabulary) - len(SPECIAL), 1)

    def _manifest(
        self,
        key: str,
        entries: list[SourceEntry],
        vocabulary: Vocabulary,
        written: Written,
        files: dict[str, DatasetFile],
        rate: float | None,
    ) -> DatasetManifest:
        train = written.splits["train"]
        return DatasetManifest(
            version=FORMAT_VERSION,
            name=self._name,
            hash=key,
            unit=self._config.unit,
            level=self._config.level,
            vocabulary_size=len(vocabulary),
            vocabulary_sha256=vocabulary.sha256(),
            coverage=1 - train.unknown / max(train.words, 1),
            dtype=written.dtype,
            splits=written.splits,
            files=files,
            sources=entries,
            settings=settings_of(self._config),
            tools=self._tools,
            licence=self._config.licence,
            embedding_rate=rate,
        )


def _unless_gone(function: object, path: object, error: tuple[type[BaseException], BaseException, object]) -> None:
    """What is gone is gone: a file server whose answer was lost is asked again, and says that it is not there."""
    del function, path
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]
