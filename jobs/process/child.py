"""The first of our code in a job's process: makes it safe to crash, runs the entry point, names what went wrong.

Called by the forkserver in a process that it has just forked: torch is imported, output goes to the attempt's files,
and the kernel ends the process with its parent. Nothing heavy is imported here: a job's first step is 20 ms away.

Exit codes: 0 done; 75 left as asked, go on later; 74 the disk is full and 72 it is gone (then error.json may not have
been written); 1 an error, told in the attempt's error.json.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from terry.cluster.agent.evidence import EXIT_DISK_FULL, EXIT_DISK_LOST, EXIT_STOPPED, ErrorReport, disk_reason
from terry.cluster.core.model import EndReason
from terry.cluster.files import durable
from terry.cluster.files.paths import AttemptFolder, Run, WorkspacePaths
from terry.jobs.process import spec_file as specfile
from terry.jobs.process.context import LaunchError, ProgramFailed, RunContext
from terry.jobs.process.order import Order
from terry.jobs.process.progress import ProgressWriter
from terry.jobs.process.stop import StopFlag, Stopped
from terry.jobs.submitting.records import JobLine
from terry.jobs.sweeps.command import COMMAND
from terry.jobs.sweeps.spec import WorkingFolder
from terry.logs.records.values import Refused

EXIT_ERROR = 1
#: A run that took so long (seconds) draws its own curve. For a short one that would be most of the work.
_DRAWN_BY_ITSELF_S = 60.0

_EXITS = {EndReason.DISK_FULL: EXIT_DISK_FULL, EndReason.DISK_LOST: EXIT_DISK_LOST}
_DEVICE_MEMORY = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_HOST_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def main(order: dict[str, Any], progress_fd: int) -> int:
    """Run one attempt of a job; return the exit code. Or, with `draw`, make the pictures of runs that have ended."""
    if "draw" in order:
        return _draw_later(order["draw"])
    given = Order.of(order)
    folder = given.run.attempt(given.attempt)
    stop = StopFlag()
    stop.install()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a crash must not swallow the last lines, and `logs -f` shows them
    context: RunContext | None = None
    try:
        durable.lift_umask(folder.root)  # for all that is opened here by others' code: that of the run, and libraries
        # Stays open: faulthandler writes to it when the process dies.
        crash = os.fdopen(durable.open_shared(folder.crash, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w")
        faulthandler.enable(crash, all_threads=True)
        _set_environment(given)
        line = given.line()
        _limit_memory(given)
        os.environ.update(line.config.get("environment") or {})
        context = RunContext(given, line, ProgressWriter(progress_fd), stop)
        specfile.require_own(context.run, line)  # before its code is entered, and its checkpoints are read
        if (attempt := context.handed_in) is not None:
            _warn(f"attempt {attempt} handed in a result before it was lost: nothing is left to do")
            return 0
        if line.source:
            _enter(given, line)
        specfile.write_once(context, line)
        return _run(_entry(given.entrypoint), context, drawn_later=given.drawn_later)
    except BaseException as error:
        if context is not None and context.finished:  # a result that was handed in is a result
            return _after_the_result(error)
        return _report(error, folder, context)
    finally:
        if context is not None:
            context.close()


def _run(function: Callable[[RunContext], object], context: RunContext, *, drawn_later: bool) -> int:
    """Call the entry point; wait for the checkpoint that is being written, whatever happens."""
    returned: object = None
    begun = time.monotonic()
    try:
        returned = function(context)
    except Stopped:
        context.asked_to_stop = True
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            raise RuntimeError(f"the entry point called sys.exit({leaving.code!r})") from leaving
    except BaseException as error:
        try:
            context.flush()
        except Exception as failure:
            error.add_note(f"and the last checkpoint could not be written: {failure}")
        raise
    context.flush()
    if context.asked_to_stop and not context.finished:
        return EXIT_STOPPED
    if not context.finished:
        _finish(context, returned)  # it returned, and that says that it is done
    if not drawn_later or time.monotonic() - begun > _DRAWN_BY_ITSELF_S:
        _draw(context)
    return 0


def _finish(context: RunContext, returned: object) -> None:
    """What the entry point returned is the run's result: a mapping as it is, anything else below `result`."""
    try:
        context.finish(returned if returned is None or isinstance(returned, Mapping) else {"result": returned})
    except Refused as error:
        _warn(f"what the entry point returned is not kept as its result: {error}")
        context.finish()


def _after_the_result(error: BaseException) -> int:
    """How the process ended after `finish`: a warning."""
    with contextlib.suppress(Exception):
        traceback.print_exception(error)
    _warn(f"the result was handed in before this: {type(error).__name__}: {text_of(error)}")
    return 0


def _warn(text: str) -> None:
    with contextlib.suppress(Exception):  # whatever the job has made of sys.stderr
        print(f"warning: {text}", file=sys.stderr, flush=True)


def _draw(context: RunContext) -> None:
    """Leave the run's loss curve as a picture, where it has measured a loss. A run that is done never fails by it."""
    if not context.measured:
        return
    try:
        from terry.logs.plots import draw_loss_curve

        draw_loss_curve(context.run, context.job_id, context.first_attempt)
    except Exception as error:
        _warn(f"the loss curve could not be drawn: {error}")


def _draw_later(runs: list[dict[str, Any]]) -> int:
    """The pictures of runs that have ended, as far as they are not there. Nobody waits for them."""
    from terry.logs.plots import draw_loss_curve

    os.nice(19)
    for given in runs:
        run = WorkspacePaths(Path(given["workspace"])).run(given["job_id"])
        try:
            if run.result.stat().st_mtime_ns > _drawn_at(run):
                draw_loss_curve(run, given["job_id"], given["first_attempt"])
        except Exception as error:
            _warn(f"the loss curve of {given['job_id']} could not be drawn: {error}")
    return 0


def _drawn_at(run: Run) -> int:
    try:
        return run.loss_curve.stat().st_mtime_ns
    except OSError:
        return 0


def _set_environment(order: Order) -> None:
    """What the job may see of the node, and how many threads it takes."""
    os.environ["CUDA_VISIBLE_DEVICES"] = order.gpu_uuid
    os.environ["TERRY_JOB_ID"] = order.job_id
    os.environ["TERRY_SWEEP"] = order.sweep
    os.environ["TERRY_ATTEMPT"] = str(order.attempt)
    os.environ["TERRY_RUN_DIR"] = str(order.run.root)
    os.environ["OMP_NUM_THREADS"] = str(order.threads)  # for what the job starts, and for libraries not loaded yet
    torch = sys.modules.get("torch")
    if torch is not None:  # where it is loaded, the variable comes too late
        torch.set_num_threads(order.threads)


def _limit_memory(order: Order) -> None:
    """Before anything is allocated: a job with a share of a GPU must not take its neighbours' memory."""
    if order.gpu_uuid and order.memory_share < 1.0 and order.entrypoint != COMMAND:  # a program is told its share
        from terry.jobs.process.device_check import limit_memory, require_device

        require_device(order.device, order.gpu_uuid)
        limit_memory(order.memory_share, order.gpu_memory_bytes)


def _enter(order: Order, line: JobLine) -> None:
    """Where a user's own code runs: from its copy in the run's folder, in the folder of the sweep file."""
    source = specfile.own_source(order, line.source)
    sys.path.insert(0, str(source))
    _forget_namesakes(source)
    folder = line.folder
    if line.config.get("working_folder") == WorkingFolder.run:
        durable.make_folder(order.run.work)
        folder = str(order.run.work)
    entry = source.joinpath(*order.entrypoint.partition(":")[0].split("."))
    sys.argv = [str(entry.with_suffix(".py"))]  # not the forkserver's
    try:
        os.chdir(folder)
    except OSError as error:  # another node may lack it, and the code may not need it
        _warn(f"this job runs in {Path.cwd()}, not in {folder}: {error.strerror}")


def _forget_namesakes(source: Path) -> None:
    """Modules that are loaded already under the name of one of the user's: `import` shall find the user's.

    So it is where Python starts with the user's file; what is built in comes first there, too.
    """
    for name in {path.stem if path.suffix == ".py" else path.name for path in source.iterdir()} - {"terry"}:
        loaded = sys.modules.get(name)
        origin = getattr(getattr(loaded, "__spec__", None), "origin", None)
        if loaded is not None and origin not in {"built-in", "frozen"}:
            for key in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                del sys.modules[key]


def _entry(entrypoint: str) -> Callable[[RunContext], object]:
    """Import the entry point; a user's own code comes from its copy in the run's folder."""
    module, _, name = entrypoint.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except SystemExit as leaving:  # at the top of a file, it would pass for the end of a run
        raise RuntimeError(f"importing {module} called sys.exit({leaving.code!r})") from leaving
    if not callable(function):
        raise TypeError(f"{entrypoint} is not callable")
    checked: Callable[[RunContext], object] = function
    return checked


def _report(error: BaseException, folder: AttemptFolder, context: RunContext | None) -> int:
    """Print the traceback, write error.json, and choose the exit code."""
    if not isinstance(error, ProgramFailed):  # it has said so itself
        with contextlib.suppress(Exception):  # where the disk is full there is no room, where it is closed no place
            traceback.print_exception(error)
    reason = reason_of(error)
    report = ErrorReport(
        reason=reason,
        message=_one_line(error, reason),
        traceback=_encodable("".join(traceback.format_exception(error))),
        step=context.step if context is not None and context.step else None,
        first_step_done=context is not None and context.step > 0,  # by this attempt or an earlier one
    )
    try:
        durable.write_json(folder.error, report)
    except OSError as failure:
        _warn(f"error.json could not be written: {failure}")
    return _EXITS.get(reason, EXIT_ERROR)


def text_of(error: BaseException) -> str:
    """What an exception says; some cannot be asked."""
    try:
        return _encodable(str(error))
    except Exception as failure:
        return f"(its text cannot be had: {type(failure).__name__} in its __str__)"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _one_line(error: BaseException, reason: EndReason) -> str:
    notes = [note for note in getattr(error, "__notes__", []) if isinstance(note, str)]  # which checkpoint, say
    text = _encodable(" ".join("; ".join([text_of(error), *notes]).split())[:1000])
    plain = reason is EndReason.BAD_INPUT or isinstance(error, ProgramFailed)
    return text if plain and text else f"{type(error).__name__}: {text}"


def reason_of(error: BaseException) -> EndReason:
    """Why an attempt ended, by its exception."""
    name, text = _qualified(error), text_of(error)
    if isinstance(error, ProgramFailed):
        return error.reason
    if isinstance(error, LaunchError):
        return EndReason.LAUNCH_ERROR
    if isinstance(error, MemoryError) or any(sign in text for sign in _HOST_MEMORY):
        return EndReason.HOST_OUT_OF_MEMORY
    if name.endswith(".OutOfMemoryError") or any(sign in text for sign in _DEVICE_MEMORY):
        return EndReason.DEVICE_OUT_OF_MEMORY
    if (problem := disk_reason(error)) is not None:
        return problem
    if isinstance(error, FloatingPointError):  # terry.models.errors.NotFinite is one
        return EndReason.NOT_FINITE
    if any(kind.__name__ in _BAD_INPUT for kind in type(error).__mro__):
        return EndReason.BAD_INPUT
    return EndReason.EXCEPTION


#: What says that a file or a setting is at fault: in terry.cluster.errors, terry.data_prep.errors, terry.models, ...
_BAD_INPUT = frozenset({"UserError", "DataError", "ConfigError", "StateError", "BadCheckpoint"})


def _qualified(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
