"""`terry-cluster`: the command line. Everything heavy is imported inside the verbs that need it."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from terry.cluster.cli.bring import import_file
from terry.cluster.cli.common import ExitCode, Session, print_notice
from terry.cluster.cli.data import check, datasets, prepare
from terry.cluster.cli.disk_watch import DiskWatch, disk_watch
from terry.cluster.cli.export import export
from terry.cluster.cli.jobs import cancel, pause, resubmit, resume
from terry.cluster.cli.keep import archive, change, clean, du, extend, note, rm, star, tag, unarchive
from terry.cluster.cli.logs import logs
from terry.cluster.cli.nodes import doctor, down, drain, init, nodes, undrain, up
from terry.cluster.cli.report import report
from terry.cluster.cli.results import compare, plot, results
from terry.cluster.cli.run import log
from terry.cluster.cli.run import run as run_program
from terry.cluster.cli.sample import evaluate, sample
from terry.cluster.cli.settings import settings
from terry.cluster.cli.simulate import simulate
from terry.cluster.cli.submit import submit
from terry.cluster.cli.views import explain, status, wait, watch
from terry.cluster.errors import nearest
from terry.cluster.files.paths import WorkspacePaths

PROGRAM = "terry-cluster"

#: In the order in which the help lists them.
VERBS: tuple[click.Command, ...] = (
    *(submit, run_program, watch, status, logs, explain, wait, results, compare, plot, report),
    *(cancel, pause, resume, resubmit, change, extend),
    *(note, tag, star, archive, unarchive, rm, du, clean),
    *(sample, evaluate, export, log),
    *(check, prepare, datasets, settings, simulate, import_file),
    *(init, up, down, nodes, drain, undrain, doctor),
)


class _Verbs(click.Group):
    """Lists the verbs in the order above, and names the nearest of a mistyped one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is meant."""
        name = args[0]
        if not name.startswith("-") and name not in self.commands:
            hint = nearest(name, self.commands, "; the verbs are {}")
            raise click.UsageError(f"there is no verb {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    del parameter
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(version("terry-cluster"))
        context.exit()


@click.group(
    cls=_Verbs,
    commands={verb.name: verb for verb in VERBS if verb.name},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`-w` and `--json` may also stand after the verb. Exit codes: 0 done, 1 a job failed or was cancelled, "
    "2 usage or a bad file, 124 timeout, 130 interrupted (the jobs go on).",
)
@click.option(
    "-w",
    "--workspace",
    metavar="FOLDER",
    help="The workspace. Else TERRY_WORKSPACE, the nearest folder upwards with a terry.yaml, ./terry-runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print it.")
@click.pass_context
def main(context: click.Context, *, workspace: str | None, as_json: bool) -> None:
    """Sweeps of recurrent language models on every GPU a lab can reach: pinned, watched, resumed after a crash."""
    from terry.cluster.files.origin import canonical  # not for --help

    found = canonical(WorkspacePaths.find(workspace, os.environ, Path.cwd()))
    if isinstance(context.obj, DiskWatch):
        context.obj.folder = found.root
    context.obj = Session(workspace=found, as_json=as_json)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. A user's mistake is one line on standard error, never a stack."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What is read of ten thousand jobs stays; looking for garbage every 700 objects would cost a seventh of the time.
    gc.set_threshold(50_000, 20, 50)
    if "_TERRY_CLUSTER_COMPLETE" in os.environ:
        from terry.cluster.cli.complete import register

        register()
    hoisted = hoist(given)
    with disk_watch(_guessed_workspace(hoisted)) as watcher:
        return _run(hoisted, watcher)


def _guessed_workspace(arguments: Sequence[str]) -> Path:
    """Where to ask whether the disk answers, before anything is looked at."""
    named = [after for flag, after in itertools.pairwise(arguments) if flag in {"-w", "--workspace"}]
    return Path(next(iter(named), None) or os.environ.get("TERRY_WORKSPACE") or ".")


def _run(arguments: Sequence[str], watcher: DiskWatch) -> int:
    try:
        code = main.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False, obj=watcher)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):  # click turns an interrupt into Abort
        print("interrupted; the jobs go on", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except Exception as error:
        return _explain(error)
    return int(code or 0)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move `--json` and `-w FOLDER` to the front, so that they are understood before and after the verb."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument == "--json" or argument.startswith("--workspace="):
            front.append(argument)
        elif argument in {"-w", "--workspace"}:
            front += [argument, *(value for value in [next(left, None)] if value is not None)]
        else:
            rest.append(argument)
    return front + rest


def _explain(error: Exception) -> int:
    """Tell the user what is wrong; only a bug of ours shows a stack."""
    if os.environ.get("TERRY_DEBUG"):
        raise error
    if isinstance(error, BrokenPipeError):
        return _quiet()
    message = _usage(error) or _mistake(error) or _problem(error)
    if message is None:
        import traceback

        print_notice("".join(traceback.format_exception(error)).rstrip())
        print_notice("error: this is a bug in terry-cluster; please report it with the lines above")
        return ExitCode.BUG
    print_notice(message if isinstance(error, click.exceptions.NoArgsIsHelpError) else f"error: {message}")
    return ExitCode.USAGE


def _quiet() -> int:
    """Whoever read our output has gone: leave without a word, also not at the interpreter's last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.PIPE


def _usage(error: Exception) -> str | None:
    """Words of a mistyped command."""
    if not isinstance(error, click.ClickException):
        return None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message()
    context = getattr(error, "ctx", None)
    path = context.command_path if context else PROGRAM
    return f"{error.format_message()}\nTry '{path} --help'."


def _mistake(error: Exception) -> str | None:
    """Words of a ValueError of our own: each package of the project has its class for users' mistakes."""
    ours = isinstance(error, ValueError) and type(error).__module__.startswith("terry.")
    return str(error) if ours else None


_REASONS = {
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.ESTALE: "the network file system does not know the file any more; try again",
    errno.ENOTCONN: "the network file system is gone for now",
    errno.EIO: "the disk or network file system reports an input/output error",
}


def _problem(error: Exception) -> str | None:
    """Words of the operating system's refusal."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    reason = _REASONS.get(error.errno, (error.strerror or str(error)).lower())
    where = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{where}: {reason}" if where else reason


if __name__ == "__main__":
    sys.exit(run())
