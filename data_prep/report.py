"""What preparing found and made: a record kept with the data, and its picture for a terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

_FILES_SHOWN: Final = 20
#: Control characters but line breaks, and those that change the direction of writing.
_STEERING: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one file."""

    #: as given
    path: str
    #: size on disk
    bytes: int
    #: detected or given
    encoding: str
    #: kind, with delimiter and quotation character
    layout: str
    #: column or key that was read
    column: str
    #: rows, lines, or 1 for a text file
    rows: int
    #: rows that did not fit
    ragged: int
    #: the first of them
    first_ragged: str
    #: bytes that became U+FFFD
    replaced_bytes: int


class StorySample(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a story as it was read, and as a model will see it."""

    before: str
    after: str


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of the histogram of lengths."""

    #: shortest
    low: int
    #: longest
    high: int
    #: examples
    examples: int


class DatasetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What preparing found and made."""

    #: name and hash
    dataset: str
    #: by file
    files: list[FileReport]
    #: stories with text
    stories: int
    #: stories without
    empty_stories: int
    #: zero bytes and the like taken out
    marks_removed: int
    #: examples before any was left out
    examples_found: int
    #: examples left out, by reason
    dropped: dict[str, int]
    #: examples kept, by split
    examples: dict[str, int]
    #: tokens kept, by split, boundary tokens included
    tokens: dict[str, int]
    #: how the splits were made
    split_by: str
    #: distinct tokens in the train split
    distinct: int
    #: entries of the vocabulary, special ones included
    vocabulary_size: int
    #: share of tokens that the vocabulary knows, by split
    coverage: dict[str, float]
    #: share of the vocabulary that has a pre-trained vector
    embedding_rate: float | None
    #: half of the examples are at most this long
    median_length: int
    #: mean length in tokens
    mean_length: float
    #: the longest
    longest: int
    #: lengths
    histogram: list[Bin]
    #: the most frequent words and their counts
    most_frequent: list[tuple[str, int]]
    #: the rarest words kept and their counts
    rarest: list[tuple[str, int]]
    #: examples of what became of the text
    samples: list[StorySample]
    #: what a person should look at
    warnings: list[str]


def histogram(lengths: NDArray[np.int64], longest: int) -> list[Bin]:
    """Bars that double in width; `lengths[n]` examples have n tokens, the last entry stands for all longer ones."""
    bars: list[Bin] = []
    low = 1
    while 2 * low < len(lengths) and not lengths[low : 2 * low].any():
        low *= 2
    while low <= longest:
        high = 2 * low - 1
        stop = len(lengths) if high >= len(lengths) - 1 else high + 1
        bars.append(
            Bin(
                low=low,
                high=min(high, longest) if stop < len(lengths) else longest,
                examples=int(lengths[low:stop].sum()),
            )
        )
        if stop == len(lengths):
            break
        low = high + 1
    return bars


def median(lengths: NDArray[np.int64]) -> int:
    """The length that half of the examples do not exceed; 0 without any."""
    total = int(lengths.sum())
    return int(np.searchsorted(np.cumsum(lengths), (total + 1) // 2)) if total else 0


def visible(text: str) -> str:
    """Text of a file as it may be shown: what could steer a terminal, or turn its writing round, is spelled out."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text.replace("\t", " "))


def megabytes(size: int) -> str:
    """Bytes for a person: `7.8 MB`, `12.0 kB`, `68 bytes`."""
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def render_report(report: DatasetReport) -> Group:
    """The report for a terminal."""
    from rich.console import Group
    from rich.text import Text

    parts: list[object] = [Text(report.dataset, style="bold"), _files(report), _splits(report), _lengths(report)]
    parts.append(Text(_words(report)))
    if report.samples:
        parts.append(_samples(report))
    parts += [Text(f"! {visible(warning)}", style="yellow") for warning in report.warnings]
    return Group(*parts)  # type: ignore[arg-type]


def _table(*columns: str, title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    return table


def _files(report: DatasetReport) -> Text:
    """Two lines for each file, as paths are longer than any column."""
    from rich.text import Text

    lines = Text("Read", style="italic")
    for file in report.files[:_FILES_SHOWN]:
        lines.append(f"\n{visible(file.path)}\n", style="not italic").append(f"  {_file(file)}", style="not italic dim")
    if len(report.files) > _FILES_SHOWN:
        lines.append(f"\nand {len(report.files) - _FILES_SHOWN:,} more files", style="not italic")
    return lines


def _file(file: FileReport) -> str:
    column = f", column {visible(file.column)}" if file.column else ""
    rows = f"{file.rows:,} rows, {file.ragged:,} of them ragged, " if column else ""
    return (
        f"{megabytes(file.bytes)}, {file.encoding}, {visible(file.layout)}{column}: "
        f"{rows}{file.replaced_bytes:,} bytes replaced"
    )


def _splits(report: DatasetReport) -> Table:
    reasons = {"without text": report.empty_stories} | report.dropped
    left_out = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in reasons.items() if n)
    title = f"Kept of {report.stories:,} stories, split by {report.split_by}"
    title += f"; left out: {left_out}" if left_out else ""
    table = _table("split", "examples", "tokens", "known words", title=title)
    for name, examples in report.examples.items():
        known = f"{report.coverage[name]:.2%}" if examples else "-"
        table.add_row(name, f"{examples:,}", f"{report.tokens[name]:,}", known)
    return table


def _lengths(report: DatasetReport) -> Table:
    title = f"Lengths: half up to {report.median_length:,}, mean {report.mean_length:.1f}, longest {report.longest:,}"
    table = _table("tokens", "examples", "", title=title)
    table.columns[2].justify = "left"
    most = max((bar.examples for bar in report.histogram), default=0)
    for bar in report.histogram:
        length = f"{bar.low:,}-{bar.high:,}" if bar.high > bar.low else f"{bar.low:,}"
        table.add_row(length, f"{bar.examples:,}", "█" * -(-40 * bar.examples // most) if most else "")
    return table


def _words(report: DatasetReport) -> str:
    def several(pairs: list[tuple[str, int]]) -> str:
        return "  ".join(f"{word!r} {count:,}" for word, count in pairs)

    lines = [
        f"Vocabulary: {report.vocabulary_size:,}, four of them special; train has {report.distinct:,} distinct tokens",
        f"most frequent  {several(report.most_frequent)}",
        f"rarest kept    {several(report.rarest)}",
    ]
    if report.embedding_rate is not None:
        lines.append(f"pre-trained vectors for {report.embedding_rate:.1%} of the words")
    return "\n".join(lines)


def _samples(report: DatasetReport) -> Table:
    from rich.text import Text

    table = _table("before", "after", title="Examples")
    table.columns[1].justify = "left"
    for sample in report.samples:
        table.add_row(Text(visible(sample.before)), Text(visible(sample.after)))
    return table
