"""What of one attempt's local folder is not at home yet, and the sending of it: in an order that a kill cannot upset.

Files that grow go first, up to now; then checkpoints that were there before those were read, so that the measurements
up to a checkpoint are at home before it; then what the run has retired goes there, too. At the end all the rest goes,
`exit.json` last.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from terry.cluster.away.home import CHUNK, WorkspaceHome
from terry.cluster.files.paths import Run

_GROWING = ("stdout.log", "stderr.log", "metrics.jsonl", "crash.txt")
_CHECKPOINTS, _SOURCE, _MANIFEST = "checkpoints", "source", "MANIFEST.json"
#: A file that is no longer being written has not been touched for so long (seconds).
_QUIET_S = 2.0

#: What tells that a file is another: its inode, size and time of change.
Mark = tuple[int, int, int]


class Outbox:
    """One attempt's. `send` may be called again after any error, and goes on where it was."""

    def __init__(self, home: WorkspaceHome, run: Run, job_id: str, attempt: int) -> None:
        """The run's folder must hold what is at home already, as it is when the attempt begins."""
        self._home = home
        self._run = run
        self._job, self._attempt = job_id, attempt
        self._sizes: dict[str, int] = {}  # of growing files, at home
        #: their manifests as they are at home; None: the checkpoint may be there, but that was not heard
        self._checkpoints: dict[str, Mark | None] = {p.name: _mark(p / _MANIFEST) for p in self._published()}
        self._files = {name: _mark(run.root / name) for name in self._others()}
        if run.source.is_dir():
            self._files[_SOURCE] = _mark(run.source)

    def send(self, *, last: bool = False) -> None:
        """Send all that is new. `last`: the process has ended. Raises HomeAway, Superseded, OSError."""
        there = self._published()
        for name in self._growing():
            self._send_growing(name)
        self._send_source()
        for path in there:
            self._send_checkpoint(path)
        self._retire()
        now = time.time()
        for name in sorted(self._others(), key=lambda name: name.endswith("exit.json")):
            path = self._run.root / name
            if last or now - path.stat().st_mtime > _QUIET_S:
                self._send_file(name)

    def _published(self) -> list[Path]:
        folder = self._run.checkpoints
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(p for p in found if not p.name.startswith(".") and (p / _MANIFEST).exists())

    def _growing(self) -> Iterator[str]:
        folder = self._run.attempt(self._attempt).root
        paths = [folder / name for name in _GROWING]
        paths += sorted(self._run.tensorboard.glob("*")) if self._run.tensorboard.is_dir() else []
        yield from (str(p.relative_to(self._run.root)) for p in paths if p.is_file() and p.stat().st_size)

    def _others(self) -> list[str]:
        """Files that are published whole: results, reports, and whatever a user's own code leaves in its folder."""
        own = self._run.attempt(self._attempt).root.relative_to(self._run.root).parts
        found = []
        for path in self._run.root.rglob("*"):
            parts = path.relative_to(self._run.root).parts
            foreign = parts[0] in {_CHECKPOINTS, _SOURCE, "tb"} or (parts[0] == "attempts" and parts[:2] != own)
            hidden = any(part.startswith(".") or part.endswith(".tmp") for part in parts)
            if not foreign and not hidden and parts[-1] not in _GROWING and path.is_file() and not path.is_symlink():
                found.append("/".join(parts))
        return found

    def _send_growing(self, name: str) -> None:
        with (self._run.root / name).open("rb") as file:
            file.seek(self._sizes.setdefault(name, 0))
            while data := file.read(CHUNK):
                offset = file.tell() - len(data)
                there = self._home.append(self._job, self._attempt, name, offset, data)
                self._sizes[name] = there
                if there != file.tell():  # it has less (a disk lost some), or more (an answer was lost)
                    file.seek(there)

    def _send_source(self) -> None:
        if self._run.source.is_dir() and _SOURCE not in self._files:
            self._send_folder(self._run.source, _SOURCE)
            self._files[_SOURCE] = _mark(self._run.source)

    def _send_checkpoint(self, path: Path) -> None:
        try:
            mark = _mark(path / _MANIFEST)
            if self._checkpoints.setdefault(path.name, None) is None:
                self._send_folder(path, f"{_CHECKPOINTS}/{path.name}")
            elif self._checkpoints[path.name] != mark:  # it turned out to be the best
                self._stage_and_publish(f"{_CHECKPOINTS}/{path.name}/{_MANIFEST}")
        except FileNotFoundError:  # retired meanwhile
            return
        self._checkpoints[path.name] = mark

    def _retire(self) -> None:
        """What the run has removed. By then its newer ones are at home."""
        here = {path.name for path in self._published()}
        if any(self._checkpoints.get(name) for name in here):
            for name in [name for name in self._checkpoints if name not in here]:
                self._home.discard(self._job, self._attempt, name)
                del self._checkpoints[name]

    def _send_file(self, name: str) -> None:
        mark = _mark(self._run.root / name)
        if self._files.get(name) != mark:
            self._stage_and_publish(name)
            self._files[name] = mark

    def _send_folder(self, folder: Path, name: str) -> None:
        token = secrets.token_hex(8)
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self._stage(token, f"{name}/{path.relative_to(folder).as_posix()}", path)
        self._home.publish(self._job, self._attempt, token, name)

    def _stage_and_publish(self, name: str) -> None:
        token = secrets.token_hex(8)
        self._stage(token, name, self._run.root / name)
        self._home.publish(self._job, self._attempt, token, name)

    def _stage(self, token: str, name: str, path: Path) -> None:
        with path.open("rb") as file:
            data = file.read(CHUNK)
            self._home.stage(self._job, self._attempt, token, name, 0, data)  # also of an empty file
            while data := file.read(CHUNK):
                self._home.stage(self._job, self._attempt, token, name, file.tell() - len(data), data)


def _mark(path: Path) -> Mark:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
