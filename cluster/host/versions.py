"""Versions of what decides how a job runs, and whether a node's are those of the cluster's head."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
from collections.abc import Mapping

#: Recorded with each run.
PACKAGES = ("terry-cluster", "torch", "numpy", "safetensors", "ray")
#: These must be the same on all nodes. Of Python the first two numbers: 3.11.
CHECKED = ("python", "terry-cluster", "torch", "ray")


@functools.cache
def installed() -> Mapping[str, str]:
    """Versions of Python and of the packages, as they are installed now. Nothing is imported."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def mismatch(wanted: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What of `here` is not as `wanted`, and what to do about it; empty where all is. Builds (`+cu128`) may differ."""
    differs = [name for name in CHECKED if name in wanted and _core(name, wanted) != _core(name, here)]
    if not differs:
        return ""
    found = ", ".join(f"{name} {here.get(name, 'missing')} instead of {wanted[name]}" for name in differs)
    packages = " ".join(f"{name}=={_core(name, wanted)}" for name in differs if name != "python")
    advice = f"`pip install {packages}` there" if packages and "python" not in differs else "make its environment anew"
    return f"its versions are not those of the head: {found}; {advice}, then `terry-cluster up`"


def lacks_cuda(here: Mapping[str, str]) -> str:
    """Why no job could use a GPU with this torch; empty where one may."""
    version = here.get("torch", "")
    if not version:
        return "torch is not installed there"
    return f"its torch {version} is built without CUDA: install one that is" if version.endswith("+cpu") else ""


def _core(name: str, versions: Mapping[str, str]) -> str:
    version = versions.get(name, "").partition("+")[0]
    return ".".join(version.split(".")[:2]) if name == "python" else version
