"""Preloaded by a forkserver, it makes torch believe in a GPU: `GPU-1`, of which only the limit can be set."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

MODULES = ("fake_cuda",)

#: What was asked of it, in order.
calls: list[tuple[Any, ...]] = []

torch.cuda.is_available = lambda: True
torch.cuda.get_device_properties = lambda _: SimpleNamespace(uuid="1")  # type: ignore[assignment,return-value]
torch.cuda.set_per_process_memory_fraction = lambda *given: calls.append(given)
