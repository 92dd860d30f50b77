"""What a forkserver imports before it forks: whatever a job would otherwise import by itself, each time."""

from __future__ import annotations

from terry.jobs.process import preload_light
from terry.logs import plots

#: `torch._dynamo` is here since building the first optimizer imports it: 1.15 s a job otherwise. Not here is polars,
#: which must not be forked once it has threads: preparing a data set imports it in its own process.
MODULES: tuple[str, ...] = (
    *preload_light.MODULES,
    "numpy.ctypeslib",
    "torch",
    "torch.optim",
    "torch._dynamo",
    "safetensors.torch",
    "terry.data_prep.batches",
    "terry.data_prep.dataset",
    "terry.jobs.process.checkpoints",
    "terry.jobs.train",
    "terry.models.trainer",
)


def _warm() -> None:
    """What the first use of a thing costs, paid once. No random number is drawn here, no thread begun, no gradient."""
    import torch

    plots.prepare()  # a loss curve: 0.4 s a job where matplotlib is imported, 0.1 s without this
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    for optimizer in (torch.optim.SGD([weight]), torch.optim.Adam([weight])):
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()  # 5 ms a job: torch imports the rest of itself here


_warm()
