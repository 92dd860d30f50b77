"""The workspace's side for nodes that do not see it: what is sent there comes whole, in order, while it is current."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from terry.cluster.away import courier, outbox
from terry.cluster.away.courier import Courier
from terry.cluster.away.home import (
    CHUNK,
    AttemptSuperseded,
    Home,
    HomeAway,
    WorkspaceHome,
    is_seen,
    mark_of,
    until_seen,
)
from terry.cluster.away.outbox import Outbox
from terry.cluster.files.paths import Run, WorkspacePaths
from terry.cluster.ports import LaunchOrder
from tests.helpers.flaky_home import FlakyHome


@pytest.fixture
def place(tmp_path: Path) -> WorkspacePaths:
    workspace = WorkspacePaths(tmp_path / "home")
    workspace.cluster.mkdir(parents=True)
    return workspace


@pytest.fixture
def home(place: WorkspacePaths) -> Home:
    found = Home(place, lambda _, order: [order.spec_path])
    assert found.begin("s-1", 1, b"{}") == ""
    return found


def test_the_mark_tells_the_workspace_from_a_folder_of_the_same_path(place: WorkspacePaths, tmp_path: Path) -> None:
    mark = mark_of(place)
    assert mark == mark_of(place), "it stays"
    assert is_seen(place, mark)
    assert not is_seen(WorkspacePaths(tmp_path / "nowhere"), mark)
    other = WorkspacePaths(tmp_path / "other")
    mark_of(other)
    assert not is_seen(other, mark)


def test_a_disk_that_was_away_is_waited_for_and_so_is_what_runs(place: WorkspacePaths, tmp_path: Path) -> None:
    """Else an agent that began meanwhile would never again take what must run where the workspace is seen."""
    mark = mark_of(place)
    away = place.root.rename(tmp_path / "away")
    pauses: list[str] = []

    def pause() -> None:
        pauses.append("away" if away.exists() else "at work")
        if away.exists():
            away.rename(place.root)

    until_seen(place, mark, lambda: len(pauses) > 2, pause)
    assert pauses == ["away", "at work", "at work"]


def test_a_file_grows_by_offset_whatever_is_told_twice(home: Home, place: WorkspacePaths) -> None:
    def append(offset: int, data: bytes) -> int:
        return home.append("s-1", 1, "attempts/0001/metrics.jsonl", offset, data)

    assert append(0, b"abc") == 3
    assert append(0, b"abc") == 3
    assert append(1, b"bcde") == 5
    assert append(9, b"x") == 5, "there is a gap: it says where to go on"
    assert append(5, b"") == 5
    assert place.run("s-1").attempt(1).metrics.read_bytes() == b"abcde"


def test_nothing_of_an_attempt_that_is_over_is_taken(home: Home, place: WorkspacePaths) -> None:
    home.stage("s-1", 1, "t1", "result.json", 0, b"of attempt 1")
    assert home.begin("s-1", 2, b"{}") == ""
    calls: list[Callable[[], Any]] = [
        lambda: home.append("s-1", 1, "attempts/0001/stdout.log", 0, b"x"),
        lambda: home.stage("s-1", 1, "t2", "result.json", 0, b"x"),
        lambda: home.publish("s-1", 1, "t1", "result.json"),
        lambda: home.discard("s-1", 1, "step-000000001-a0001"),
        lambda: home.begin("s-1", 1, b"{}"),
    ]
    for call in calls:
        with pytest.raises(AttemptSuperseded):
            call()
    assert not place.run("s-1").result.exists()
    assert home.begin("s-1", 2, b"{}") == "", "told again"
    assert home.begin("s-1", 2, b"{1}") == "attempt 2 was started before"
    assert not list(place.run("s-1").root.glob(".away-*")), "what was staged is gone"


@pytest.mark.parametrize("name", ["../s-2/result.json", "/etc/passwd", "a/../../x", "", ".", "link/x"])
def test_no_name_leads_out_of_the_runs_folder(home: Home, place: WorkspacePaths, tmp_path: Path, name: str) -> None:
    (place.run("s-1").root / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="outside"):
        home.append("s-1", 1, name, 0, b"x")
    with pytest.raises(ValueError, match="outside"):
        home.publish("s-1", 1, "t", name)
    with pytest.raises(ValueError, match=r"no token|outside"):
        home.stage("s-1", 1, "../t", "x", 0, b"x")
    assert not (tmp_path / "x").exists()


def test_reading_is_held_to_the_workspace(home: Home, place: WorkspacePaths, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(ValueError, match="outside"):
        home.read("../secret", 0, 10)
    (place.root / "file").write_bytes(b"0123456789")
    assert home.read("file", 4, 3) == b"456"
    with pytest.raises(FileNotFoundError):
        home.read("none", 0, 1)


def test_what_an_attempt_needs_is_named_with_its_sizes(home: Home, place: WorkspacePaths) -> None:
    (place.root / "jobs.jsonl").write_bytes(b"line")
    run = place.run("s-1")
    write_checkpoint(run, 10, attempt=1)
    (run.checkpoints / ".half.tmp").mkdir()
    (run.checkpoints / ".half.tmp" / "x").touch()
    run.attempt(1).metrics.write_text("{}\n")
    found = {need.path: need for need in home.needs(order_of(place, 2))}
    assert set(found) == {"jobs.jsonl", "runs/s-1/checkpoints", "runs/s-1/attempts/0001/metrics.jsonl"}
    assert found["jobs.jsonl"].files == {"jobs.jsonl": 4}
    assert [need.lasting for need in found.values()] == [True, False, False]
    assert all("half" not in name for name in found["runs/s-1/checkpoints"].files)


def order_of(place: WorkspacePaths, attempt: int) -> LaunchOrder:
    return LaunchOrder(
        epoch=1,
        job_id="s-1",
        sweep="s",
        attempt=attempt,
        entrypoint="",
        workspace=str(place.root),
        spec_path="jobs.jsonl",
        spec_offset=0,
        spec_length=4,
        device_id="d",
        share=1.0,
        threads=1,
    )


def write_checkpoint(run: Run, step: int, attempt: int, content: bytes = b"weights") -> None:
    """As a run publishes one: by a rename."""
    final = run.checkpoints / f"step-{step:09d}-a{attempt:04d}"
    temporary = final.with_name(f".{final.name}.tmp")
    temporary.mkdir(parents=True)
    (temporary / "model.safetensors").write_bytes(content)
    (temporary / "MANIFEST.json").write_text(json.dumps({"step": step, "best": False}))
    temporary.rename(final)


def contents(run: Run) -> dict[str, bytes]:
    """All that a run's folder holds, by name."""
    files = [p for p in run.root.rglob("*") if p.is_file() and ".tmp" not in str(p.relative_to(run.root))]
    return {str(p.relative_to(run.root)): p.read_bytes() for p in files}


class Life:
    """A run on a node of its own, played without a process: it writes as one would."""

    def __init__(self, local: WorkspacePaths, place: WorkspacePaths, seed: int) -> None:
        self.random = random.Random(seed)
        self.run, self.home_run = local.run("s-1"), place.run("s-1")
        self.step = 0
        self.folder = self.run.attempt(1)
        self.folder.root.mkdir(parents=True)
        self.folder.launch.write_bytes(b"{}")
        self.run.tensorboard.mkdir()

    def go_on(self) -> None:
        self.step += 1
        for path in (self.folder.metrics, self.folder.stdout, self.run.tensorboard / "events.1"):
            with path.open("ab") as file:
                file.write(b"%d\n" % self.step)
        if self.random.random() < 0.4:
            write_checkpoint(self.run, self.step, 1, self.random.randbytes(50))
            there = sorted(self.run.checkpoints.glob("step-*"))
            for old in there[:-2]:
                hidden = old.with_name(f".{old.name}.tmp")
                old.rename(hidden)
                shutil.rmtree(hidden)
        if self.random.random() < 0.1 and self.run.checkpoints.exists():
            newest = max(self.run.checkpoints.glob("step-*"))
            (self.run.root / ".manifest.tmp").write_text(json.dumps({"step": self.step, "best": True}))
            (self.run.root / ".manifest.tmp").rename(newest / "MANIFEST.json")

    def end(self) -> None:
        self.run.result.write_text("{}")
        (self.run.root / "mine").mkdir()
        (self.run.root / "mine" / "empty.txt").touch()
        self.folder.exit.write_text("{}")

    def check(self) -> None:
        """What always holds at home, whatever was lost."""
        metrics = self.home_run.attempt(1).metrics
        seen = metrics.read_bytes() if metrics.exists() else b""
        assert self.folder.metrics.read_bytes().startswith(seen)
        lines = seen.count(b"\n")
        for path in self.home_run.checkpoints.glob("step-*"):
            assert {p.name for p in path.iterdir()} == {"model.safetensors", "MANIFEST.json"}, "whole"
            assert len((path / "model.safetensors").read_bytes()) == 50
            assert int(path.name[5:14]) <= lines, "what was measured up to a checkpoint is there before it"
        if self.home_run.attempt(1).exit.exists():
            assert contents(self.home_run) == contents(self.run), "exit.json comes last"


@pytest.mark.parametrize("seed", range(8))
def test_all_comes_home_whole_and_in_order_however_often_calls_are_lost(
    tmp_path: Path, home: Home, place: WorkspacePaths, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_QUIET_S", 0.0)
    flaky = FlakyHome(home, 0.15, seed)
    life = Life(WorkspacePaths(tmp_path / "local"), place, seed)
    box = Outbox(flaky, life.run, "s-1", 1)

    def send(*, last: bool = False) -> bool:
        try:
            box.send(last=last)
        except HomeAway:
            return False
        finally:
            life.check()
        return True

    for _ in range(60):
        life.go_on()
        if life.random.random() < 0.5:
            send()
    life.end()
    while not send(last=True):
        assert flaky.calls < 5000
    assert contents(life.home_run) == contents(life.run)
    assert not list(life.home_run.root.glob(".away-*"))
    assert len(list(life.home_run.checkpoints.glob("step-*"))) == 2


def test_large_files_travel_in_parts(tmp_path: Path, home: Home, place: WorkspacePaths) -> None:
    run = WorkspacePaths(tmp_path / "local").run("s-1")
    run.attempt(1).root.mkdir(parents=True)
    box = Outbox(home, run, "s-1", 1)
    big = random.Random(1).randbytes(CHUNK + 17)
    run.attempt(1).stdout.write_bytes(big)
    (run.root / "table.bin").write_bytes(big[::-1])
    box.send(last=True)
    assert place.run("s-1").attempt(1).stdout.read_bytes() == big
    assert (place.run("s-1").root / "table.bin").read_bytes() == big[::-1]


class Fetch:
    """A fetch of a second attempt by a courier, and what it was answered."""

    def __init__(self, home: WorkspaceHome, place: WorkspacePaths, local: WorkspacePaths) -> None:
        self.local, self.answers = local, SimpleQueue[str]()
        self.courier = Courier(home, local)
        self.order = order_of(place, 2)

    def __call__(self) -> str:
        self.courier.fetch(self.order, self._prepare, self.answers.put)
        return self.answers.get(timeout=60.0)

    def _prepare(self) -> str:
        launch = self.local.run("s-1").attempt(2).launch
        launch.parent.mkdir(parents=True)
        launch.write_bytes(b"{}")
        return ""


def test_a_fetch_brings_what_is_needed_however_often_calls_are_lost_and_claims_the_attempt(
    tmp_path: Path, home: Home, place: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "_PAUSE_S", 0.001)
    (place.root / "jobs.jsonl").write_bytes(b"line")
    write_checkpoint(place.run("s-1"), 10, attempt=1)
    flaky = FlakyHome(home, 0.3, 7)
    fetch = Fetch(flaky, place, WorkspacePaths(tmp_path / "local"))
    (fetch.local.run("s-1").root / "stale").mkdir(parents=True)
    assert fetch() == ""
    fetch.courier.close()
    run = fetch.local.run("s-1")
    assert (fetch.local.root / "jobs.jsonl").read_bytes() == b"line"
    assert contents(run)["checkpoints/step-000000010-a0001/model.safetensors"] == b"weights"
    assert not (run.root / "stale").exists()
    assert place.run("s-1").attempt(2).launch.read_bytes() == b"{}"


def test_what_is_not_there_is_named(
    tmp_path: Path, home: Home, place: WorkspacePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "_PAUSE_S", 0.001)
    fetch = Fetch(home, place, WorkspacePaths(tmp_path / "local"))
    assert fetch() == "what it needs could not be fetched: jobs.jsonl is not in the workspace"
    assert not place.run("s-1").attempt(2).root.exists()
    fetch.courier.close()
