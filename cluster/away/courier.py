"""The agent's side of a node that does not see the workspace: fetches what a job reads, brings home what it writes.

Jobs run in a folder of the node's own that looks like the workspace (`local`). One thread sends, for all jobs of the
agent, what is new about once a second; a fetch has a thread of its own, since a data set may take minutes. While nobody
answers at home, jobs go on, and what they write is sent later.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from terry.cluster.away import cache as away_cache
from terry.cluster.away.home import CHUNK, AttemptSuperseded, HomeAway, NeededFiles, WorkspaceHome
from terry.cluster.away.outbox import Outbox
from terry.cluster.files.paths import Run, WorkspacePaths
from terry.cluster.ports import LaunchOrder

_log = logging.getLogger(__name__)

_EVERY_S = 1.0
_PAUSE_S, _PAUSE_MAX_S = 0.2, 5.0
_MISSES_MOST = 3

Key = tuple[str, int]  #: job id, attempt


class Courier:
    """One a device. Callbacks come from its threads."""

    def __init__(self, home: WorkspaceHome, local: WorkspacePaths, every_s: float = _EVERY_S) -> None:
        self.local = local
        local.queue.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home = home
        self._every_s = every_s
        self._changed = threading.Condition()
        self._boxes: dict[Key, Outbox] = {}
        self._ended: dict[Key, Callable[[], None]] = {}
        self._in_use: dict[Key, away_cache.InUse] = {}  # each key is only touched by one thread at a time
        self._closed = False
        threading.Thread(target=self._send_for_ever, name="courier", daemon=True).start()

    def close(self) -> None:
        """Send nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def tidy(self) -> None:
        """Remove what nothing on this node uses any more; it may take a while, so nobody waits for it."""
        threading.Thread(target=away_cache.tidy, args=(self.local,), name="tidy", daemon=True).start()

    # before a job

    def fetch(self, order: LaunchOrder, prepare: Callable[[], str], then: Callable[[str], None]) -> None:
        """Bring here what the attempt reads, call `prepare` (it writes launch.json), and claim the attempt at home.

        `then` is called with why it must not start, or with an empty string. While nobody answers it is tried again.
        """
        threading.Thread(target=self._fetch, args=(order, prepare, then), name="fetch", daemon=True).start()

    def _fetch(self, order: LaunchOrder, prepare: Callable[[], str], then: Callable[[str], None]) -> None:
        try:
            self._insist(order, self._bring_all)
            refusal = prepare() or self._insist(order, self._claim)
        except (OSError, ValueError, AttemptSuperseded) as error:
            refusal = f"what it needs could not be fetched: {error}"
        if refusal:
            self._release((order.job_id, order.attempt))
        then(refusal)

    def _insist(self, order: LaunchOrder, what: Callable[[LaunchOrder], str]) -> str:
        missed = 0
        for pause in self._pauses():
            try:
                return what(order)
            except HomeAway as error:
                _log.warning("%s: what it needs cannot be fetched now: %s", order.job_id, error)
            except FileNotFoundError:  # it may have been replaced while it was fetched
                missed += 1
                if missed > _MISSES_MOST:
                    raise
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def _bring_all(self, order: LaunchOrder) -> str:
        needs = self._home.needs(order)
        run = self.local.run(order.job_id).root
        shutil.rmtree(run, ignore_errors=True)  # an earlier attempt's: what counts is home
        with away_cache.alone(self.local):  # the node's agents fetch a data set once, not each for itself
            for need in needs:
                self._bring(need)
            run.mkdir(parents=True, exist_ok=True)
            self._hold((order.job_id, order.attempt), [run, *away_cache.data_sets(self.local, needs)])
        return ""

    def _hold(self, key: Key, folders: Iterable[Path]) -> None:
        self._release(key)
        self._in_use[key] = away_cache.InUse(folders)

    def _release(self, key: Key) -> None:
        if (held := self._in_use.pop(key, None)) is not None:
            held.release()

    def _claim(self, order: LaunchOrder) -> str:
        run = self.local.run(order.job_id)
        box = Outbox(self._home, run, order.job_id, order.attempt)
        refusal = self._home.begin(order.job_id, order.attempt, run.attempt(order.attempt).launch.read_bytes())
        if not refusal:
            with self._changed:
                self._boxes[(order.job_id, order.attempt)] = box
        return refusal

    def _bring(self, need: NeededFiles) -> None:
        target = self.local.root / need.path
        if need.lasting and target.exists():
            if away_cache.is_whole(self.local, need):
                return
            if target.is_dir():
                shutil.rmtree(away_cache.hide(target), ignore_errors=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            for name, size in need.files.items():
                self._copy(name, temporary / Path(name).relative_to(need.path), size)
            if need.files:
                temporary.rename(target)
            else:
                target.mkdir(exist_ok=True)
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)

    def _copy(self, name: str, target: Path, size: int) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while file.tell() < size:
                data = self._home.read(name, file.tell(), min(CHUNK, size - file.tell()))
                if not data:
                    raise FileNotFoundError(f"{name} has shrunk")
                file.write(data)

    def drop(self, key: Key) -> None:
        """The attempt was refused after all: nothing of it is to be sent."""
        with self._changed:
            self._boxes.pop(key, None)
        self._release(key)

    # during and after it

    def finish(self, key: Key, then: Callable[[], None]) -> None:
        """Its process has ended: call `then` once all that it wrote is at home, or once nobody wants it there."""
        with self._changed:
            self._ended[key] = then
            self._changed.notify_all()

    def _send_for_ever(self) -> None:
        pauses = self._pauses()
        while not self._closed:
            began = time.monotonic()
            try:
                self._send_all()
                pauses, wait = self._pauses(), self._every_s
            except (HomeAway, OSError, ValueError) as error:
                _log.warning("home does not take what is sent: %s", error)
                wait = next(pauses)
            with self._changed:
                if not self._closed and not (self._ended and wait == self._every_s):
                    self._changed.wait(max(0.01, wait - (time.monotonic() - began)))

    def _send_all(self) -> None:
        with self._changed:
            boxes, ended = dict(self._boxes), dict(self._ended)
        for key, box in boxes.items():
            try:
                box.send(last=key in ended)
            except AttemptSuperseded as error:
                _log.warning("%s", error)
                self._forget(key)
                if key in ended:
                    self._drop(key)
                continue
            if key in ended:
                self._forget(key)
                self._drop(key)
        for key in ended.keys() - boxes.keys():
            self._drop(key)

    def _forget(self, key: Key) -> None:
        with self._changed:
            self._boxes.pop(key, None)

    def _drop(self, key: Key) -> None:
        with self._changed:
            then = self._ended.pop(key)
        self._clear(self.local.run(key[0]), key[1])
        self._release(key)
        then()

    @staticmethod
    def _clear(run: Run, attempt: int) -> None:
        """Nothing here is needed any more, unless a later attempt has begun on this node."""
        if max((number for number, _ in run.attempts()), default=0) == attempt:
            shutil.rmtree(run.root, ignore_errors=True)

    @staticmethod
    def _pauses() -> Iterator[float]:
        pause = _PAUSE_S
        while True:
            yield pause
            pause = min(_PAUSE_MAX_S, pause * 2)
