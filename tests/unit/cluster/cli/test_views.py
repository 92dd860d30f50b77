"""`status`, and how the command line reads a workspace."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from terry.cluster.client.reader import Reader
from terry.cluster.client.views import _warnings
from terry.cluster.core.events import Submitted, encode_line
from terry.cluster.core.model import DeviceUse
from tests.helpers.world import START, World, busy
from tests.unit.cluster.conftest import Terry

PROMISED = (
    *("id", "sweep", "kind", "state", "end_reason", "attempt", "restarts", "step", "total_steps", "epoch", "loss"),
    *("node", "device", "eta_seconds", "run_dir"),
)


def test_status_json_has_what_is_promised(terry: Terry, world: World) -> None:
    """One document: a list of objects with the promised keys first."""
    busy(world)
    found = terry("status", "--json").json
    assert [job["id"] for job in terry("--json", "status").json] == [job["id"] for job in found]
    assert [job["id"] for job in found] == [f"cells-000{i}" for i in range(1, 9)]
    assert all(tuple(job)[: len(PROMISED)] == PROMISED for job in found)
    done, crashed, failed = found[0], found[1], found[2]
    assert (done["state"], done["loss"], done["step"], done["total_steps"]) == ("completed", 2.5, 1000, 1000)
    assert (crashed["restarts"], crashed["end_reason"], crashed["attempt"]) == (1, "crashed", 2)
    assert (failed["state"], failed["end_reason"]) == ("failed", "exception")
    assert failed["run_dir"] == str(world.workspace.run("cells-0003").root)


def test_status_shows_progress_and_eta(terry: Terry, world: World) -> None:
    """Of jobs that run, as live.json says."""
    world.submit("cells", 2)
    world.turn(times=3)
    world.progress(("cells-0001", 400))
    known = Reader(world.workspace, world.clock.now).read()
    assert known.progress["cells-0001"].step == 400
    found = {job["id"]: job for job in terry("status", "--json").json}
    assert found["cells-0001"]["step"] == 400
    assert found["cells-0001"]["total_steps"] == 1000
    assert found["cells-0001"]["epoch"] == 4.0
    assert found["cells-0002"]["step"] is None


def test_status_of_what_no_controller_has_taken(terry: Terry, world: World) -> None:
    """Submitted jobs are there at once, and say what they wait for."""
    world.submit("cells", 2)
    world.submit("held", 1, hold=True)
    found = terry("status", "--json").json
    assert [(job["id"], job["state"]) for job in found] == [
        ("cells-0001", "pending"),
        ("cells-0002", "pending"),
        ("held-0001", "held"),
    ]
    assert "no controller has taken it yet" in found[0]["reason"]


def test_status_without_a_controller_says_so(terry: Terry, world: World) -> None:
    """And shows what was known."""
    world.submit("cells", 2)
    world.turn(times=3)
    assert "controller on" in terry("status").out
    world.stop_controller()
    assert "no controller: shown is what was known" in terry("status").out


def test_status_lists_what_needs_attention_first_and_not_everything(terry: Terry, world: World) -> None:
    """Twenty rows at most, and how many more there are."""
    busy(world)
    world.submit("many", 30)
    said = terry("status").out
    rows = [line for line in said.splitlines() if line.startswith(("cells-", "many-"))]
    assert rows[0].startswith("cells-0003")
    assert rows[1].startswith("cells-0002")
    assert len(rows) == 20
    assert "and 18 jobs more" in said
    assert len([line for line in terry("status", "--all").out.splitlines() if line.startswith("many-")]) == 30
    assert "cells-0001" not in terry("status", "many").out


def test_why_a_job_waits(terry: Terry, world: World) -> None:
    """The scheduler's words, in status and explain."""
    busy(world)
    waiting = terry("status", "state:pending", "--json").json
    assert waiting
    assert all(job["reason"] == "all 2 cores busy" for job in waiting)
    assert "it waits: all 2 cores busy" in terry("explain", waiting[0]["id"]).out


def test_a_superseded_controller_does_not_fool_a_reader(world: World) -> None:
    """What it wrote after its successor began is void: a reader that saw it starts anew."""
    world.submit("cells", 1)
    world.turn(times=2)
    world.controller.close()
    reader = Reader(world.workspace)
    job = reader.jobs()["cells-0001"].job
    ghost, real = replace(job, id="ghost-0001", identity="0"), replace(job, id="real-0001", identity="1")
    seq = reader.state.seq + 1
    with max(world.workspace.journal.glob("*.jsonl")).open("ab") as stale:
        stale.write(encode_line(seq, 1, Submitted(time=START, job=ghost)))
    assert "ghost-0001" in reader.jobs()
    line = encode_line(seq, 2, Submitted(time=START, job=real))
    (world.workspace.journal / f"{seq:08d}.jsonl").write_bytes(line)
    assert list(reader.jobs()) == ["cells-0001", "real-0001"]


def test_an_ensemble_is_named_like_a_sweep(terry: Terry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its members, and the job that evaluates them, stand in the submission, also before any controller has run."""
    monkeypatch.setattr("terry.jobs.sweeps.spec.local_gpus", lambda: 0)
    (tmp_path / "words.csv").write_text("body\na whale\n")
    text = "name: cells\ndatasets: {words: {source: words.csv, column: body}}\n"
    text += "run: {entrypoint: 'terry.jobs.train:main'}\nsweep: {grid: {model.cell: [gru, lstm]}}\n"
    (tmp_path / "sweep.yaml").write_text(text + "ensembles: {team: {members: {model.cell: gru}, size: 3}}\n")
    assert terry("submit", "sweep.yaml").code == 0
    found = [job["id"] for job in terry("status", "team", "--json").json]
    assert found == ["cells-0001", "cells-0003", "cells-0004", "cells-ensemble-team"]
    assert "ensembles: team" in terry("status", "teem").err


def test_an_empty_workspace(terry: Terry) -> None:
    """Made, and nothing submitted: no verb that shows something fails."""
    terry("init")
    assert "nothing was submitted yet" in terry("status").out
    assert terry("status", "--json").json == []
    assert "no device has been seen yet" in terry("nodes").out
    assert "no run has finished yet" in terry("results").err
    assert "no data set was prepared yet" in terry("datasets").out
    assert terry("doctor").code == 0


def test_nodes_shows_how_busy_devices_are(terry: Terry, world: World) -> None:
    """As their agents measured a moment ago; what was measured long before says nothing."""
    world.turn(times=2)
    now = world.clock.now()
    use = DeviceUse(device_id="seawolf:cpu", time=now, utilisation=0.87, memory_used_bytes=3 << 30, temperature_c=61.4)
    world.progress(uses=(use,))
    row = terry("nodes").out.splitlines()[-1]
    assert all(word in row for word in ("87%", "3.0 GiB", "61°C"))
    assert terry("nodes", "--json").json[0]["utilisation"] == 0.87
    world.progress(uses=(replace(use, time=now - timedelta(seconds=90)),))
    assert terry("nodes", "--json").json[0]["utilisation"] is None


def test_going_back_after_nan_is_told_before_other_warnings(tmp_path: Path) -> None:
    stderr = tmp_path / "stderr.log"
    assert _warnings(stderr) == ()
    others = "".join(f"warning: step {i}: the loss jumped\n" for i in range(9))
    stderr.write_text(f"{others}a line of another program\nwarning: step 9: the loss is nan; back to step 5\n")
    found = _warnings(stderr)
    assert found[0] == "step 9: the loss is nan; back to step 5"
    assert len(found) == 5
