"""A search on a real cluster: what drives it and what keeps it are killed, and it chooses the trials that it must."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest

from terry.cluster.client.reader import Reader
from terry.cluster.client.searching import trials_of
from terry.cluster.host.processes import Process, find
from terry.jobs.search.question import ask
from terry.jobs.search.trial import Outcome, Trial
from tests.faults.workspace_under_fire import UnderFire, kill

pytestmark = pytest.mark.timeout(600)

CODE = """\
import math


def main(ctx):
    rate, units = ctx.parameters["rate"], ctx.parameters["units"]
    ctx.finish({"valid_loss": (math.log10(rate) + 2) ** 2 + (units - 40) ** 2 / 100})
"""

FILE = """\
name: hunt
run:
  entrypoint: whale:main
  resources: {cpus: 1}
sweep:
  random:
    distributions:
      parameters.rate: {log_uniform: [1e-4, 1.0]}
      parameters.units: {integer: [8, 64]}
  search: {method: tpe, trials: 16, parallel: 1, warm_up: 4}
"""


def driver(place: UnderFire) -> list[Process]:
    """The process that asks for trials, while there is one."""
    found: list[Process] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if b"terry.cluster.client.searching" in words and str(place.workspace.root).encode() in words:
                found += [process] if (process := find(int(entry.name))) else []
    return found


def test_it_chooses_what_it_would_have_chosen(place: UnderFire, tmp_path: Path) -> None:
    (tmp_path / "whale.py").write_text(CODE)
    (tmp_path / "hunt.yaml").write_text(FILE)
    assert place.run("submit", str(tmp_path / "hunt.yaml")).returncode == 0
    for ended in (3, 7, 11):
        place.until(lambda ended=ended: sum(j["state"] == "completed" for j in place.status("hunt")) >= ended)  # type: ignore[misc]
        if ended == 7:
            kill([place.actor("ControllerActor")])
        else:
            place.until(lambda: bool(driver(place)))
            kill(driver(place))
    assert place.run("wait", "hunt").returncode == 0

    ((study, trials),) = trials_of(Reader(place.workspace), "hunt")
    assert [trial.outcome for trial in trials] == [Outcome.done] * 16
    known: list[Trial] = []
    for trial in trials:
        (expected,) = ask(study.searched.settings, study.searched.space, {}, known, 1)
        assert dict(trial.settings) == expected.settings
        rate, units = expected.settings["parameters.rate"], expected.settings["parameters.units"]
        assert trial.values == ((math.log10(rate) + 2) ** 2 + (units - 40) ** 2 / 100,)
        known.append(trial)
