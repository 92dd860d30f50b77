"""Runs side by side: the settings in which they differ, and what came of each. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terry.logs.format import Column, plural, table
from terry.logs.records.results import ResultRow, figure_cell

#: Figures of which less is better: the best is marked.
_LOSSES = frozenset({"loss", "valid_loss", "test_loss", "best_loss", "perplexity"})

#: More runs than this do not stand beside each other but below.
_BESIDE = 5

_MISSING = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One run: what it was made of, and what came of it."""

    row: ResultRow
    settings: Mapping[str, Any]  #: by dotted key
    made_of: Mapping[str, Any]  #: hashes of code and data, versions of packages; empty before its first attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several runs, as `compare --json` prints them: each mapping's lists have a place for each run."""

    runs: tuple[str, ...]
    states: tuple[str, ...]
    settings: dict[str, list[Any]]  #: those that differ
    alike: int  #: number of settings that do not
    made_of: dict[str, list[Any]]  #: hashes and versions that differ
    figures: dict[str, list[Any]]


def compare(runs: Sequence[Compared]) -> Comparison:
    """What differs between the runs, in the order of the first one's settings, and all their figures."""
    settings = _columns([run.settings for run in runs])
    differing = {key: values for key, values in settings.items() if _differ(values)}
    known = [run.made_of for run in runs]
    made_of = _columns(known) if all(known) else {}
    return Comparison(
        runs=tuple(run.row.id for run in runs),
        states=tuple(str(run.row.state) for run in runs),
        settings=differing,
        alike=len(settings) - len(differing),
        made_of={key: values for key, values in made_of.items() if _differ(values)},
        figures=_all_figures([run.row.figures for run in runs]),
    )


def _all_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    found = {name: values for name, values in _columns(rows).items() if any(value is not None for value in values)}
    validated = [row.get("valid_loss") is not None for row in rows]
    if any(validated) and not all(validated):
        found.pop("perplexity", None)  # of the validation set for some, of the training for others
    return found


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in keys}


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] or type(value) is not type(values[0]) for value in values[1:])


def compare_lines(found: Comparison, *, width: int | None = None) -> list[str]:
    """The comparison for people: `*` marks the lowest loss; of two runs also how far the figures lie apart."""
    rows = [["state", *found.states], *([key, *map(_setting, values)] for key, values in found.settings.items())]
    rows += [[key, *map(_hash, values)] for key, values in found.made_of.items()]
    figures = [[name, *_figures(name, values)] for name, values in found.figures.items() if _tells(values)]
    if len(found.runs) == 2:
        rows = [[*row, ""] for row in rows]
        figures = [[*row, _apart(found.figures[row[0]])] for row in figures]
    titles = ["", *found.runs, *(["DIFFERENCE"] if len(found.runs) == 2 else [])]
    rows += figures
    if len(found.runs) > _BESIDE:
        turned = [list(column) for column in zip(titles, *rows, strict=True)]
        titles, rows = [title.upper() for title in turned[0]], turned[1:]
    lines = table([Column(title=title) for title in titles], rows, width=width)
    same = f"{plural(found.alike, 'setting')} {'is' if found.alike == 1 else 'are'} alike"
    nothing = "" if found.settings else "; the runs differ in no setting"
    return [*lines, "", same + nothing]


def _tells(values: Sequence[Any]) -> bool:
    """Numbers, and short texts that differ; hashes and names of checkpoints are for `--json`."""
    texts = [value for value in values if isinstance(value, str)]
    return not texts or (_differ(values) and max(map(len, texts)) <= 16)


def _setting(value: Any) -> str:
    return _MISSING if value is None else value if isinstance(value, str) else f"{value}"


def _hash(value: Any) -> str:
    text = _setting(value)
    return text if len(text) <= 16 else text[:12]


def _figures(name: str, values: Sequence[Any]) -> list[str]:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    best = min(numbers) if name in _LOSSES and len(numbers) > 1 and min(numbers) < max(numbers) else None
    return [figure_cell(name, value) + ("*" if best is not None and value == best else "") for value in values]


def _apart(values: Sequence[Any]) -> str:
    """`+3.1%`: from the first to the second."""
    first, second = values
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        return ""
    return f"{(second - first) / abs(first):+.1%}" if first and first != second else ""
