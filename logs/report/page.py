"""A report as one HTML file: nothing is fetched, everything that came from people or jobs is escaped. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from terry.logs.format import figure, plural, printable
from terry.logs.records.results import ResultRow, figure_cell
from terry.logs.report.content import Recipe, Report
from terry.logs.report.curves import COLOURS, svg
from terry.logs.report.look import SCRIPT, STYLE
from terry.logs.statistics.seeds import Ranked, score
from terry.logs.text.seeds import interval, remarks

#: The page may use what it holds, and nothing else.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
#: More runs than this are no table that anybody reads; `results --format csv` has them all.
_MOST_ROWS = 2000
#: So many runs are shown at once; more when somebody opens them.
_SHORT = 40


def page(report: Report) -> str:
    """The whole file."""
    sections = [
        _head(report),
        _summary(report),
        _curves(report),
        _configurations(report),
        _runs(report.rows),
        _incidents(report),
        _ensembles(report),
        _samples(report),
        _settings(report),
        _recipes(report.recipes),
    ]
    return "\n".join([*(section for section in sections if section), f"<script>{SCRIPT}</script></body></html>", ""])


def text(value: object) -> str:
    """Any value as text of the page: control characters visible, markup harmless."""
    return escape(printable(str(value)))


def _head(report: Report) -> str:
    made = report.made_at.strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(report.title)}</title><style>{STYLE}</style></head><body>"
        f'<h1>{text(report.title)}</h1><p class="about">Workspace {text(report.workspace)}, {made}, '
        f"terry-cluster {text(report.version)}.</p>"
    )


def _summary(report: Report) -> str:
    states = ", ".join(f"{number:,} {text(state)}" for state, number in report.states.items())
    runs = sum(len(each.configuration.runs) for each in report.ranked)
    said = [f"{plural(len(report.ranked), 'configuration')}, {plural(runs, 'run')} with results; jobs: {states}."]
    if report.ranked and report.ranked[0].summary.mean is not None:
        best = report.ranked[0]
        around = interval(best.summary.low, best.summary.high)
        of = f" (95% interval {around}, n = {best.summary.n})" if best.summary.low is not None else " (one seed)"
        said.append(
            f"Lowest mean {text(report.figure)}: <strong>{text(best.configuration.name)}</strong>, "
            f"{figure(best.summary.mean)}{of}."
        )
    return f"<p>{' '.join(said)}</p>"


def _curves(report: Report) -> str:
    picture = svg(report.curves)
    if not picture:
        return ""
    legend = "".join(
        f'<li class="{f"c{i}" if i < COLOURS else "other"}">'
        f'<button type="button" data-group="{i}" aria-pressed="false">'
        f"<span>{text(name)}</span></button></li>"
        for i, name in enumerate(report.curves)
    )
    return (
        f'<h2>Curves</h2><figure>{picture}<ul class="legend">{legend}</ul><figcaption>Validation loss where it was '
        "measured, else training loss; a line a run, the mean of several seeds with its 95% interval. Point at a line "
        "for its run; choose a name to bring it out. A steep first descent is cut off.</figcaption></figure>"
    )


def _table(heads: Sequence[tuple[str, bool]], rows: Iterator[str]) -> str:
    cells = "".join(
        f'<th scope="col"{" class=number" if number else ""}><button type="button">{text(head)}</button></th>'
        for head, number in heads
    )
    table = f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table class="sortable">{table}</table></div>'


def _cell(shown: object, value: float | None = None, *, number: bool = False) -> str:
    """A cell; `value` is what it is sorted by, to the last digit."""
    if not number:
        return f"<td>{text(shown)}</td>"
    exact = "" if value is None or not math.isfinite(value) else f"{value!r}"
    return f'<td class="number" data-value="{exact}">{text(shown)}</td>'


def _configurations(report: Report) -> str:
    if not any(len(each.configuration.runs) > 1 for each in report.ranked):
        return ""
    keys = list(dict.fromkeys(key for each in report.ranked for key in each.configuration.labels))
    figures = ("n", f"mean {report.figure}", "low", "high", "sd", "best", "worst", "p beside first")
    heads = [("place", True), ("sweep", False), *((key, False) for key in keys), *((name, True) for name in figures)]
    rows = (_configuration_row(place, each, keys) for place, each in enumerate(report.ranked, 1))
    said = " ".join(remarks(report.ranked, "What is shaded"))
    return f'<h2>Configurations</h2>{_table(heads, rows)}<p class="remarks">{text(said)}</p>'


def _configuration_row(place: int, each: Ranked, keys: Sequence[str]) -> str:
    summary = each.summary
    cells = [_cell(place, place, number=True), _cell(each.configuration.sweep)]
    cells += [_cell(each.configuration.labels.get(key, "")) for key in keys]
    counted = f"{summary.n}" if not summary.lost else f"{summary.n} of {summary.n + summary.lost}"
    cells.append(_cell(counted, summary.n, number=True))
    for value in (summary.mean, summary.low, summary.high, summary.sd, summary.best, summary.worst):
        cells.append(_cell(figure(value), value, number=True))
    p = each.beside_first.p_corrected if each.beside_first else None
    cells.append(_cell("" if p is None else f"{p:.3g}", p, number=True))
    return f"<tr{' class=first' if each.may_be_first else ''}>{''.join(cells)}</tr>"


def _runs(rows: Sequence[ResultRow]) -> str:
    if not rows:
        return ""
    shown = rows[:_MOST_ROWS]
    settings = list(dict.fromkeys(key for row in shown for key in row.labels))
    figures = [
        name
        for name in dict.fromkeys(key for row in shown for key in row.figures)
        if any(score(row, name) is not None for row in shown)
    ]
    heads = [("run", False), ("state", False), *((key, False) for key in settings), *((name, True) for name in figures)]
    heads += [("device", False), ("restarts", True)]
    table = _table(heads, (_run_row(row, settings, figures) for row in shown))
    more = f'<p class="remarks">The first {_MOST_ROWS:,} of {len(rows):,} runs.</p>' if len(rows) > len(shown) else ""
    is_short = " open" if len(rows) <= _SHORT else ""
    head = f'<summary><h2 class="inline">{plural(len(rows), "run")}</h2></summary>'
    return f"<details{is_short}>{head}{table}{more}</details>"


def _run_row(row: ResultRow, settings: Sequence[str], figures: Sequence[str]) -> str:
    cells = [_cell(row.id), _cell(row.state), *(_cell(row.labels.get(key, "")) for key in settings)]
    cells += [_cell(figure_cell(name, row.figures.get(name)), score(row, name), number=True) for name in figures]
    cells += [_cell(row.device or ""), _cell(row.restarts, row.restarts, number=True)]
    return f"<tr>{''.join(cells)}</tr>"


def _incidents(report: Report) -> str:
    if not report.incidents:
        return "<h2>What went wrong</h2><p>Nothing: no run was restarted, none failed.</p>"
    told = "".join(
        f"<dt>{text(incident.run)}</dt><dd>{'<br>'.join(text(line) for line in incident.lines)}</dd>"
        for incident in report.incidents
    )
    return f"<h2>What went wrong, and what was done</h2><dl>{told}</dl>"


def _ensembles(report: Report) -> str:
    if not report.ensembles:
        return ""
    heads = [("ensemble", False), ("members", True), ("perplexity", True), ("mean member", True), ("best member", True)]
    rows = (
        "<tr>"
        + _cell(each.name)
        + _cell(each.size, each.size, number=True)
        + "".join(
            _cell(figure(value), value, number=True) for value in (each.perplexity, each.mean_member, each.best_member)
        )
        + "</tr>"
        for each in report.ensembles
    )
    return f"<h2>Ensembles</h2>{_table(heads, rows)}"


def _samples(report: Report) -> str:
    told = "".join(
        f"<h3>{text(sample.model)}</h3>{''.join(f'<blockquote>{text_lines(t)}</blockquote>' for t in sample.texts)}"
        for sample in report.samples
    )
    return f"<h2>Samples</h2>{told}" if told else ""


def _settings(report: Report) -> str:
    alike = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in report.alike.items())
    made = "".join(f"<dt>{text(key)}</dt><dd>{text(', '.join(values))}</dd>" for key, values in report.made_of.items())
    parts = f"<h2>Settings that do not differ</h2><dl>{alike}</dl>" if alike else ""
    return parts + (f"<h2>Code, data, versions</h2><dl>{made}</dl>" if made else "")


def _recipes(recipes: Sequence[Recipe]) -> str:
    if not recipes:
        return ""
    told = "".join(
        f"<details><summary>{text(recipe.name)}: <code>{text(recipe.command)}</code></summary>"
        f"<pre>{text_lines(recipe.sweep_file)}</pre></details>"
        for recipe in recipes
    )
    return f"<h2>To get a row again</h2><p>Save the sweep file under the name in its command.</p>{told}"


def text_lines(value: str) -> str:
    """Several lines of text, each made harmless."""
    return "\n".join(text(line) for line in value.splitlines())
