"""Which of a node's devices are used: pure functions over `devices:` of terry.yaml and what is there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

#: The word for a node's cores.
CPU = "cpu"


class _Gpu(Protocol):
    @property
    def index(self) -> int: ...
    @property
    def uuid(self) -> str: ...
    @property
    def model(self) -> str: ...


def chosen_gpus(
    gpus: Sequence[_Gpu], use: Collection[str], leave_out: Collection[str], visible: str | None = None
) -> list[int]:
    """Indexes of the GPUs to be used. `visible`: CUDA_VISIBLE_DEVICES as it was given to us, by Slurm for example."""
    return [
        gpu.index
        for gpu in gpus
        if (visible is None or _is_visible(gpu, visible))
        and (not use or _is_named(gpu, use))
        and not _is_named(gpu, leave_out)
    ]


def uses_cpu(leave_out: Collection[str]) -> bool:
    """Whether a node's cores are a device. `use` speaks of GPUs: cores are needed to prepare data."""
    return CPU not in leave_out


def _is_named(gpu: _Gpu, names: Collection[str]) -> bool:
    return any(name == str(gpu.index) or fnmatchcase(gpu.uuid, name) or fnmatchcase(gpu.model, name) for name in names)


def _is_visible(gpu: _Gpu, visible: str) -> bool:
    words = [word.strip() for word in visible.split(",") if word.strip()]
    return any(word == str(gpu.index) or gpu.uuid.startswith(word) for word in words)
