"""The lock of a GPU between users' agents: real files, real processes, a kernel that releases it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from terry.cluster.agent import gpu_lock as device_lock
from terry.cluster.agent.gpu_lock import DeviceLock, DeviceLockError, lock_of

_HOLD = (
    "import sys; from pathlib import Path; from terry.cluster.agent.gpu_lock import DeviceLock\n"
    "lock = DeviceLock(Path(sys.argv[1])); print(lock.take(), flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "terry-GPU-1.lock"


@contextmanager
def another(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has taken the lock."""
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "True\n"
            yield process
        finally:
            process.kill()


def test_one_process_at_a_time_and_the_kernel_frees_it(path: Path) -> None:
    lock = DeviceLock(path)
    with another(path) as process:
        assert not lock.take()
        assert lock.holder() == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock.holder() is None
        assert lock.take()
    assert lock.take(), "it is ours already"
    assert DeviceLock(path).holder() == os.getpid()
    lock.release()
    assert DeviceLock(path).take()


def test_looking_does_not_keep_anybody_from_taking_it(path: Path) -> None:
    looking, taking = DeviceLock(path), DeviceLock(path)
    assert looking.holder() is None
    assert taking.take()
    taking.release()
    assert not looking.held


def test_every_user_may_lock_it_and_nobody_write_it(path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert DeviceLock(path).take()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no temporary file is left"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_refused_by_name(path: Path, tmp_path: Path, kind: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    for ask in (DeviceLock(path).take, DeviceLock(path).holder):
        with pytest.raises(DeviceLockError, match=f"{path} cannot be locked: .*must remove it"):
            ask()
    assert precious.read_text() == "precious"


def test_a_link_to_a_precious_file_does_it_no_harm(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    os.link(precious, path)
    lock = DeviceLock(path)
    assert lock.take()
    lock.keep()
    lock.release()
    assert precious.read_text() == "precious"
    assert stat.S_IMODE(precious.stat().st_mode) != 0o444


def test_a_file_that_was_cleaned_away_while_held_is_locked_anew(path: Path) -> None:
    lock = DeviceLock(path)
    assert lock.take()
    path.unlink()
    lock.keep()
    assert lock.held
    assert not DeviceLock(path).take()


def test_a_holder_hears_that_another_agent_has_the_lock_since_it_was_cleaned_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "_PAUSE_S", 0.0)
    lock = DeviceLock(path)
    assert lock.take()
    path.unlink()
    with another(path), pytest.raises(DeviceLockError, match="removed while it was held"):
        lock.keep()


def test_its_place_is_the_same_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert lock_of("GPU-5a3f-11") == Path("/tmp/terry-GPU-5a3f-11.lock")
    with pytest.raises(ValueError, match="no GPU's UUID"):
        lock_of("../../etc/passwd")
