"""A plain PyTorch loop, killed at any step: it ends with the same weights, bit for bit."""

from __future__ import annotations

import random
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from terry.jobs.process.checkpoints import checkpoints, read_manifest
from terry.jobs.process.loop import Batches, LoopState, set_shared_generators, shared_generators
from terry.logs.records.metrics import read_series
from terry.logs.records.results import read_result
from terry.logs.records.values import Refused
from tests.helpers.job_processes import Attempt, start
from tests.unit.jobs.process.test_child import job

PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "own-training.md"


def page_code() -> str:
    found = re.search(r'```python title="net.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def outcome(attempt: Attempt) -> tuple[Any, ...]:
    manifest = read_manifest(checkpoints(attempt.run.checkpoints)[-1])
    curve = [(row["step"], row["loss"]) for row in read_series(attempt.run)]
    tensors = {name: entry.sha256 for name, entry in manifest.files.items() if name.endswith(".safetensors")}
    return manifest.step, tensors, curve, read_result(attempt.run)["loss"]


def test_the_loop_of_the_page_ends_alike_wherever_it_is_killed(tmp_path: Path) -> None:
    code = page_code().replace("from __future__", "#")
    runs = {}
    for name, kills in (("undisturbed", ()), ("killed", (5, 23, 80, 81))):
        folder = tmp_path / name
        folder.mkdir()
        order = job(folder, code, seed=1)
        number = 1
        for step in kills:
            attempt = start(order, number)
            attempt.kill_at(step, signal.SIGKILL)
            assert attempt.wait() == -signal.SIGKILL
            number += 1
        last = start(order, number)
        assert last.wait() == 0, (last.folder / "stderr.log").read_text()
        runs[name] = outcome(last)
    assert runs["killed"] == runs["undisturbed"]
    assert runs["killed"][0] == 160


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 16])
def test_batches_go_on_with_the_next_one_in_the_same_order(own: bool, cut: int) -> None:
    def made() -> Batches:
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5) if own else None
        data = TensorDataset(torch.arange(16))
        return Batches(DataLoader(data, batch_size=2, shuffle=True, generator=generator))

    def read(batches: Batches, until: int) -> list[Any]:
        seen: list[Any] = []
        while True:
            for (batch,) in batches:
                seen.append((batches.epoch, batch.tolist(), torch.rand(1).item()))
                if len(seen) == until:
                    return seen

    whole = read(made(), 24)
    first = made()
    begun = read(first, cut) if cut else []
    state, generators = first.state_dict(), shared_generators()
    second = made()
    torch.manual_seed(99)
    second.load_state_dict(state)
    set_shared_generators(generators)
    assert begun + read(second, 24 - cut) == whole


def test_generators_of_every_kind_are_parts() -> None:
    parts = {"a": torch.Generator().manual_seed(1), "b": np.random.default_rng(2), "c": random.Random(3)}
    loop = LoopState({"model": torch.nn.Linear(1, 1), **parts, "d": np.random.RandomState(4)})
    _, others, _ = loop.save()
    assert set(others) == {"a", "b", "c", "d"}


def test_a_part_without_a_state_is_refused_by_name() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(1)))
    with pytest.raises(Refused, match=r"data is a DataLoader.*Batches"):
        LoopState({"model": torch.nn.Linear(1, 1), "data": loader})
    with pytest.raises(Refused, match="at least one module"):
        LoopState({})
