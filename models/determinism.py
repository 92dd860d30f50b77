"""Seeds, numbers of threads, and settings by which a device computes the same bits every time."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from terry.models.config import TrainingConfig

#: cuBLAS computes the same bits each time only with a workspace of fixed size.
CUBLAS_VARIABLE, CUBLAS_SETTING = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


def prepare_process(config: TrainingConfig, device: torch.device) -> None:
    """Set threads, determinism and the precision of products for this process.

    On a CPU the operations used here give the same bits every time at one number of threads; torch's switch for
    deterministic algorithms would only cost there.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if device.type != "cuda":
        return
    torch.backends.cuda.matmul.allow_tf32 = config.tf32
    torch.backends.cudnn.allow_tf32 = config.tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = config.deterministic
    if config.deterministic:
        os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_SETTING)
    torch.use_deterministic_algorithms(config.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def seed_everything(seed: int) -> None:
    """Seed every generator that code in this process may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def generator_tensors(device: torch.device) -> dict[str, Tensor]:
    """States of the generators of torch (CPU and this device), NumPy and Python, as tensors."""
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    found = {
        "torch_cpu": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_position": torch.tensor([int(position), int(has_gauss)]),
        "numpy_gauss": torch.tensor([float(cached)], dtype=torch.float64),
        "python": torch.tensor([version, *internal]),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
    }
    if device.type == "cuda":
        found["torch_cuda"] = torch.cuda.get_rng_state(device)
    return found


def load_generators(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what `generator_tensors` gave. A GPU whose state is not in it (saved on a CPU) stays as seeded."""
    torch.set_rng_state(tensors["torch_cpu"].cpu())
    position, has_gauss = tensors["numpy_position"].tolist()
    keys = tensors["numpy"].cpu().numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, float(tensors["numpy_gauss"][0])))
    version, *internal = tensors["python"].tolist()
    gauss = tensors["python_gauss"].tolist()
    random.setstate((version, tuple(internal), gauss[0] if gauss else None))
    if device.type == "cuda" and "torch_cuda" in tensors:
        torch.cuda.set_rng_state(tensors["torch_cuda"].cpu(), device)
