"""Versions of what decides how a job runs, and whether a node's are those of the cluster's head."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
import re
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


#: What to do where the installation has changed under a cluster that runs.
RENEW = "`terry-cluster down`, then `terry-cluster up` renew the head, and no run is lost"


def mismatch(wanted: Mapping[str, str], here: Mapping[str, str], before: Mapping[str, str] | None = None) -> str:
    """What of `here` is not as `wanted`, and what to do about it; empty where all is. Builds (`+cu128`) may differ.

    before: what was here when the node joined, where that is known. If it was as `wanted`, the packages were changed
    under the running cluster: another version of Terry alone is then no reason to stop the node's jobs.
    """
    differs = [name for name in CHECKED if name in wanted and _core(name, wanted) != _core(name, here)]
    changed = before is not None and all(_core(name, wanted) == _core(name, before) for name in differs)
    if not differs or (changed and differs == ["terry-cluster"]):
        return ""
    if changed:
        found = ", ".join(f"{name} is {here.get(name, 'missing')} now and was {wanted[name]}" for name in differs)
        return f"its versions were changed while the cluster ran: {found}; {RENEW}"
    found = ", ".join(f"{name} {here.get(name, 'missing')} instead of {wanted[name]}" for name in differs)
    if _is_newer(differs, wanted, here):
        return f"its versions are not those of the head: {found}; the head is the older one: {RENEW}"
    packages = " ".join(f"{name}=={_core(name, wanted)}" for name in differs if name != "python")
    advice = f"`pip install {packages}` there" if packages and "python" not in differs else "make its environment anew"
    return f"its versions are not those of the head: {found}; {advice}, then `terry-cluster up`"


def _is_newer(differs: list[str], wanted: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Whether Terry here is a later one than the head's, and nothing is missing or older."""
    return "terry-cluster" in differs and all(
        name in here and _numbers(_core(name, here)) > _numbers(_core(name, wanted)) for name in differs
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def lacks_cuda(here: Mapping[str, str]) -> str:
    """Why no job could use a GPU with this torch; empty where one may."""
    version = here.get("torch", "")
    if not version:
        return "torch is not installed there"
    return f"its torch {version} is built without CUDA: install one that is" if version.endswith("+cpu") else ""


def _core(name: str, versions: Mapping[str, str]) -> str:
    version = versions.get(name, "").partition("+")[0]
    return ".".join(version.split(".")[:2]) if name == "python" else version
