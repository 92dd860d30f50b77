"""The table of a paper."""

from __future__ import annotations

import dataclasses

from terry.logs.report.paper import latex, markdown
from tests.unit.logs.report.reports import report


def test_latex_marks_the_best_and_escapes_what_tex_would_run() -> None:
    text = latex(dataclasses.replace(report(("g_r&u", "lstm")), title="50% of $x_1$ {a} \\b"))
    assert r"g\_r\&u & 3 & \textbf{4.0033} & 3.9654 to 4.0413 \\" in text
    assert r"50\% of \$x\_1\$ \{a\} \textbackslash{}b" in text
    assert r"\begin{tabular}{lrrl}" in text


def test_markdown_keeps_its_columns_whatever_a_name_holds() -> None:
    lines = markdown(report(("a|b", "c*d"))).splitlines()
    assert lines[0] == "| cell | n | valid_loss | 95% interval |"
    assert lines[2].startswith(r"| a\|b | 3 | **4.0033** |")
    assert r"c\*d" in lines[3]
