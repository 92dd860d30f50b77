"""`training.compile`: torch.compile of each recurrent layer, and what it needs."""

from __future__ import annotations

import os
import shutil

import torch

from terry.models.errors import ConfigError
from terry.models.language_model import LanguageModel


def compile_layers(model: LanguageModel, device: torch.device) -> None:
    """Compile each layer at its first call. Raises ConfigError where no compiler is found, before anything is read."""
    compiler = os.environ.get("CXX", "g++")  # what torch looks for
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(
            f"training.compile needs a C++ compiler, and {compiler} is not found: "
            "install it, name another one in CXX, or leave training.compile out"
        )
    for layer in model.recurrent_layers:
        layer.compile()
