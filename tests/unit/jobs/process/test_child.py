"""A job's process: what it may use, how it ends, and how it goes on after it was killed."""

from __future__ import annotations

import importlib.metadata
import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import yaml

from terry.cluster.agent.evidence import ErrorReport
from terry.cluster.core.model import EndReason
from terry.cluster.files.paths import Run
from terry.jobs.process.checkpoints import checkpoints, read_manifest
from terry.jobs.submitting.submission import publish
from terry.logs.records.metrics import read_series
from tests.helpers.job_processes import Attempt, orders, start
from tests.helpers.sweep_files import planned, workspace

HEAD = """\
from __future__ import annotations
import errno, json, os, signal, sys, time
"""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def job(tmp_path: Path, code: str, **parameters: Any) -> dict[str, Any]:
    """The order of a job with the given code."""
    (tmp_path / "lab.py").write_text(HEAD + code)
    run = {"entrypoint": "lab:main", "parameters": parameters, "checkpoint": {"every": 0}}
    publish(workspace(tmp_path), planned(tmp_path, yaml.safe_dump({"name": "lab", "run": run})))
    return orders(workspace(tmp_path), "lab")["lab-0001"]


def report(attempt: Attempt) -> ErrorReport:
    return msgspec.json.decode((attempt.folder / "error.json").read_bytes(), type=ErrorReport)


def weights(run: Run) -> str:
    return read_manifest(checkpoints(run.checkpoints)[-1]).files["model.safetensors"].sha256


def test_a_job_knows_what_it_is(tmp_path: Path) -> None:
    code = """
def main(ctx):
    seen = {key: os.environ[key] for key in os.environ if key.startswith("TERRY_") or key == "CUDA_VISIBLE_DEVICES"}
    ctx.finish({"environment": seen, "device": ctx.device, "threads": ctx.threads, "rate": ctx.parameters["rate"],
                "file": __file__, "dir": str(ctx.run_dir)})
    print("done")
"""
    attempt = start(job(tmp_path, code, rate=0.5))
    assert attempt.wait() == 0
    result = json.loads(attempt.run.result.read_bytes())
    run = str(workspace(tmp_path).run("lab-0001").root)
    assert result["environment"] == {
        "TERRY_JOB_ID": "lab-0001",
        "TERRY_SWEEP": "lab",
        "TERRY_ATTEMPT": "1",
        "TERRY_RUN_DIR": run,
        "CUDA_VISIBLE_DEVICES": "",
    }
    assert (result["device"], result["threads"], result["rate"], result["dir"]) == ("cpu", 1, 0.5, run)
    assert result["file"] == f"{run}/source/lab.py", "it runs the copy, not what the author edits meanwhile"
    assert (attempt.folder / "stdout.log").read_text() == "done\n"


def test_the_code_is_that_of_submission(tmp_path: Path) -> None:
    order = job(tmp_path, "def main(ctx):\n    ctx.finish({'edition': 1})\n")
    (tmp_path / "lab.py").write_text("def main(ctx):\n    ctx.finish({'edition': 2})\n")
    attempt = start(order)
    assert attempt.wait() == 0
    assert json.loads(attempt.run.result.read_bytes())["edition"] == 1


def test_no_edit_after_submission_reaches_a_job_be_it_imported_late_read_or_installed_for_editing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.syspath_prepend(str(elsewhere))
    package, tools = tmp_path / "speech", elsewhere / "sound_tools"
    files = {
        package / "__init__.py": "",
        package / "run.py": (
            "import importlib, pathlib\nimport sound_tools\n"
            "def main(ctx):\n"
            "    late = importlib.import_module('speech.cells.' + ctx.parameters['cell'])\n"
            "    words = pathlib.Path(__file__).with_name('words') / 'stop.txt'\n"
            "    ctx.finish({'seen': [late.EDITION, words.read_text(), sound_tools.EDITION]})\n"
        ),
        package / "cells" / "lstm.py": "EDITION = 'first'",
        package / "words" / "stop.txt": "first",
        tools / "__init__.py": "EDITION = 'first'",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run = {"entrypoint": "speech.run:main", "parameters": {"cell": "lstm"}}
    publish(workspace(tmp_path), planned(tmp_path, yaml.safe_dump({"name": "lab", "run": run})))
    for path, text in files.items():
        path.write_text(text.replace("first", "second").replace("def main", "def gone"))
    (package / "cells" / "lstm.py").unlink()
    attempt = start(orders(workspace(tmp_path), "lab")["lab-0001"])
    assert attempt.wait() == 0, (attempt.folder / "stderr.log").read_text()
    assert json.loads(attempt.run.result.read_bytes())["seen"] == ["first"] * 3


def test_spec_says_what_the_run_is_made_of_and_is_written_once(tmp_path: Path) -> None:
    order = job(tmp_path, "def main(ctx):\n    pass\n", rate=1)
    attempt = start(order)
    assert attempt.wait() == 0
    spec = yaml.safe_load(attempt.run.spec.read_text())
    assert spec["config"]["parameters"] == {"rate": 1}
    assert len(spec["hashes"]["terry"]) == len(spec["hashes"]["source"]) == len(spec["hashes"]["identity"]) == 64
    assert spec["versions"]["torch"] == torch.__version__
    assert spec["versions"]["ray"] == importlib.metadata.version("ray")
    before = attempt.run.spec.stat()
    assert start(order, 2).wait() == 0
    assert attempt.run.spec.stat().st_ino == before.st_ino


_ENDS = [
    ("raise ValueError('no\\nluck')", EndReason.EXCEPTION, "ValueError: no luck", 1),
    ("raise MemoryError", EndReason.HOST_OUT_OF_MEMORY, "MemoryError", 1),
    ("import torch; raise torch.OutOfMemoryError('CUDA out of memory')", EndReason.DEVICE_OUT_OF_MEMORY, "CUDA", 1),
    ("raise RuntimeError('cuBLAS: CUBLAS_STATUS_ALLOC_FAILED')", EndReason.DEVICE_OUT_OF_MEMORY, "CUBLAS", 1),
    ("import torch; torch.empty(1 << 50)", EndReason.HOST_OUT_OF_MEMORY, "can't allocate memory", 1),
    ("raise OSError(errno.ENOSPC, 'No space left on device')", EndReason.DISK_FULL, "No space left", 74),
    ("raise OSError(errno.EDQUOT, 'Disk quota exceeded')", EndReason.DISK_FULL, "quota", 74),
    ("raise OSError(errno.EIO, 'Input/output error')", EndReason.DISK_LOST, "Input/output", 72),
    ("raise OSError(errno.ESTALE, 'Stale file handle')", EndReason.DISK_LOST, "Stale", 72),
    ("raise OSError(errno.ETIMEDOUT, 'timed out', '/nfs/a')", EndReason.DISK_LOST, "/nfs/a", 72),
    ("raise OSError(errno.ETIMEDOUT, 'timed out')", EndReason.EXCEPTION, "timed out", 1),
    ("raise FloatingPointError('loss')", EndReason.NOT_FINITE, "loss", 1),
    ("from terry.data_prep.errors import DataError; raise DataError('empty')", EndReason.BAD_INPUT, "empty", 1),
    ("from terry.models.errors import ConfigError; raise ConfigError('bad')", EndReason.BAD_INPUT, "bad", 1),
    ("from terry.cluster.errors import UserError; raise UserError('bad')", EndReason.BAD_INPUT, "bad", 1),
    ("sys.exit('no more')", EndReason.EXCEPTION, "sys.exit('no more')", 1),
    ("raise type('PanicException', (BaseException,), {})('lost')", EndReason.EXCEPTION, "PanicException: lost", 1),
    ("raise KeyboardInterrupt", EndReason.EXCEPTION, "KeyboardInterrupt", 1),
    ("import nothing_of_that_name", EndReason.EXCEPTION, "nothing_of_that_name", 1),
    ("from terry.jobs.process.context import LaunchError; raise LaunchError('gpu')", EndReason.LAUNCH_ERROR, "gpu", 1),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason", "message", "code"), _ENDS)
def test_every_error_is_named(tmp_path: Path, line: str, reason: EndReason, message: str, code: int) -> None:
    attempt = start(job(tmp_path, f"def main(ctx):\n    {line}\n"))
    assert attempt.wait() == code
    told = report(attempt)
    assert told.reason is reason
    assert message in told.message
    assert "\n" not in told.message
    assert "lab.py" in told.traceback
    assert not told.first_step_done
    assert "Traceback" in (attempt.folder / "stderr.log").read_text()


def test_an_error_after_a_step_says_so(tmp_path: Path) -> None:
    attempt = start(job(tmp_path, "def main(ctx):\n    ctx.log(7, loss=1.0)\n    raise ValueError('x')\n"))
    assert attempt.wait() == 1
    assert (report(attempt).step, report(attempt).first_step_done) == (7, True)


def test_a_crash_leaves_the_stacks_of_all_threads(tmp_path: Path) -> None:
    code = """
import threading
def main(ctx):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    in_trouble()
def in_trouble():
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)
"""
    attempt = start(job(tmp_path, code))
    assert attempt.wait() == -signal.SIGSEGV
    crash = (attempt.folder / "crash.txt").read_text()
    assert "Segmentation fault" in crash
    assert "in in_trouble" in crash
    assert crash.count("hread 0x") == 2


def test_what_was_printed_before_a_crash_is_there(tmp_path: Path) -> None:
    code = """
def main(ctx):
    print("nearly there")
    print("trouble ahead", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    attempt = start(job(tmp_path, code))
    assert attempt.wait() == -signal.SIGKILL
    assert (attempt.folder / "stdout.log").read_text() == "nearly there\n"
    assert (attempt.folder / "stderr.log").read_text() == "trouble ahead\n"


def test_own_code_runs_where_its_sweep_file_is(tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("1 2 3")
    attempt = start(job(tmp_path, "def main(ctx):\n    ctx.finish({'text': open('numbers.txt').read()})\n"))
    assert attempt.wait() == 0
    assert json.loads(attempt.run.result.read_bytes())["text"] == "1 2 3"


def test_leaving_by_sys_exit_without_an_error_is_the_end(tmp_path: Path) -> None:
    attempt = start(job(tmp_path, "def main(ctx):\n    ctx.finish({'x': 1})\n    sys.exit(0)\n"))
    assert attempt.wait() == 0


def test_an_entry_point_that_cannot_be_called(tmp_path: Path) -> None:
    order = job(tmp_path, "main = 5\n")
    attempt = start(order)
    assert attempt.wait() == 1
    assert "not callable" in report(attempt).message


COUNT = """
import torch
def main(ctx):
    checkpoint = ctx.load_checkpoint()
    step = checkpoint.step if checkpoint else 0
    random = torch.Generator().manual_seed(1)
    weights = {"w": torch.zeros(50)}
    if checkpoint:
        weights = checkpoint.model
        random.set_state(checkpoint.optimizer["random"])
        assert checkpoint.state == {"about": step}
    while step < ctx.parameters["steps"]:
        step += 1
        weights["w"] = weights["w"] * 0.99 + torch.randn(50, generator=random)
        ctx.log(step, loss=float(weights["w"][0]))
        ctx.progress(step=step, total_steps=ctx.parameters["steps"], phase=str(step))
        if step % 20 == 0 or ctx.should_stop():
            ctx.save_checkpoint(step, weights, optimizer={"random": random.get_state()}, state={"about": step})
        if ctx.should_stop():
            ctx.leave()
        time.sleep(0.002)
    ctx.finish({"w": float(weights["w"].sum())})
"""


@pytest.mark.parametrize("kills", [(1, 45), (25, 60, 61, 99), (90, 91, 92)])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_killed_it_ends_with_the_same_weights_and_metrics(tmp_path: Path, kills: tuple[int, ...], number: int) -> None:
    alone, hurt = tmp_path / "alone", tmp_path / "hurt"
    alone.mkdir(), hurt.mkdir()
    undisturbed = start(job(alone, COUNT, steps=100))
    assert undisturbed.wait() == 0
    order = job(hurt, COUNT, steps=100)
    for i, step in enumerate(kills, 1):
        attempt = start(order, i)
        attempt.kill_at(step, number)
        assert attempt.wait() == (75 if number == signal.SIGTERM else -number)
    last = start(order, len(kills) + 1)
    assert last.wait() == 0
    results = [json.loads(a.run.result.read_bytes()) for a in (undisturbed, last)]
    assert results[0]["w"] == results[1]["w"]
    assert weights(undisturbed.run) == weights(last.run)
    series = [
        [{k: v for k, v in row.items() if k != "time"} for row in read_series(a.run)] for a in (undisturbed, last)
    ]
    assert series[0] == series[1]
    assert [row["step"] for row in series[0]] == list(range(1, 101))


def test_a_training_of_ones_own_tells_the_pace_of_its_steps(tmp_path: Path) -> None:
    """So that the dashboard knows when it will end."""
    code = """
def main(ctx):
    for step in range(1, 8):
        time.sleep(0.25)
        ctx.log(step, loss=1.0)
        ctx.progress(step=step, total_steps=7)
    ctx.finish()
"""
    attempt = start(job(tmp_path, code))
    paces = [said["steps_per_s"] for said in attempt.progress() if said.get("steps_per_s")]
    assert attempt.wait() == 0
    assert paces
    assert 0 < paces[-1] <= 4.0


def test_a_stop_loses_no_step(tmp_path: Path) -> None:
    order = job(tmp_path, COUNT, steps=100)
    first = start(order)
    first.kill_at(33, signal.SIGTERM)
    assert first.wait() == 75
    reached = read_manifest(checkpoints(first.run.checkpoints)[-1]).step
    assert reached >= 33
    second = start(order, 2)
    steps = [said["step"] for said in second.progress() if said.get("phase")]
    assert second.wait() == 0
    assert min(steps) == reached + 1


def test_from_scratch_ignores_what_earlier_attempts_left(tmp_path: Path) -> None:
    order = job(tmp_path, COUNT, steps=40)
    assert start(order).wait() == 0
    again = start(order, 2, first_attempt=2)
    steps = [said["step"] for said in again.progress() if said.get("phase")]
    assert again.wait() == 0
    assert min(steps) == 1


def test_a_stop_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    code = "def main(ctx):\n    os.kill(os.getpid(), signal.SIGTERM)\n    ctx.should_stop()\n    ctx.finish()\n"
    assert start(job(tmp_path, code)).wait() == 0


def test_code_that_returns_early_when_it_is_asked_to_stop_has_not_finished(tmp_path: Path) -> None:
    code = "def main(ctx):\n    os.kill(os.getpid(), signal.SIGTERM)\n    while not ctx.should_stop():\n        pass\n"
    attempt = start(job(tmp_path, code))
    assert attempt.wait() == 75
    assert not attempt.run.result.exists()


def test_code_that_returns_without_finishing_is_done_and_leaves_a_result(tmp_path: Path) -> None:
    attempt = start(job(tmp_path, "def main(ctx):\n    ctx.log(7, loss=0.5)\n"))
    assert attempt.wait() == 0
    assert json.loads(attempt.run.result.read_bytes())["step"] == 7


def test_an_interrupt_from_the_terminal_is_for_others(tmp_path: Path) -> None:
    code = "def main(ctx):\n    os.kill(os.getpid(), signal.SIGINT)\n    ctx.finish()\n"
    assert start(job(tmp_path, code)).wait() == 0


def test_progress_never_waits_for_a_reader(tmp_path: Path) -> None:
    code = """
def main(ctx):
    for step in range(20000):
        ctx.progress(step=step, phase=f"phase {step} " + "x" * 100)
    ctx.finish()
"""
    attempt = start(job(tmp_path, code))
    assert attempt.leave() == 0  # nobody reads the pipe meanwhile


def test_progress_is_told_a_few_times_a_second(tmp_path: Path) -> None:
    code = """
def main(ctx):
    end = time.monotonic() + 0.7
    step = 0
    while time.monotonic() < end:
        step += 1
        ctx.log(step, loss=0.5, other=2)
    ctx.finish()
"""
    attempt = start(job(tmp_path, code))
    assert attempt.wait() == 0
    assert 2 <= len(attempt.said) <= 7
    assert attempt.said[-1]["loss"] == 0.5
    assert attempt.said[-1]["step"] == read_series(attempt.run)[-1]["step"], "the last word is about the last step"
    assert "other" not in attempt.said[-1]
    assert len(read_series(attempt.run)) > 100, "all of them are in the metrics"


def test_a_full_disk_when_the_last_checkpoint_is_written_is_told(tmp_path: Path) -> None:
    code = """
import torch
from terry.cluster.files import durable
def main(ctx):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")
    durable.publish_folder = full
    ctx.save_checkpoint(1, {"w": torch.zeros(3)})
    ctx.leave()
"""
    attempt = start(job(tmp_path, code))
    assert attempt.wait() == 74
    assert report(attempt).reason is EndReason.DISK_FULL
    assert checkpoints(attempt.run.checkpoints) == []


def test_an_order_cannot_lead_out_of_the_workspace(tmp_path: Path) -> None:
    order = job(tmp_path, "def main(ctx):\n    ctx.finish()\n")
    attempt = start(order, spec_path="../lab.py")
    assert attempt.wait() == 1
    assert "outside the workspace" in report(attempt).message
