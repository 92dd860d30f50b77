"""`settings`: what a sweep file may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from terry.cluster.cli.common import Session, print_json, print_lines, width
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from terry.cluster.config.described import Described


@click.command()
@click.argument("key", required=False)
@click.pass_obj
def settings(current: Session, key: str | None) -> None:
    """Print the keys of a sweep file with their defaults.

    KEY: a key with what may stand there and what it means, or a section with its keys; a part of a name will do.

    Example: terry-cluster settings optimizer.lr
    """
    from terry.logs.format import Column, table

    found = _matching(key)
    if current.as_json:
        print_json(found)
    elif len(found) == 1:
        print_lines(_page(found[0]))
    else:
        columns = [Column(title=title) for title in ("KEY", "DEFAULT", "MEANING")]
        print_lines(table(columns, [[each.key, each.shown, each.meaning] for each in found], width=width()))


def _matching(key: str | None) -> list[Described]:
    """All keys, or those that are meant: this one, those of this section, those that end so. Raises UserError."""
    from terry.cluster.config.described import described
    from terry.cluster.config.typed import unknown
    from terry.jobs.sweeps.spec import RunConfig, SweepFile

    every = list(described(SweepFile))
    if key is None:
        return every
    wanted = key.strip(".")
    found = [each for each in every if f".{each.key}".endswith(f".{wanted}")]
    begins = tuple(f"{each.key}." for each in found)
    below = [each for each in every if begins and each.key.startswith(begins)]
    if not found:
        raise UserError(f"{wanted}: {unknown((wanted,), RunConfig, SweepFile).message}")
    return [*found, *below] if below else found


def _page(found: Described) -> list[str]:
    """One key in full."""
    lines = [found.key, f"  {found.kind}" + (f"; default: {found.shown}" if found.shown else "; left out by default")]
    lines += [f"  {found.meaning}"] if found.meaning else []
    wide = max((len(word) for word in found.choices), default=0)
    return lines + [f"    {word:{wide}}  {text}".rstrip() for word, text in found.choices.items()]
