"""What a job's process is made of, as strings: the runner itself imports nothing of jobs or models."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRuntime:
    """How an agent's forkserver is started."""

    entry: str  #: `package.module:function(order, progress fd) -> exit code`, the first of our code in a job
    #: `package.module:function(workspace, order) -> paths` that an attempt reads beside its own run's, and that never
    #: change; relative to the workspace: what is sent to nodes that do not see it
    needs: str = ""
    preload: str = ""  #: `package.module:NAMES`, a tuple of modules that the forkserver imports first
    #: the same of a small forkserver for jobs that are `light`; without it there is one for all
    light_preload: str = ""
    draws: bool = False  #: the entry takes `{"draw": [...]}`, too: what is left to do once a device is idle
    environment: dict[str, str] = field(default_factory=dict)  #: set before anything is imported
    grace_s: float = 30.0  #: between SIGTERM (write a checkpoint and leave) and SIGKILL


#: Terry's own. The allocator's settings keep freed arrays in the process: page faults were a third of a training
#: step's time (benchmarks/RESULTS.md). One thread while forking; each job sets its own number of threads.
TERRY_JOBS = JobRuntime(
    entry="terry.jobs.process.child:main",
    needs="terry.jobs.process.away:needs",
    preload="terry.jobs.process.preload:MODULES",
    light_preload="terry.jobs.process.preload_light:MODULES",
    draws=True,
    environment={
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
        "MALLOC_TOP_PAD_": str(1 << 28),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONHASHSEED": "0",
    },
)
