"""Nodes as Slurm jobs, on a real Slurm: they come, run, are preempted, time out, crash, and go; with sacct and without.

One bed and one workspace for all tests, in their order: starting a cluster takes longer than what is to be seen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from terry.cluster.core.model import Budget, EndReason
from terry.cluster.ports import NodeState
from terry.cluster.slurm import next_head
from tests.helpers.doc_blocks import ROOT, Reader, check
from tests.testbed.beds import Bed, why_no_slurm
from tests.testbed.slurm_lab import HOSTS, NODES, SlurmLab

pytestmark = [pytest.mark.timeout(600), pytest.mark.skipif(bool(why_no_slurm()), reason=why_no_slurm())]

#: Trainings that take long enough for things to happen meanwhile.
LONG = 200


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    bed = Bed(tmp_path_factory.mktemp("bed"))
    bed.slurm_up(*HOSTS, accounting=False)
    yield SlurmLab(bed)
    bed.slurm_down()


@pytest.fixture(scope="module")
def reference(lab: SlurmLab) -> dict[str, set[str]]:
    """Weights of a sweep that nothing disturbed: of its trainings, the first stands still until the other has begun."""
    lab.submit("reference", epochs=LONG)
    with lab.held("reference"):
        lab.until(lambda: all(lab.attempts(job) for job in lab.trainings("reference")))
    lab.finish("reference")
    return lab.weights("reference")


#: What a group of kind slurm says, what `squeue` is asked for, and what it answers.
FORMS = [
    ("time: 120", "%l", "2:00:00"),
    ("time: 90:30", "%l", "1:31:00"),
    ("time: 4:00:00", "%l", "4:00:00"),
    ("time: 1-00:00:00", "%l", "1-00:00:00"),
    ("time: 2-12", "%l", "2-12:00:00"),
    ("time: UNLIMITED", "%l", "UNLIMITED"),
    ("slurm_begin: 16:00", "%S", "T16:00:00"),
    ("slurm_begin: 2030-01-02T03:04", "%S", "2030-01-02T03:04:00"),
    ("account: 0123", "%a", "0123"),
    ("account: 61e9540", "%a", "61e9540"),
    ("slurm_comment: 1.10", "%k", "1.10"),
    ("slurm_comment: NO", "%k", "NO"),
    ("slurm_comment: 1_000", "%k", "1_000"),
    ("slurm_comment: 22:22", "%k", "22:22"),
    ("slurm_mem: 1000", "%m", "1000M"),
]

#: Asks Slurm for a node of each group of a terry.yaml, as the keeper does.
ASK = """
import sys
from pathlib import Path
from terry.cluster.config.terry_yaml import read
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.slurm.commands import Slurm
workspace = WorkspacePaths(Path(sys.argv[1]))
for group in read(workspace).nodes.groups:
    print(Slurm(workspace).submit(group, f"{group.name}-1"))
"""


def test_slurms_own_forms_arrive_to_the_letter(lab: SlurmLab) -> None:
    folder = lab.bed.shared / "forms"
    folder.mkdir()
    groups = [
        f"  q{i}:\n    kind: slurm\n    {form}\n    {'slurm_hold: true' if 'begin' not in form else ''}\n"
        for i, (form, _, _) in enumerate(FORMS)
    ]
    (folder / "terry.yaml").write_text("nodes:\n" + "".join(groups))
    ids = lab.slurm(sys.executable, "-c", ASK, str(folder)).split()
    lines = {
        form: lab.slurm("squeue", "--noheader", f"--jobs={job}", f"--format={asked}").strip()
        for job, (form, asked, _) in zip(ids, FORMS, strict=True)
    }
    lab.slurm("scancel", *ids)
    expected = {form: lines[form] if lines[form].endswith(answer) else answer for form, _, answer in FORMS}
    assert lines == expected


def test_submit_on_the_login_host_brings_slurm_jobs(lab: SlurmLab, reference: dict[str, set[str]]) -> None:
    for job in lab.trainings("reference"):
        assert lab.reasons(job) == [EndReason.SUCCESS]
        assert lab.attempts(job)[0].node in {"queue-1", "queue-2", "queue-3"}
    assert len({lab.attempts(job)[0].node for job in lab.trainings("reference")}) == 2, "one core each: two nodes"
    said = lab.slurm("scontrol", "show", "job", next(iter(lab.workers().values())).id)
    for expected in ("Partition=low", "TresPerNode=gres:gpu:1", "TimeLimit=02:00:00", "Comment=terry on the bed"):
        assert expected in said
    assert lab.head().name == "login"


def test_a_preemption_costs_nothing(lab: SlurmLab, reference: dict[str, set[str]]) -> None:
    lab.submit("moved", epochs=LONG)
    node, job = lab.catch("moved")
    host = lab.workers()[node].host
    urgent = ("--partition=high", "--exclusive", f"--nodelist={host}", "--job-name=urgent", "--wrap=sleep 600")
    lab.slurm("sbatch", *urgent)
    assert_moved(lab, job)
    lab.until(lambda: any(each.name == "urgent" and each.state == "RUNNING" for each in lab.listed()))
    assert "goes on from step" in lab.run("explain", job)
    lab.finish("moved")
    assert lab.weights("moved") == reference
    lab.assert_each_done_once("moved")
    lab.slurm("scancel", "--name=urgent")


def assert_moved(lab: SlurmLab, job: str) -> None:
    """Its first attempt wrote a checkpoint and left, at no cost."""
    lab.until(lambda: lab.reasons(job))
    assert lab.reasons(job)[0] is EndReason.PREEMPTED
    assert lab.checkpoints(job, 1), "it has written one before it went"
    budget = lab.state().jobs[job].budget
    assert budget == Budget(checkpoint_step=budget.checkpoint_step)


def test_a_time_limit_costs_nothing(lab: SlurmLab, reference: dict[str, set[str]]) -> None:
    lab.submit("limited", epochs=LONG)
    node, job = lab.catch("limited")
    worker = lab.workers()[node]
    lab.slurm("scontrol", "update", f"jobid={worker.id}", f"timelimit={lab.minutes(worker) + 1}")
    assert_moved(lab, job)
    lab.finish("limited")
    assert lab.weights("limited") == reference
    lab.assert_each_done_once("limited")
    lab.until(lambda: worker.id not in {each.id for each in lab.listed()})


def test_down_and_up(lab: SlurmLab, reference: dict[str, set[str]]) -> None:
    lab.submit("paused", epochs=LONG)
    _, job = lab.catch("paused")
    lab.run("down")
    assert lab.listed() == []
    assert lab.checkpoints(job, 1)
    assert lab.reasons(job) == [EndReason.PREEMPTED], "the nodes were there until it had written one"
    lab.run("up")
    lab.finish("paused")
    assert lab.weights("paused") == reference
    lab.assert_each_done_once("paused")


def test_a_crashed_node(lab: SlurmLab, reference: dict[str, set[str]]) -> None:
    lab.submit("crashed", epochs=LONG)
    node, job = lab.catch("crashed")
    host = lab.workers()[node].host
    lab.crashed.add(host)
    lab.bed.crash(host)
    lab.until(lambda: lab.reasons(job))
    assert lab.reasons(job)[0] is EndReason.NODE_LOST
    assert lab.attempts(job)[0].decision.startswith("goes on from step "), "it has written a checkpoint"
    lab.finish("crashed")
    assert lab.weights("crashed") == reference
    lab.assert_each_done_once("crashed")
    lab.bed.slurm_up(*HOSTS, accounting=False)


def test_idle_nodes_go(lab: SlurmLab, reference: dict[str, set[str]]) -> None:
    lab.until(lambda: not lab.workers())
    for host in ("seawolf", "quattro1", "quattro2"):
        lab.until(lambda host=host: lab.processes(host) == [])
        left = [name for name in lab.bed.on(host, "ls", "/tmp").stdout.split() if lab.workspace.id in name]
        assert len(left) <= len(lab.crashed & {host}), "only what a power cut has left"
    assert {lab.report(node).state for node in ("queue-1", "queue-2")} == {NodeState.ENDED}


#: Beside the group of the other tests; each training of the sweep below wants a node of it.
OTHER = """  other:
    kind: slurm
    partition: main
    time: {time}
    cpus: 1
    max: 1
    idle_after: 12 s
{more}
"""


def test_why_no_node_comes_is_told_and_terry_yaml_corrected_is_enough(lab: SlurmLab) -> None:
    """Slurm refuses; then it takes a job that can never start; then a job comes. And at last Slurm itself is gone."""
    refusal, limit = "Batch job submission failed: Invalid feature specification", "PartitionTimeLimit"
    lab.slurm("scontrol", "update", "partitionname=main", "maxtime=60")
    lab.workspace.config.write_text(NODES + OTHER.format(time="2:00:00", more="    slurm_constraint: nowhere"))
    lab.submit("told", epochs=20, on=["other-1"])
    job = lab.until(lambda: next(iter(lab.trainings("told")), ""))
    lab.until(lambda: refusal in lab.run("explain", job))
    assert f"no more nodes: other-1: Slurm says: {refusal}" in lab.run("status", "told")
    assert f"nodes: other-1: Slurm says: {refusal}" in lab.run("doctor", check=False)
    assert refusal in lab.run("wait", "told", "--timeout", "17", check=False)

    lab.workspace.config.write_text(NODES + OTHER.format(time="2:00:00", more=""))
    lab.until(lambda: limit in lab.run("explain", job))
    told = lab.run("status", "told")
    assert refusal not in told, "a reason that is over goes away"
    assert limit in told
    waits = lab.workers()["other-1"]

    lab.workspace.config.write_text(NODES + OTHER.format(time="0:30:00", more=""))
    came = lab.until(lambda: (found := lab.workers().get("other-1")) and found.id != waits.id and found)
    assert lab.slurm("squeue", "--noheader", f"--jobs={came.id}", "--format=%l").strip() == "30:00"
    lab.finish("told")
    assert waits.id not in {listed.id for listed in lab.listed()}

    lab.bed.on("login", "sh", "-c", "kill $(cat /run/slurmctld.pid)")
    said = lab.run("down")
    assert "Slurm jobs that may stay: " in said
    assert "scancel --user=root --name=terry-" in said
    lab.bed.slurm_up(*HOSTS, accounting=False)
    lab.run("down")
    lab.until(lambda: not lab.workers())
    lab.workspace.config.write_text(NODES)


@pytest.mark.skipif(bool(why_no_slurm(accounting=True)), reason=why_no_slurm(accounting=True))
def test_the_page_tells_the_truth(lab: SlurmLab) -> None:
    """docs/how-to/slurm.md, read on the login host of a cluster with accounting. Only our jobs end with `down`."""
    lab.run("down", check=False)
    lab.slurm("scancel", "--user=root")
    lab.bed.slurm_up(*HOSTS)
    other = lab.slurm("sbatch", "--parsable", "--job-name=terry-0123456789-queue-1", "--wrap=sleep 600").strip()
    folder = lab.bed.shared / "reader"
    folder.mkdir()
    reader = Reader(folder, at=[str(lab.bed.state / "bin" / "on"), "login"])
    try:
        check(reader, ROOT / "docs" / "how-to" / "slurm.md")
    finally:
        reader.down()  # else its keeper takes the bed's nodes from the tests that follow
    assert [job.id for job in lab.listed()] == [other]
    lab.slurm("scancel", other)


@pytest.fixture(scope="module")
def headless(lab: SlurmLab, reference: dict[str, set[str]]) -> SlurmLab:
    """A workspace on the same bed whose head stands in a Slurm job, too; what has trained the reference has ended."""
    lab.run("down", check=False)
    lab.slurm("scancel", "--user=root")
    return SlurmLab(lab.bed, "in slurm", head="head: slurm")


def test_a_crash_of_the_heads_node_needs_nobody(headless: SlurmLab, reference: dict[str, set[str]]) -> None:
    """Nothing runs on the login host; the successor waits in Slurm's queue, and goes on with all."""
    lab = headless
    lab.submit("headed", epochs=LONG)
    lab.catch("headed")
    assert lab.processes("login") == []
    first = lab.workers()["head"]
    assert lab.head().host == first.host
    assert "already up" in lab.run("up")
    successor = lab.until(lambda: next_head.read(lab.workspace))
    assert successor.after == first.id
    assert f"Slurm job {successor.job}" in lab.run("nodes")

    lab.bed.crash(first.host)
    lab.until(lambda: f"Slurm job {successor.job} goes on" in lab.run("status"))
    lab.finish("headed")
    assert lab.workers()["head"].id == successor.job
    assert lab.weights("headed") == reference
    lab.assert_each_done_once("headed")
    lab.bed.slurm_up(*HOSTS, accounting=False)


def test_when_the_heads_time_is_over_another_takes_over(headless: SlurmLab, reference: dict[str, set[str]]) -> None:
    lab = headless
    lab.submit("handed", epochs=LONG)
    _, job = lab.catch("handed")
    first = lab.workers()["head"]
    successor = lab.until(lambda: next_head.read(lab.workspace))
    lab.slurm("scontrol", "update", f"jobid={first.id}", f"timelimit={lab.minutes(first) + 1}")
    lab.until(lambda: (found := lab.workers().get("head")) and found.id == successor.job and found.state == "RUNNING")
    lab.finish("handed")
    assert set(lab.reasons(job)[:-1]) <= {EndReason.PREEMPTED, EndReason.NODE_LOST}
    assert lab.weights("handed") == reference
    lab.run("down")
    assert lab.listed() == [], "the successor of the successor, too"
