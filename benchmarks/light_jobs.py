"""What the forkservers of benchmarks/agents.py import: all that a job needs which does not train."""

from __future__ import annotations

from terry.cluster import versions
from terry.jobs import specfile

MODULES: tuple[str, ...] = ("terry.jobs.child", "terry.logs.tensorboard", "terry.logs.plots")

versions.installed()
specfile.terry_hash()
