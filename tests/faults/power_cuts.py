"""What is done on a disk whose power is cut, and what must be true afterwards, wherever it was cut.

Each scenario does its work once, on a file system that records everything. Then the power is cut before each fsync of
it, as often as is wanted, and each time the workspace that is left is looked at as the next start would.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from terry.cluster.client.setup import make_workspace
from terry.cluster.controller.loop import Controller
from terry.cluster.core.model import AttemptEnd, EndReason
from terry.cluster.core.state_document import to_snapshot, validate
from terry.cluster.core.state_machine import State
from terry.cluster.files import inbox
from terry.cluster.files.journal import read
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.files.store import read_state
from terry.data_prep.dataset import Dataset
from terry.data_prep.manifest import dataset_folders
from terry.jobs.process.checkpoints import CheckpointStore, checkpoints, read_manifest
from terry.jobs.submitting.submission import publish
from terry.logs.records.metrics import read_series
from tests.fakes.pool import FakeClock, FakePool
from tests.faults.forgetful_disk import Forgets, Node, after_cut, replay
from tests.faults.recording_disk import Recording
from tests.helpers.job_processes import orders, start
from tests.helpers.queue_values import job_line, make_cpu, write_submission
from tests.helpers.sweep_files import planned
from tests.helpers.trained_runs import SWEEP, write_text

_SAMPLE = "demo-sample-0001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Work, and what must be true of what is left of it; `said` is what the world had been told by the cut."""

    name: str
    work: Callable[[Recording], None]
    verdict: Callable[[WorkspacePaths, list[str], WorkspacePaths], None]  # left, said, undisturbed


def cuts(
    log: list[list[object]], scenario: Scenario, forgets: Forgets, seed: int, most: int | None = None
) -> Iterator[tuple[int, str]]:
    """Cut the power before each fsync (or `most` of them, chosen by the seed): (which, what is wrong or empty)."""
    places = sum(1 for _ in replay(log))
    chosen = {*range(places)} if most is None else {*random.Random(seed).sample(range(places), min(most, places))}
    with tempfile.TemporaryDirectory(prefix="terry-cut-") as folder:
        whole = Path(folder) / "whole"
        *_, (last, _) = replay(log)
        for node in _all(last.root):
            last.fsync(node)
        after_cut(last, whole, Forgets.STRICT, 0)
        for number, (disk, said) in enumerate(replay(log)):
            if number in chosen:
                left = Path(folder) / "left"
                after_cut(disk, left, forgets, seed * 100_003 + number)
                yield number, _wrong(scenario, left, list(said), whole)
                shutil.rmtree(left)


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.names.values():
        yield from _all(child)


def _wrong(scenario: Scenario, left: Path, said: list[str], whole: Path) -> str:
    try:
        scenario.verdict(WorkspacePaths(left / "workspace"), said, WorkspacePaths(whole / "workspace"))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


# a queue: submissions, commits of several pages, snapshots, restarts of the controller


def _queue(disk: Recording) -> None:
    place = WorkspacePaths(disk.folder / "workspace")
    make_workspace(place)
    clock, pool = FakeClock(), FakePool([make_cpu(cores=4.0)])
    for incarnation in range(2):
        controller = Controller(place, pool, clock)
        controller.recover()
        disk.say(f"seq {controller.state.seq}")
        for turn in range(4):
            if turn % 2 == 0:
                number = 1 + turn // 2 + 2 * incarnation
                lines = [job_line(f"s-{number}{i:03}") for i in range(40 if number == 2 else 3)]
                folder = write_submission(place, "s", lines, number)
                _sync(folder)
                inbox.send(place, inbox.Submit(sweep="s"))
                disk.say(f"submission {number}")
            for job_id, _ in sorted(pool.running())[:2]:
                pool.end(job_id, AttemptEnd(reason=EndReason.SUCCESS, message="x" * 3000))
            controller.turn(0)
            clock.advance(61.0)
            disk.say(f"seq {controller.state.seq}")
        controller._snapshots.save(controller.state, controller._journal, clock.monotonic())
        controller.close()


def _sync(folder: Path) -> None:
    from terry.cluster.files import durable

    durable._finish_tree(folder, folder.parent.stat().st_mode, durable.SYSTEM)
    for parent in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
        durable.fsync_folder(parent)


def _queue_is_whole(left: WorkspacePaths, said: list[str], whole: WorkspacePaths) -> None:
    acknowledged = max((int(text.split()[1]) for text in said if text.startswith("seq ")), default=0)
    state = read_state(left) if left.exists else State()
    validate(state)
    assert state.seq >= acknowledged, f"event {acknowledged} was acknowledged, the last there is {state.seq}"
    _is_prefix(left, whole)
    controller = Controller(left, FakePool([make_cpu(cores=4.0)]), FakeClock())
    left.root.mkdir(exist_ok=True)
    controller.recover()
    controller.turn(0)
    submitted = max((int(text.split()[1]) for text in said if text.startswith("submission ")), default=0)
    assert controller.state.submissions.get("s", 0) >= submitted, f"submission {submitted} is lost"
    controller.turn(0)
    controller.close()
    assert to_snapshot(read_state(left)) == to_snapshot(controller.state)


def _is_prefix(left: WorkspacePaths, whole: WorkspacePaths) -> None:
    """Nothing else was ever journalled than what was."""
    if not left.journal.is_dir():
        return
    first = max((seq for seq, _ in left.snapshots()), default=0)
    oldest = max([first, *(seq for seq, _ in whole.snapshots()[:1])])
    there = {entry.seq: entry.event for entry in read(whole.journal, oldest)}
    for entry in read(left.journal, first) if first or not left.snapshots() else ():
        assert there.get(entry.seq, entry.event) == entry.event


# a life: submit, prepare data, train with checkpoints, evaluate an ensemble, sample


def _life(disk: Recording) -> None:
    write_text(disk.folder)
    place = WorkspacePaths(disk.folder / "workspace")
    make_workspace(place)
    text = SWEEP.replace("training: {epochs: 3", "checkpoint: {every: 0.1}\n  training: {epochs: 3")
    publish(place, planned(disk.folder, text))
    disk.say("submitted")
    found = orders(place, "demo")
    for job in ("demo-prepare-long", "demo-0001", "demo-0002", "demo-ensemble-three"):
        assert start(found[job]).wait() == 0, (place.run(job).root / "attempts/0001/stderr.log").read_text()
        disk.say(job)
    job = _ask_for_a_sample(place)
    assert start(orders(place, "demo", 2)[job]).wait() == 0
    disk.say(job)


def _ask_for_a_sample(place: WorkspacePaths) -> str:
    import msgspec

    from terry.cluster.core.model import Resources
    from terry.jobs.submitting.extra import submit_extra
    from terry.jobs.sweeps.model_jobs import SampleAsked
    from terry.jobs.trained.members import named
    from tests.helpers.sweep_files import NOW

    asked = msgspec.to_builtins(SampleAsked(mixture=named(place, "three"), count=3))
    return submit_extra(place, "demo", "sample", "terry.jobs.sample:main", asked, Resources(cpus=1.0), {}, NOW, "ahab")


def _life_is_whole(left: WorkspacePaths, said: list[str], whole: WorkspacePaths) -> None:
    _submission_is_whole(left, said)
    for folder in dataset_folders(left.datasets) if left.datasets.is_dir() else ():
        Dataset.open(folder).verify()
    for job in ("demo-prepare-long", "demo-0001", "demo-0002", "demo-ensemble-three", _SAMPLE):
        _run_is_whole(left, job, whole, done=job in said)


def _submission_is_whole(left: WorkspacePaths, said: list[str]) -> None:
    there = left.submissions("demo")
    if "submitted" in said:
        assert there, "the submission is lost"
        assert any((left.inbox / "new").iterdir()), "nobody will hear of the submission"
    for _, folder in there:
        assert {"sweep.yaml", "jobs.jsonl", "submission.json"} <= {p.name for p in folder.iterdir()}
        json.loads((folder / "submission.json").read_bytes())
        for line in (folder / "jobs.jsonl").read_bytes().splitlines():
            json.loads(line)
        yaml.safe_load((folder / "sweep.yaml").read_bytes())


def _run_is_whole(left: WorkspacePaths, job: str, whole: WorkspacePaths, *, done: bool) -> None:
    run, wanted = left.run(job), whole.run(job)
    assert not done or run.result.exists(), f"the result of {job} is lost"
    if run.result.exists():
        found, right = (json.loads(path.read_bytes()) for path in (run.result, wanted.result))
        assert found == right, f"the result of {job} is another"
        if file := found.get("file"):
            assert (left.root / file).read_bytes() == (whole.root / file).read_bytes(), f"what {job} wrote is damaged"
        if folder := found.get("folder"):
            Dataset.open(left.root / folder).verify()
    if checkpoint := _newest(run.checkpoints):
        step = int(re.fullmatch(r"step-(\d+)-a\d+", checkpoint)[1])  # type: ignore[index]
        loaded = CheckpointStore(run.checkpoints, attempt=2).load_latest()
        assert loaded is not None
        assert loaded.step == step, f"{job}: checkpoint {checkpoint} cannot be loaded"
        logged = [row["step"] for row in read_series(wanted, 1) if row["step"] <= step]
        assert [row["step"] for row in read_series(run, 1) if row["step"] <= step] == logged, f"{job}: measurements"
    if done and wanted.checkpoints.is_dir():
        newest = read_manifest(checkpoints(run.checkpoints)[-1])
        assert newest == read_manifest(checkpoints(wanted.checkpoints)[-1]), f"{job}: its last weights are lost"


def _newest(folder: Path) -> str:
    found = checkpoints(folder)
    return found[-1].name if found else ""


QUEUE = Scenario(name="queue", work=_queue, verdict=_queue_is_whole)
LIFE = Scenario(name="life of a sweep", work=_life, verdict=_life_is_whole)
SCENARIOS = (QUEUE, LIFE)
