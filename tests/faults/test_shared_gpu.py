"""Several jobs on one GPU: each may use its share, no more. Real agent, real processes; the GPU is a fake."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from terry.cluster.agent import mps
from terry.cluster.agent.job_runtime import JobRuntime
from terry.cluster.core.model import Device, DeviceKind, EndReason
from terry.jobs.process.device_check import CONTEXT_BYTES, memory_fraction
from tests.fakes.pool import FakeGpu
from tests.faults.agent_harness import RUNTIME, AgentHarness

GB = 1 << 30
DEVICE = Device(
    id="quattro:0",
    node="quattro",
    node_id="n",
    kind=DeviceKind.GPU,
    capacity=1.0,
    uuid="GPU-1",
    memory_bytes=80 * GB,
)
RUNTIME_ON_GPU = JobRuntime(
    entry=RUNTIME.entry, preload="fake_cuda:MODULES", environment=RUNTIME.environment, grace_s=5.0
)


@pytest.fixture
def pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path / "mps"))
    return tmp_path / "mps"


@pytest.fixture
def harness(tmp_path: Path, pipes: Path) -> Iterator[AgentHarness]:
    assert not pipes.exists()
    found = AgentHarness(tmp_path, FakeGpu(), RUNTIME_ON_GPU, device=DEVICE)
    yield found
    found.close()


@contextmanager
def daemon(pipes: Path) -> Iterator[int]:
    """A process that is called as the daemon of MPS, and what it leaves for its clients."""
    pipes.mkdir()
    (pipes / "control").touch()
    program = pipes / "nvidia-cuda-mps-control"
    program.write_text("#!/bin/sh\necho up\nread anything\n")
    program.chmod(0o755)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"  # now it is called so
        yield process.pid
        process.communicate(b"\n")


def _result(harness: AgentHarness, job: str) -> dict[str, Any]:
    end = harness.ended(job)
    assert end.reason is EndReason.SUCCESS, (end, harness.output())
    return msgspec.json.decode(harness.run(job).result.read_bytes(), type=dict[str, Any])


def test_torch_may_allocate_the_share_less_what_the_driver_takes(harness: AgentHarness) -> None:
    harness.launch("failing_jobs:tells_its_limits", "s-1", share=0.25, memory_share=0.25)
    harness.launch("failing_jobs:tells_its_limits", "s-2", share=0.25, memory_share=1.0)
    (fraction, device), *more = _result(harness, "s-1")["calls"]
    assert (device, more) == (0, [])
    assert fraction * DEVICE.memory_bytes + CONTEXT_BYTES == pytest.approx(20 * GB)
    assert _result(harness, "s-2")["calls"] == [], "with the GPU to itself there is no limit"


@pytest.mark.parametrize("memory_bytes", [0, 1 * GB, 8 * GB, 80 * GB])
@pytest.mark.parametrize("share", [0.05, 0.25, 1 / 3, 0.5, 0.99])
def test_all_that_share_a_gpu_fit_into_it(share: float, memory_bytes: int) -> None:
    assert 0 < memory_fraction(share, memory_bytes) <= share


def test_without_a_gpu_a_job_that_shares_one_is_a_launch_error(tmp_path: Path) -> None:
    harness = AgentHarness(tmp_path, FakeGpu(), device=DEVICE)
    try:
        harness.launch("failing_jobs:waits", share=0.5, memory_share=0.5)
        end = harness.ended()
    finally:
        harness.close()
    assert end.reason is EndReason.LAUNCH_ERROR
    assert "torch" in end.message
    assert "sees none" in end.message


def test_mps_is_used_where_it_runs_and_clearly_refused_where_it_does_not(harness: AgentHarness, pipes: Path) -> None:
    asked = {"share": 0.25, "memory_share": 0.25, "mps": True}
    harness.launch("failing_jobs:tells_its_limits", "s-1", **asked)
    refusal = harness.refusal("s-1")
    assert not refusal.blocked, "it counts as an error of the launch: waiting would be no use"
    assert f"no daemon listens in {pipes}" in refusal.message
    assert "nvidia-cuda-mps-control -d" in refusal.message
    assert "leave `mps` out" in refusal.message
    with daemon(pipes):
        harness.launch("failing_jobs:tells_its_limits", "s-2", **asked)
        assert _result(harness, "s-2")["mps"] == {
            "CUDA_MPS_PIPE_DIRECTORY": str(pipes),
            "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
            "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=20480M",
        }


def test_the_daemon_of_mps_is_nobodys_computation(harness: AgentHarness, pipes: Path) -> None:
    gpu = harness.gpu
    assert isinstance(gpu, FakeGpu)
    with daemon(pipes) as pid:
        gpu.pids = frozenset({pid})
        assert mps.is_mps(pid)
        assert not mps.is_mps(os.getpid())
        harness.launch("failing_jobs:tells_its_limits", share=0.5, memory_share=0.5)
        assert _result(harness, "s-1")
