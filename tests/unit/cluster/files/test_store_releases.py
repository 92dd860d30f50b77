"""Workspaces that earlier releases wrote are read for ever: tests/data/workspaces has one of each, made by it.

Each has a sweep `tiny` of two built-in trainings, `own` of two of a user's own, and `long`, whose run was taken down
with a checkpoint; beside them the files from which they were submitted.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from terry.cluster.client.doctor import examine
from terry.cluster.client.reader import Reader
from terry.cluster.controller.loop import Controller
from terry.cluster.core.model import JobState
from terry.cluster.core.state_document import to_snapshot, validate
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from terry.jobs.process.checkpoints import CheckpointStore
from terry.jobs.submitting.submission import SubmitOptions, prepare_submission
from terry.jobs.trained.library import load
from terry.logs.records.metrics import read_series
from tests.fakes.pool import FakeClock, FakePool
from tests.helpers.queue_values import make_cpu
from tests.helpers.sweep_files import NOW

DATA = Path(__file__).parents[3] / "data" / "workspaces"
RELEASES = sorted(path.name.removesuffix(".tar.xz") for path in DATA.iterdir())
DONE = ("own-0001", "own-0002", "tiny-0001", "tiny-0002", "tiny-prepare-words")


@pytest.fixture(params=RELEASES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> WorkspacePaths:
    with tarfile.open(DATA / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return WorkspacePaths(tmp_path / "ws")


def test_each_release_is_there() -> None:
    assert {"0.1", "0.2"} <= {*RELEASES}


def test_its_queue_is_read_from_the_snapshot_and_from_the_journal_alone(place: WorkspacePaths) -> None:
    state = read_state(place)
    validate(state)
    assert {job_id for job_id, r in state.jobs.items() if r.state is JobState.COMPLETED} == {*DONE}
    assert state.jobs["long-0001"].state is JobState.PENDING
    for _, path in place.snapshots():
        path.unlink()
    assert to_snapshot(read_state(place)) == to_snapshot(state)


def test_its_queue_is_gone_on_with(place: WorkspacePaths) -> None:
    controller = Controller(place, FakePool([make_cpu()]), FakeClock(NOW))
    before = read_state(place).epoch
    controller.recover()
    controller.turn(0)
    controller.turn(0)
    assert controller.state.epoch > before
    assert controller.state.jobs["long-0001"].attempt == 2
    assert controller.state.jobs["long-0001"].state is JobState.RUNNING
    controller.close()
    assert to_snapshot(read_state(place)) == to_snapshot(controller.state)


@pytest.mark.parametrize("name", ["tiny", "own", "long"])
def test_its_files_submitted_again_are_the_same_runs(place: WorkspacePaths, name: str) -> None:
    file = place.root.parent / f"{name}.yaml"
    again = prepare_submission(place, file, (), SubmitOptions(), NOW, "ahab", cwd=file.parent)
    assert (again.new, {job.new for job in again.jobs}) == (0, {False})


def test_its_checkpoints_models_and_measurements_are_read(place: WorkspacePaths) -> None:
    checkpoint = CheckpointStore(place.run("long-0001").checkpoints, attempt=2).load_latest()
    assert checkpoint is not None
    assert checkpoint.step > 0
    assert {*checkpoint.model} == {"slope", "offset"}
    assert read_series(place.run("tiny-0001"), 1)[-1]["step"] == 78
    for job_id in ("tiny-0001", "tiny-0002"):
        assert load(place.root, job_id).members


def test_views_and_doctor_find_it_sound(place: WorkspacePaths) -> None:
    reader = Reader(place)
    reader.look_at(reader.jobs().values())
    known = reader.read()
    assert known.outcomes["own-0001"].step == 30
    wrong = [f for f in examine(place, NOW) if not f.good]
    assert [f.what for f in wrong if f.what not in {"rights", "disk"}] == []
