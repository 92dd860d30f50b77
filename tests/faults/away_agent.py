"""`python -m tests.faults.away_agent HOME LOCAL ORDER`: an agent on a node that does not see the workspace HOME.

It carries out one order (a JSON file), in the folder LOCAL, and says how it ended, as JSON. Its way home leads straight
to the files, and is as good as gone while there is a file LOCAL.cut.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.agent.agent import DeviceAgent
from terry.cluster.agent.forkserver_link import JobProcesses
from terry.cluster.agent.marks import AGENT_VARIABLE
from terry.cluster.away.courier import Courier
from terry.cluster.away.home import Home, HomeAway
from terry.cluster.core.model import Device, DeviceKind
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.ports import Ended, LaunchOrder, Refused
from terry.jobs.process.away import needs
from tests.faults.agent_harness import RUNTIME


class CutHome:
    """A WorkspaceHome that answers only while its cable is plugged in."""

    def __init__(self, home: Home, cut: Path) -> None:
        self._home, self._cut = home, cut

    def __getattr__(self, name: str) -> Any:
        if self._cut.exists():
            raise HomeAway("the cable is cut")
        return getattr(self._home, name)


def main() -> None:
    """See the module."""
    home, local, order = (Path(name) for name in sys.argv[1:])
    courier = Courier(
        CutHome(Home(WorkspacePaths(home), needs), Path(f"{local}.cut")), WorkspacePaths(local), every_s=0.02
    )
    device = Device(id="far:cpu", node="far", node_id="n", kind=DeviceKind.CPU, capacity=2.0, away=True)
    environment = {k: v for k, v in os.environ.items() if k != AGENT_VARIABLE}
    processes = JobProcesses(runtime=RUNTIME, environment=environment, log=Path(f"{local}.log"), mark=f"away/{local}")
    agent = DeviceAgent(device, processes, courier=courier)
    incarnation = agent.hello(1).device.agent
    agent.launch(msgspec.json.decode(order.read_bytes(), type=LaunchOrder))
    threading.Thread(target=agent.run).start()
    while True:
        for _, report in agent.poll(1, incarnation, 0, 0, 0.2).reports:
            if isinstance(report, Ended | Refused):
                print(msgspec.json.encode(report).decode(), flush=True)
                agent.close()
                return


if __name__ == "__main__":
    main()
