"""The faults of the chaos run: each hits a real process, file or disk."""

from __future__ import annotations

import random
import secrets
import select
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos_disk import FILL, FREEZE, HANG, ChaosDisk
from terry.cluster.core.model import EndReason, JobRecord, JobState
from terry.cluster.host.processes import Process
from tests.faults.absent_disk import AbsentDisk
from tests.faults.small_disk import SmallDisk
from tests.faults.workspace_under_fire import UnderFire, kill

#: A person who looks after the runs does so no more often than this, seconds.
NURSE_S = 3.0
#: What the name of a sweep of programs ends with.
OF_PROGRAMS = "-programs"
#: Fewer unfinished trainings than this are too few to harm.
FEW = 4


class Chaos:
    """Does harm, counts it, and does what a person would: resume what is held, resubmit what was not finite."""

    def __init__(self, place: UnderFire, chance: random.Random, disk: ChaosDisk, submit: Callable[[str], None]) -> None:
        self.place = place
        self.chance = chance
        self.disk = disk
        self._submit = submit
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self.sweeps: list[str] = []  #: under fire, those of programs too
        self._nursed = 0.0

    def strike(self, fault: Fault) -> None:
        """Do it, and count it."""
        fault.action(self)
        self.done[fault.name] += 1

    def unfinished(self, *, programs: bool | None = None) -> int:
        """Runs under fire that are not completed: all, the trainings, or the programs."""
        records = [r for r in self.records() if r.job.kind == "train"]
        wanted = [r for r in records if programs is None or r.job.sweep.endswith(OF_PROGRAMS) == programs]
        return sum(r.state is not JobState.COMPLETED for r in wanted)

    def records(self) -> list[JobRecord]:
        """All jobs under fire."""
        return [r for r in self.place.state().jobs.values() if r.job.sweep in self.sweeps]

    def feed(self) -> None:
        """Submit another sweep where little is left to harm: on a fast machine the last runs end within a moment."""
        for programs, few in ((False, FEW), (True, FEW)):  # one that was hit again and again waits, for minutes
            if self.unfinished(programs=programs) < few:
                name = f"round-{len(self.sweeps) + 1}{OF_PROGRAMS if programs else ''}"
                self._submit(name)
                self.sweeps.append(name)

    def nurse(self) -> None:
        """What a person does, by the command line."""
        if time.monotonic() - self._nursed < NURSE_S:
            return
        records = self.records()
        held = [r.job.id for r in records if r.state is JobState.HELD]
        failed = [r for r in records if r.state is JobState.FAILED]
        wrong = [r for r in failed if _end(r) is not EndReason.NOT_FINITE]
        self.problems += [f"{r.job.id} failed: {r.reason}" for r in wrong if r.job.id not in str(self.problems)]
        if held:
            self.place.run("resume", *held)
        if failed:
            self.place.run("resubmit", *(r.job.id for r in failed))
        if held or failed:
            self._nursed = time.monotonic()

    # victims

    def job(self) -> Process:
        """A running training's process."""

        def one() -> Process | None:
            self.nurse()  # else all that is left may be held
            running = [p for p in self.place.job_processes() if _training(p)]
            if running:
                return self.chance.choice(running)
            self.feed()
            return None

        found: Process = self.place.until(one, timeout=180.0)
        return found

    def signal(self, number: int) -> None:
        """Send a signal to a training."""
        kill([self.job()], number)

    def program(self, number: int) -> None:
        """Send a signal to a program itself, below the process that looks after it."""

        def one() -> Process | None:
            self.nurse()
            running = [p for p in self.place.job_processes() if "/chaotic_program.py" in _words(p)]
            self.feed()
            return self.chance.choice(running) if running else None

        kill([self.place.until(one, timeout=180.0)], number)

    def ask(self, what: str) -> None:
        """Have a training do something to itself; another one where it ends before it has heard."""

        def heard() -> bool:
            run = _training(self.job())
            if run is None or (what == "not_finite" and _goes_on(run)):
                return False
            ask = run / "ask"
            _replace(ask, what)
            deadline = time.monotonic() + 10.0
            while ask.exists() and time.monotonic() < deadline:
                select.select([], [], [], 0.01)
            if not ask.exists():
                return True
            ask.unlink(missing_ok=True)
            return False

        self.place.until(heard, timeout=180.0)

    def actor(self, name: str) -> None:
        """Kill an actor of ours."""
        kill([self.place.actor(name)])

    def forkserver(self) -> None:
        """Kill the process that forks the jobs."""
        kill([self.place.forkserver()])

    def daemon(self, name: str) -> None:
        """Kill one of Ray's own processes."""

        def found() -> list[Process]:
            return [p for p in self.place.ray_processes() if _executable(p) == name]

        kill(self.place.until(found))

    def keeper(self) -> None:
        """Kill the keeper; a person's next `up` brings another."""
        keeper = self.place.keeper()
        if keeper:
            kill([keeper])
        self.place.run("up")

    def torn_tail(self) -> None:
        """Kill the controller, and leave half a line at the end of its journal."""
        self.actor("ControllerActor")
        newest = max(self.place.workspace.journal.glob("*.jsonl"))
        last = newest.read_bytes().splitlines()[-1] if newest.stat().st_size else b'{"v":1,"seq":'
        with newest.open("ab") as file:
            file.write(last[: self.chance.randrange(1, len(last))])

    def half_a_message(self) -> None:
        """What a command line that was killed leaves in the inbox."""
        (self.place.workspace.inbox / "tmp" / f"{time.time_ns():020d}-{secrets.token_hex(8)}.json").write_bytes(b'{"ty')

    def bad_message(self) -> None:
        """A message that is not whole, delivered all the same."""
        (self.place.workspace.inbox / "new" / f"{time.time_ns():020d}-{secrets.token_hex(8)}.json").write_bytes(b'{"ty')

    def old_message(self) -> None:
        """A message that was acted on before, delivered again."""
        old = self.chance.choice(sorted((self.place.workspace.inbox / "done").glob("*.json")))
        copy = self.place.workspace.inbox / "tmp" / f"{time.time_ns():020d}-copy.json"
        shutil.copy(old, copy)
        copy.rename(self.place.workspace.inbox / "new" / copy.name)

    def full_disk(self) -> None:
        """Fill the workspace's file system for a while."""
        disk = SmallDisk(self.disk.folder)
        disk.fill()
        self._pause(0.5, 3.0)
        disk.free()

    def frozen_disk(self) -> None:
        """Whoever writes waits for a while, longer than a silent job is borne with."""
        assert self.disk.frozen is not None
        self.disk.frozen.freeze()
        try:
            self._pause(0.5, 7.0)
        finally:
            self.disk.frozen.thaw()

    def absent_disk(self) -> None:
        """Whoever looks at the workspace waits, then is told that it is gone; then it is back."""
        disk = AbsentDisk(self.disk.folder)
        assert disk.hang()
        try:
            self._pause(0.2, 3.0)
            disk.lose()
            self._pause(0.0, 3.0)
        finally:
            disk.lift()

    def _pause(self, least: float, most: float) -> None:
        select.select([], [], [], self.chance.uniform(least, most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of harm."""

    name: str
    weight: float
    action: Callable[[Chaos], None]
    needs: frozenset[str] = frozenset()  #: what it must be possible to do to the disk


def _signal(number: signal.Signals, weight: float) -> Fault:
    return Fault(name=f"{number.name} to a job", weight=weight, action=lambda chaos: chaos.signal(number))


def _ask(what: str, weight: float) -> Fault:
    name = f"in a job: {what.replace('_', ' ')}"
    return Fault(name=name, weight=weight, action=lambda chaos: chaos.ask(what))


FAULTS = (
    _signal(signal.SIGSEGV, 14),
    _signal(signal.SIGKILL, 12),
    _signal(signal.SIGABRT, 8),
    _signal(signal.SIGBUS, 6),
    _signal(signal.SIGSTOP, 5),
    _signal(signal.SIGTERM, 5),
    Fault(name="SIGKILL to a program", weight=4, action=lambda chaos: chaos.program(signal.SIGKILL)),
    Fault(name="SIGSEGV to a program", weight=3, action=lambda chaos: chaos.program(signal.SIGSEGV)),
    Fault(name="SIGSTOP to a program", weight=1, action=lambda chaos: chaos.program(signal.SIGSTOP)),
    _ask("segfault", 6),
    _ask("abort", 4),
    _ask("bus_error", 4),
    _ask("exception", 8),
    _ask("exit", 3),
    _ask("device_memory", 3),
    _ask("host_memory", 3),
    _ask("not_finite", 4),
    Fault(name="disk full", weight=2.5, action=Chaos.full_disk, needs=frozenset({FILL})),
    Fault(name="disk stands still", weight=1.5, action=Chaos.frozen_disk, needs=frozenset({FREEZE})),
    Fault(name="disk hangs, is gone, is back", weight=1.5, action=Chaos.absent_disk, needs=frozenset({HANG})),
    Fault(name="agent killed", weight=2, action=lambda chaos: chaos.actor("AgentActor")),
    Fault(name="forkserver killed", weight=2.5, action=Chaos.forkserver),
    Fault(name="controller killed", weight=4, action=lambda chaos: chaos.actor("ControllerActor")),
    Fault(name="controller killed, journal torn", weight=3, action=Chaos.torn_tail),
    Fault(name="keeper killed", weight=2, action=Chaos.keeper),
    Fault(name="raylet killed", weight=1, action=lambda chaos: chaos.daemon("raylet")),
    Fault(name="GCS killed", weight=0.5, action=lambda chaos: chaos.daemon("gcs_server")),
    Fault(name="inbox: half a message", weight=3, action=Chaos.half_a_message),
    Fault(name="inbox: a torn message", weight=3, action=Chaos.bad_message),
    Fault(name="inbox: an old message again", weight=3, action=Chaos.old_message),
)


def _end(record: JobRecord) -> EndReason | None:
    end = record.attempts[-1].end if record.attempts else None
    return end.reason if end else None


def _training(process: Process) -> Path | None:
    """The run's folder of a process that has opened its measurements; None for any other process."""
    try:
        files = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    except OSError:
        return None
    found = next((file for file in files if file.endswith("/metrics.jsonl")), None)
    return Path(found).parents[2] if found else None


def _goes_on(run: Path) -> bool:
    """A value that is not finite is no fault to such a run: a program has none, or it goes on with another rate."""
    spec = (run / "spec.yaml").read_text(encoding="utf-8")
    return "on_nan: rollback" in spec or "chaotic_program" in spec


def _words(process: Process) -> str:
    """Its command line."""
    try:
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return "/" + " /".join(word.decode(errors="replace") for word in words)


def _executable(process: Process) -> str:
    try:
        return Path(f"/proc/{process.pid}/exe").readlink().name
    except OSError:
        return ""


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="ascii")
    temporary.rename(path)
