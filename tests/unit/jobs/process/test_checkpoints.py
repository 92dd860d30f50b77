"""Checkpoints: whole or absent, verified, retained."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terry.cluster.files import durable
from terry.jobs.process import checkpoints
from terry.jobs.process.checkpoints import BadCheckpoint, CheckpointStore, load
from terry.models.training_state import TrainingState, TrainingStateBuffers


def training_state(step: int, value: float = 1.0) -> TrainingState:
    return TrainingState(
        step=step,
        model={"b": torch.full((3, 2), value), "a": torch.arange(4)},
        optimizer={"rng": torch.arange(16, dtype=torch.uint8)},
        state={"epoch": 2, "position": {"step": step}, "best": 1.25},
    )


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", attempt=1)


def folders(path: Path) -> list[str]:
    return sorted(p.name for p in (path / "checkpoints").iterdir())


def test_what_was_saved_is_loaded(store: CheckpointStore) -> None:
    store.save(training_state(7), best=True)
    found = store.load_latest()
    assert found is not None
    assert (found.step, found.attempt) == (7, 1)
    assert torch.equal(found.model["b"], torch.full((3, 2), 1.0))
    assert torch.equal(found.optimizer["rng"], torch.arange(16, dtype=torch.uint8))
    assert found.state == {"epoch": 2, "position": {"step": 7}, "best": 1.25}
    assert store.best() == found.path


def test_nothing_is_found_where_nothing_was_saved(store: CheckpointStore) -> None:
    assert store.load_latest() is None
    assert store.best() is None


def test_the_same_weights_have_the_same_bytes_whatever_their_order(tmp_path: Path) -> None:
    first = CheckpointStore(tmp_path / "1", 1)
    second = CheckpointStore(tmp_path / "2", 1)
    first.save(training_state(1))
    turned = training_state(1)
    second.save(TrainingState(step=1, model=dict(reversed(list(turned.model.items()))), optimizer={}, state={}))
    one, two = first.load_latest(), second.load_latest()
    assert one is not None
    assert two is not None
    assert one.model_sha256 == two.model_sha256


def test_the_newest_two_and_the_best_are_kept(store: CheckpointStore, tmp_path: Path) -> None:
    for step in range(1, 7):
        store.save(training_state(step), best=step in {1, 2})
    assert folders(tmp_path) == [f"step-{step:09d}-a0001" for step in (2, 5, 6)]


def test_a_step_can_turn_out_to_be_the_best_after_it_was_saved(store: CheckpointStore) -> None:
    path = store.save(training_state(1))
    assert store.best() is None
    assert store.save(training_state(1), best=True) == path
    assert store.best() == path
    assert load(path).step == 1


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize("harm", ["cut", "turned", "removed"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    store: CheckpointStore, tmp_path: Path, name: str, harm: str
) -> None:
    store.save(training_state(1))
    newest = store.save(training_state(2)) / name
    data = newest.read_bytes()
    if harm == "cut":
        newest.write_bytes(data[: len(data) // 2])
    elif harm == "turned":
        middle = len(data) // 2
        newest.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        newest.unlink()
    said: list[str] = []
    found = store.load_latest(said.append)
    assert found is not None
    assert found.step == 1
    assert len(said) == 1
    assert "step-000000002-a0001 is passed over" in said[0]


def _spoil(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"not what was written")


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_later_checkpoint_does_not_push_out_the_good_one(tmp_path: Path, keep: int) -> None:
    first = CheckpointStore(tmp_path / "checkpoints", 1, keep_last=2)
    first.save(training_state(200))
    _spoil(first.save(training_state(300)))
    second = CheckpointStore(tmp_path / "checkpoints", 2, keep_last=keep)
    found = second.load_latest(lambda _: None)
    assert found is not None
    assert found.step == 200
    for step in (250, 280, 310):
        second.save(training_state(step))
        there = [load(path).step for path in checkpoints.checkpoints(tmp_path / "checkpoints")]
        assert step in there, "what was just written stays"
        assert len(there) == keep, "and nothing damaged counts"


def test_where_all_are_damaged_nobody_begins_anew_by_himself(store: CheckpointStore, tmp_path: Path) -> None:
    for step in (1, 2):
        _spoil(store.save(training_state(step)))
    with pytest.raises(BadCheckpoint, match=r"none of the run's 2 checkpoints can be used.*--from-scratch"):
        CheckpointStore(tmp_path / "checkpoints", 2).load_latest(lambda _: None)
    assert len(folders(tmp_path)) == 2, "they stay, for a person to look at"
    assert CheckpointStore(tmp_path / "checkpoints", 3, first_attempt=3).load_latest() is None


def test_what_cannot_be_read_just_now_is_not_passed_over(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(training_state(1))
    store.save(training_state(2))

    def gone(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", gone)
    with pytest.raises(OSError, match="Input/output"):
        CheckpointStore(tmp_path / "checkpoints", 2).load_latest()


def test_a_checkpoint_of_a_later_format_is_refused_in_words(store: CheckpointStore) -> None:
    path = store.save(training_state(1))
    manifest = path / "MANIFEST.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"format":1', b'"format":99'))
    with pytest.raises(BadCheckpoint, match="later version"):
        load(path)


def test_from_scratch_does_not_see_what_was_before(store: CheckpointStore, tmp_path: Path) -> None:
    store.save(training_state(50))
    fresh = CheckpointStore(tmp_path / "checkpoints", attempt=2, first_attempt=2)
    assert fresh.load_latest() is None
    fresh.save(training_state(3))
    found = fresh.load_latest()
    assert found is not None
    assert (found.step, found.attempt) == (3, 2)


def test_an_attempt_that_lives_on_does_not_remove_what_its_successor_wrote(tmp_path: Path) -> None:
    old, new = (CheckpointStore(tmp_path / "checkpoints", attempt=n, keep_last=1) for n in (1, 2))
    new.save(training_state(5))
    for step in (6, 7, 8):
        old.save(training_state(step))
    assert folders(tmp_path) == ["step-000000005-a0002", "step-000000008-a0001"]


def test_the_writing_thread_writes_in_order_and_flush_waits(store: CheckpointStore, tmp_path: Path) -> None:
    buffers = TrainingStateBuffers()
    weights = {"w": torch.zeros(1000)}
    for step in range(1, 6):
        weights["w"].fill_(step)
        store.save_async(buffers.capture(step, weights, {}, {"step": step}), best=False)
    store.flush()
    assert folders(tmp_path) == ["step-000000004-a0001", "step-000000005-a0001"]
    for path in checkpoints.checkpoints(tmp_path / "checkpoints"):
        found = load(path)
        assert torch.equal(found.model["w"], torch.full((1000,), float(found.step)))


def test_what_must_be_on_disk_first_is_written_before_the_checkpoint_is_seen(tmp_path: Path) -> None:
    seen: list[tuple[int, list[str]]] = []
    folder = tmp_path / "checkpoints"
    store = CheckpointStore(
        folder, 1, before_publish=lambda step: seen.append((step, [p.name for p in checkpoints.checkpoints(folder)]))
    )
    store.save(training_state(1))
    assert seen == [(1, [])]


def test_an_error_of_the_writing_thread_is_raised_in_the_training_thread(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(training_state(1))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(durable, "write_all", full)
    store.save_async(training_state(2))
    with pytest.raises(OSError, match="no space"):
        store.flush()
    assert folders(tmp_path) == ["step-000000001-a0001"]


def _killed_at(call: int, work: Callable[[], object]) -> bool:
    """Do `work` in a child that is killed right before its `call`-th system call. True if it came that far."""
    pid = os.fork()
    if pid == 0:
        try:
            _kill_before(call)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def _kill_before(call: int) -> None:
    count = iter(range(call, -1, -1))

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            if next(count) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    for name in ("open", "write", "fsync", "rename", "mkdir", "close"):
        setattr(durable.SYSTEM, name, counted(getattr(durable.SYSTEM, name)))


def test_killed_between_any_two_system_calls_the_newest_checkpoint_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    CheckpointStore(folder, 1).save(training_state(1))
    kills = 0
    while _killed_at(kills, lambda: CheckpointStore(folder, 1).save(training_state(2, 2.0))):
        found = CheckpointStore(folder, 2).load_latest()
        assert found is not None
        assert found.step in {1, 2}
        assert float(found.model["b"][0, 0]) == found.step
        for path in folder.glob("step-000000002*"):  # published: begin again from the first
            checkpoints._discard(path)
        kills += 1
    assert kills > 15
    CheckpointStore(folder, 1).save(training_state(3))
    assert all(p.name.startswith("step-") for p in folder.iterdir()), "leftovers of the killed are cleared"


def test_a_second_one_at_a_step_takes_the_place_of_the_first(store: CheckpointStore, tmp_path: Path) -> None:
    first, second = (
        training_state(1),
        replace(training_state(1), model={"w": torch.full((2,), 7.0)}, state={"edition": 2}),
    )
    store.save(first)
    store.save(second)
    found = CheckpointStore(tmp_path / "checkpoints", 2).load_latest()
    assert found is not None
    assert (found.step, found.model["w"].tolist(), found.state) == (1, [7.0, 7.0], {"edition": 2})
    assert len(folders(tmp_path)) == 1


def test_the_same_again_is_not_written_again_but_may_turn_out_to_be_the_best(
    store: CheckpointStore, tmp_path: Path
) -> None:
    path = store.save(training_state(1))
    assert store.save(training_state(1), best=True) == path
    assert checkpoints.is_best(path)
    assert len(folders(tmp_path)) == 1


def test_best_marks_what_was_given_with_it(store: CheckpointStore, tmp_path: Path) -> None:
    best = store.save(replace(training_state(1), model={"w": torch.ones(1)}), best=True)
    newest = store.save(replace(training_state(1), model={"w": torch.zeros(1)}))
    assert store.best() == best, "another one at its step does not take its weights away"
    assert store.latest == newest
    again = store.save(replace(training_state(1), model={"w": torch.full((1,), 3.0)}), best=True)
    assert store.best() == store.latest == again
    assert len(folders(tmp_path)) == 1, "what is neither the newest nor the best is gone"


def test_one_saved_twice_counts_once_among_those_that_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", 1, keep_last=2)
    store.save(training_state(1))
    for number in range(3):
        store.save(replace(training_state(2), state={"number": number}))
    assert [load(path).step for path in checkpoints.checkpoints(tmp_path / "checkpoints")] == [1, 2]


def test_an_error_of_the_writing_thread_says_of_which_step(store: CheckpointStore, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    store.save_async(training_state(1))
    with pytest.raises(OSError, match="not a folder") as caught:
        store.flush()
    assert "while the checkpoint of step 1 was written" in caught.value.__notes__


@given(failing=st.sets(st.integers(1, 6)), flushed=st.sets(st.integers(1, 6)))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_write_that_fails_is_told_once_with_its_step_and_the_others_are_there(
    tmp_path_factory: pytest.TempPathFactory, failing: set[int], flushed: set[int]
) -> None:
    """A later call raises it: its note says which checkpoint it was about."""

    def fails(step: int) -> None:
        if step in failing:
            raise OSError(errno.ENOSPC, "no space")

    folder = tmp_path_factory.mktemp("writer") / "checkpoints"
    store, told, handed_over = CheckpointStore(folder, 1, keep_last=9, before_publish=fails), list[str](), set[int]()

    def call(what: Callable[[], None]) -> bool:
        try:
            what()
        except OSError as error:
            told.extend(error.__notes__)
            return False
        return True

    for step in range(1, 7):
        while not call(lambda step=step: store.save_async(training_state(step))):  # type: ignore[misc]
            pass
        handed_over.add(step)
        if step in flushed:
            call(store.flush)
    call(store.flush)
    assert told == [f"while the checkpoint of step {step} was written" for step in sorted(failing)]
    there = {int(path.name.split("-")[1]) for path in folder.iterdir()}
    assert there == handed_over - failing, "whole, and none of those that failed in part"
