"""Configurations with their error bars, as tables and sentences for people. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from terry.logs.format import Column, figure, narrowed, plural, table
from terry.logs.statistics.comparison import POWER, ComparisonVerdict, Difference
from terry.logs.statistics.seeds import Ranked
from terry.logs.statistics.summary import Summary

_UNKNOWN = "-"
#: Stands before a configuration that may be the first as well.
_TIED = "="


def ranking_lines(ranked: Sequence[Ranked], name: str, *, width: int | None = None) -> list[str]:
    """The table of configurations by the mean of one figure, and in words which first places cannot be told apart."""
    if not ranked:
        return []
    keys = list(dict.fromkeys(key for each in ranked for key in each.configuration.labels))
    several = len({each.configuration.sweep for each in ranked}) > 1
    titles = ["PLACE", *(["SWEEP"] if several or not keys else []), *(key.upper() for key in keys)]
    figures = ["N", name.upper(), "95% INTERVAL", "SD", "BEST", "WORST"]
    columns = [Column(title=t) for t in titles] + [Column(title=t, right=t != "95% INTERVAL") for t in figures]
    tied = sum(each.may_be_first for each in ranked) > 1
    rows = []
    for place, each in enumerate(ranked, 1):
        mark = _TIED if tied and each.may_be_first else ""
        sweep = [each.configuration.sweep] if several or not keys else []
        settings = [each.configuration.labels.get(key, _UNKNOWN) for key in keys]
        rows.append([f"{place}{mark}", *sweep, *settings, *_cells(each.summary)])
    columns, rows = narrowed(columns, rows, width, ("WORST", "BEST", "SD"), last=9)
    return [*table(columns, rows, width=width), "", *_wrapped(remarks(ranked), width)]


def _wrapped(sentences: Sequence[str], width: int | None) -> list[str]:
    return [line for sentence in sentences for line in textwrap.wrap(sentence, width or 120)]


def _cells(summary: Summary) -> list[str]:
    n = f"{summary.n}" if not summary.lost else f"{summary.n} of {summary.n + summary.lost}"
    return [
        n,
        figure(summary.mean),
        interval(summary.low, summary.high),
        *map(figure, (summary.sd, summary.best, summary.worst)),
    ]


def interval(low: float | None, high: float | None) -> str:
    """`4.4012 to 4.5210`."""
    return _UNKNOWN if low is None or high is None else f"{figure(low)} to {figure(high)}"


def remarks(ranked: Sequence[Ranked], marked: str = _TIED) -> list[str]:
    """What a reader must know of the table: what is tied, what was corrected, what has no interval.

    marked: how the table marks what may be the first as well.
    """
    said = []
    decided = [each.beside_first for each in ranked if each.beside_first and each.beside_first.p is not None]
    undecided = [each for each in decided if each.verdict is ComparisonVerdict.UNDECIDED]
    unknown = [each for each in ranked if each.beside_first and each.beside_first.verdict is ComparisonVerdict.UNKNOWN]
    if undecided or unknown:
        said.append(f"{marked} cannot be told apart from the first with these seeds.")
    needed = [each.seeds_needed for each in undecided]
    if undecided and all(number is not None for number in needed):
        most = max(number for number in needed if number is not None)
        said.append(f"To tell the closest of them apart (in {POWER:.0%} of cases) takes about {most:,} seeds each.")
    elif undecided:
        said.append("The closest of them are so alike that no reasonable number of seeds tells them apart.")
    said += sorted(
        {each.beside_first.why for each in unknown if each.beside_first is not None and each.beside_first.why}
    )
    if decided:
        said.append(correction(len(ranked) - 1))
    lost = sum(each.summary.lost for each in ranked)
    if lost:
        said.append(f"{plural(lost, 'run')} without a finite value left out of means: N says where.")
    notes = {each.summary.why for each in ranked if each.summary.why and each.summary.low is not None}
    return said + sorted(notes)


def correction(comparisons: int) -> str:
    """What a correction for several comparisons means, for somebody who has never heard of one."""
    if comparisons == 1:
        return "Called different where luck alone would show such a difference in fewer than 5 of 100 cases."
    return (
        f"{comparisons} comparisons were made, and the more one makes the sooner luck looks like a result: so each "
        "must be surer (Holm's correction), and in 95 of 100 such tables all that is called different is so."
    )


def difference_lines(differences: Sequence[Difference], name: str, *, width: int | None = None) -> list[str]:
    """Each configuration beside the first one: by how much, how surely, and what would decide."""
    columns = [
        Column(title="BESIDE THE FIRST"),
        Column(title="N", right=True),
        Column(title=f"{name.upper()} DIFFERS BY", right=True),
        Column(title="95% INTERVAL"),
        Column(title="P", right=True),
        Column(title="VERDICT"),
    ]
    rows = [
        [d.second, f"{d.n[0]}, {d.n[1]}", _signed(d.difference), _around(d), _chance(d), verdict(d)]
        for d in differences
    ]
    lines = table(columns, rows, width=width)
    tested = [d for d in differences if d.p is not None]
    if not tested:
        return lines
    how = "seed by seed (paired t-test)" if all(d.paired for d in tested) else "by Welch's t-test"
    mixed = any(d.paired for d in tested) and not all(d.paired for d in tested)
    way = (
        "Compared seed by seed where the seeds are the same, by Welch's t-test elsewhere."
        if mixed
        else f"Compared {how}."
    )
    return [*lines, "", *_wrapped([f"{way} {correction(len(differences))}"], width)]


def _signed(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:+.4g}"


def _around(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return _UNKNOWN
    return f"{_signed(difference.low)} to {_signed(difference.high)}"


def _chance(difference: Difference) -> str:
    p = difference.p_corrected
    return _UNKNOWN if p is None else "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def verdict(difference: Difference) -> str:
    """`lower`, or why it cannot be said and how many seeds more would decide."""
    if difference.verdict is ComparisonVerdict.UNKNOWN:
        return f"unknown: {difference.why}"
    if difference.verdict is not ComparisonVerdict.UNDECIDED:
        return str(difference.verdict)
    if difference.seeds_needed is None:
        return "undecided: so alike that no reasonable number of seeds would tell"
    more = difference.seeds_needed - min(difference.n)
    if more <= 0:
        return "undecided: a chance result is likelier to tell with a few seeds more"
    return f"undecided: {plural(more, 'seed')} more each would tell"
