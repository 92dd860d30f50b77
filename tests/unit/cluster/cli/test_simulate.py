"""`simulate`: what it tells, and what it says of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cluster.conftest import Terry

SWEEP = """
name: whales
run: {entrypoint: "whaling:main", resources: {gpus: 0.5}}
sweep: {grid: {parameters.speed: [1, 2, 3, 4]}}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    (tmp_path / "whales.yaml").write_text(SWEEP)
    return "whales.yaml"


def test_a_sweep_on_a_cluster_that_need_not_exist(terry: Terry, sweep: str, tmp_path: Path) -> None:
    said = terry("simulate", sweep, "--nodes", "1x1", "--duration", "10 min")
    assert said.code == 0
    assert "4 jobs on 1 node: 4 completed" in said.out
    assert "makespan     20m" in said.out
    assert "100.0% of 1 in use" in said.out
    told = terry("--json", "simulate", sweep, "--nodes", "1x2", "--duration", "10 min").json
    assert (told["makespan_s"], told["completed"], told["never_placed"]) == (600.0, 4, {})
    assert told["utilisation"]["gpu"]["whole"] == 1.0
    assert not (tmp_path / "runs").exists(), "nothing is written"


def test_the_policy_is_the_workspaces_or_one_to_try(terry: Terry, sweep: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "terry.yaml").write_text('policy: {limits: {users: {"*": {jobs: 1}}}}\n')
    (tmp_path / "try.yaml").write_text("policy: {}\n")
    common = ("--json", "simulate", sweep, "--nodes", "1x2", "--duration", "100")
    assert terry(*common).json["makespan_s"] == 400.0
    assert terry(*common, "--policy", "try.yaml").json["makespan_s"] == 100.0


def test_a_job_that_fits_nowhere_is_named(terry: Terry, sweep: str) -> None:
    said = terry("simulate", sweep, "resources.device=H100", "--nodes", "1x1:A100", "--duration", "1 h")
    assert said.code == 1
    assert "never ran    whales-0001: waits for a GPU: none online matches device 'H100'" in said.out


def test_a_trace(terry: Terry, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("submitted,seconds,user,gpus\n0,3600,ann,1\n0,3600,bob,1\n")
    said = terry("simulate", "jobs.csv", "--nodes", "1x1")
    assert said.code == 0
    assert "ann          1.0 gpu-hours, waited 0s on average" in said.out
    assert "bob          1.0 gpu-hours, waited 1h00m on average" in said.out
    told = terry("--json", "simulate", "jobs.csv", "--nodes", "1x1").json
    assert told["wait_s"]["median"] == 1800.0
    assert [(entry["user"], entry["mean"]) for entry in told["user_wait_s"]] == [("ann", 0.0), ("bob", 3600.0)]


def test_devices_that_crashes_have_drained_come_back_as_by_a_person(terry: Terry, tmp_path: Path) -> None:
    jobs = "".join(f"0,4000,ann,0.25,{model}\n" for model in ("A100", "V100") for _ in range(12))
    (tmp_path / "jobs.csv").write_text("submitted,seconds,user,gpus,device\n" + jobs)
    cluster = ("--nodes", "1x2:A100", "--nodes", "1x2:V100", "--crash-every", "1500")
    said = terry("simulate", "jobs.csv", *cluster)
    assert said.code == 0, said.out
    assert "24 completed" in said.out
    assert "each given back after 1 h as by a person" in said.out
    assert terry("--json", "simulate", "jobs.csv", *cluster).json["drained"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("whales.yaml", "--nodes", "1x1"), "nobody knows how long a run takes"),
        (("whales.yaml", "--nodes", "some"), "'some' names no nodes; write NODESxGPUS"),
        (("whales.yaml",), "Missing option '--nodes'"),
        (("whales.yaml", "--nodes", "1x1", "--duration", "2 h..1 h"), "--duration: 1 h is less than 2 h"),
        (("whales.yaml", "--nodes", "1x1", "--duration", "long"), "--duration: 'long' is not a duration"),
        (("whales.yaml", "--nodes", "1x1", "--crash-every", "0"), "--crash-every must be more than 0"),
        (("nothing.yaml", "--nodes", "1x1"), "there is no file nothing.yaml"),
        (("nothing.csv", "--nodes", "1x1"), "nothing.csv: there is no such trace"),
        (("nothing.csv", "a=b", "--nodes", "1x1"), "a trace says itself what ran how long"),
        (
            ("whales.yaml", "--nodes", "1x1", "--duration", "1", "--policy", "no.yaml"),
            "no.yaml: there is no such policy",
        ),
    ],
)
def test_a_mistake_is_one_line(terry: Terry, sweep: str, arguments: tuple[str, ...], said: str) -> None:
    answer = terry("simulate", *arguments)
    assert answer.code == 2
    assert said in answer.err
