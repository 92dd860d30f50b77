"""Which tests wait side by side (`make test` runs several workers), and which never do.

A group stays together on one worker, one test after the other; a file is a group, but for those named here. Most of
the long tests wait for other processes, so that more workers than cores pay.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

#: What is alike would be in each other's way: one bed, one cluster under fire at a time. The first group that fits
#: counts. They take longest, and so are begun first, in this order.
GROUPS = {
    "beds": (
        "tests/contract/test_ssh_nodes.py",
        "tests/faults/test_private_node.py",
        "tests/integration/test_clocks.py",
        "tests/integration/test_foreign_ray_nodes.py",
        "tests/integration/test_ray_page.py",
        "tests/integration/test_shared_file_systems.py",
        "tests/integration/test_slurm_nodes.py",
        "tests/integration/test_ssh_*.py",
        "tests/integration/test_users.py",
    ),
    "clusters": ("tests/faults/*", "tests/integration/*", "tests/contract/test_ray_pool.py"),
}
LEAST_WORKERS, MOST_WORKERS = 3, 8

#: Threads of torch that wait for each other must not spin: the core is another worker's. Before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def group_of(test: str) -> str:
    """The group of a test by its id, `tests/unit/test_x.py::test_y`."""
    path = PurePath(test.split("::")[0])
    named = (name for name, patterns in GROUPS.items() if any(path.match(pattern) for pattern in patterns))
    return next(named, path.as_posix())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One for each group that waits and one for those that compute; more where there are cores."""
    return max(LEAST_WORKERS, min(MOST_WORKERS, os.cpu_count() or 1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """A worker is given a whole group. (xdist's own mark for groups does nothing: xdist 3.8 under pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # in the order below
    return Groups(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, begin with the groups that take longest."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        order = {name: number for number, name in enumerate(GROUPS)}
        items.sort(key=lambda item: order.get(group_of(item.nodeid), len(order)))
