"""`python -m tests.faults.gpu_user FOLDER LOCK TABLE`: an agent of one GPU, as one of several users has it.

Takes the names of jobs from standard input, one a line, and starts them; says all that the agent reports, one JSON
object a line, the first once it is ready. The GPU is a fake; what computes on it stands in
the folder TABLE, one file a process.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec

from terry.cluster.ports import Appeared
from tests.fakes.pool import FakeGpu
from tests.faults.agent_harness import LIGHT, AgentHarness


class SharedGpu(FakeGpu):
    """A GPU that several agents see."""

    def __init__(self, table: Path) -> None:
        super().__init__()
        self._table = table

    def processes(self) -> frozenset[int]:
        """See GpuDriver."""
        return frozenset(int(p.name) for p in self._table.iterdir() if Path(f"/proc/{p.name}").exists())


def main() -> None:
    """See the module."""
    folder, lock, table = map(Path, sys.argv[1:])
    harness = AgentHarness(folder, SharedGpu(table), LIGHT, lock)
    there = Appeared(device=harness.device, blocked=harness.poll().blocked)
    print(msgspec.json.encode(there).decode(), flush=True)
    threading.Thread(target=_tell, args=[harness], daemon=True).start()
    for job in sys.stdin:
        harness.launch("failing_jobs:computes", job.strip(), parameters={"table": str(table)})
    os._exit(0)


def _tell(harness: AgentHarness) -> None:
    said = 0
    while True:
        harness.poll()
        for report in harness.reports[said:]:
            print(msgspec.json.encode(report).decode(), flush=True)
        said = len(harness.reports)


if __name__ == "__main__":
    main()
