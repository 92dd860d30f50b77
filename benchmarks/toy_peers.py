"""The toy training of benchmarks/peers.py, and how each peer runs it. The work is the same everywhere: `work`.

python -m benchmarks.toy_peers PEER JOBS STEPS FOLDER      prints the seconds that JOBS trainings took, as JSON
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CORES = 2


def work(steps: int, seed: int) -> float:
    """Train a small GRU on noise with Adam; returns the last loss."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, data = torch.nn.GRU(32, 64, batch_first=True), torch.randn(8, 20, 32)
    optimizer = torch.optim.Adam(model.parameters())
    loss = torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(data)[0].square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def main(ctx: Any) -> None:
    """For Terry: a person's own entry point."""
    loss = work(ctx.parameters["steps"], ctx.parameters["seed"])
    ctx.log(1, loss=loss)
    ctx.finish({"loss": loss})


def trainable(config: dict[str, Any]) -> None:
    """For Ray Tune."""
    from ray import tune

    tune.report({"loss": work(config["steps"], config["seed"])})


def _ray() -> None:
    import ray

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def _tune(what: Any, jobs: int, steps: int, folder: Path, *, reuse: bool) -> float:
    from ray import tune

    _ray()
    space = {"steps": steps, "seed": tune.grid_search(list(range(jobs)))}
    tuner = tune.Tuner(
        what,
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(name="toy", storage_path=str(folder), verbose=0),
    )
    begin = time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - begin
    assert len(results) == jobs
    assert not results.errors
    return seconds


def ray_tune(jobs: int, steps: int, folder: Path) -> float:
    """Ray Tune with a function: a process a trial."""
    return _tune(trainable, jobs, steps, folder, reuse=False)


def ray_tune_reuse(jobs: int, steps: int, folder: Path) -> float:
    """Ray Tune with a class whose actors are used again: two processes for all trials, no isolation."""
    from ray import tune

    class Reused(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.settings = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.settings = new_config
            return True

        def step(self) -> dict[str, Any]:
            return {"loss": work(self.settings["steps"], self.settings["seed"]), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            del checkpoint_dir

    return _tune(Reused, jobs, steps, folder, reuse=True)


def submitit_local(jobs: int, steps: int, folder: Path) -> float:
    """submitit's local executor, never more at once than there are cores (it would start all)."""
    import submitit

    executor = submitit.LocalExecutor(folder=str(folder))
    executor.update_parameters(timeout_min=60)
    begin = time.perf_counter()
    running: list[Any] = []
    done = 0
    for seed in range(jobs):
        while len(running) >= CORES:
            ended = [job for job in running if job.done()]
            done += sum(isinstance(job.result(), float) for job in ended)
            running = [job for job in running if job not in ended]
            time.sleep(0.01)
        running.append(executor.submit(work, steps, seed))
    done += sum(isinstance(job.result(), float) for job in running)
    assert done == jobs
    return time.perf_counter() - begin


def _pooled(arguments: tuple[int, int]) -> float:
    return work(*arguments)


def _pool(jobs: int, steps: int, per_process: int | None) -> float:
    import multiprocessing

    # The forkserver has imported torch, as Terry's has: forking is what people compare with.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.optim", "torch._dynamo", "benchmarks.toy_peers"])
    with context.Pool(CORES, maxtasksperchild=per_process) as pool:
        pool.map(_pooled, [(1, 0)] * CORES, chunksize=1)
        begin = time.perf_counter()
        assert len(pool.map(_pooled, [(steps, seed) for seed in range(jobs)], chunksize=1)) == jobs
        return time.perf_counter() - begin


def pool(jobs: int, steps: int, folder: Path) -> float:
    """A multiprocessing pool: two processes for all, no isolation, nothing on disk."""
    del folder
    return _pool(jobs, steps, None)


def pool_isolated(jobs: int, steps: int, folder: Path) -> float:
    """A multiprocessing pool with a process for each job, nothing on disk."""
    del folder
    return _pool(jobs, steps, 1)


def bare(jobs: int, steps: int, folder: Path) -> float:
    """The work alone, one after the other in one process: what has to be done at least."""
    del folder
    work(steps, 0)
    begin = time.perf_counter()
    for seed in range(jobs):
        work(steps, seed)
    return time.perf_counter() - begin


PEERS: dict[str, Callable[[int, int, Path], float]] = {
    f.__name__: f for f in (bare, pool, pool_isolated, submitit_local, ray_tune_reuse, ray_tune)
}

if __name__ == "__main__":
    name, jobs, steps, folder = sys.argv[1:]
    print(json.dumps(PEERS[name](int(jobs), int(steps), Path(folder))), flush=True)
    os._exit(0)  # what Ray takes to go is not measured
