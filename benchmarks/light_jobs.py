"""What the forkservers of benchmarks/agents.py import: all that a job needs which does not train."""

from __future__ import annotations

from terry.cluster.host import versions
from terry.jobs.process import spec_file as specfile

MODULES: tuple[str, ...] = ("terry.jobs.process.child", "terry.logs.records.tensorboard", "terry.logs.plots")

versions.installed()
specfile.terry_hash()
