"""NVIDIA's Multi-Process Service (MPS): several processes compute on one GPU at the same moment, not in turns.

Used where a job asks for it (`resources.mps`). Its daemon, `nvidia-cuda-mps-control`, is started by whoever looks after
the node; a job that wants it where none runs is refused, since it would be slower without a word. Names and meaning
of the variables: https://docs.nvidia.com/deploy/mps/ ("Environment Variables").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: What the kernel calls the daemon and its servers: the first 15 characters of their names.
_COMM = "nvidia-cuda-mps"
_PIPES = "/tmp/nvidia-mps"  # noqa: S108  (the daemon's own default)


def pipes(environment: Mapping[str, str]) -> Path:
    """Folder where a daemon listens."""
    return Path(environment.get("CUDA_MPS_PIPE_DIRECTORY") or _PIPES)


def is_mps(pid: int) -> bool:
    """True for a process of MPS itself, which is nobody's computation."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip() == _COMM
    except OSError:
        return False


def why_not(environment: Mapping[str, str]) -> str:
    """Why MPS cannot be used here, and what would help; empty where it runs."""
    folder = pipes(environment)
    if (folder / "control").exists() and any(is_mps(int(name)) for name in os.listdir("/proc") if name.isdigit()):  # noqa: PTH208
        return ""
    return (
        f"the job asks for MPS (resources.mps), which does not run here: no daemon listens in {folder}. Start "
        "`nvidia-cuda-mps-control -d` on the node, or leave `mps` out"
    )


def variables(environment: Mapping[str, str], share: float, memory_bytes: int) -> dict[str, str]:
    """What a job's process needs to use MPS for a share of the GPU that it sees, and no more. memory_bytes: 0: any."""
    found = {
        "CUDA_MPS_PIPE_DIRECTORY": str(pipes(environment)),
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(max(1, min(100, round(100 * share)))),
    }
    if memory_bytes:
        found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={memory_bytes >> 20}M"
    return found
