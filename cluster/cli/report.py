"""`report`: what a sweep came to, as a file to hand on."""

from __future__ import annotations

from pathlib import Path

import click

from terry.cluster.cli.common import Session, needs_workspace, print_json, print_line, print_notice, selectors
from terry.cluster.errors import UserError

_ENDINGS = (".html", ".tex", ".md")


@click.command()
@selectors(required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help=".html: a page that needs no network; .tex, .md: the table of a paper.",
)
@click.pass_obj
def report(current: Session, selectors: tuple[str, ...], *, output: Path) -> None:
    """Write what the runs came to, as one page or as a paper's table.

    The page holds settings, the table with intervals, curves, what went wrong, ensembles, samples, hashes and versions,
    and for each row a sweep file that makes it again.

    Example: terry-cluster report cells -o cells.html
    """
    from terry.cluster.client.reader import Reader
    from terry.cluster.client.reporting import report_of
    from terry.cluster.files.durable import write_bytes
    from terry.logs.report.page import page
    from terry.logs.report.paper import latex, markdown

    needs_workspace(current)
    ending = output.suffix.lower()
    if ending not in _ENDINGS:
        raise UserError(f"{output} must end with {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"there is no folder {output.absolute().parent}")
    found = report_of(Reader(current.workspace), selectors)
    if ending != ".html" and not found.ranked:
        raise UserError("these runs have no loss in common, so there is no table; `-o FILE.html` shows them all")
    text = {".html": page, ".tex": latex, ".md": markdown}[ending](found)
    write_bytes(output.absolute(), text.encode(), 0o644)
    if current.as_json:
        print_json({"file": str(output.absolute()), "runs": [row.id for row in found.rows]})
        return
    print_line(f"wrote {output}")
    unfinished = sum(number for state, number in found.states.items() if state in {"pending", "waiting", "running"})
    if unfinished:
        print_notice(f"{unfinished:,} of its jobs have not ended yet")
