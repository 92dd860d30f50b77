"""What a forkserver imports before it forks: whatever a job would otherwise import by itself, each time."""

from __future__ import annotations

from terry.cluster import versions
from terry.jobs import specfile

#: `torch._dynamo` is here since building the first optimizer imports it: 1.15 s a job otherwise. Not here is polars,
#: which must not be forked once it has threads: preparing a data set imports it in its own process.
MODULES: tuple[str, ...] = (
    "matplotlib.backends.backend_agg",  # the loss curve of a run that is done: 0.4 s a job otherwise
    "matplotlib.figure",
    "numpy",
    "numpy.ctypeslib",
    "torch",
    "torch.optim",
    "torch._dynamo",
    "safetensors.torch",
    "terry.data_prep.batches",
    "terry.data_prep.dataset",
    "terry.jobs.checkpoints",
    "terry.jobs.child",
    "terry.jobs.train",
    "terry.logs.plots",
    "terry.models.trainer",
)

# Now, while the code on disk is the code that is loaded.
versions.installed()
specfile.terry_hash()
