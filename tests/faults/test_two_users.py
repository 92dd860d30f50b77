"""Two Unix users with an agent each on one GPU: it is never used by both, whatever dies."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it runs as two other users")

ROOT = Path(__file__).parents[2]
WAIT_S = 120.0


class User:
    """A user's agent, and what it says."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        folder = place / name
        folder.mkdir()
        account = pwd.getpwnam(name)
        os.chown(folder, account.pw_uid, account.pw_gid)
        # To read: Python itself may lie in a folder of root's. Nothing here may be written that is not the user's.
        capabilities = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
        who = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        arguments = map(str, (folder / "workspace", place / "gpu.lock", place / "table"))
        self.agent = subprocess.Popen(
            ["setpriv", *who, *capabilities, sys.executable, "-m", "tests.faults.gpu_user", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._reader = threading.Thread(target=self._listen)
        self._reader.start()

    def _listen(self) -> None:
        assert self.agent.stdout is not None
        for line in self.agent.stdout:
            self._said.put(json.loads(line))

    def launch(self, job: str) -> None:
        assert self.agent.stdin is not None
        self.agent.stdin.write(f"{job}\n")
        self.agent.stdin.flush()

    def hears(self, kind: str) -> dict[str, Any]:
        """The next report, which must be of this kind."""
        said = self._said.get(timeout=WAIT_S)
        assert said["type"] == kind, said
        return said

    def kill(self) -> None:
        self.agent.send_signal(signal.SIGKILL)
        self.agent.wait()

    def close(self) -> None:
        self.kill()
        self._reader.join(WAIT_S)
        for stream in (self.agent.stdin, self.agent.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def users() -> Iterator[tuple[User, User]]:
    place = Path(tempfile.mkdtemp(prefix="terry-users-"))
    place.chmod(0o1777)
    (place / "table").mkdir()
    (place / "table").chmod(0o1777)
    pair = User("daemon", place), User("nobody", place)
    yield pair
    for user in pair:
        user.close()
    shutil.rmtree(place)


def test_a_gpu_is_never_used_by_two(users: tuple[User, User]) -> None:
    ann, bob = users
    assert ann.hears("Appeared")["blocked"] == bob.hears("Appeared")["blocked"] == ""
    ann.launch("a-1")
    ann.hears("Started")
    bob.launch("b-1")
    told, refused = bob.hears("Blocked"), bob.hears("Refused")
    assert refused["blocked"]
    assert f"in use by another agent: pid {ann.agent.pid} (" in told["reason"]
    assert told["reason"].endswith(", of daemon)")
    ann.launch("a-2")  # ann's own may be several
    ann.hears("Started")
    ann.kill()
    assert bob.hears("Blocked")["reason"] == "", "free once the kernel has ended all that ann had there"
    bob.launch("b-2")
    bob.hears("Started")
