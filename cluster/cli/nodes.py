"""The verbs about the cluster: `init`, `up`, `down`, `nodes`, `drain`, `undrain`, `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import (
    ExitCode,
    Session,
    coloured,
    completed,
    needs_workspace,
    note_controller,
    paint,
    print_json,
    print_line,
    print_lines,
    print_notice,
    width,
)
from terry.cluster.host.clock import now

if TYPE_CHECKING:
    from terry.cluster.files.inbox import Drain, Undrain


@click.command()
@click.option("--group", metavar="NAME", help="Share it with this Unix group.")
@click.pass_obj
def init(current: Session, *, group: str | None) -> None:
    """Make a workspace: private, or for a group.

    Not needed for yourself: `submit` makes one, too.

    Example: terry-cluster -w /srv/lab/runs init --group lab
    """
    from terry.cluster.client.setup import make_workspace

    made = make_workspace(current.workspace, group)
    if current.as_json:
        print_json({"workspace": str(current.workspace.root), "made": made, "group": group})
        return
    whose = f"shared with the group {group}" if group else "yours alone"
    print_line(f"{'made' if made else 'there already:'} {current.workspace.root}, {whose}")


@click.command()
@click.pass_obj
def up(current: Session) -> None:
    """Start Ray, the controller and the nodes of terry.yaml.

    Adds what is missing and never disturbs what runs. Unfinished jobs go on from their last checkpoints. Not needed
    before `submit`, which does it, too.

    Example: terry-cluster -w /srv/lab/runs up
    """
    from terry.cluster.client.setup import make_workspace
    from terry.cluster.lifecycle.up import ensure_up

    make_workspace(current.workspace)
    started = ensure_up(current.workspace, wait=True, progress=print_notice)
    _print_up(current, "up" if started else "already up")


def _print_up(current: Session, word: str) -> None:
    from terry.cluster.lifecycle.on_head import cluster_status

    found = cluster_status(current.workspace)
    if current.as_json:
        print_json({"workspace": str(current.workspace.root), "state": word, "cluster": found})
    else:
        where = f", Ray at {found.address}" if found.address else ""
        print_line(f"{word}: controller {found.epoch} on {found.host}{where}")


@click.command()
@click.pass_obj
def down(current: Session) -> None:
    """End Ray and the controller, on all nodes.

    Running jobs write a checkpoint first and go on after `up`.

    Example: terry-cluster down
    """
    from terry.cluster.lifecycle.up import take_down

    needs_workspace(current)
    ended = take_down(current.workspace, progress=print_notice)
    if current.as_json:
        print_json({"workspace": str(current.workspace.root), "ended": ended})
    else:
        print_line("down; what has not ended goes on after `terry-cluster up`" if ended else "nothing ran")


@click.command()
@click.option("--machines", is_flag=True, help="With --json: the nodes instead of their devices.")
@click.pass_obj
def nodes(current: Session, *, machines: bool) -> None:
    """List nodes and devices, what runs on them, and what is wrong.

    Nodes of other hosts come first, each with what keeps it away and how to fix that.

    Example: terry-cluster nodes --json
    """
    from terry.cluster.client.reader import Reader
    from terry.cluster.lifecycle.overview import node_views as list_nodes
    from terry.logs.text.nodes import node_lines
    from terry.logs.text.status import device_lines, head
    from terry.logs.view.build import ViewBuilder

    needs_workspace(current)
    known = list_nodes(current.workspace)
    if current.as_json and machines:
        print_json(known)
        return
    view = ViewBuilder().view(Reader(current.workspace).read())
    if current.as_json:
        print_json(view.devices)
        return
    lines = device_lines(view.devices, width=width())
    above = [*node_lines(known, width=width()), ""] if known else []
    nothing = ["no device has been seen yet; `terry-cluster up` brings them, or says why not"]
    print_lines([head(view), "", *above, *(lines or nothing)])


@click.command()
@click.argument("device", metavar="DEVICE", shell_complete=completed("devices"))
@click.option("--reason", metavar="TEXT", default="by request", help="Shown to everybody.")
@click.pass_obj
def drain(current: Session, device: str, *, reason: str) -> None:
    """Let a device take no new jobs; its jobs move.

    Example: terry-cluster drain quattro:2 --reason "fan is noisy"
    """
    from terry.cluster.files.inbox import Drain

    _ask(current, Drain(device=device, reason=reason), "drain")


@click.command()
@click.argument("device", metavar="DEVICE", shell_complete=completed("devices"))
@click.pass_obj
def undrain(current: Session, device: str) -> None:
    """Let a drained device take jobs again.

    Example: terry-cluster undrain quattro:2
    """
    from terry.cluster.files.inbox import Undrain

    _ask(current, Undrain(device=device), "undrain")


def _ask(current: Session, message: Drain | Undrain, verb: str) -> None:
    from terry.cluster.client.asking import ask_device
    from terry.cluster.client.reader import Reader

    needs_workspace(current)
    reader = Reader(current.workspace)
    ask_device(reader, message)
    if current.as_json:
        print_json({"request": message.request, "verb": verb, "device": message.device})
        return
    print_line(f"asked to {verb} {message.device}")
    note_controller(reader)


@click.command()
@click.pass_obj
def doctor(current: Session) -> int:
    """Check that the workspace is sound.

    Journal, lease, inbox, submissions, runs, checkpoints, rights, disk. Exit code 1 if something is wrong.

    Example: terry-cluster doctor
    """
    from terry.cluster.client.doctor import examine

    if not current.workspace.runs.is_dir():  # else it is one, whatever else it lacks
        needs_workspace(current)
    findings = examine(current.workspace, now())
    bad = any(not finding.good for finding in findings)
    if current.as_json:
        print_json(findings)
    else:
        print_lines(_finding_line(finding) for finding in findings)
    return ExitCode.FAILED if bad else ExitCode.DONE


def _finding_line(finding: Any) -> str:
    from terry.logs.text.palette import BAD, GOOD

    mark = paint("ok  ", GOOD, on=coloured()) if finding.good else paint("BAD ", f"bold {BAD}", on=coloured())
    return f"{mark}  {finding.what}: {finding.text}"
