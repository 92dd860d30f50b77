"""Entry point `terry.jobs.command:main`: runs a program that knows nothing of us, and tells how it goes and ends."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import select
import shlex
import signal
import subprocess
import time
from pathlib import Path

from terry.cluster.agent.forkserver import die_with_parent
from terry.cluster.core.model import EndReason
from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.jobs.process.context import LaunchError, ProgramFailed, RunContext
from terry.jobs.process.program_output import JsonLines, Patterns, Tail, WrittenFiles, named
from terry.jobs.process.unheard import Said, unheard
from terry.jobs.sweeps.command import filled
from terry.jobs.sweeps.spec import RunConfig, WorkingFolder
from terry.logs.records.metrics import FROM_SCRATCH

#: Exit code of a program that wants to be put back, and go on later (sysexits.h: EX_TEMPFAIL).
EXIT_AGAIN = 75

_LOOK_S, _FILES_S = 0.25, 2.0
_TAIL_BYTES = 8192
#: As torch, JAX, TensorFlow, CUDA itself and AMD's HIP say it.
_DEVICE_MEMORY = (
    r"(?:CUDA|HIP) out of memory|CUDA error: out of memory|CU\w+_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"
    r"|CUDA_ERROR_OUT_OF_MEMORY|RESOURCE_EXHAUSTED: Out of memory|OOM when allocating tensor"
)
#: As Python, NumPy, torch, C++, Java, Julia and R say it.
_HOST_MEMORY = (
    r"MemoryError\b|OutOfMemoryError\b|std::bad_alloc|[Cc]an(?:'|no)t allocate (?:memory|vector)"
    r"|DefaultCPUAllocator: not enough memory"
)
_SIGNS = (
    (EndReason.DEVICE_OUT_OF_MEMORY, _DEVICE_MEMORY),
    (EndReason.HOST_OUT_OF_MEMORY, _HOST_MEMORY),
    (EndReason.DISK_FULL, r"No space left on device|Disk quota exceeded"),
)
_ERROR = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit|Warning)\b.*|^(?:ERROR|Error|error|fatal)\b.*")


def main(ctx: RunContext) -> None:
    """Run the command of the run; `resume_command` where an attempt before this one has begun it."""
    config, parameters = ctx.config, ctx.parameters
    work = ctx.run.work
    durable.make_folder(work)
    resumed = ctx.attempt > ctx.first_attempt
    wanted = config.resume_command if resumed and config.resume_command else config.command
    names = {"run_dir": str(work), "attempt": str(ctx.attempt), "job_id": ctx.job_id, "sweep": ctx.sweep}
    arguments = filled(wanted or [], parameters, {**names, "device": ctx.device})
    folder = work if config.working_folder is WorkingFolder.run else Path(ctx.folder)
    logs = ctx.run.attempt(ctx.attempt)
    durable.write_json(logs.root / "command.json", {"arguments": arguments, "folder": str(folder)})
    measured = logs.root / "measured.jsonl"
    os.close(durable.open_shared(measured, os.O_WRONLY | os.O_CREAT))
    environment = {
        **os.environ,
        "TERRY_RUN_DIR": str(work),
        "TERRY_METRICS": str(measured),
        "TERRY_PARAMETERS": json.dumps(parameters),
        "TERRY_DEVICE": ctx.device,
        "PYTHONUNBUFFERED": "1",
        **_memory(ctx),
    }
    listener = _Listener(ctx, config, work, measured)
    if resumed:
        listener.take_in(*unheard(ctx.run, ctx.attempt, ctx.first_attempt, config.metrics, listener.files_in))
    process = _started(arguments, folder, environment | config.environment)
    _follow(ctx, process, listener)
    _end(ctx, arguments, process.returncode)


def _memory(ctx: RunContext) -> dict[str, str]:
    """What of the GPU's memory is its share, where it has a share. Only MPS can hold a program of any kind to it."""
    if not ctx.gpu_uuid or ctx.memory_share >= 1.0:
        return {}
    told = {"TERRY_MEMORY_SHARE": f"{ctx.memory_share:g}", "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{ctx.memory_share:g}"}
    if ctx.gpu_memory_bytes:
        told["TERRY_MEMORY_BYTES"] = str(int(ctx.memory_share * ctx.gpu_memory_bytes))
    return told


def _started(arguments: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    if not folder.is_dir():
        raise LaunchError(f"there is no folder {folder} on this node, where the program is to run")
    parent = os.getpid()

    def before() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        die_with_parent(parent)

    try:
        return subprocess.Popen(
            arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=before
        )
    except FileNotFoundError:
        raise UserError(f"there is no program {arguments[0]!r} in {folder} or on the PATH of this node") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{arguments[0]} cannot be run: {getattr(error, 'strerror', None) or error}") from None


class _Listener:
    """All that tells of its steps."""

    def __init__(self, ctx: RunContext, config: RunConfig, work: Path, measured: Path) -> None:
        self._ctx, self._began = ctx, False
        logs = ctx.run.attempt(ctx.attempt)
        self._outputs = [(Tail(path, _size(path)), Patterns(config.metrics)) for path in (logs.stdout, logs.stderr)]
        self._sizes = (0, 0)
        self._given = JsonLines(measured, 0)
        self.files_in = None if config.metrics else work  #: where its files are read
        self._files = None if self.files_in is None else WrittenFiles(self.files_in)
        self._patterns = bool(config.metrics)
        self._looked_at = 0.0
        self.latest: dict[str, float] = {}

    def take_in(self, last: int, said: list[Said]) -> None:
        """What earlier attempts said and did not hear, the last step that they heard being `last`."""
        if said:
            self._ctx.begin(last)
        for step, values in said:
            self.latest |= values
            self._ctx.log(step, **values)

    def poll(self, *, last: bool = False) -> None:
        """Take in what is new."""
        sizes = tuple(_size(tail.path) for tail, _ in self._outputs)
        if sizes != self._sizes:
            self._ctx.beat()  # it says something: it is at work
            self._sizes = (sizes[0], sizes[1])
        if self._patterns:
            for tail, patterns in self._outputs:
                for line in tail.lines(last=last):
                    patterns.take(line, self._emit)
        self._given.poll(self._emit, last=last)
        if self._files is not None and (last or time.monotonic() - self._looked_at >= _FILES_S):
            self._files.poll(self._emit, last=last)
            self._looked_at = time.monotonic()

    def _emit(self, step: int, values: dict[str, float]) -> None:
        if not self._began:  # what earlier attempts measured at this step and later is done again
            again = self._ctx.attempt > self._ctx.first_attempt
            self._ctx.begin(step - 1 if again and step > 0 else FROM_SCRATCH)
            self._began = True
        found = named(values)
        self.latest |= found
        self._ctx.log(step, **found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _follow(ctx: RunContext, process: subprocess.Popen[bytes], listener: _Listener) -> None:
    """Until the program has ended, and all that it started in its group with it."""
    pidfd, asked = os.pidfd_open(process.pid), False
    try:
        while process.poll() is None:
            if ctx.should_stop() and not asked:
                asked = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            select.select([pidfd], [], [], _LOOK_S)
            listener.poll()
    finally:
        os.close(pidfd)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    listener.poll(last=True)
    ctx.result_so_far = dict(listener.latest)


def _end(ctx: RunContext, arguments: list[str], code: int) -> None:
    """As it ended, so do we: exit 0 is done, 75 goes on later, a signal is passed on, all else is told."""
    if ctx.should_stop() or code == EXIT_AGAIN:
        ctx.leave()
    if code == 0:
        ctx.finish(ctx.result_so_far)
        return
    if code < 0 or code == 128 + signal.SIGKILL:  # so a shell says it; the kernel's counts tell who has sent it
        _die_by(-code if code < 0 else signal.SIGKILL)
    program = Path(arguments[0]).name if len(arguments) < 2 else shlex.join([Path(arguments[0]).name, arguments[1]])
    stderr = _last_words(ctx.run.attempt(ctx.attempt).stderr)
    reason, said = reason_of_output(stderr, code)
    raise ProgramFailed(f"{program} left with exit code {code}" + (f": {said}" if said else ""), reason)


def _die_by(number: int) -> None:
    """The agent judges signals; SIGKILL by what the kernel counts."""
    faulthandler.disable()
    if number not in {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pause()


def _last_words(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def reason_of_output(stderr: str, code: int) -> tuple[EndReason, str]:
    """Why a program failed, by the end of its standard error, and the line that says so."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1] if lines else "")[:500]
    for reason, sign in _SIGNS:
        if re.search(sign, "\n".join(lines[-40:])):
            return reason, said
    if code > 128 and (number := code - 128) in {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE}:
        return EndReason.CRASHED, said or signal.Signals(number).name
    return EndReason.EXCEPTION, said
