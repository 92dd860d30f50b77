"""Runs the tests on one mutant after another, each in a fork of a process that has collected them already."""

from __future__ import annotations

import cProfile
import gc
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest
from _pytest.runner import runtestprotocol

from benchmarks.mutation.mutants import Mutant

#: CPU seconds and seconds after which a mutant counts as one that never ends.
CPU_S, WALL_S = 60, 600
#: A test that takes longer is not run again for each mutant.
FAST_S = 1.0


class Verdict(StrEnum):
    """What became of a mutant."""

    killed = "killed"
    survived = "survived"
    timed_out = "timed out"


@dataclass(slots=True)
class Baseline:
    """What was seen of the tests without any change."""

    #: path and name of a function -> numbers of the tests that enter it
    enters: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    #: seconds of each test
    took: list[float] = field(default_factory=list)

    def tests_of(self, mutant: Mutant) -> list[int]:
        """Those that enter the function, the fastest first, without those that take long."""
        known = self.enters[str(mutant.path), str(mutant.function)]
        return sorted((test for test in known if self.took[test] <= FAST_S), key=lambda test: self.took[test])


class Plugin:
    """In the place of pytest's own loop over the tests."""

    def __init__(self, mutants: Sequence[Mutant], files: Iterable[Path], at_once: int) -> None:
        self.mutants, self.at_once = mutants, at_once
        self.files = {str(path) for path in files}
        self.verdicts: dict[str, Verdict] = {}
        self.show: Callable[[str], None] = lambda _: None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Once without a change, then once for each mutant."""
        self.show(f"{len(session.items)} tests without a change ...")
        baseline = Baseline()
        for item in session.items:
            self._watch(item, baseline)
        slow = sum(took > FAST_S for took in baseline.took)
        self.show(f"{sum(baseline.took):.0f} s; {slow} tests take longer than {FAST_S:g} s and are left out")
        functions = _functions(self.files)
        gc.freeze()
        waiting, working = list(reversed(self.mutants)), dict[int, tuple[Mutant, float]]()
        while waiting or working:
            while waiting and len(working) < self.at_once:
                mutant = waiting.pop()
                working[_fork(lambda m=mutant: _survives(m, session, baseline, functions))] = mutant, time.monotonic()
            self._reap(working)
        return True

    def _watch(self, item: pytest.Item, baseline: Baseline) -> None:
        number, before = len(baseline.took), time.process_time()
        profile = cProfile.Profile()
        profile.enable()
        try:
            failed = _fails(item)
        finally:
            profile.disable()
        if failed:
            raise pytest.UsageError(f"{item.nodeid} fails without any change")
        baseline.took.append(time.process_time() - before)
        for entry in profile.getstats():
            if isinstance(entry.code, CodeType) and entry.code.co_filename in self.files:
                baseline.enters[entry.code.co_filename, _outermost(entry.code)].add(number)

    def _reap(self, working: dict[int, tuple[Mutant, float]]) -> None:
        """Wait until one has ended, or has taken too long."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid in working:
                mutant, _ = working.pop(pid)
                return self._note(mutant, _verdict(status))
            for pid, (mutant, since) in list(working.items()):
                if time.monotonic() - since > WALL_S:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    del working[pid]
                    return self._note(mutant, Verdict.timed_out)
            time.sleep(0.01)

    def _note(self, mutant: Mutant, verdict: Verdict) -> None:
        self.verdicts[mutant.id] = verdict
        survived = sum(found is Verdict.survived for found in self.verdicts.values())
        self.show(f"{len(self.verdicts)} of {len(self.mutants)} tried, {survived} survived")


def _fork(work: Callable[[], bool]) -> int:
    """Run it in a fork whose exit status is 0 for True."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        status = 0 if work() else 1
    finally:
        os._exit(status)


def _verdict(status: int) -> Verdict:
    if os.WIFSIGNALED(status):
        return Verdict.timed_out
    return Verdict.survived if os.WEXITSTATUS(status) == 0 else Verdict.killed


def _survives(
    mutant: Mutant, session: pytest.Session, baseline: Baseline, functions: dict[tuple[str, str], list[FunctionType]]
) -> bool:
    code = compile(mutant.tree(), str(mutant.path), "exec", dont_inherit=True)
    changed = {found.co_qualname: found for found in _codes(code)}
    for function in functions[str(mutant.path), str(mutant.function)]:
        function.__code__ = changed[function.__code__.co_qualname]
    return not any(_fails(session.items[number]) for number in baseline.tests_of(mutant))


def _fails(item: pytest.Item) -> bool:
    item.session._setupstate.teardown_exact(None)
    reports = runtestprotocol(item, log=False, nextitem=None)
    return any(report.failed for report in reports)


def _outermost(code: CodeType) -> str:
    """`Class.method` of a function inside it, too."""
    return code.co_qualname.split(".<locals>")[0]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from _codes(part)


def _functions(files: set[str]) -> dict[tuple[str, str], list[FunctionType]]:
    """Functions that exist, by file and name."""
    found = defaultdict[tuple[str, str], list[FunctionType]](list)
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename in files:
            found[thing.__code__.co_filename, thing.__code__.co_qualname].append(thing)
    return found


class Mutated(MetaPathFinder, Loader):
    """Imports one module with a change in it."""

    def __init__(self, module: str, mutant: Mutant) -> None:
        self.module, self.mutant = module, mutant

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        return spec_from_loader(name, self, origin=str(self.mutant.path)) if name == self.module else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.mutant.path)
        exec(compile(self.mutant.tree(), str(self.mutant.path), "exec", dont_inherit=True), vars(module))


def passes(arguments: Sequence[str], change: Mutated | None = None) -> bool:
    """All tests, after an import with the change: for what stands outside functions."""
    if change is not None:
        sys.meta_path.insert(0, change)
    return pytest.main(list(arguments)) == pytest.ExitCode.OK
