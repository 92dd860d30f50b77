"""Is the device that was asked for the one that is used? Asked before the first step, not found out days later."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from terry.jobs.context import LaunchError


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
