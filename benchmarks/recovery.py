"""How long until work goes on: Terry beside Ray Tune, the same toy training, the same machine, one after the other.

    python -m benchmarks.recovery [--times 5] [--without-tune]

Measured: from SIGSEGV of a training to the next step done, and the steps redone; from SIGKILL of what drives the runs
(Terry's controller, Tune's driver) until it is there again, and what became of the running training. Prints Markdown.
Tune needs `pip install pandas pyarrow pydantic tensorboardX` beside what Terry needs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.workspace_under_fire import UnderFire, kill

ROOT = Path(__file__).parents[1]
STEPS = 1_000_000
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

_SWEEP = """
name: toy
run:
  entrypoint: "toy_recovery:main"
  parameters: {{steps: {steps}, told: {told}}}
  resources: {{cpus: 1}}
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was done."""

    time: float
    pid: int
    number: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """From a kill to the next step of a new process."""

    seconds: float
    redone: int


class Told:
    """The file that the training writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def steps(self) -> list[Step]:
        """All steps so far, in the order in which they were done."""
        text = self.path.read_text(encoding="ascii") if self.path.exists() else ""
        lines = [line.split() for line in text.split("\n")[:-1]]
        return [Step(float(moment), int(pid), int(number)) for moment, pid, number in lines]

    def after_crash(self, at_least: int = 30, number: signal.Signals = signal.SIGSEGV) -> Recovery:
        """Let the process make progress, kill it, and wait for the first step of the next."""
        begun = self.steps()
        pid = until(lambda: next((s.pid for s in self.steps()[len(begun) + at_least :]), 0))
        killed = time.time()
        os.kill(pid, number)
        after = until(lambda: next((s for s in self.steps() if s.time > killed and s.pid != pid), None))
        last = [s.number for s in self.steps() if s.pid == pid][-1]
        return Recovery(after.time - killed, last - after.number + 1)


def until(what: Callable[[], Any], timeout: float = 120.0) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := what():
            return found
        select.select([], [], [], 0.005)
    raise TimeoutError(f"not in {timeout:g} s")


def terry(folder: Path, times: int) -> dict[str, str]:
    """Measure Terry. Returns the table's column."""
    place = UnderFire(folder)
    told = Told(folder / "told")
    shutil.copy(ROOT / "benchmarks" / "toy_recovery.py", folder)
    (folder / "toy.yaml").write_text(_SWEEP.format(steps=STEPS, told=json.dumps(str(told.path))), encoding="utf-8")
    try:
        place.run("submit", str(folder / "toy.yaml"))
        crashes = [told.after_crash() for _ in range(times)]
        said = place.run("explain", "toy").stdout.splitlines()
        controllers = [_kill_controller(place, told) for _ in range(times)]
    finally:
        place.run("cancel", "toy", check=False)
        place.run("down", check=False)
        kill(place.everything())
    return {
        **_crash_rows(crashes),
        "the user is told": f"`{next(line.strip() for line in said if 'SIGSEGV' in line)}`",
        "SIGKILL of the controller or driver to its successor acting": f"{_spread(controllers)} s, by itself",
        "the running training meanwhile": "goes on, not restarted",
    }


def _kill_controller(place: UnderFire, told: Told) -> float:
    """Seconds until another controller has taken the queue; the training's process stays."""
    until(lambda: place.state().devices and all(d.online for d in place.state().devices.values()))
    pid, epoch = told.steps()[-1].pid, place.state().epoch
    controller = place.actor("ControllerActor")
    killed = time.time()
    kill([controller])
    until(lambda: place.state().epoch > epoch)
    took = time.time() - killed
    until(lambda: all(d.online for d in place.state().devices.values()))
    until(lambda: told.steps()[-1].time > killed + took)
    assert told.steps()[-1].pid == pid, "the training was restarted"
    return took


_TUNE = """
import os, sys
sys.path.insert(0, {root!r})
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
import ray
from ray import tune
from benchmarks.toy_recovery import trainable
path = os.pathsep.join([{root!r}, *filter(None, [os.environ.get("PYTHONPATH")])])
environment = {{"env_vars": {{"PYTHONPATH": path}}}}
ray.init(num_cpus=2, include_dashboard=False, runtime_env=environment)
if sys.argv[1] == "run":
    tuner = tune.Tuner(trainable, param_space={{"steps": {steps}, "told": {told!r}}},
        run_config=tune.RunConfig(name="toy", storage_path={storage!r},
            failure_config=tune.FailureConfig(max_failures=-1)))
else:
    tuner = tune.Tuner.restore({storage!r} + "/toy", trainable=trainable, resume_unfinished=True, resume_errored=True)
tuner.fit()
"""


def ray_tune(folder: Path, times: int) -> dict[str, str]:
    """Measure Ray Tune. Returns the table's column."""
    told = Told(folder / "told")
    script = folder / "tune.py"
    script.write_text(_TUNE.format(root=str(ROOT), steps=STEPS, told=str(told.path), storage=str(folder / "storage")))
    with (folder / "tune.log").open("wb") as log:
        driver = _driver(script, "run", log.fileno())
        try:
            crashes = [told.after_crash() for _ in range(times)]
            redone, took = _kill_driver(driver, told)
            asked = time.time()
            driver = _driver(script, "restore", log.fileno())
            first = until(lambda: next((s for s in told.steps() if s.time > asked), None))
            restored, again = first.time - asked, redone - first.number + 1
        finally:
            _end(driver)
    log = _ESCAPES.sub("", (folder / "tune.log").read_text(errors="replace"))
    said = [line for line in log.splitlines() if "connection error code" in line or "unexpected" in line.lower()]
    return {
        **_crash_rows(crashes),
        "the user is told": f"`{said[0].strip()[:160]}`" if said else "that a worker died",
        "SIGKILL of the controller or driver to its successor acting": f"never by itself; {restored:.1f} s by hand",
        "the running training meanwhile": f"ends after {took:.1f} s; {again} steps redone",
    }


def _driver(script: Path, what: str, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(script), what], stdout=log, stderr=log, start_new_session=True)


def _kill_driver(driver: subprocess.Popen[bytes], told: Told) -> tuple[int, float]:
    """Last step done, and how long the training lived on without its driver."""
    killed = time.time()
    driver.kill()
    driver.wait()
    seen = -1
    while seen != len(told.steps()):  # until a second brings no step
        seen = len(told.steps())
        select.select([], [], [], 1.0)
    last = told.steps()[-1]
    _end(driver)
    return last.number, max(0.0, last.time - killed)


def _end(driver: subprocess.Popen[bytes]) -> None:
    """The driver and all of its local cluster, by their session."""
    from terry.cluster.host.processes import in_session, kill_all

    kill_all(lambda: in_session(driver.pid), timeout_s=15.0)
    driver.wait()


def _crash_rows(crashes: list[Recovery]) -> dict[str, str]:
    redone = [c.redone for c in crashes]
    return {
        "SIGSEGV to the next step done": f"{_spread([c.seconds for c in crashes])} s",
        "steps redone (a checkpoint every 20)": f"{min(redone)} to {max(redone)}",
    }


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--without-tune", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="terry-recovery-"))
    columns = {}
    for name, measure in (("Terry", terry), ("Ray Tune", ray_tune)):
        if name == "Terry" or not options.without_tune:
            (folder / name).mkdir()
            columns[name] = measure(folder / name, options.times)
            print(f"{name}: {columns[name]}", file=sys.stderr, flush=True)
    print(f"| median of {options.times} (least to most) | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for row in columns["Terry"]:
        print(f"| {row} | {' | '.join(column[row] for column in columns.values())} |")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
