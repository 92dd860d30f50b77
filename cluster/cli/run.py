"""`run` and `log`: a program as a job by hand, and what a shell script measures."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

import click

from terry.cluster.cli.common import ExitCode, Session, print_json, print_lines
from terry.cluster.errors import UserError


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", metavar="-- PROGRAM [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", metavar="NAME", help="Of its sweep; left out: the program's.")
@click.option("--gpus", type=float, metavar="N", help="1, or a share of one: 0.5.")
@click.option("--cpus", type=float, metavar="N", help="CPU cores, for a job without a GPU.")
@click.option("--time-limit", metavar="TIME", help="It is ended after so long: 90, '5 min', '2 h'.")
@click.option("--priority", metavar="N", type=int, help="Higher goes first.")
@click.option("--hold", is_flag=True, help="It waits for `resume`.")
@click.option("--follow", is_flag=True, help="Print its output until it ends; exit code 1 if it failed.")
@click.option("--dry-run", is_flag=True, help="Print the argument list; nothing is submitted.")
@click.pass_obj
def run(
    current: Session,
    command: tuple[str, ...],
    *,
    name: str | None,
    gpus: float | None,
    cpus: float | None,
    time_limit: str | None,
    priority: int | None,
    hold: bool,
    follow: bool,
    dry_run: bool,
) -> int:
    """Run any program as a job: pinned, retried after a crash.

    \b
    It runs in the present folder; what it keeps belongs in $TERRY_RUN_DIR.
    Example: terry-cluster run --gpus 0.5 --follow -- python train.py --lr 0.1
    """
    from terry.cluster.cli.submit import show_plan, submit_planned
    from terry.cluster.client.submitting import plan

    resources = {key: value for key, value in (("gpus", gpus), ("cpus", cpus)) if value is not None}
    settings: dict[str, Any] = {"command": list(command), "resources": resources}
    settings |= {"time_limit": time_limit} if time_limit is not None else {}
    settings["parameters"] = {"asked": secrets.token_hex(4)}  # asked for twice, it is done twice
    sweep = {"name": name or _name(command[0], command[1:]), "run": settings}
    planned = plan(current.workspace, sweep, (), hold=hold, priority=priority, extend=True)
    if dry_run:
        show_plan(current, planned)
        return ExitCode.DONE
    document = submit_planned(current, planned)
    job = planned.jobs[0].id
    if follow:
        return follow_output(current, job)
    if current.as_json:
        print_json(document)
    else:
        print_lines([job])
    return ExitCode.DONE


def follow_output(current: Session, job: str) -> int:
    """Print its output until it ends."""
    from terry.cluster.cli.logs import print_log
    from terry.cluster.client.reader import Reader

    reader = Reader(current.workspace)
    return print_log(reader, reader.select_job(job), follow=True, stderr=False)


def _name(program: str, arguments: tuple[str, ...]) -> str:
    """What people would call it: `train` for `python train.py`."""
    script = next((a for a in arguments if re.search(r"\.(py|sh|R|r|jl|pl|rb)$", a)), program)
    found = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(script).stem).strip("-._")[:40]
    return found or "run"


@click.command()
@click.argument("values", metavar="NAME=NUMBER...", nargs=-1, required=True)
@click.option("--step", type=click.IntRange(min=0), required=True, metavar="N", help="Of the training.")
def log(values: tuple[str, ...], *, step: int) -> int:
    """Tell what a job has measured, from its shell script.

    Example: terry-cluster log loss=0.3 accuracy=0.9 --step 10
    """
    import msgspec

    from terry.logs.records.metrics import OWN
    from terry.logs.records.values import measured

    target = os.environ.get("TERRY_METRICS")
    if not target:
        raise UserError("`log` is for programs that run as jobs (TERRY_METRICS is not set here)")
    row: dict[str, Any] = {"step": step}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name or name in OWN or not name.isprintable():
            raise UserError(f"{value!r} must be NAME=NUMBER, and a name other than {', '.join(sorted(OWN))}")
        try:
            row[name] = measured(float(text))
        except ValueError:
            raise UserError(f"{name} must be a number, not {text!r}") from None
    line = msgspec.json.encode(row) + b"\n"
    descriptor = os.open(target, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
    return ExitCode.DONE
