"""The fake keeps the contract (as long as it is not made unkind)."""

from __future__ import annotations

from pathlib import Path

import pytest

from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.ports import DevicePool
from tests.contract.pool_contract import Action, Lab, PoolContract
from tests.fakes.pool import FakePool
from tests.helpers.queue_values import make_cpu


class FakeLab:
    """The world of a FakePool, which is the pool of all controllers."""

    def __init__(self, workspace: WorkspacePaths) -> None:
        self.workspace = workspace
        self._pool = FakePool([make_cpu(cores=4.0)])

    def new_pool(self) -> DevicePool:
        return self._pool

    def entrypoint(self, action: Action) -> str:
        return f"lab:{action}"

    def kill_agent(self, device_id: str) -> None:
        self._pool.kill_agent(device_id)
        self._pool.restart_agent(device_id)


class TestFakePool(PoolContract):
    """In order and without delay."""

    @pytest.fixture
    def lab(self, tmp_path: Path) -> Lab:
        return FakeLab(WorkspacePaths(tmp_path))
