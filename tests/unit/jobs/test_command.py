"""Any program as a job: real processes of a real forkserver."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from terry.cluster.core.model import EndReason
from terry.cluster.errors import UserError
from terry.jobs.command import reason_of_output
from terry.jobs.submitting.submission import publish
from terry.logs.records.metrics import read_series
from terry.logs.records.results import read_result
from tests.helpers.job_processes import Attempt, orders, start
from tests.helpers.sweep_files import planned, workspace
from tests.unit.jobs.process.test_child import report

PYTHON = sys.executable


def order(tmp_path: Path, command: list[Any] | str, **run: Any) -> dict[str, Any]:
    """The order of a job that runs a command."""
    text = json.dumps({"name": "prog", "run": {"command": command, **run}})
    publish(workspace(tmp_path), planned(tmp_path, text))
    return orders(workspace(tmp_path), "prog")["prog-0001"]


def script(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "train.py").write_text("import json, os, signal, subprocess, sys, time\n" + text)
    return [PYTHON, "train.py"]


def output(attempt: Attempt, name: str = "stdout") -> str:
    return (attempt.folder / f"{name}.log").read_text()


def curve(attempt: Attempt) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_series(attempt.run) if "loss" in row]


def test_a_program_gets_its_arguments_to_the_letter_and_no_shell_sees_them(tmp_path: Path) -> None:
    command = [
        *script(tmp_path, "print(json.dumps(sys.argv[1:]))"),
        "--lr",
        "${parameters.lr}",
        "$HOME; *",
        "${attempt}",
    ]
    command += ["--out=${run_dir}", "${parameters.deep.flag}"]
    attempt = start(order(tmp_path, command, parameters={"lr": 1e-05, "deep": {"flag": True}}))
    assert attempt.wait() == 0, output(attempt, "stderr")
    given = json.loads(output(attempt))
    assert given == ["--lr", "1e-05", "$HOME; *", "1", f"--out={attempt.run.root}/work", "true"]


def test_text_is_split_into_arguments(tmp_path: Path) -> None:
    attempt = start(order(tmp_path, "printf '%s|' 'a b' c\\ d"))
    assert attempt.wait() == 0
    assert output(attempt) == "a b|c d|"


def test_what_a_program_finds_around_it(tmp_path: Path) -> None:
    body = "print(json.dumps({'cwd': os.getcwd(), 'env': dict(os.environ)}))"
    attempt = start(order(tmp_path, script(tmp_path, body), environment={"WANDB_MODE": "offline", "N": 3}))
    assert attempt.wait() == 0
    found = json.loads(output(attempt))
    assert found["cwd"] == str(tmp_path)
    env = found["env"]
    assert (env["WANDB_MODE"], env["N"], env["CUDA_VISIBLE_DEVICES"]) == ("offline", "3", "")
    assert (env["TERRY_JOB_ID"], env["TERRY_ATTEMPT"]) == ("prog-0001", "1")
    assert env["TERRY_RUN_DIR"] == f"{attempt.run.root}/work"
    assert json.loads((attempt.folder / "command.json").read_bytes())["arguments"] == [PYTHON, "train.py"]


def test_a_folder_of_its_own(tmp_path: Path) -> None:
    attempt = start(order(tmp_path, ["sh", "-c", "echo 1 > here; pwd"], working_folder="run"))
    assert attempt.wait() == 0
    assert output(attempt).strip() == str(attempt.run.root / "work")
    assert (attempt.run.root / "work" / "here").read_text() == "1\n"


_WRITERS = {
    "patterns": "for i in range(1, 6): print(f'epoch 0 step {i}: loss={1 / i:.4f}', end='\\r' if i % 2 else '\\n')",
    "json": "f = open(os.environ['TERRY_RUN_DIR'] + '/log.jsonl', 'w')\n"
    "for i in range(1, 6): print(json.dumps({'step': i, 'train_loss': 1 / i, 'note': 'x'}), file=f)",
    "csv": "f = open(os.environ['TERRY_RUN_DIR'] + '/metrics.csv', 'w')\n"
    "print('epoch,step,train/loss,val_loss', file=f)\n"
    "for i in range(1, 6): print(f'0,{i},{1 / i},', file=f)",
    "tensorboard": "from torch.utils.tensorboard import SummaryWriter\n"
    "w = SummaryWriter(os.environ['TERRY_RUN_DIR'] + '/tb')\n"
    "for i in range(1, 6): w.add_scalar('Loss/train', 1 / i, i)\nw.close()",
    "shell": "for i in range(1, 6): subprocess.run([sys.executable, '-m', 'terry.cluster.cli.main', 'log',"
    " f'loss={1 / i}', '--step', str(i)], check=True)",
}


@pytest.mark.parametrize("kind", _WRITERS)
def test_curves_without_a_change_to_the_program(tmp_path: Path, kind: str) -> None:
    patterns = {"metrics": {"step": r"step (\d+)", "loss": r"loss[:=] *([0-9.]+)"}} if kind == "patterns" else {}
    attempt = start(order(tmp_path, script(tmp_path, _WRITERS[kind]), **patterns))
    assert attempt.wait() == 0, output(attempt, "stderr")
    found = curve(attempt)
    assert [step for step, _ in found] == [1, 2, 3, 4, 5], output(attempt, "stderr")
    assert [loss for _, loss in found] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5], abs=1e-3)
    assert read_result(attempt.run)["loss"] == pytest.approx(0.2, abs=1e-3)


_RESUMING = """
state = os.environ["TERRY_RUN_DIR"] + "/state"
first = int(open(state).read()) if os.path.exists(state) else 0
for i in range(first + 1, 11):
    print(f"step {i} loss {1 / i}", flush=True)
    open(state, "w").write(str(i))
    if i == 6 and os.environ["TERRY_ATTEMPT"] == "1":
        open(state, "w").write("4")
        END
print(sys.argv[1:])
"""
_PATTERNS = {"step": r"step (\d+)", "loss": r"loss ([0-9.]+)"}


def test_after_a_crash_it_goes_on_by_its_own_checkpoint_and_the_curve_is_one(tmp_path: Path) -> None:
    command = script(tmp_path, _RESUMING.replace("END", "os.kill(os.getpid(), signal.SIGSEGV)"))
    given = order(tmp_path, command, metrics=_PATTERNS, resume_command=[*command, "--resume"])
    assert start(given).wait() == -signal.SIGSEGV
    second = start(given, 2)
    assert second.wait() == 0, output(second, "stderr")
    assert curve(second) == [(i, pytest.approx(1 / i)) for i in range(1, 11)]
    assert output(second).splitlines()[0].startswith("step 5 "), "it went on from its own checkpoint"
    assert output(second).splitlines()[-1] == "['--resume']"


@pytest.mark.parametrize("kind", _WRITERS)
def test_what_it_said_before_its_attempt_was_lost_is_not_lost(tmp_path: Path, kind: str) -> None:
    """Whoever listens to it stands still, and is killed with all of it unheard."""
    patterns = {"metrics": {"step": r"step (\d+)", "loss": r"loss[:=] *([0-9.]+)"}} if kind == "patterns" else {}
    first = "if os.environ['TERRY_ATTEMPT'] != '1': sys.exit(0)\nos.kill(os.getppid(), signal.SIGSTOP)\n"
    last = "\nif 'f' in globals(): f.close()\nsys.stdout.flush()\nos.kill(os.getppid(), signal.SIGKILL)\n"
    given = order(tmp_path, script(tmp_path, first + _WRITERS[kind] + last), **patterns)
    assert start(given).wait() == -signal.SIGKILL
    second = start(given, 2)
    assert second.wait() == 0, output(second, "stderr")
    assert [step for step, _ in curve(second)] == [1, 2, 3, 4, 5]
    assert read_result(second.run)["loss"] == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize(
    ("end", "reason", "message"),
    [
        ("raise ValueError('no luck')", EndReason.EXCEPTION, "train.py left with exit code 1: ValueError: no luck"),
        ("print('CUDA out of memory', file=sys.stderr); sys.exit(2)", EndReason.DEVICE_OUT_OF_MEMORY, "exit code 2"),
        ("raise MemoryError", EndReason.HOST_OUT_OF_MEMORY, "MemoryError"),
        ("import numpy; numpy.empty((1 << 30, 1 << 20))", EndReason.HOST_OUT_OF_MEMORY, "Unable to allocate"),
        ("import torch; torch.empty(1 << 30, 1 << 20)", EndReason.HOST_OUT_OF_MEMORY, "memory"),
        (
            "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')",
            EndReason.DEVICE_OUT_OF_MEMORY,
            "Tried to allocate",
        ),
        ("raise OSError(28, 'No space left on device')", EndReason.DISK_FULL, "No space left"),
        ("sys.exit(139)", EndReason.CRASHED, "exit code 139: SIGSEGV"),
    ],
)
def test_how_it_failed_is_told_by_cause(tmp_path: Path, end: str, reason: EndReason, message: str) -> None:
    attempt = start(order(tmp_path, script(tmp_path, end)))
    assert attempt.wait() in {1, 74}
    found = report(attempt)
    assert found.reason is reason
    assert message in found.message


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM])
def test_a_signal_is_passed_on(tmp_path: Path, number: signal.Signals) -> None:
    attempt = start(order(tmp_path, script(tmp_path, f"os.kill(os.getpid(), {int(number)})")))
    assert attempt.wait() == -number


def test_what_a_shell_says_of_sigkill_is_judged_like_sigkill(tmp_path: Path) -> None:
    attempt = start(order(tmp_path, ["sh", "-c", f"{PYTHON} -c 'import os; os.kill(os.getpid(), 9)'; exit $?"]))
    assert attempt.wait() == -signal.SIGKILL


def test_a_share_of_a_gpu_is_told(tmp_path: Path) -> None:
    """It is the program's to keep: nothing but MPS could hold it to it. Nothing is allocated to find that out."""
    names = ("TERRY_MEMORY_SHARE", "TERRY_MEMORY_BYTES", "XLA_PYTHON_CLIENT_MEM_FRACTION", "CUDA_VISIBLE_DEVICES")
    given = order(tmp_path, script(tmp_path, f"print(*(os.environ.get(n) for n in {names!r}))"))
    share = {"gpu_uuid": "GPU-1", "memory_share": 0.25, "gpu_memory_bytes": 1 << 32}
    attempt = start({**given, **share})
    assert attempt.wait() == 0, output(attempt, "stderr")
    assert output(attempt).split() == ["0.25", str(1 << 30), "0.25", "GPU-1"]
    attempt.run.result.unlink()
    alone = start({**given, **share, "memory_share": 1.0}, 2)
    assert alone.wait() == 0
    assert output(alone).split() == ["None", "None", "None", "GPU-1"]


def test_exit_code_75_puts_it_back(tmp_path: Path) -> None:
    attempt = start(order(tmp_path, ["sh", "-c", "exit 75"]))
    assert attempt.wait() == 75
    assert not attempt.run.result.exists()


def test_it_is_asked_to_stop_by_sigterm_and_goes_on_later(tmp_path: Path) -> None:
    body = "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(0)))\n"
    body += "print('step 1 loss 1', flush=True)\ntime.sleep(600)"
    attempt = start(order(tmp_path, script(tmp_path, body), metrics=_PATTERNS))
    attempt.kill_at(1, signal.SIGTERM)
    assert attempt.wait() == 75
    assert output(attempt).endswith("saved\n")
    assert not attempt.run.result.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [(["no-such-program-anywhere"], "there is no program 'no-such-program-anywhere'"), (["./data"], "cannot be run")],
)
def test_what_cannot_be_run_is_bad_input(tmp_path: Path, command: list[str], message: str) -> None:
    (tmp_path / "data").write_text("no program")
    attempt = start(order(tmp_path, command))
    assert attempt.wait() == 1
    assert report(attempt).reason is EndReason.BAD_INPUT
    assert message in report(attempt).message


def test_nothing_that_it_started_outlives_it_whatever_its_session(tmp_path: Path) -> None:
    body = "p = subprocess.Popen(['sleep', '600'], start_new_session=True)\nprint(p.pid, flush=True)\nos._exit(0)"
    attempt = start(order(tmp_path, script(tmp_path, body)))
    assert attempt.wait() == 0
    pid, deadline = int(output(attempt)), time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"command": []}, r"run\.command.*must name a program"),
        ({"command": "a 'b"}, r"run\.command.*cannot be split"),
        ({"command": ["a", ["b"]]}, r"run\.command.*one for each argument"),
        ({"command": ["a", "${parameters.lr}"]}, r"command.*no such parameter"),
        ({"command": ["a"], "entrypoint": "a:b"}, "command.*entrypoint.*keep one"),
        ({"entrypoint": "lab:main", "metrics": {"loss": "(.)"}}, "metrics.*goes with `command:`"),
        ({"command": ["a"], "metrics": {"loss": "loss"}}, r"run\.metrics.*one group"),
        ({"command": ["a"], "metrics": {"loss": "("}}, r"run\.metrics.*no regular expression"),
        ({"command": ["a"], "environment": {"TERRY_JOB_ID": "x"}}, r"run\.environment.*set for each run"),
        ({"command": ["a"], "environment": {"a b": "x"}}, r"run\.environment.*no name of a variable"),
    ],
)
def test_mistakes_are_named_at_submission(tmp_path: Path, run: dict[str, Any], message: str) -> None:
    (tmp_path / "lab.py").write_text("def main(ctx): ...\n")
    with pytest.raises(UserError, match=message):
        planned(tmp_path, json.dumps({"name": "prog", "run": run}))


def test_another_script_is_another_run_and_another_pattern_is_not(tmp_path: Path) -> None:
    def identity(**run: Any) -> str:
        text = json.dumps({"name": "prog", "run": {"command": [PYTHON, "train.py"], **run}})
        return planned(tmp_path, text).plan.lines[0].job.identity

    script(tmp_path, "pass")
    first = identity()
    assert identity(metrics=_PATTERNS) == identity(resume_command=["x"]) == first
    assert identity(environment={"A": 1}) != first
    script(tmp_path, "print(1)")
    assert identity() != first


def test_the_argument_list_is_in_the_plan(tmp_path: Path) -> None:
    sweep = {"grid": {"parameters.lr": [0.1, 0.01]}}
    run = {"command": ["prog", "--lr", "${parameters.lr}", "${job_id}", "${run_dir}"]}
    found = planned(tmp_path, json.dumps({"name": "prog", "run": run, "sweep": sweep}))
    assert [job.command for job in found.jobs] == [
        ("prog", "--lr", "0.1", "prog-0001", "${run_dir}"),
        ("prog", "--lr", "0.01", "prog-0002", "${run_dir}"),
    ]


def test_the_last_words_of_other_languages_are_understood() -> None:
    assert reason_of_output("Error in f(): no data\nExecution halted\n", 1) == (
        EndReason.EXCEPTION,
        "Error in f(): no data",
    )
    assert reason_of_output("Error: cannot allocate vector of size 8 Gb\n", 1)[0] is EndReason.HOST_OUT_OF_MEMORY
    assert reason_of_output("terminate called\n  what():  std::bad_alloc\n", 134)[0] is EndReason.HOST_OUT_OF_MEMORY
    assert reason_of_output("", 3) == (EndReason.EXCEPTION, "")
