"""People's own training functions: what they hand over, and how they end."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terry.cluster.core.model import EndReason
from terry.cluster.errors import UserError
from terry.jobs.submitting.submission import publish
from terry.logs.records.metrics import read_series
from terry.logs.records.results import read_result
from tests.helpers.job_processes import Attempt, orders, start
from tests.helpers.sweep_files import BASE, planned, workspace
from tests.unit.jobs.process.test_child import job, report
from tests.unit.logs.records.test_values import same, values


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run(tmp_path: Path, code: str, **parameters: Any) -> Attempt:
    return start(
        job(tmp_path, "def main(ctx):\n" + "".join(f"    {line}\n" for line in code.splitlines()), **parameters)
    )


def stderr(attempt: Attempt) -> str:
    return (attempt.folder / "stderr.log").read_text()


# values


def test_numbers_of_any_kind_are_logged_and_handed_in(tmp_path: Path) -> None:
    attempt = run(
        tmp_path,
        "import numpy as np, torch\n"
        "ctx.log(np.int64(1), loss=np.mean([1, 2]), rate=torch.tensor(0.5, requires_grad=True), big=2**62, on=True)\n"
        "ctx.log(2, loss=float('inf'), rate=float('nan'))\n"
        "ctx.finish({'loss': np.float32(0.1), 'best': float('inf'), 'bits': 1 << 200, 'table': np.eye(2),\n"
        "            'nested': {1: (2, [torch.tensor(3.5)])}, 'name': '\\ud800', 'step': np.int64(2)})",
    )
    assert attempt.wait() == 0, stderr(attempt)
    rows = [{key: value for key, value in row.items() if key != "time"} for row in read_series(attempt.run)]
    assert rows[0] == {"step": 1, "loss": 1.5, "rate": 0.5, "big": 2**62, "on": 1}
    assert rows[1]["loss"] == math.inf
    assert math.isnan(rows[1]["rate"])
    result = read_result(attempt.run)
    assert result["table"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert result["loss"] == pytest.approx(0.1, rel=1e-7)
    assert result["loss"] != 0.1, "it is the number of 32 bits that was handed in"
    assert result["nested"] == {1: (2, [3.5])}
    assert (result["best"], result["bits"], result["name"], result["step"]) == (math.inf, 1 << 200, "\ud800", 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("ctx.log(1, loss='low')", "loss must be a number, not str 'low'"),
        ("ctx.log(1.5, loss=1)", "step must be a whole number of 0 or more, not float 1.5"),
        ("ctx.log(1, loss=10**400)", "loss is a whole number of 1329 bits"),
        ("ctx.log(1, start=5)", "log: 'start' is a name that each line has of its own"),
        ("ctx.log(1, time=5)", "log: 'time' is a name"),
        ("ctx.log(1, **{'step': 5})", "log: 'step' is a name"),
        ("ctx.log(1, **{'a\\nb': 5})", "log: 'a\\nb' is no name"),
        ("ctx.progress(accuracy=1)", "progress has no field 'accuracy'"),
        ("ctx.progress(step=-1)", "step must be a whole number"),
        ("ctx.finish({'model': object()})", "model must be numbers"),
        ("ctx.finish([1])", "finish: the result must be a mapping"),
        ("ctx.finish({1: 2})", "finish: a name must be text that can be printed, not 1"),
        ("ctx.save_checkpoint(1, {'w': torch.zeros(1, device='meta')})", "model['w'] is a tensor that cannot be kept"),
        ("ctx.save_checkpoint(1, {}, state={'seen': {1, 2}})", "state['seen'] must be numbers"),
        ("ctx.save_checkpoint(1, {}, optimizer={'w': torch.eye(2).to_sparse_csr()})", "optimizer['w'] is a tensor"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_that_very_call(tmp_path: Path, call: str, message: str) -> None:
    attempt = run(tmp_path, f"import torch\n{call}\nprint('too far')")
    assert attempt.wait() == 1
    assert message in report(attempt).message
    assert (attempt.folder / "stdout.log").read_text() == ""


def test_names_that_the_result_has_of_its_own_are_kept_apart(tmp_path: Path) -> None:
    attempt = run(tmp_path, "ctx.finish({'job': 'mine', 'attempt': 7, 'step': 'last', 'loss': 1})")
    assert attempt.wait() == 0
    result = read_result(attempt.run)
    assert (result["job"], result["result.job"]) == ("lab-0001", "mine")
    assert (result["attempt"], result["result.attempt"], result["result.step"]) == (1, 7, "last")


def test_parameters_are_what_the_file_says(tmp_path: Path) -> None:
    given = {"big": (1 << 64) - 1, "$float": "x", "deep": [{"$map": 1}], "rate": 1e-4, "tag": {"$tuple": [1]}}
    attempt = run(tmp_path, "ctx.finish({'seen': repr(sorted(ctx.parameters.items()))})", **given)
    assert attempt.wait() == 0, stderr(attempt)
    assert read_result(attempt.run)["seen"] == repr(sorted(given.items()))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1, math.inf]])
def test_a_parameter_that_no_file_holds_is_refused_with_its_key(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UserError, match=r"run\.parameters\.best"):
        job(tmp_path, "def main(ctx): ...\n", best=value)


_RESUMED = """
import numpy, random, torch
def pieces():
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {"best": float("inf"), 3: (1, "\\ud800"), "python": random.Random(1).getstate(),
             "numpy": numpy.random.default_rng(1).bit_generator.state, "old": numpy.random.RandomState(2).get_state(),
             "sparse": torch.eye(3).to_sparse(), "point": torch.tensor(2.5, dtype=torch.float64),
             "table": numpy.arange(6, dtype=numpy.int16).reshape(2, 3), "complex": torch.tensor([1 + 2j])}
    return model.state_dict(), optimizer.state_dict(), state

def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.layout == b.layout and torch.equal(a.to_dense(), b.to_dense())
    if isinstance(a, numpy.ndarray):
        return a.dtype == b.dtype and numpy.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and set(a) == set(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b

def main(ctx):
    found = ctx.load_checkpoint()
    model, optimizer, state = pieces()
    if found is None:
        ctx.save_checkpoint(5, model, optimizer=optimizer, state=state)
        state["best"] = 0  # what is changed afterwards is not what was saved
        optimizer["param_groups"].clear()
        ctx.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    kept = {"model": same(dict(model), found.model), "optimizer": same(optimizer, found.optimizer)}
    ctx.finish({"step": found.step, **kept, "state": same(state, found.state)})
"""


def test_nested_states_come_back_after_a_crash_as_they_were(tmp_path: Path) -> None:
    order = job(tmp_path, _RESUMED)
    assert start(order).wait() == -11
    second = start(order, 2)
    assert second.wait() == 0, stderr(second)
    found = {key: read_result(second.run)[key] for key in ("step", "model", "optimizer", "state")}
    assert found == {"step": 5, "model": True, "optimizer": True, "state": True}


# ends


@pytest.mark.parametrize(
    "end",
    [
        "raise RuntimeError('afterwards')",
        "raise KeyboardInterrupt",
        "sys.exit(3)",
        "import subprocess; raise subprocess.CalledProcessError(1, 'x')",
    ],
)
def test_a_result_that_was_handed_in_is_a_result(tmp_path: Path, end: str) -> None:
    attempt = run(tmp_path, f"ctx.finish({{'loss': 1}})\n{end}")
    assert attempt.wait() == 0
    assert "warning: the result was handed in before this" in stderr(attempt)
    assert not (attempt.folder / "error.json").exists()


def test_what_was_handed_in_by_an_attempt_that_was_lost_is_not_done_again(tmp_path: Path) -> None:
    order = job(tmp_path, "def main(ctx):\n    print('trained')\n    ctx.finish({'a': ctx.attempt})\n    os._exit(9)\n")
    assert start(order).wait() == 9
    second = start(order, 2)
    assert second.wait() == 0
    assert (second.folder / "stdout.log").read_text() == ""
    assert read_result(second.run)["a"] == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("return {'loss': 0.5}", {"loss": 0.5}),
        ("return 0.25", {"result": 0.25}),
        ("ctx.finish({'a': 1})\nreturn {'a': 2}", {"a": 1}),
        ("pass", {}),
        ("return object()", {}),
    ],
)
def test_what_main_returns_is_its_result(tmp_path: Path, code: str, expected: dict[str, Any]) -> None:
    attempt = run(tmp_path, code)
    assert attempt.wait() == 0
    own = {k: v for k, v in read_result(attempt.run).items() if k not in {"job", "attempt", "finished_at", "step"}}
    assert own == expected
    assert ("is not kept as its result" in stderr(attempt)) == ("object" in code)


@pytest.mark.parametrize(
    "stream", ["sys.stdout.close()", "sys.stdout = None", "sys.stderr = sys.stdout = object()", "os.close(1)"]
)
@pytest.mark.parametrize(("end", "code"), [("pass", 0), ("raise ValueError('lost')", 1)])
def test_whatever_becomes_of_its_output_its_end_is_told(tmp_path: Path, stream: str, end: str, code: int) -> None:
    attempt = run(tmp_path, f"{stream}\n{end}")
    assert attempt.wait() == code
    if code:
        assert report(attempt).message == "ValueError: lost"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("raise KeyboardInterrupt('no')", "KeyboardInterrupt: no"),
        ("import asyncio; raise asyncio.CancelledError('no')", "CancelledError: no"),
        ("class Own(BaseException): pass\nraise Own('no')", "Own: no"),
        (
            "class Mute(Exception):\n    def __str__(self): raise RuntimeError('x')\nraise Mute",
            "Mute: (its text cannot be had",
        ),
        ("raise ValueError('\\ud800')", "ValueError: \\ud800"),
    ],
)
def test_every_kind_of_exception_is_told(tmp_path: Path, end: str, message: str) -> None:
    attempt = run(tmp_path, end)
    assert attempt.wait() == 1
    found = report(attempt)
    assert found.reason is EndReason.EXCEPTION
    assert found.message.startswith(message)


def test_a_file_that_leaves_at_import_is_no_success(tmp_path: Path) -> None:
    attempt = start(job(tmp_path, "sys.exit(0)\ndef main(ctx): ...\n"))
    assert attempt.wait() == 1
    assert "importing lab called sys.exit(0)" in report(attempt).message
    assert not attempt.run.result.exists()


def test_the_result_is_json_that_everybody_reads(tmp_path: Path) -> None:
    attempt = run(tmp_path, "ctx.finish({'loss': 0.5, 'names': ['a'], 'by': {'x': 1}})")
    assert attempt.wait() == 0
    found = json.loads(attempt.run.result.read_bytes())
    assert (found["loss"], found["names"], found["by"]) == (0.5, ["a"], {"x": 1})


# code


def test_a_module_called_like_one_that_is_loaded_is_the_users_own(tmp_path: Path) -> None:
    for name in ("queue", "yaml", "statistics", "numpy"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    names = "import queue, yaml, statistics, numpy\n"
    body = "def main(ctx):\n    mine = [m.MINE for m in (queue, yaml, statistics, numpy)]\n"
    body += "    ctx.log(1, loss=True)\n    ctx.finish({'mine': mine, 'argv': sys.argv})\n"
    attempt = start(job(tmp_path, names + body))
    assert attempt.wait() == 0, stderr(attempt)
    result = read_result(attempt.run)
    assert result["mine"] == [True] * 4
    assert result["argv"] == [f"{attempt.run.source}/lab.py"]


# any value, through it all

_ANY = """
import numpy as np, torch
def main(ctx):
    with open(ctx.parameters["file"]) as file:
        given = eval(file.read(), {"nan": float("nan"), "inf": float("inf"), "np": np, "torch": torch,
                                   "tensor": torch.tensor})
    found, kept, refused = ctx.load_checkpoint(), {}, []
    if found is None:
        for name, value in given.items():
            try:
                ctx.save_checkpoint(1, {}, state={name: value})
                kept[name] = value
            except TypeError as error:
                assert name in str(error), str(error)
                refused.append(name)
        ctx.save_checkpoint(2, {}, state=kept)
        ctx.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    ctx.finish(found.state)
"""


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(values | st.sampled_from([1j, {1, 2}, b"x", 10**400, {"a": {2: {3}}}]), min_size=5, max_size=40))
def test_any_value_comes_through_a_crash_to_the_results_or_was_refused_by_name(given: list[Any]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="terry-any-"))
    named = {f"value_{number}": value for number, value in enumerate(given)}
    (folder / "values").write_text(repr(named))
    order = job(folder, _ANY, file=str(folder / "values"))
    assert start(order).wait() == -11
    second = start(order, 2)
    assert second.wait() == 0, stderr(second)
    result = read_result(second.run)
    for name, value in named.items():
        assert (name in result) == is_kept(value), name
        assert name not in result or same(value, result[name]), name


def is_kept(value: Any) -> bool:
    """Sets and complex numbers have no place in JSON; all else of these values has."""
    if isinstance(value, dict):
        return all(map(is_kept, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_kept, value))
    return not isinstance(value, (set, complex))


def test_a_folder_of_its_own_lasts_over_all_attempts(tmp_path: Path) -> None:
    code = "from pathlib import Path\n\ndef main(ctx):\n    file = Path('notes.txt')\n"
    code += (
        "    file.write_text((file.read_text() if file.exists() else '') + f'{ctx.attempt} ')\n    print(Path.cwd())\n"
    )
    (tmp_path / "writer.py").write_text(code)
    run_settings = {"entrypoint": "writer:main", "working_folder": "run"}
    submission = planned(tmp_path, json.dumps({"name": "own", "run": run_settings}))
    assert submission.lines[0].job.resources.at_home, "what it writes there stays where the workspace is seen"
    publish(workspace(tmp_path), submission)
    given = orders(workspace(tmp_path), "own")["own-0001"]
    for number in (1, 2):
        attempt = start(given, number)
        assert attempt.wait() == 0, stderr(attempt)
        attempt.run.result.unlink()
    assert (attempt.folder / "stdout.log").read_text() == f"{attempt.run.root / 'work'}\n"
    assert (attempt.run.root / "work" / "notes.txt").read_text() == "1 2 "
    assert not (tmp_path / "notes.txt").exists()


def test_a_folder_of_its_own_is_for_code_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="working_folder goes with"):
        planned(tmp_path, BASE.replace("run:\n", "run:\n  working_folder: run\n"))
