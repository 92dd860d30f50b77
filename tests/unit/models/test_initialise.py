"""Initial weights: the same bits, whatever the processor can do."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import hashlib, torch
from terry.models.config import Init, ModelConfig
from terry.models.language_model import LanguageModel
for init in (Init.default, Init.uniform, Init.fan_in):
    torch.manual_seed(5)
    model = LanguageModel(ModelConfig(hidden_size=37, embedding_size=20, init=init), 101)
    print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""


def test_uniform_weights_do_not_depend_on_what_instructions_torch_uses() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env=os.environ | more, capture_output=True, text=True, check=True
        ).stdout
        for more in ({}, {"ATEN_CPU_CAPABILITY": "default"})
    }
    assert len(found) == 1
