"""A step of a Slurm job passes on what Slurm tells steps alone. On a real Slurm: test_slurm_nodes.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from terry.cluster.slurm import notice as slurm_notice

_PROGRAM = """
import signal
from terry.cluster.slurm import notice as slurm_notice
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
step = slurm_notice.pass_on()
print(step.pid if step else "none", flush=True)
if step:
    print(signal.sigwait([signal.SIGUSR1]).name, step.wait(), flush=True)
"""


@pytest.fixture
def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It becomes the step itself, and tells when that is ready."""
    tool = tmp_path / "srun"
    tool.write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tool


def program() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True)


def test_sigterm_of_a_step_reaches_the_program(srun: Path) -> None:
    with program() as running:
        assert running.stdout is not None
        step = int(running.stdout.readline())
        trap = Path(f"/proc/{step}/task/{step}/children")
        while not trap.read_text():  # it sleeps: its trap is set
            pass
        children = [int(pid) for pid in trap.read_text().split()]
        for pid in (step, *children):  # as Slurm does: all of the step
            os.kill(pid, signal.SIGTERM)
        assert running.stdout.readline().startswith("SIGUSR1 ")


def test_without_srun_the_program_goes_on(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm_notice.pass_on() is None
    assert "nobody tells of a preemption" in capfd.readouterr().out
