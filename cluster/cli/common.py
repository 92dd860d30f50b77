"""What the verbs of the command line share: the session, printing, colours."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TextIO

import click

from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from terry.cluster.client.reader import Reader


class ExitCode(IntEnum):
    """What the command line ends with. Part of its contract."""

    DONE = 0
    FAILED = 1  #: a job failed or was cancelled
    USAGE = 2  #: usage, a bad file, a workspace that cannot be read or written
    BUG = 70  #: our own mistake (sysexits.h: EX_SOFTWARE)
    TIMEOUT = 124
    INTERRUPTED = 130  #: the jobs go on
    PIPE = 141  #: whoever read our output has gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What was said before the verb."""

    workspace: WorkspacePaths
    as_json: bool


def needs_workspace(current: Session) -> None:
    """Raise UserError where there is no workspace yet: the verb has nothing to look at."""
    if not current.workspace.exists:
        raise UserError(
            f"there is no workspace at {current.workspace.root}; `terry-cluster submit FILE` makes one there, "
            "`-w FOLDER` or TERRY_WORKSPACE names another"
        )


Verb = Callable[..., object]

#: How jobs are named; several at once.
SELECTORS = "SELECTOR: a job id, its unique beginning, a sweep, an ensemble, a glob ('cells-*'), or state:failed."


def selectors(*, required: bool) -> Callable[[Verb], Verb]:
    """The argument SELECTOR..., completed with what the workspace has. None given: all jobs, unless required."""
    metavar = "SELECTOR..." if required else "[SELECTOR]..."
    return click.argument("selectors", nargs=-1, required=required, metavar=metavar, shell_complete=completed("jobs"))


def one_job() -> Callable[[Verb], Verb]:
    """The argument JOB."""
    return click.argument("job", metavar="JOB", shell_complete=completed("jobs"))


def completed(name: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """A completer of terry.cluster.cli.complete, by name: it is imported when the shell asks."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from terry.cluster.cli import complete as cli_complete

        found: list[CompletionItem] = getattr(cli_complete, name)(context, parameter, incomplete)
        return found

    return complete


#: A change of colour, as `paint` writes it: the one sequence that may reach the terminal.
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def harmless(text: str) -> str:
    """The lines of a text as a terminal may have them: our colours stay, whatever else would steer it is visible."""
    from terry.logs.format import printable

    def of_line(line: str) -> str:
        if line.isprintable():
            return line
        parts = _COLOUR.split(line)
        return "".join(part if i % 2 else printable(part, most=None) for i, part in enumerate(parts))

    return "\n".join(of_line(line) for line in text.split("\n"))


def print_line(text: str = "", *, file: TextIO | None = None) -> None:
    """Print one line."""
    print(harmless(text), file=file or sys.stdout)


def print_notice(text: str) -> None:
    """One line to standard error: for people who watch, never part of the result."""
    sys.stdout.flush()  # where both go into one file, in the order in which they were said
    print(harmless(text), file=sys.stderr)


def note_controller(reader: Reader) -> None:
    """Say where nobody is there to act on a request."""
    if reader.read().controller.advice:
        print_notice("no controller runs: it will be done after `terry-cluster up` or the next `submit`")


def print_json(document: Any) -> None:
    """Print one JSON document. NaN and infinity become null: JSON has none."""
    sys.stdout.write(json_text(document))


def json_text(document: Any) -> str:
    """One JSON document in lines; whatever would steer a terminal is written as JSON's escapes."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
    return text if text.isascii() else _BEYOND_ASCII.sub(_escaped, text)


_BEYOND_ASCII = re.compile(r"[^\x00-\x7e]")


def _escaped(found: re.Match[str]) -> str:
    if found[0].isprintable():
        return found[0]
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines at once."""
    text = "\n".join(lines)
    if text:
        sys.stdout.write(harmless(text) + "\n")


def coloured(stream: TextIO | None = None) -> bool:
    """True where colours may be written: a terminal, and NO_COLOR not set."""
    return (stream or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def has_screen() -> bool:
    """True where a dashboard can be shown: keyboard and output are a terminal that can move its cursor."""
    return sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, style: str, *, on: bool) -> str:
    """The text in a style of terry.logs.text.palette, where colours are on."""
    from terry.logs.text.palette import sgr

    many = "256color" in os.environ.get("TERM", "") or "COLORTERM" in os.environ
    return f"\x1b[{sgr(style, many=many)}m{text}\x1b[0m" if on and style else text


def width() -> int | None:
    """Columns of the terminal; None where the output is not one (then nothing is cut)."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except OSError:
        return None
