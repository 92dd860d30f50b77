"""The table of a paper: configurations with mean and interval, as LaTeX (booktabs) or Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from terry.logs.format import figure, plural, printable
from terry.logs.report.content import Report
from terry.logs.statistics.seeds import Ranked
from terry.logs.text.seeds import interval

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def _rows(ranked: Sequence[Ranked]) -> tuple[list[str], list[list[str]]]:
    keys = list(dict.fromkeys(key for each in ranked for key in each.configuration.labels))
    several = len({each.configuration.sweep for each in ranked}) > 1 or not keys
    rows = []
    for each in ranked:
        first = [each.configuration.sweep] if several else []
        settings = [each.configuration.labels.get(key, "") for key in keys]
        summary = each.summary
        rows.append([*first, *settings, f"{summary.n}", figure(summary.mean), interval(summary.low, summary.high)])
    return [*(["sweep"] if several else []), *keys, "n"], rows


def latex(report: Report) -> str:
    """A `table` with `booktabs`; first places that cannot be told apart are bold."""
    heads, rows = _rows(report.ranked)
    titles = [*heads, report.figure, "95% interval"]
    columns = "l" * (len(heads) - 1) + "rrl"
    body = [
        " & ".join(_bold(cells, first=each.may_be_first)) + r" \\"
        for cells, each in zip(rows, report.ranked, strict=True)
    ]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        "    " + " & ".join(_escaped(title) for title in titles) + r" \\",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        rf"  \caption{{{_escaped(_caption(report))}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _bold(cells: Sequence[str], *, first: bool) -> list[str]:
    escaped = [_escaped(cell) for cell in cells]
    escaped[-2] = rf"\textbf{{{escaped[-2]}}}" if first else escaped[-2]
    return escaped


def _escaped(value: str) -> str:
    return "".join(_LATEX.get(character, character) for character in printable(value))


def _caption(report: Report) -> str:
    """How the figures were made, in the words of a paper."""
    others = len(report.ranked) - 1
    tested = (
        f", each by a t-test at the level 0.05, Holm-corrected over {plural(others, 'comparison')}"
        if others > 0
        else ""
    )
    return (
        f"{report.title}: {report.figure}, mean over n seeds with Student's 95% interval; "
        f"bold: cannot be told apart from the best{tested}."
    )


def markdown(report: Report) -> str:
    """A table as GitHub and Pandoc read it."""
    heads, rows = _rows(report.ranked)
    titles = [*heads, report.figure, "95% interval"]
    numbers = {len(heads) - 1, len(heads)}
    rule = ["---:" if i in numbers else "---" for i in range(len(titles))]
    shown = [
        [*cells[:-2], f"**{cells[-2]}**" if each.may_be_first else cells[-2], cells[-1]]
        for cells, each in zip(([_cell(c) for c in row] for row in rows), report.ranked, strict=True)
    ]
    lines = ["| " + " | ".join(row) + " |" for row in [[_cell(t) for t in titles], rule, *shown]]
    return "\n".join([*lines, "", _caption(report), ""])


def _cell(value: str) -> str:
    return printable(value).replace("\\", "\\\\").replace("|", r"\|").replace("*", r"\*")
