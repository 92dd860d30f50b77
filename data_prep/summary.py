"""Putting the report together from what the passes leave."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from terry.data_prep.blocks import ReadReport, plural
from terry.data_prep.build import Written
from terry.data_prep.collect_tokens import SAMPLES, Collected
from terry.data_prep.config import DatasetConfig, Level, Ragged, Unit
from terry.data_prep.filter_rows import Selection
from terry.data_prep.manifest import SPLITS
from terry.data_prep.report import DatasetReport, FileReport, StorySample, histogram, median
from terry.data_prep.tokens import SPECIAL
from terry.data_prep.vocabulary import Vocabulary

#: Lengths that hardly an example of a unit exceeds: of Moby-Dick's 7,252 sentences the longest, a sermon in quotation
#: marks, has 936 words and 3,663 characters.
_USUAL: Final = {
    Level.word: {Unit.sentence: 1_000, Unit.paragraph: 5_000},
    Level.character: {Unit.sentence: 5_000, Unit.paragraph: 30_000},
}
_MANY: Final = 100


def why_nothing(collected: Collected, selection: Selection) -> str:
    left_out = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in selection.dropped.items() if n)
    reports = collected.reports
    rows, ragged = sum(report.rows for report in reports), sum(report.ragged for report in reports)
    text = f"{rows:,} rows read, {collected.empty_stories:,} without text, {collected.examples:,} examples"
    text += f", of these left out: {left_out}" if left_out else ""
    if ragged:
        first = next(report for report in reports if report.ragged)
        text += f"; {plural(ragged, 'row')} did not fit or could not be decoded, the first: {first.path}, "
        text += first.first_ragged
    return "; ".join([text, *(f"{report.path}: {note}" for report in reports[:1] for note in report.notes)])


def samples_of(collected: Collected, final: NDArray[np.uint32], vocabulary: Vocabulary) -> list[StorySample]:
    """The beginnings of the first stories, before and after."""
    stories = np.fromfile(collected.folder / "stories.u32", dtype=np.uint32, count=1 << 16)
    lengths = np.fromfile(collected.folder / "lengths.u32", dtype=np.uint32, count=len(stories)).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    limit = 400 if vocabulary.level is Level.character else 80
    samples = []
    for number, before in enumerate(islice(collected.samples, SAMPLES)):
        mine = np.flatnonzero(stories == number)
        if not len(mine):
            break
        count = min(int(lengths[mine].sum()), limit)
        ids = np.fromfile(
            collected.folder / "tokens.u32", dtype=np.uint32, count=count, offset=4 * int(starts[mine[0]])
        )
        samples.append(StorySample(before=before, after=vocabulary.detokenise(final[ids])))
    return samples


def summarise(
    dataset: str,
    config: DatasetConfig,
    collected: Collected,
    selection: Selection,
    written: Written,
    vocabulary: Vocabulary,
    distinct: int,
    rate: float | None,
    samples: list[StorySample],
    folders: list[str],
) -> DatasetReport:
    pairs = list(zip(vocabulary.tokens, vocabulary.counts, strict=True))[len(SPECIAL) :]
    kept = sum(selection.examples)
    files = [
        FileReport(
            path=r.path,
            bytes=Path(r.path).stat().st_size,
            encoding=r.encoding,
            layout=r.layout,
            column=r.column,
            rows=r.rows,
            ragged=r.ragged,
            first_ragged=r.first_ragged,
            replaced_bytes=r.replaced_bytes,
        )
        for r in collected.reports
    ]
    return DatasetReport(
        dataset=dataset,
        files=files,
        stories=len(collected.story_roles),
        empty_stories=collected.empty_stories,
        marks_removed=collected.marks_removed,
        examples_found=collected.examples,
        dropped=selection.dropped,
        examples={name: written.splits[name].examples for name in SPLITS},
        tokens={name: written.splits[name].tokens for name in SPLITS},
        split_by=selection.by.value,
        distinct=distinct,
        vocabulary_size=len(vocabulary),
        coverage={name: 1 - entry.unknown / max(entry.words, 1) for name, entry in written.splits.items()},
        embedding_rate=rate,
        median_length=median(written.lengths),
        mean_length=(sum(selection.tokens) - kept) / max(kept, 1),
        longest=written.longest,
        histogram=histogram(written.lengths, written.longest),
        most_frequent=pairs[:10],
        rarest=pairs[-10:],
        samples=samples,
        warnings=_warnings(config, collected, written, folders),
    )


def _warnings(config: DatasetConfig, collected: Collected, written: Written, folders: list[str]) -> list[str]:
    """What a person should look at: first the files, then the whole."""
    out = [*folders, *(line for report in collected.reports for line in _file_warnings(config, report))]
    if collected.marks_removed:
        out.append(f"{collected.marks_removed:,} zero bytes and the like were taken out")
    if collected.ended_early:
        out.append("reading ended early, when max_examples was reached: `choose: random` draws from everything")
    out += _length_warnings(config, written)
    for name, entry in written.splits.items():
        if not entry.examples:
            if getattr(config.split, name) > 0 or getattr(config, f"{name}_source", None) is not None:
                out.append(f"the {name} split is empty, though it should not be: there is too little text")
        elif entry.unknown > 0.2 * entry.words:
            out.append(f"the vocabulary lacks {entry.unknown / entry.words:.0%} of the words of {name}")
    return out


def _length_warnings(config: DatasetConfig, written: Written) -> Iterator[str]:
    """Lengths far outside what the unit usually has."""
    usual = _USUAL[config.level].get(config.unit)
    long = 0 if usual is None else int(written.lengths[usual + 1 :].sum())
    name = "token" if config.level is Level.word else "character"
    if long:
        yield (
            f"{plural(long, config.unit.value)} of more than {usual:,} {name}s, the longest of {written.longest:,}: "
            "text without full stops, one text a line (`paragraphs: line`), or a quotation mark that never closes? "
            "`max_tokens` leaves them out"
        )
    total, shortest = int(written.lengths.sum()), int(written.lengths[:2].sum())
    if total >= _MANY and shortest * 2 > total:
        yield f"more than half of the {config.unit.value} examples have one {name} or none: a list, not a text?"


def _file_warnings(config: DatasetConfig, report: ReadReport) -> Iterator[str]:
    for note in report.notes:
        yield f"{report.path}: {note}"
    if report.ragged:
        what = "were used as far as they go" if config.ragged is Ragged.keep else "were left out"
        yield (
            f"{report.path}: {report.ragged:,} of {plural(report.rows, 'row')} did not fit and {what}; "
            f"the first: {report.first_ragged}"
        )
    if report.replaced_bytes:
        yield (
            f"{report.path}: {plural(report.replaced_bytes, 'byte')} could not be read as {report.encoding} "
            "and became U+FFFD"
        )
    if report.guessed:
        yield f"{report.path} is not UTF-8; {report.encoding} is a guess: give its `encoding` if the text looks wrong"
