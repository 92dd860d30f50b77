"""Checkpoints on disk: whole or absent, verified when loaded, written off the training thread.

    checkpoints/step-000120000-a0002/     step, attempt; and `-r2`, `-r3` where the attempt saved this step again
        model.safetensors       the weights: what other programs load
        optimizer.safetensors   all other tensors that the next step depends on
        state.json              all that is not a tensor
        MANIFEST.json           size and sha256 of the three; a folder without a valid one is not a checkpoint

A folder is published by one rename, named by its step and by the attempt that wrote it: two attempts never write to
one. A second one at a step takes the place of the first: it is published beside it, and the first is removed then (or
stays, where it is the best). The same weights give the same bytes, so the sha256 of model.safetensors tells whether two
runs agree bit for bit.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from terry.cluster.files import durable
from terry.cluster.files.paths import checkpoint_key
from terry.jobs.process.trees import TREES, Packed, restored
from terry.logs.records.values import pack
from terry.models.training_state import TrainingState

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

FORMAT = 2  #: of a checkpoint with trees (see terry.jobs.process.trees); without one it is 1, as it always was
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"

_TEMPORARY = re.compile(r"\.step-\d+-a(\d+)(?:-r\d+)?\.[0-9a-f]+\.tmp")


class BadCheckpoint(ValueError):
    """A folder that is not a valid checkpoint; says why."""


class CheckpointFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a checkpoint."""

    bytes: int
    sha256: str


class CheckpointManifest(msgspec.Struct, frozen=True, kw_only=True):
    """MANIFEST.json."""

    format: int
    step: int
    attempt: int
    best: bool  #: the lowest validation loss so far
    files: dict[str, CheckpointFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was verified and loaded; tensors on the CPU."""

    step: int
    attempt: int
    path: Path
    model: dict[str, Any]  #: as it was saved; tensors by name unless something else was given
    optimizer: dict[Any, Any]  #: as it was saved
    state: dict[Any, Any]  #: as it was saved
    model_sha256: str  #: of model.safetensors

    @property
    def training_state(self) -> TrainingState:
        """The same as a Snapshot, to resume from."""
        return TrainingState(step=self.step, model=self.model, optimizer=self.optimizer, state=self.state)


class CheckpointStore:
    """The checkpoints of one run, written by one attempt.

    `keep_last` newest ones and the newest best one are kept. `first_attempt`: checkpoints of attempts before this one
    do not exist for this store (a person asked to start from scratch). `before_publish` is called with the step before
    a checkpoint becomes visible, in the writing thread: what must be on disk by then (the metrics up to this step).
    """

    def __init__(
        self,
        folder: Path,
        attempt: int,
        keep_last: int = 2,
        *,
        first_attempt: int = 1,
        before_publish: Callable[[int], None] | None = None,
    ) -> None:
        self._folder = folder
        self._attempt = attempt
        self._keep_last = max(1, keep_last)
        self._first_attempt = first_attempt
        self._before_publish = before_publish or (lambda _: None)
        self._unusable: set[Path] = set()  # were passed over when this attempt began
        self._error: BaseException | None = None
        self._work: queue.Queue[tuple[TrainingState, bool] | None] = queue.Queue(maxsize=1)
        self._thread: threading.Thread | None = None

    # write

    def save(self, training_state: TrainingState, *, best: bool = False) -> Path:
        """Write and publish now. Raises OSError (a full disk: what was there stays, nothing half-written is seen)."""
        durable.make_folder(self._folder)
        self._remove_leftovers()
        earlier = [p for p in checkpoints(self._folder) if _parse(p)[:2] == (training_state.step, self._attempt)]
        final = self._folder / _name(training_state.step, self._attempt, _parse(earlier[-1])[2] + 1 if earlier else 1)
        temporary = self._folder / f".{final.name}.{secrets.token_hex(4)}.tmp"
        temporary.mkdir()
        try:
            manifest = self._write(temporary, training_state, best)
            if earlier and _content(earlier[-1]) == manifest.files:  # it is there already
                if best:
                    _mark_best(earlier[-1])
                return earlier[-1]
            self._before_publish(training_state.step)
            durable.publish_folder(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._retire()
        return final

    def save_async(self, training_state: TrainingState, *, best: bool = False) -> None:
        """Hand over to the writing thread; waits only while the one before the last is still being written.

        Raises the error that an earlier write ended with.
        """
        self._raise_error()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_for_ever, name="checkpoints", daemon=True)
            self._thread.start()
        self._work.join()  # at most one is under way: two training state buffers are enough
        self._raise_error()
        self._work.put((training_state, best))

    def flush(self) -> None:
        """Wait until all is written. Raises the error that a write ended with."""
        if self._thread is not None:
            self._work.join()
        self._raise_error()

    @property
    def busy(self) -> bool:
        """True while a checkpoint is being written."""
        return self._work.unfinished_tasks > 0

    def _write_for_ever(self) -> None:
        while (item := self._work.get()) is not None:
            try:
                self.save(item[0], best=item[1])
            except BaseException as error:  # raised in the training thread, at its next call
                error.add_note(f"while the checkpoint of step {item[0].step} was written")
                self._error = error
            finally:
                self._work.task_done()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, folder: Path, training_state: TrainingState, best: bool) -> CheckpointManifest:  # noqa: FBT001
        state = (
            training_state.state
            if isinstance(training_state.state, Packed)
            else pack(dict(training_state.state), "state")
        )
        files = {
            MODEL: _write_tensors(folder / MODEL, training_state.model),
            OPTIMIZER: _write_tensors(folder / OPTIMIZER, training_state.optimizer),
            STATE: _write_new(folder / STATE, msgspec.json.encode(dict(state)) + b"\n"),
        }
        known = FORMAT if TREES in state else 1
        manifest = CheckpointManifest(
            format=known, step=training_state.step, attempt=self._attempt, best=best, files=files
        )
        _write_new(folder / MANIFEST, msgspec.json.encode(manifest) + b"\n")
        return manifest

    def _remove_leftovers(self) -> None:
        """What writers of this attempt and of those before it, which are over, left when they were killed."""
        for path in self._folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found and int(found[1]) <= self._attempt:
                shutil.rmtree(path, ignore_errors=True)

    def _retire(self) -> None:
        """Remove what is neither among the newest nor the best. Called only after a newer one was published.

        Never what a later attempt wrote: this one may live on in a node that was cut off. What was passed over as
        damaged, often of a later step, does not count: it would push out the good one from which this attempt began.
        """
        mine = [p for p in self._visible() if _parse(p)[1] <= self._attempt]
        good = [path for path in mine if path not in self._unusable]
        best = [path for path in good if is_best(path)]
        newest = list({_parse(path)[:2]: path for path in good}.values())  # of several at one step the last
        keep = set(newest[-self._keep_last :]) | set(best[-1:])
        for path in [*self._abandoned(), *mine]:
            if path not in keep:
                _discard(path)

    def _abandoned(self) -> list[Path]:
        """What earlier series left, now that this one has a checkpoint of its own."""
        return [p for p in checkpoints(self._folder) if _parse(p)[1] < self._first_attempt]

    @property
    def latest(self) -> Path | None:
        """Folder of the newest checkpoint; not verified."""
        return next(reversed(self._visible()), None)

    # read

    def load_latest(self, warn: Callable[[str], None] = _log.warning) -> Checkpoint | None:
        """The newest valid checkpoint; a damaged one is passed over with a warning, for the one before.

        None only where there are none: where all are damaged, BadCheckpoint is raised, for to begin anew (and to remove
        them in the end) is for a person to decide. Raises OSError where they cannot be read now.
        """
        there = list(reversed(self._visible()))
        wrong = ""
        for path in there:
            try:
                return load(path)
            except (BadCheckpoint, FileNotFoundError) as error:
                self._unusable.add(path)
                wrong = wrong or str(error)
                warn(f"{path.name} is passed over: {error}")
        if not there:
            return None
        advice = "put one back from a backup, or begin anew with `terry-cluster resubmit --from-scratch`"
        raise BadCheckpoint(f"none of the run's {len(there)} checkpoints can be used ({wrong}); {advice}")

    def best(self) -> Path | None:
        """Folder of the newest checkpoint that was the best when it was written."""
        return next((path for path in reversed(self._visible()) if is_best(path)), None)

    def _visible(self) -> list[Path]:
        return [p for p in checkpoints(self._folder) if _parse(p)[1] >= self._first_attempt]


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first; not verified."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if checkpoint_key(p.name)), key=_parse)


def load(path: Path) -> Checkpoint:
    """Verify sizes and sha256, and load. Raises BadCheckpoint or OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    manifest = read_manifest(path)
    content = {name: _verified(path / name, entry) for name, entry in manifest.files.items()}
    try:
        parts = load_tensors(content[MODEL]), load_tensors(content[OPTIMIZER]), msgspec.json.decode(content[STATE])
        model, optimizer, state = restored(*parts)
        return Checkpoint(
            step=manifest.step,
            attempt=manifest.attempt,
            path=path,
            model=model,
            optimizer=optimizer,
            state=state,
            model_sha256=manifest.files[MODEL].sha256,
        )
    except (KeyError, TypeError, AttributeError, SafetensorError, msgspec.MsgspecError) as error:
        raise BadCheckpoint(f"{path}: {error}") from error


def load_model(path: Path) -> dict[str, Tensor]:
    """Only the weights, verified, on the CPU. Raises BadCheckpoint or OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    manifest = read_manifest(path)
    try:
        return load_tensors(_verified(path / MODEL, manifest.files[MODEL]))
    except (KeyError, SafetensorError) as error:
        raise BadCheckpoint(f"{path}: {error}") from error


def read_manifest(path: Path) -> CheckpointManifest:
    """The manifest of a checkpoint folder. Raises BadCheckpoint."""
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=CheckpointManifest)
    except FileNotFoundError as error:
        raise BadCheckpoint(f"{path} has no {MANIFEST}") from error
    except msgspec.MsgspecError as error:
        raise BadCheckpoint(f"{path / MANIFEST} is not readable: {error}") from error
    if manifest.format > FORMAT:
        raise BadCheckpoint(f"{path} was written by a later version (format {manifest.format}, known: {FORMAT})")
    return manifest


def _parse(path: Path) -> tuple[int, int, int]:
    found = checkpoint_key(path.name)
    assert found is not None
    return found


def _name(step: int, attempt: int, revision: int) -> str:
    return f"step-{step:09d}-a{attempt:04d}" + (f"-r{revision}" if revision > 1 else "")


def _content(path: Path) -> dict[str, CheckpointFile] | None:
    """What the files of a checkpoint are, by its manifest; None where that cannot be read."""
    try:
        return read_manifest(path).files
    except (BadCheckpoint, OSError):
        return None


def is_best(path: Path) -> bool:
    """True for a checkpoint that was the best of its run when it was written."""
    try:
        return read_manifest(path).best
    except (BadCheckpoint, OSError):
        return False


def _mark_best(path: Path) -> None:
    """The step turned out to be the best only after its checkpoint was written."""
    manifest = msgspec.structs.replace(read_manifest(path), best=True)
    durable.write_bytes(path / MANIFEST, msgspec.json.encode(manifest) + b"\n")


def _verified(path: Path, entry: CheckpointFile) -> bytes:
    data = path.read_bytes()
    if len(data) != entry.bytes:
        raise BadCheckpoint(f"{path} has {len(data)} bytes, {entry.bytes} were written")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BadCheckpoint(f"{path} is damaged: its sha256 is not the one that was written")
    return data


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> CheckpointFile:
    from safetensors.torch import save as to_bytes

    ordered = {name: tensors[name].contiguous() for name in sorted(tensors)}
    return _write_new(path, to_bytes(ordered))


def _write_new(path: Path, data: bytes) -> CheckpointFile:
    with durable.opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) as descriptor:
        durable.write_all(descriptor, data)
    return CheckpointFile(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _discard(path: Path) -> None:
    """Out of sight by a rename first: a folder that is being removed is never seen as a checkpoint."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
