"""`doctor` finds each kind of damage, and says how to fix it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from terry.cluster.agent.marks import AGENT_VARIABLE
from terry.cluster.client.doctor import examine
from terry.cluster.client.finding import Finding
from terry.cluster.files.paths import WorkspacePaths
from tests.helpers.world import World, device


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A workspace in which a run is at work and another waits; sound so far."""
    found = World(tmp_path, device("seawolf:cpu", 1.0))
    found.submit("cells", 2)
    found.turn(times=3)
    assert bad(found.workspace) == []
    return found


def bad(workspace: WorkspacePaths) -> list[Finding]:
    """What is wrong, the disk of this node and the controller's age apart."""
    found = examine(workspace, datetime.now(UTC))
    return [f for f in found if not f.good and f.what not in {"disk", "controller"}]


def only(workspace: WorkspacePaths) -> str:
    """The one thing that is wrong."""
    findings = bad(workspace)
    assert len(findings) == 1, findings
    return f"{findings[0].what}: {findings[0].text}"


def checkpoint(world: World, content: bytes) -> Path:
    """A checkpoint of the first run whose manifest promises b'weights'."""
    folder = world.workspace.run("cells-0001").checkpoints / "step-000000400-a0001"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    entry = {"bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}
    (folder / "MANIFEST.json").write_text(json.dumps({"files": {"model.safetensors": entry}}))
    return folder


def test_a_damaged_line_of_the_journal(world: World) -> None:
    segment = min(world.workspace.journal.glob("*.jsonl"))
    data = bytearray(segment.read_bytes())
    data[30] ^= 1
    segment.write_bytes(data)
    text = only(world.workspace)
    assert f"{segment}:1: " in text
    assert "its checksum is wrong" in text
    assert "To fix it" in text


def test_a_checkpoint_with_another_sha256(world: World) -> None:
    checkpoint(world, b"weights")
    assert bad(world.workspace) == []
    (world.workspace.run("cells-0001").checkpoints / "step-000000400-a0001" / "model.safetensors").write_bytes(
        b"weighty"
    )
    text = only(world.workspace)
    assert "the sha256 of model.safetensors" in text
    assert "the one before it will be used" in text


def test_a_checkpoint_that_is_cut_short(world: World) -> None:
    checkpoint(world, b"weig")
    assert "has 4 bytes where 7 belong" in only(world.workspace)


def test_a_submission_that_was_never_taken(world: World) -> None:
    folder = world.workspace.submission("cells", 2)
    folder.mkdir()
    for name in ("jobs.jsonl", "submission.json", "sweep.yaml"):
        (folder / name).write_text("{}" if name.endswith(".json") else "")
    assert bad(world.workspace) == [], "it may be taken yet"
    os.utime(folder, (1, 1))
    assert "submission 2 of cells was never taken: `terry-cluster submit`" in only(world.workspace)


def test_a_process_that_nobody_watches(world: World) -> None:
    environment = {**os.environ, AGENT_VARIABLE: f"{world.workspace.id}/seawolf:cpu"}
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        text = only(world.workspace)
        process.kill()
    assert str(process.pid) in text
    assert "`terry-cluster down` ends them" in text


def test_what_killed_writers_left_is_harmless_and_named(world: World) -> None:
    left = world.workspace.run("cells-0002").checkpoints / ".step-000000400-a0001.0011aabb.tmp"
    left.mkdir(parents=True)
    findings = examine(world.workspace, datetime.now(UTC))
    found = next(f for f in findings if f.what == "leftovers")
    assert found.good
    assert str(left) in found.text


def test_a_request_that_could_not_be_acted_on(world: World) -> None:
    (world.workspace.inbox / "done" / "7.json.bad").write_text("{")
    assert "ask again, then remove it" in only(world.workspace)


def test_a_mistake_in_terry_yaml(world: World) -> None:
    world.workspace.config.write_text("notfy: {}\n")
    assert "settings: " in only(world.workspace)
    assert f"{world.workspace.config}:1: " in only(world.workspace)


def test_a_damaged_snapshot_is_named_and_does_no_harm(world: World) -> None:
    world.controller._snapshots.save(world.controller.state, world.controller._journal, datetime.now(UTC))
    path = world.workspace.snapshots()[-1][1]
    path.write_bytes(path.read_bytes().replace(b"cells", b"sells"))
    assert f"snapshots: {path} is damaged (its checksum is wrong) and is not used" in only(world.workspace)


def test_a_result_that_cannot_be_read(world: World) -> None:
    world.finish("cells-0001")
    result = world.workspace.run("cells-0001").result
    assert bad(world.workspace) == []
    result.write_text('{"loss": 1')
    assert f"runs: {result} cannot be read" in only(world.workspace)


def test_a_submissions_own_file_that_cannot_be_read(world: World) -> None:
    path = world.workspace.submission("cells", 1) / "submission.json"
    path.write_text("{")
    assert f"submissions: submission 1 of cells: {path} cannot be read" in only(world.workspace)


def test_a_damaged_data_set(world: World) -> None:
    folder = world.workspace.datasets / "words-0011aabb"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    assert "datasets: " in only(world.workspace)
    assert str(folder) in only(world.workspace)


def test_a_workspace_without_its_queue(world: World) -> None:
    world.workspace.runs.mkdir(exist_ok=True)
    shutil.rmtree(world.workspace.queue)
    assert "submit the sweeps again with their files" in only(world.workspace)


#: What programs and torn disks leave among a run's measurements.
_BAD_LINES = (
    b"\xff\xfe\x00",
    b"[1, 2]",
    b'{"step": "seven", "loss": 1.0}',
    b'{"loss": 1.0}',
    b'{"step": 3, "loss": ',
    b'{"start": "from scratch"}',
    b'{"step": 4, "loss": {"mean": 1.0}}',
    b"\0" * 64,
)


def test_the_program_names_the_bad_lines_of_a_run_and_every_view_is_drawn(world: World) -> None:
    """By the commands themselves: the run's other lines are shown, and nothing of it ends a view of all."""
    world.measure("cells-0001", 10, 40)
    metrics = world.workspace.run("cells-0001").attempt(1).metrics
    before = metrics.read_bytes().count(b"\n")
    with metrics.open("ab") as stream:
        stream.writelines(line + b"\n" for line in _BAD_LINES)
    world.measure("cells-0001", 50, 50)
    program = [str(Path(sys.executable).with_name("terry-cluster")), "-w", str(world.workspace.root)]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, *words], capture_output=True, text=True, check=False, timeout=120)

    said = run("doctor")
    assert said.returncode == 1, said
    assert f"{metrics}, line {before + 1} and {len(_BAD_LINES) - 1} more: no measurement" in said.stdout
    for words in (("status",), ("results",)):
        found = run(*words)
        assert found.returncode == 0, (words, found)
        assert "Traceback" not in found.stderr
