"""`logs`: the output of a job, attempt after attempt, and what it goes on to print."""

from __future__ import annotations

import codecs
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from terry.cluster.cli.common import ExitCode, Session, harmless, needs_workspace, one_job, print_json, print_notice
from terry.cluster.core.model import JobState

if TYPE_CHECKING:
    from terry.cluster.client.reader import Reader
    from terry.cluster.core.model import JobRecord
    from terry.cluster.files.paths import AttemptFolder, Run

_LOOK_S = 0.2
_CHUNK = 1 << 20
_STAYS = re.compile(r"([\r\t])")


@click.command()
@one_job()
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended; exit code 1 if it failed.")
@click.option("--stderr", is_flag=True, help="What it printed to standard error.")
@click.pass_obj
def logs(current: Session, job: str, *, follow: bool, stderr: bool) -> int:
    """Print what a job has printed, attempt by attempt.

    Example: terry-cluster logs cells-0007 -f
    """
    from terry.cluster.client.reader import Reader

    needs_workspace(current)
    reader = Reader(current.workspace)
    record = reader.select_job(job)
    if current.as_json:
        print_json(_attempt_texts(current.workspace.run(record.job.id), record, stderr=stderr))
        return ExitCode.DONE
    return print_log(reader, record, follow=follow, stderr=stderr)


def _attempt_texts(run: Run, record: JobRecord, *, stderr: bool) -> list[dict[str, Any]]:
    """What `logs --json` prints: one object an attempt."""
    devices = {attempt.number: attempt.device for attempt in record.attempts}
    return [
        {
            "attempt": number,
            "device": devices.get(number),
            "file": str(_file(folder, stderr=stderr)),
            "text": _text(_file(folder, stderr=stderr)),
        }
        for number, folder in run.attempts()
    ]


def _file(folder: AttemptFolder, *, stderr: bool) -> Path:
    return folder.stderr if stderr else folder.stdout


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""


def print_log(reader: Reader, record: JobRecord, *, follow: bool, stderr: bool) -> ExitCode:
    """Print what is there; with `follow` go on until the job is final and all is printed."""
    printer = _Printer(reader.workspace.run(record.job.id), stderr=stderr)
    printer.catch_up(record)
    if not follow:
        if not printer.anything:
            print_notice(f"{record.job.id} is {record.state} and has not printed anything")
        _hint(reader, record, stderr=stderr)
        return ExitCode.DONE
    printed = ""
    while not record.state.is_final:
        printed = _print_why_silent(reader, record, printed)
        time.sleep(_LOOK_S)
        # The state first: what was printed before a job's end is then on disk when the end is known.
        record = reader.jobs()[record.job.id]
        printer.catch_up(record)
    if record.state is JobState.COMPLETED:
        return ExitCode.DONE
    _hint(reader, record, stderr=stderr)
    return ExitCode.FAILED


def _print_why_silent(reader: Reader, record: JobRecord, printed: str) -> str:
    """Where the job does not run: say once why not, and again when that has changed. Returns what was said last."""
    if record.state.holds_device:
        return ""
    why = f"{record.job.id} is {record.state}; waiting for it to start"
    if reader.read().controller.advice:
        why += ": no controller runs; `terry-cluster up` starts one"
    if why != printed:
        print_notice(why)
    return why


def _hint(reader: Reader, record: JobRecord, *, stderr: bool) -> None:
    """Where to look next, if there is more to see."""
    attempts = reader.workspace.run(record.job.id).attempts()
    if not stderr and any(_size(folder.stderr) for _, folder in attempts):
        print_notice(f"there is more on standard error: `terry-cluster logs {record.job.id} --stderr`")
    if record.state is JobState.FAILED:
        print_notice(f"{record.job.id} failed: `terry-cluster explain {record.job.id}` tells why")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Printer:
    """Prints what was added since it was last asked."""

    def __init__(self, run: Run, *, stderr: bool) -> None:
        self._run = run
        self._stderr = stderr
        self._read: dict[int, int] = {}  # attempt -> bytes printed
        self._line_open = False
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}  # by attempt
        self.anything = False

    def catch_up(self, record: JobRecord) -> None:
        """Print all that is new, in the order of the attempts."""
        for number, folder in self._run.attempts():
            if number not in self._read:
                self._header(number, record)
                self._read[number] = 0
            self._print_rest(number, _file(folder, stderr=self._stderr))
        sys.stdout.buffer.flush()

    def _header(self, number: int, record: JobRecord) -> None:
        known = next((attempt for attempt in record.attempts if attempt.number == number), None)
        where = f" on {known.device}, {known.placed_at.astimezone():%Y-%m-%d %H:%M:%S}" if known else ""
        gap = "\n" if self._line_open else ""
        sys.stdout.buffer.write(f"{gap}==> attempt {number}{where} <==\n".encode())
        self._line_open = False

    def _print_rest(self, number: int, path: Path) -> None:
        try:
            with path.open("rb") as stream:
                stream.seek(self._read[number])
                while chunk := stream.read(_CHUNK):
                    self._read[number] += len(chunk)
                    self._line_open = not chunk.endswith(b"\n")
                    self.anything = True
                    sys.stdout.buffer.write(self._fit(number, chunk))
        except FileNotFoundError:
            return

    def _fit(self, number: int, chunk: bytes) -> bytes:
        """What is written of a chunk: into a file or a pipe all of it, to a terminal nothing that steers it.

        Colours stay, and the carriage returns of progress bars.
        """
        if not sys.stdout.isatty():
            return chunk
        decoder = self._decoders.setdefault(number, codecs.getincrementaldecoder("utf-8")("replace"))
        parts = _STAYS.split(decoder.decode(chunk).replace("\r\n", "\n"))
        text = "".join(part if part in {"\r", "\t"} else harmless(part) for part in parts)
        return (f"{text}\x1b[0m" if "\x1b[" in text else text).encode()
