"""Numbers, times and tables as people read them. Plain text; the only colours are those asked for."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

#: Shown where nothing is known.
UNKNOWN = "-"

_BARS = "▁▂▃▄▅▆▇█"
#: Larger numbers are no counts that anybody reads digit by digit.
_COUNTED = 1e15
#: Beyond this all values stand at the edge of a drawing.
_DRAWN = 1e300
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def _real(number: float) -> float:
    """As a float; a whole number beyond all floats is infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def bounded(value: float) -> float:
    """The value, if need be nearer to 0: sums and differences of some thousand of them are then finite."""
    return max(-_DRAWN, min(_DRAWN, value)) if math.isfinite(value) else value


def duration(seconds: float | None) -> str:
    """Seconds in two units at most: `42s`, `3m12s`, `2h05m`, `3d04h`."""
    if seconds is None or not math.isfinite(seconds := _real(seconds)):
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    for (big, name), (small, below) in itertools.pairwise(_UNITS):
        if whole >= big:
            return f"{whole // big}{name}{whole % big // small:02d}{below}"
    raise AssertionError("unreachable: 60 and more have a unit")


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago: `3m12s ago`; a clock that is ahead counts as now."""
    return UNKNOWN if then is None else f"{duration((now - then).total_seconds())} ago"


def count(number: float | None) -> str:
    """A whole number with separators: `41,200`."""
    if number is None:
        return UNKNOWN
    return f"{round(number):,}" if abs(real := _real(number)) < _COUNTED else figure(real)


def decimals(number: float | None, places: int) -> str:
    """A number with so many decimals, where it is of a size at which they mean something."""
    if number is None:
        return UNKNOWN
    return f"{number:.{places}f}" if abs(real := _real(number)) < 1e6 else figure(real)


def short(number: float | None) -> str:
    """A number in four or five characters: `830`, `5.7k`, `1.2M`."""
    if number is None or not math.isfinite(number := _real(number)):
        return UNKNOWN
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            scaled = number / size
            return f"{scaled:.1f}{unit}" if abs(scaled) < 100 else f"{scaled:.0f}{unit}"
    return f"{number:.0f}" if abs(number) >= 10 or number == int(number) else f"{number:.1f}"


def size(number: int | None) -> str:
    """Bytes: `832 MiB`, `1.4 GiB`."""
    if number is None or not math.isfinite(_real(number)):
        return UNKNOWN
    for unit_bytes, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit_bytes:
            scaled = number / unit_bytes
            return f"{scaled:.1f} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"
    return f"{number} B"


def figure(number: float | None) -> str:
    """A loss or the like: four significant places, never wider than 9 characters."""
    if number is None:
        return UNKNOWN
    number = _real(number)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else ("inf" if number > 0 else "-inf")
    if number != 0 and not 1e-3 <= abs(number) < 1e5:
        return f"{number:.2e}"
    return f"{number:.4f}" if abs(number) < 100 else f"{number:.1f}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as a row of bars, `width` characters at most; values that are not finite show as `!`."""
    if width <= 0 or not values:
        return ""
    groups = _buckets([bounded(value) for value in values], width)
    finite = [v for v in groups if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = high - low
    return "".join(
        "!" if not math.isfinite(v) else _BARS[0 if span == 0 else round((v - low) / span * (len(_BARS) - 1))]
        for v in groups
    )


def _buckets(values: Sequence[float], width: int) -> list[float]:
    """Means of `width` equal stretches of the values (the values themselves where there are fewer)."""
    if len(values) <= width:
        return list(values)
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def cells(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def clip(text: str, width: int) -> str:
    """The text in at most `width` columns, with `…` where something was cut off."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += _cells_of(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…" if width > 0 else ""


def shortened(text: str, width: int) -> str:
    """The text in at most `width` columns: a name loses its middle, a sentence its end."""
    if cells(text) <= width or " " in text or not text.isascii() or width < 3:
        return clip(text, width)
    head = (width - 1) * 2 // 5
    return f"{text[:head]}…{text[head + 1 - width :]}"


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly `width` columns."""
    fitted = shortened(text, width)
    space = " " * (width - cells(fitted))
    return space + fitted if right else fitted + space


#: Of a text that a job or a person has written so many characters are shown: no line of a view is megabytes long.
MOST = 2000


def printable(text: str, most: int | None = MOST) -> str:
    """Text that came from a job, a file or a person, as one line that no terminal obeys. Every view shows it so.

    Control characters (and so escape sequences, titles, the clipboard's), marks that turn or hide what follows them,
    and half characters become visible; of more than `most` characters the middle is left out (None: nothing is).
    """
    if most is not None and len(text) > most:
        text = f"{text[: most * 3 // 4]} ... {len(text) - most:,} characters more ... {text[-most // 4 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c == "\t" else c.encode("unicode_escape").decode() for c in text)


#: Characters of a text in a table that tell the most of it, and those below which none is cut off.
_ENOUGH, _LEAST = 20, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a plain table."""

    title: str
    right: bool = False  #: numbers stand right


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, width: int | None = None) -> list[str]:
    """Lines of a table with two spaces between columns. Beyond `width` text gives way to numbers."""
    body = [[printable(cell) for cell in row] for row in rows]
    if not body:
        return []
    columns = [Column(title=printable(column.title), right=column.right) for column in columns]
    natural = [max(cells(column.title), *(cells(row[i]) for row in body)) for i, column in enumerate(columns)]
    widths = _squeezed(columns, natural, width)
    lines = []
    for row in [[column.title for column in columns], *body]:
        parts = [pad(cell, w, right=c.right) for cell, w, c in zip(row, widths, columns, strict=True)]
        line = "  ".join(parts).rstrip()
        lines.append(line if width is None else clip(line, width))
    return lines


def _squeezed(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
    """Widths that fit, as far as columns of text can give way, the widest one first."""
    found = list(widths)
    able = [i for i, column in enumerate(columns) if not column.right]
    for _ in range(0 if width is None else sum(found) + 2 * (len(found) - 1) - width):
        at = max(able, key=lambda i: found[i], default=None)
        if at is None or found[at] <= max(_LEAST, cells(columns[at].title)):
            break
        found[at] -= 1
    return found


def narrowed(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None, spare: Sequence[str], *, last: int
) -> tuple[list[Column], list[list[str]]]:
    """The table without as many of the columns `spare` (titles, the first goes first) as it takes to fit the width.

    last: of the last column so many characters are enough, of another one with text _ENOUGH; `table` cuts off the rest.
    """
    wide = [max(cells(c.title), *(cells(row[i]) for row in rows), 0) for i, c in enumerate(columns)]
    wide = [(w if c.right else min(w, max(_ENOUGH, cells(c.title)))) + 2 for w, c in zip(wide, columns, strict=True)]
    wide[-1] = min(wide[-1] - 2, last)
    kept = list(range(len(columns)))
    for gone in (i for title in spare for i, c in enumerate(columns) if c.title == title):
        if width is None or sum(wide[i] for i in kept) <= width:
            break
        kept.remove(gone)
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def plural(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`, `1,000 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
