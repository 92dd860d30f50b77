"""What is handed to Slurm, and what its words are taken for. The real one: tests/integration/test_slurm_nodes.py."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest

from terry.cluster.config.nodes import SlurmGroup
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.slurm.commands import Slurm, SlurmError, limit_s, warning_s
from terry.cluster.slurm.plan import Phase, SlurmJob

_SQUEUE = """101|RUNNING|None|c1|terry-{id}-queue-1
102|PENDING|QOSMaxJobsPerUserLimit||terry-{id}-queue-2
103|COMPLETING|None|c2|terry-{id}-queue-3
104|RUNNING|None|c2|terry-0123456789-queue-1
105|RUNNING|None|c2|a|b
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """Slurm's commands as scripts that write down what they were asked."""
    workspace = WorkspacePaths(tmp_path / "work space")
    workspace.root.mkdir()
    listed = tmp_path / "listed"
    listed.write_text(_SQUEUE.format(id=workspace.id))
    tools = tmp_path / "bin"
    tools.mkdir()
    answers = {"squeue": f"cat '{listed}'", "sbatch": "echo Submitted batch job 4711", "scancel": ":", "srun": ":"}
    for name, answer in answers.items():
        (tools / name).write_text(f"#!/bin/sh\necho \"{name} $*\" >> '{tmp_path}/asked'\n{answer}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return Slurm(workspace)


def test_only_the_workspaces_own_jobs_are_seen(slurm: Slurm) -> None:
    assert slurm.jobs() == (
        SlurmJob(id="101", node="queue-1", phase=Phase.RUNNING, state="RUNNING", reason="None", host="c1"),
        SlurmJob(id="102", node="queue-2", phase=Phase.PENDING, state="PENDING", reason="QOSMaxJobsPerUserLimit"),
    )


def test_the_script_of_a_node(slurm: Slurm, tmp_path: Path) -> None:
    group = SlurmGroup(
        name="queue",
        partition="long",
        gres="gpu:h100:2",
        time="4:00:00",
        account="lab",
        setup=("module load cuda", "export A=1"),
        python="~/env/bin/python",
        options={"qos": "high", "exclusive": True, "mem": "32G", "cpus_per_task": 8, "licenses": "matlab:1"},
    )
    assert slurm.submit(group, "queue-1") == "4711"
    folder = tmp_path / "work space" / "queue" / "cluster" / "slurm"
    lines = (folder / "4711_submission.sh").read_text().splitlines()
    name = f"terry-{WorkspacePaths(tmp_path / 'work space').id}-queue-1"
    for option in (
        *("partition=long", "gres=gpu:h100:2", "time=4:00:00", "account=lab", "qos=high", "exclusive", "mem=32G"),
        *("cpus-per-task=8", "licenses=matlab:1", "nodes=1", "signal=B:USR1@120", "no-requeue", f"job-name={name}"),
    ):
        assert f"#SBATCH --{option}" in lines
    assert not [line for line in lines if "wckey" in line or "srun" in line]
    command = f"exec ~/env/bin/python -m terry.cluster.slurm.worker '{tmp_path}/work space' queue queue-1 120"
    assert lines.index("module load cuda") < lines.index("export A=1") < lines.index(command)


def test_without_a_time_limit_the_partition_decides(slurm: Slurm, tmp_path: Path) -> None:
    slurm.submit(SlurmGroup(name="queue"), "queue-1")
    script = tmp_path / "work space" / "queue" / "cluster" / "slurm" / "4711_submission.sh"
    assert "--time" not in script.read_text()


def test_files_of_old_jobs_are_removed(slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "work space" / "queue" / "cluster" / "slurm"
    folder.mkdir(parents=True)
    for number in range(60):
        for kind in ("submission.sh", "0_log.err"):
            path = folder / f"{number}_{kind}"
            path.write_text("")
            os.utime(path, (number, number))
    slurm.submit(SlurmGroup(name="queue"), "queue-1")
    left = {path.name for path in folder.glob("*_log.err")}
    assert left == {f"{number}_0_log.err" for number in range(10, 60)}


def test_the_words_of_a_refusal(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ("invalid partition specified: mian", "Batch job submission failed")
    echo = "".join(f"echo 'sbatch: error: {line}' >&2\n" for line in said)
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/sh\n{echo}exit 1\n")
    with pytest.raises(SlurmError, match=r"^invalid partition specified: mian$"):
        slurm.submit(SlurmGroup(name="queue"), "queue-1")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SlurmError, match="there is no squeue"):
        slurm.jobs()


def test_a_node_is_let_go_by_a_signal_to_the_script_alone(slurm: Slurm, tmp_path: Path) -> None:
    slurm.release(["7"])
    slurm.cancel(["8", "9"])
    slurm.cancel([])
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["scancel --batch --signal=USR1 7", "scancel 8 9"]


def test_the_last_words_of_a_job(slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / "work space" / "queue" / "cluster" / "slurm"
    folder.mkdir(parents=True)
    assert slurm.last_words("7") == ""
    (folder / "7_0_log.out").write_text("module: loaded\nterry-node-report queue-1\n")
    assert slurm.last_words("7") == "module: loaded"
    (folder / "7_0_log.err").write_text("No module named terry\n\n")
    assert slurm.last_words("7") == "No module named terry"


def test_limits_as_slurm_writes_them() -> None:
    seconds = {"30": 1800, "4:30": 270, "4:00:00": 14400, "2-12": 216000, "2-12:30": 217800, "1-0:0:5": 86405}
    assert {text: limit_s(text) for text in seconds} == seconds
    assert limit_s(None) is None


def test_how_early_a_job_is_told() -> None:
    found = {time: warning_s(SlurmGroup(name="q", time=time)) for time in (None, "1", "4", "8", "4:00:00", "0:10")}
    assert found == {None: 120, "1": 15, "4": 60, "8": 120, "4:00:00": 120, "0:10": 5}
    assert warning_s(SlurmGroup(name="q", time="1", options={"signal_delay_s": 30})) == 30


def test_what_is_used_of_submitit_is_there() -> None:
    """Two of these names are not public; pyproject.toml bounds the version for them. The tests above run them."""
    from submitit.core.utils import FailedJobError
    from submitit.helpers import clean_env
    from submitit.slurm.slurm import SlurmExecutor

    known = SlurmExecutor._valid_parameters()
    assert {"job_name", "nodes", "use_srun", "partition", "gres", "time", "account", "setup", "wckey"} <= known
    assert {"additional_parameters", "signal_delay_s", "qos", "mem", "cpus_per_task"} <= known
    assert list(inspect.signature(SlurmExecutor._submit_command).parameters) == ["self", "command"]
    assert list(inspect.signature(SlurmExecutor.update_parameters).parameters) == ["self", "kwargs"]
    assert issubclass(FailedJobError, Exception)
    with clean_env():
        assert not any(name.startswith("SLURM_") for name in os.environ)
