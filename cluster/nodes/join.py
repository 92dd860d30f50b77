"""`python -m terry.cluster.nodes.join join|anew|end [--stay]`: takes this node into a cluster or out of it.

Reads its order as JSON from standard input, so that the token stands in no command line, and answers with one line.
`--stay` (for jobs of a batch system, which end with their first process): stay until Ray's daemon has ended, and end
what is left.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from types import FrameType

import msgspec

from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.nodes.member import end_reported, join, leave, read_record
from terry.cluster.nodes.records import write_report
from terry.cluster.ports import NodeOrder, NodeReport, NodeState

#: What the answer in the output begins with: a login shell may print whatever it likes before it, on its line, too.
MARK = "terry-node-report "


def answer_of(output: str) -> NodeReport | None:
    """The report in what the program has printed."""
    lines = [line.rpartition(MARK)[2] for line in output.splitlines() if MARK in line]
    try:
        return msgspec.json.decode(lines[-1].encode(), type=NodeReport) if lines else None
    except msgspec.MsgspecError:
        return None


def main() -> None:
    """Do what is asked, say what came of it."""
    verb, stay = sys.argv[1], "--stay" in sys.argv[2:]
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=NodeOrder)
    workspace = WorkspacePaths(Path(order.key.workspace))
    if verb == "end":
        leave(workspace)
        report = end_reported(order.name)
    else:
        report = join(order, anew=verb == "anew")
    print(f"{MARK}{msgspec.json.encode(report).decode()}", flush=True)
    if stay and report.state in {NodeState.JOINED, NodeState.PRESENT}:
        write_report(workspace, report)
        _stay(workspace)


def _stay(workspace: WorkspacePaths) -> None:
    """Until the raylet has ended, or we are asked to go; nothing is left behind."""

    def go(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, go)
    record = read_record(workspace)
    try:
        if record is not None and record.is_alive:
            descriptor = os.pidfd_open(record.process.pid)
            select.select([descriptor], [], [])
    except (KeyboardInterrupt, ProcessLookupError):
        pass
    finally:
        leave(workspace)


if __name__ == "__main__":
    main()
