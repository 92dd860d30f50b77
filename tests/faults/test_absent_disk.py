"""The command line while the workspace's file system hangs, is gone, and is back: a real mount, real processes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from terry.cluster.files.paths import WorkspacePaths
from tests.faults.absent_disk import AbsentDisk
from tests.faults.workspace_under_fire import COMMAND


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[tuple[Path, AbsentDisk]]:
    """A workspace whose file system does not answer."""
    root = tmp_path / "w"
    WorkspacePaths(root).queue.mkdir(parents=True)
    disk = AbsentDisk(root)
    if not disk.hang():
        pytest.skip("a FUSE file system cannot be mounted here: that needs root and /dev/fuse")
    yield root, disk
    disk.lift()


def ask(root: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "-w", str(root), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_hung_file_system_is_told_can_be_left_and_is_waited_for(hung: tuple[Path, AbsentDisk]) -> None:
    root, disk = hung
    with ask(root, "status") as left, ask(root, "watch") as stays:
        for process in (left, stays):
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith(f"the file system of {root} does not answer; waiting for it (Ctrl-C leaves")
        left.send_signal(signal.SIGINT)
        out, err = left.communicate(timeout=60)
        assert (left.returncode, out, err) == (130, "", "interrupted; the jobs go on\n")
        disk.lose()
        out, err = stays.communicate(timeout=60)
        assert (stays.returncode, out) == (2, "")
        assert err.endswith("the network file system is gone for now\n")
    disk.lift()
    with ask(root, "--json", "status") as process:
        assert process.communicate(timeout=60) == ("[]\n", "")
        assert process.returncode == 0
