"""What preparing found and made: a record kept with the data, and its picture for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


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


class Sample(msgspec.Struct, frozen=True, kw_only=True):
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


class Report(msgspec.Struct, frozen=True, kw_only=True):
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
    samples: list[Sample]
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


def render_report(report: Report) -> Group:
    """The report for a terminal."""
    from rich.console import Group
    from rich.text import Text

    parts: list[object] = [Text(report.dataset, style="bold"), _files(report), _splits(report), _lengths(report)]
    parts.append(Text(_words(report)))
    if report.samples:
        parts.append(_samples(report))
    parts += [Text(f"! {warning}", style="yellow") for warning in report.warnings]
    return Group(*parts)  # type: ignore[arg-type]


def _table(*columns: str, title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    return table


def _files(report: Report) -> Table:
    from rich.text import Text

    table = _table("file", "MB", "encoding", "layout", "column", "rows", "ragged", "replaced", title="Read")
    for file in report.files[:20]:
        table.add_row(
            Text(file.path, overflow="fold"),
            f"{file.bytes / 1e6:.1f}",
            file.encoding,
            file.layout,
            file.column,
            f"{file.rows:,}",
            f"{file.ragged:,}",
            f"{file.replaced_bytes:,}",
        )
    if len(report.files) > 20:
        table.add_row(f"and {len(report.files) - 20:,} more files")
    return table


def _splits(report: Report) -> Table:
    left_out = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in report.dropped.items() if n)
    title = f"Kept: split by {report.split_by}" + (f"; left out: {left_out}" if left_out else "")
    table = _table("split", "examples", "tokens", "known words", title=title)
    for name in report.examples:
        table.add_row(name, f"{report.examples[name]:,}", f"{report.tokens[name]:,}", f"{report.coverage[name]:.2%}")
    return table


def _lengths(report: Report) -> Table:
    title = f"Lengths: half up to {report.median_length:,}, mean {report.mean_length:.1f}, longest {report.longest:,}"
    table = _table("tokens", "examples", "", title=title)
    table.columns[2].justify = "left"
    most = max((bar.examples for bar in report.histogram), default=0)
    for bar in report.histogram:
        length = f"{bar.low:,}-{bar.high:,}" if bar.high > bar.low else f"{bar.low:,}"
        table.add_row(length, f"{bar.examples:,}", "█" * -(-40 * bar.examples // most) if most else "")
    return table


def _words(report: Report) -> str:
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


def _samples(report: Report) -> Table:
    from rich.text import Text

    table = _table("before", "after", title="Examples")
    table.columns[1].justify = "left"
    for sample in report.samples:
        table.add_row(Text(sample.before), Text(sample.after))
    return table
