"""Why no more nodes come is said wherever a job that waits for one is looked at."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from terry.cluster.client.absent import AbsentNodes, reasons_of
from terry.cluster.client.doctor import examine
from terry.cluster.client.following import summary_line
from terry.cluster.client.reader import Reader
from terry.cluster.lifecycle.overview import Condition, NodeView
from terry.cluster.nodes.records import write_report
from terry.cluster.ports import NodeReport, NodeState
from terry.logs.text.status import status_lines
from terry.logs.view.build import ViewBuilder
from tests.helpers.world import World, device

REFUSAL = "Slurm says: invalid partition specified: nowhere"
SLURM = "nodes: {queue: {kind: slurm, partition: nowhere, max: 2}}\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two runs: one is at work, one waits for cores; no node that was asked for comes."""
    found = World(tmp_path, device("seawolf:cpu", 1.0))
    found.submit("cells", 2)
    found.turn(times=3)
    found.workspace.config.write_text(SLURM)
    return found


def report(world: World, name: str, state: NodeState, problem: str = "", fix: str = "") -> None:
    write_report(world.workspace, NodeReport(name=name, state=state, problem=problem, fix=fix, time=datetime.now(UTC)))


def waits(world: World) -> str:
    reader = Reader(world.workspace)
    return reader.why_waiting(reader.jobs()["cells-0002"])


def test_slurms_own_words_stand_where_people_look(world: World) -> None:
    report(world, "queue-1", NodeState.UNFIT, REFUSAL, "correct `nodes.queue` in terry.yaml")
    assert waits(world).endswith(f"; queue-1: {REFUSAL}")
    reader = Reader(world.workspace)
    view = ViewBuilder().view(reader.read())
    assert f"no more nodes: queue-1: {REFUSAL}" in status_lines(view, view.jobs)
    nodes = [finding for finding in examine(world.workspace, datetime.now(UTC)) if finding.what == "nodes"]
    assert [(finding.good, finding.text) for finding in nodes] == [
        (False, f"queue-1: {REFUSAL}; to fix it: correct `nodes.queue` in terry.yaml")
    ]


def test_who_waits_for_jobs_none_of_which_runs_is_told(world: World) -> None:
    report(world, "queue-1", NodeState.WAITING, "Slurm job 7 waits: QOSMaxJobsPerUserLimit")
    view = ViewBuilder().view(Reader(world.workspace).read())
    assert "no more nodes" not in summary_line(view, ["cells-0001", "cells-0002"]), "one of them runs"
    assert summary_line(view, ["cells-0002"]).endswith(
        "no more nodes: queue-1: Slurm job 7 waits: QOSMaxJobsPerUserLimit"
    )


def test_a_node_that_slurm_has_in_its_queue_is_no_fault(world: World) -> None:
    report(world, "queue-1", NodeState.WAITING, "Slurm job 7 waits: Resources")
    nodes = [finding for finding in examine(world.workspace, datetime.now(UTC)) if finding.what == "nodes"]
    assert [finding.good for finding in nodes] == [True]


def test_a_reason_that_is_over_goes_away(world: World) -> None:
    report(world, "queue-1", NodeState.UNFIT, REFUSAL)
    reader = Reader(world.workspace)
    record = reader.jobs()["cells-0002"]
    assert REFUSAL in reader.why_waiting(record)
    report(world, "queue-1", NodeState.ENDED)
    assert REFUSAL not in reader.why_waiting(record)


def test_a_mistake_in_terry_yaml_is_a_reason_too(world: World) -> None:
    absent = AbsentNodes(world.workspace)
    world.workspace.config.write_text("nodes: {queue: {kind: slrum}}\n")
    (reason,) = absent.reasons(alive=True)
    assert "terry.yaml:1" in reason
    assert absent.reasons(alive=False) == (), "with the cluster down no node comes for another reason"


def test_nodes_with_one_reason_share_a_line_and_what_somebody_has_to_mend_comes_first() -> None:
    def view(name: str, condition: Condition, problem: str) -> NodeView:
        return NodeView(name=name, host="", condition=condition, problem=problem)

    refused = "ssh: connect to host: Connection refused"
    found = reasons_of(
        [
            view("queue-1", Condition.WAITING, "Slurm job 7 waits: Priority"),
            *(view(f"c{n}", Condition.UNREACHABLE, refused) for n in range(4)),
            view("d", Condition.UP, "its clock is 3 s behind"),
        ]
    )
    assert found == (f"c0, c1 and 2 more: {refused}", "queue-1: Slurm job 7 waits: Priority")
