"""What is imported when: the command line stays light, and a forked job finds everything there."""

from __future__ import annotations

import os
import subprocess
import sys

from terry.jobs.process import preload


def output_of(code: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_planning_a_submission_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "ray", "omegaconf", "polars", "matplotlib", "tensorboard", "submitit"}
    modules = "terry.jobs.submitting.submission, terry.jobs.sweeps.spec"
    code = f"import sys, {modules}\nprint(sorted({heavy!r} & set(sys.modules)))"
    assert output_of(code) == "[]"


def test_what_is_preloaded_can_be_forked() -> None:
    """One thread, no CUDA context, and of all that a training needs nothing is left to import."""
    code = """
import importlib, os, sys
from terry.jobs.process.preload import MODULES
for name in MODULES:
    importlib.import_module(name)
import torch
print(len(os.listdir("/proc/self/task")), torch.cuda.is_initialized(), "polars" in sys.modules)
"""
    assert output_of(code) == "1 False False"
    assert {"torch", "torch.optim", "torch._dynamo", "terry.jobs.train"} <= set(preload.MODULES)
