"""The verbs by which jobs are kept: `change`, `extend`, `note`, `tag`, `star`, `archive`, `rm`, `du`, `clean`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import (
    ExitCode,
    Session,
    completed,
    needs_workspace,
    note_controller,
    one_job,
    print_json,
    print_line,
    print_lines,
    print_notice,
    selectors,
    width,
)
from terry.cluster.errors import UserError

if TYPE_CHECKING:
    from terry.cluster.client.keeping import Kept
    from terry.cluster.client.reader import Reader
    from terry.cluster.client.room import Removal

_YES = click.option("-y", "--yes", is_flag=True, help="Do it without asking.")


@click.command()
@click.argument(
    "words", metavar="SELECTOR... KEY=VALUE...", nargs=-1, required=True, shell_complete=completed("jobs_and_settings")
)
@click.pass_obj
def change(current: Session, words: tuple[str, ...]) -> None:
    """Change what jobs wait for, and how patiently.

    \b
    KEY: priority, resources.*, time_limit, hang_after, threads, retry.*
    While a job is on a device only priority and retry can change.
    Example: terry-cluster change cells priority=9 resources.gpus=0.5
    """
    from terry.cluster.client.keeping import change as ask

    reader, names, settings = _names_and_settings(current, words, "change cells-0007 priority=9")
    _tell(current, reader, "change", ask(reader, reader.select_jobs(names), settings))


@click.command()
@click.argument(
    "words", metavar="SELECTOR... KEY=VALUE...", nargs=-1, required=True, shell_complete=completed("jobs_and_settings")
)
@_YES
@click.pass_obj
def extend(current: Session, words: tuple[str, ...], *, yes: bool) -> int:
    """Let trainings that have ended go on for longer.

    \b
    KEY: training.epochs, training.max_steps
    They go on from their last checkpoint, bit for bit as if so much had been
    asked for at first; where that cannot be (a cosine schedule) it asks.
    Example: terry-cluster extend cells-0007 training.epochs=20
    """
    from terry.cluster.client import extending

    reader, names, settings = _names_and_settings(current, words, "extend cells-0007 training.epochs=20")
    found = extending.plan(reader, reader.select_jobs(names), settings)
    doubtful = found.warnings
    if current.as_json:
        if doubtful and not yes:
            raise UserError(f"{next(iter(doubtful))}; say --yes if that is meant")
        if found.runs:
            extending.carry_out(reader, found)
        print_json({"verb": "extend", "jobs": found.ids, "left": found.left, "warnings": doubtful})
        return ExitCode.DONE if found.runs else ExitCode.USAGE
    print_lines(_left(found.left))
    if not found.runs:
        print_line("nothing to extend")
        return ExitCode.USAGE
    for why, ids in doubtful.items():
        print_line(f"{_few(ids)}: {why}")
    if doubtful and not yes and not _agreed("let them go on all the same?"):
        print_line("nothing was asked")
        return ExitCode.DONE
    starting = extending.carry_out(reader, found)
    same = "" if doubtful else ", bit for bit as if that had been asked for at first"
    print_line(f"{_few(found.ids)}: {'goes' if len(found.ids) == 1 else 'go'} on with {' '.join(settings)}{same}")
    if starting:
        print_notice("a controller is being started in the background")
    return ExitCode.DONE


def _few(ids: list[str]) -> str:
    from terry.cluster.client.selectors import few

    return few(ids)


def _names_and_settings(current: Session, words: tuple[str, ...], example: str) -> tuple[Reader, list[str], list[str]]:
    from terry.cluster.client.filters import is_filter

    settings = [word for word in words if "=" in word and not is_filter(word)]
    names = [word for word in words if word not in settings]
    if not names or not settings:
        raise UserError(f"say which jobs and what: `terry-cluster {example}`")
    needs_workspace(current)
    return _reader(current), names, settings


@click.command()
@one_job()
@click.argument("text", nargs=-1)
@click.option("--remove", is_flag=True, help="The job has no note any more.")
@click.pass_obj
def note(current: Session, job: str, text: tuple[str, ...], *, remove: bool) -> None:
    """Say in a line what a job is about; it is shown beside the job.

    Without TEXT: show the note. JOB may be any selector.

    Example: terry-cluster note cells-0007 the one in figure 3
    """
    from terry.cluster.client.keeping import mark

    needs_workspace(current)
    reader = _reader(current)
    records = reader.select_jobs([job])
    if not text and not remove:
        if current.as_json:
            print_json({record.job.id: record.marks.note for record in records})
        else:
            print_lines(f"{record.job.id}: {record.marks.note}" for record in records if record.marks.note)
        return
    if text and remove:
        raise UserError("either a text, or --remove")
    _tell(current, reader, "note", mark(reader, records, note=" ".join(text)))


@click.command()
@one_job()
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@click.option("--remove", is_flag=True, help="Take these tags away.")
@click.pass_obj
def tag(current: Session, job: str, tags: tuple[str, ...], *, remove: bool) -> None:
    """Give jobs tags, by which they are found: `tag:paper`.

    Without TAG: show the tags. JOB may be any selector.

    Example: terry-cluster tag 'loss<4.5' paper
    """
    from terry.cluster.client.keeping import mark

    needs_workspace(current)
    reader = _reader(current)
    records = reader.select_jobs([job])
    if not tags:
        if remove:
            raise UserError("say which tags are to be taken away")
        if current.as_json:
            print_json({record.job.id: record.marks.tags for record in records})
        else:
            print_lines(f"{r.job.id}: {' '.join(r.marks.tags)}" for r in records if r.marks.tags)
        return
    asked = mark(reader, records, drop_tags=tags) if remove else mark(reader, records, add_tags=tags)
    _tell(current, reader, "tag", asked)


@click.command()
@selectors(required=True)
@click.option("--remove", is_flag=True, help="Take the star away.")
@click.pass_obj
def star(current: Session, selectors: tuple[str, ...], *, remove: bool) -> None:
    """Give jobs a star: `is:starred` finds them, `clean` spares them.

    Example: terry-cluster star cells-0007
    """
    from terry.cluster.client.keeping import mark

    needs_workspace(current)
    reader = _reader(current)
    _tell(current, reader, "star", mark(reader, reader.select_jobs(selectors), starred=not remove))


@click.command()
@selectors(required=True)
@click.pass_obj
def archive(current: Session, selectors: tuple[str, ...]) -> None:
    """Put jobs that have ended out of sight; their files stay.

    They are shown where they are named, or asked for by `is:archived`.

    Example: terry-cluster archive cells state:failed
    """
    _archive(current, selectors, archived=True)


@click.command()
@selectors(required=True)
@click.pass_obj
def unarchive(current: Session, selectors: tuple[str, ...]) -> None:
    """Bring archived jobs back into sight.

    Example: terry-cluster unarchive cells is:archived
    """
    _archive(current, selectors, archived=False)


def _archive(current: Session, selectors: tuple[str, ...], *, archived: bool) -> None:
    from terry.cluster.client.keeping import mark

    needs_workspace(current)
    reader = _reader(current)
    # `unarchive cells` means what is archived of it.
    given = selectors if archived or any(s.startswith("is:") for s in selectors) else (*selectors, "is:archived")
    verb = "archive" if archived else "unarchive"
    _tell(current, reader, verb, mark(reader, reader.select_jobs(given), archived=archived))


@click.command()
@selectors(required=True)
@_YES
@click.pass_obj
def rm(current: Session, selectors: tuple[str, ...], *, yes: bool) -> int:
    """Remove jobs that have ended, with their files; asks first.

    Their history stays: `explain` tells it, and `resubmit --from-scratch` makes them again.
    With --json and without --yes it only says what would go.

    Example: terry-cluster rm cells state:failed
    """
    from terry.cluster.client.room import plan_rm

    needs_workspace(current)
    reader = _reader(current)
    return _remove(current, reader, plan_rm(reader, reader.select_jobs(selectors)), yes=yes)


@click.command()
@selectors(required=False)
@click.option("--older-than", metavar="AGE", default="30d", show_default=True, help="Runs that ended so long ago.")
@click.option(
    "--keep",
    type=click.Choice(["best", "last", "results", "nothing"]),
    default="best",
    show_default=True,
    help="What stays of each: the best checkpoint, the last, none (`results`), or no file at all (`nothing`).",
)
@_YES
@click.pass_obj
def clean(current: Session, selectors: tuple[str, ...], *, older_than: str, keep: str, yes: bool) -> int:
    """Remove what old runs no longer need: says how much, and asks.

    Results, measurements and logs stay, and so does all of a run with a star. Archived runs are cleaned, too.
    With --json and without --yes it only says what would go.

    Example: terry-cluster clean --older-than 30d --keep best
    """
    from terry.cluster.client.room import Keep, plan_clean
    from terry.cluster.config.words import seconds

    needs_workspace(current)
    try:
        age = seconds(older_than)
    except ValueError as error:
        raise UserError(f"--older-than {older_than}: {error}") from None
    reader = _reader(current)
    given = selectors if any(s.startswith("is:") for s in selectors) else (*selectors, "is:any")
    removal = plan_clean(reader, reader.select_jobs(given), age, Keep(keep))
    removal.left.pop("removed already", None)
    return _remove(current, reader, removal, yes=yes)


@click.command()
@selectors(required=False)
@click.pass_obj
def du(current: Session, selectors: tuple[str, ...]) -> None:
    """Show what jobs take up on the disk, the largest first.

    Example: terry-cluster du cells
    """
    from terry.cluster.client.room import Size, room_of, size_of
    from terry.logs.format import Column, plural, size, table

    needs_workspace(current)
    reader = _reader(current)
    given = selectors or ("is:any",)
    rooms = room_of(reader, reader.select_jobs(given))
    data = size_of(current.workspace.datasets)
    if current.as_json:
        print_json({"jobs": [{**_document(room), "total": room.total} for room in rooms], "datasets": data})
        return
    there = [room for room in rooms if room.total.files]
    titles = ("JOB", "STATE"), ("TOTAL", "CHECKPOINTS", "OTHER", "FILES")
    columns = [*(Column(title=t) for t in titles[0]), *(Column(title=t, right=True) for t in titles[1])]
    rows = [
        [r.id, r.state, size(r.total.bytes), size(r.checkpoints.bytes), size(r.rest.bytes), f"{r.total.files:,}"]
        for r in there
    ]
    print_lines(table(columns, rows, width=width()))
    total = sum((room.total for room in there), Size())
    print_line(f"{plural(len(there), 'job')}: {size(total.bytes)} in {plural(total.files, 'file')}")
    if not selectors:
        print_line(f"data sets: {size(data.bytes)} in {plural(data.files, 'file')}")


def _document(room: Any) -> dict[str, Any]:
    return {name: getattr(room, name) for name in ("id", "sweep", "state", "checkpoints", "rest")}


def _reader(current: Session) -> Reader:
    from terry.cluster.client.reader import Reader

    return Reader(current.workspace)


def _tell(current: Session, reader: Reader, verb: str, asked: Kept) -> None:
    """For which jobs it was asked, and for which not."""
    from terry.cluster.client.selectors import few
    from terry.logs.format import plural

    if current.as_json:
        print_json({"request": asked.request, "verb": verb, "jobs": asked.ids, "left": asked.left})
        return
    said = f"asked to {verb} {plural(len(asked.ids), 'job')}: {few(asked.ids)}" if asked.ids else f"nothing to {verb}"
    print_lines([said, *_left(asked.left)])
    if asked.ids:
        note_controller(reader)


def _left(left: dict[str, list[str]]) -> list[str]:
    from terry.cluster.client.selectors import few

    return [f"left as {'it is' if len(ids) == 1 else 'they are'}: {few(ids)} ({why})" for why, ids in left.items()]


def _remove(current: Session, reader: Reader, removal: Removal, *, yes: bool) -> int:
    """Say what would go, ask, and see to it."""
    from terry.cluster.client.room import carry_out
    from terry.cluster.client.selectors import few
    from terry.logs.format import plural, size

    if current.as_json:
        requests = carry_out(reader, removal) if yes else []
        print_json(
            {
                "jobs": removal.whole,
                "checkpoints": removal.checkpoints,
                "bytes": removal.size.bytes,
                "files": removal.size.files,
                "left": removal.left,
                "requests": requests,
            }
        )
        return ExitCode.DONE
    print_lines(_left(removal.left))
    if not removal.ids:
        print_line("nothing to remove")
        return ExitCode.DONE
    checkpoints = sum(map(len, removal.checkpoints.values()))
    what = f"{plural(checkpoints, 'checkpoint')} of " if checkpoints else ""
    print_line(f"{what}{plural(len(removal.ids), 'job')}: {few(removal.ids)}")
    print_line(f"{size(removal.size.bytes)} in {plural(removal.size.files, 'file')} would go for good")
    if not yes and not _agreed():
        print_line("nothing was removed")
        return ExitCode.DONE
    carry_out(reader, removal)
    print_line(f"asked to remove {'them' if removal.size.files != 1 else 'it'}")
    note_controller(reader)
    return ExitCode.DONE


def _agreed(question: str = "remove?") -> bool:
    if not sys.stdin.isatty():
        raise UserError("nobody is there to be asked: say --yes")
    return click.confirm(question, default=False)
