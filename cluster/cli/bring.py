"""`import`: sweep files of what people have from other tools."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from terry.cluster.cli.common import ExitCode, Session, print_json, print_lines, print_notice
from terry.cluster.errors import UserError


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option("-o", "--output", metavar="FILE", help="Write it there, where no file is yet; else it is printed.")
@click.pass_obj
def import_file(current: Session, file: str, *, output: str | None) -> int:
    """Write a sweep file from one of another tool: W&B, Hydra, Slurm, Determined.

    \b
    FILE: a W&B sweep's YAML, a script with a Hydra --multirun line, a Slurm array
    script, a Determined experiment's YAML; - is standard input. What cannot be
    carried over is named.
    Example: terry-cluster import sweep-wandb.yaml -o sweep.yaml
    """
    from terry.jobs.imports.which import read

    found = read(Path("line"), sys.stdin.read()) if file == "-" else read(Path(file))
    text = found.text()
    if output is not None:
        try:
            with Path(output).open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            raise UserError("is there already: give another name", file=output) from None
    if current.as_json:
        print_json({"tool": found.tool, "sweep": found.document(), "left_out": found.left_out, "file": output})
        return ExitCode.DONE
    if output is None:
        print_lines(text.splitlines())
        return ExitCode.DONE
    for note in found.left_out:
        print_notice(f"not carried over: {note}")
    print_lines([f"{output}: try `terry-cluster submit {output} --dry-run`"])
    return ExitCode.DONE
