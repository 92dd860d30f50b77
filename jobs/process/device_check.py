"""Is the device that was asked for the one that is used? Asked before the first step, not found out days later."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from terry.jobs.process.context import LaunchError

#: What a process takes of a GPU's memory beside what it allocates: CUDA context and loaded kernels. An estimate.
CONTEXT_BYTES = 600 << 20


def require_device(device: str, uuid: str) -> None:
    """Raise LaunchError unless torch can use `device`, and it is the GPU of this UUID."""
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise LaunchError(
            f"a GPU ({uuid}) was granted, but torch {torch.__version__} sees none: "
            f"{'it was built without CUDA' if torch.version.cuda is None else 'the driver does not answer'}"
        )
    seen = _uuid(torch.cuda.get_device_properties(0).uuid)
    if uuid and seen != _uuid(uuid):
        raise LaunchError(f"the GPU {uuid} was granted, but torch sees {seen}")


def limit_memory(share: float, memory_bytes: int) -> None:
    """Let this process allocate a share of its GPU's memory; beyond that torch raises OutOfMemoryError.

    share: 0 to 1. memory_bytes: of the whole GPU; 0: unknown. What the driver keeps for each process outside torch's
    hands (its context, and the libraries' code) is part of the share, so that all who share a GPU fit.
    """
    torch.cuda.set_per_process_memory_fraction(memory_fraction(share, memory_bytes), 0)


def memory_fraction(share: float, memory_bytes: int) -> float:
    """How much of a GPU's memory torch itself may allocate, of a share that includes the driver's part."""
    if not memory_bytes:
        return share
    return max(share / 2, share - CONTEXT_BYTES / memory_bytes)


def require_on(device: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raise LaunchError for the first tensor that is elsewhere.

    With all parameters there, so are the batches: torch refuses to mix devices in one operation.
    """
    wanted = torch.device(device)
    for name, tensor in tensors:
        if tensor.device != wanted:
            raise LaunchError(f"{name} is on {tensor.device}, but this run was given {wanted}")


def _uuid(value: object) -> str:
    return str(value).removeprefix("GPU-").lower()
