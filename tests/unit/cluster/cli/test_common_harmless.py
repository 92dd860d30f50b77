"""A job's words are data: whatever a job, a file or a person has written, no view hands it to the terminal as it is."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pexpect
import pytest

from terry.cluster.api import Workspace
from terry.cluster.cli.common import harmless, json_text
from terry.cluster.core.model import AttemptEnd, EndReason
from terry.cluster.files import durable, inbox
from terry.cluster.lifecycle.overview import Condition, NodeView
from terry.jobs.submitting.submission import SubmitOptions, prepare_submission, publish
from terry.logs.dashboard.frame import Size, draw
from terry.logs.dashboard.screen import Mode, Screen
from terry.logs.text.nodes import node_lines
from terry.logs.text.status import device_lines, status_lines
from terry.logs.view.view import View
from tests.helpers import views
from tests.helpers.world import World
from tests.unit.cluster.conftest import Terry

#: The clipboard, the title, a cleared screen, text turned round, a C1 control, a line that overwrites itself.
STEERING = "\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b[2J\u202etxt.exe\u2066\x9b2J\x7f\rover"

LONG = "x" * 5_000_000


def assert_harmless(text: str, longest: int = 20_000) -> None:
    """Nothing but lines of what can be printed, none of them endless."""
    for line in text.split("\n"):
        assert line.isprintable(), ascii(line[:400])
        assert len(line) < longest, f"{len(line):,} characters in one line"


@pytest.fixture
def steered(world: World) -> World:
    """A sweep whose author, settings, logs, errors, results and device all say what would steer a terminal."""
    sweep = world.folder / "cells.yaml"
    run = {"entrypoint": "whaling:main", "resources": {"cpus": 1}, "parameters": {"word": "plain"}}
    grid = {"grid": {"parameters.word": ["plain", STEERING, "third"]}}
    sweep.write_text(json.dumps({"name": "cells", "run": run, "sweep": grid}))
    (world.folder / "whaling.py").write_text("def main(ctx): ...\n")
    planned = prepare_submission(world.workspace, sweep, (), SubmitOptions(), world.clock.now(), f"ahab{STEERING}")
    publish(world.workspace, planned)
    world.turn(times=3)
    for job_id in ("cells-0001", "cells-0002"):
        world.measure(job_id, 10, 100, start=-1)
        folder = world.workspace.run(job_id).attempt(1)
        folder.stdout.write_bytes(f"out {STEERING}\n".encode())
        folder.stderr.write_text(f"warning: {STEERING}\n{STEERING}\n")
    result = {"job": "cells-0001", "attempt": 1, "step": 9, "loss": 2.0, "said": STEERING, STEERING: 1.0}
    durable.write_json(world.workspace.run("cells-0001").result, result)
    world.end("cells-0001", AttemptEnd(reason=EndReason.SUCCESS, exit_code=0, step=9, first_step_done=True))
    error = {"reason": "exception", "message": STEERING, "traceback": f"Traceback\n{STEERING}\nValueError: {LONG}"}
    world.workspace.run("cells-0002").attempt(1).error.write_text(json.dumps(error))
    message = f"ValueError: {STEERING} {LONG}"
    world.end("cells-0002", AttemptEnd(reason=EndReason.EXCEPTION, exit_code=1, message=message))
    inbox.send(world.workspace, inbox.Drain(device="seawolf:cpu", reason=f"noisy {STEERING}"))
    world.turn(times=3)
    return world


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--all"),
        ("status", "--json"),
        ("explain", "cells-0001"),
        ("explain", "cells-0002"),
        ("results", "--each"),
        ("results", "--json"),
        ("compare", "--each", "cells"),
        ("compare", "--each", "cells", "--json"),
        ("plot", "cells"),
        ("nodes",),
        ("nodes", "--json"),
        ("doctor",),
        ("cancel", f"no{STEERING}"),
        ("wait", "cells-0001", "cells-0002"),
        ("logs", "cells-0002", "--json"),
        ("submit", "cells.yaml", "--dry-run"),
    ],
    ids=" ".join,
)
def test_no_verb_hands_it_on(terry: Terry, steered: World, arguments: tuple[str, ...]) -> None:
    said = terry(*arguments)
    assert_harmless(said.err)
    if "--json" in arguments:  # a document is not shortened
        assert_harmless(said.out, longest=2 * len(LONG))
        assert said.json is not None
    else:
        assert_harmless(said.out)


def test_json_says_it_all_the_same(terry: Terry, steered: World) -> None:
    """It is escaped, not changed."""
    assert terry("logs", "cells-0001", "--json").json[0]["text"] == f"out {STEERING}\n"
    assert json.loads(json_text(STEERING + "naïve 🐳\U000e0041")) == STEERING + "naïve 🐳\U000e0041"
    assert "naïve 🐳" in json_text("naïve 🐳")


def test_a_notebook_does_not_hand_it_on(steered: World) -> None:
    lab = Workspace.open(steered.workspace.root)
    assert_harmless(repr(lab.jobs()))
    assert_harmless(lab.explain("cells-0002"))
    said: list[str] = []
    lab.wait("cells-0001", "cells-0002", timeout_s=30.0, notify=said.append)
    for line in said:
        assert_harmless(line)


def test_following_does_not_hand_it_on(steered: World) -> None:
    """What happens while somebody waits."""
    from terry.cluster.client.following import Follower

    said: list[str] = []
    follower = Follower(said.append)
    follower.notify([])
    follower.notify(list(steered.controller.state.jobs.values()))
    assert any("cells-0002" in line for line in said)
    for line in said:
        assert_harmless(line)


def _in_every_text(value: Any) -> Any:
    """The value with what steers in each of its texts."""
    if type(value) is str:
        return f"{value}{STEERING}"
    if isinstance(value, tuple):
        made = [_in_every_text(each) for each in value]
        return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    if isinstance(value, dict):
        return {key: _in_every_text(each) for key, each in value.items()}
    if isinstance(value, msgspec.Struct):
        fields = value.__struct_fields__
        return msgspec.structs.replace(value, **{name: _in_every_text(getattr(value, name)) for name in fields})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: _in_every_text(getattr(value, name)) for name in fields})
    return value


@pytest.mark.parametrize("mode", [Mode.LIST, Mode.PAGE, Mode.HELP, Mode.FILTER])
@pytest.mark.parametrize("terminal", [Size(80, 24), Size(200, 60)], ids=["small", "large"])
def test_the_dashboard_shows_it(mode: Mode, terminal: Size) -> None:
    view: View = _in_every_text(views.view())
    screen = dataclasses.replace(Screen(), mode=mode, message=STEERING, typed=STEERING, filter=STEERING)
    frame = draw(view, screen, view.jobs, terminal)
    assert len(frame) == terminal.height
    for line in frame:
        assert_harmless(line.plain)


def test_tables_show_it() -> None:
    view: View = _in_every_text(views.view())
    node = NodeView(name="quattro", host=STEERING, condition=Condition.UNFIT, problem=STEERING, fix=STEERING)
    for line in [*status_lines(view, view.jobs), *device_lines(view.devices), *node_lines([node])]:
        assert_harmless(line)


def test_our_colours_reach_the_terminal_and_nothing_else() -> None:
    assert harmless("\x1b[31mred\x1b[0m") == "\x1b[31mred\x1b[0m"
    assert harmless("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\nc\\u202ed"


def _on_a_terminal(world: World, *arguments: str) -> bytes:
    clean = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    command = ["-m", "terry.cluster.cli.main", "-w", str(world.workspace.root), *arguments]
    child = pexpect.spawn(sys.executable, command, env={**clean, "TERM": "xterm-256color"}, timeout=90)
    said = bytes(child.read())
    child.close()
    return said


def test_logs_on_a_terminal_and_in_a_pipe(terry: Terry, steered: World) -> None:
    """A terminal gets colours and progress bars; a pipe all that the job has printed, to the letter."""
    log = steered.workspace.run("cells-0001").attempt(1).stdout
    log.write_bytes(f"{STEERING}\n\x1b[32mINFO\x1b[0m 50%\r100%\tnaïve\n".encode())
    assert log.read_bytes().decode() in terry("logs", "cells-0001").out
    shown = _on_a_terminal(steered, "logs", "cells-0001")
    assert b"\x1b[32mINFO\x1b[0m 50%\r100%\tna\xc3\xafve" in shown
    for sequence in (b"\x1b]", b"\x1b[2J", b"\x07", "\u202e".encode(), "\x9b".encode(), b"\x7f"):
        assert sequence not in shown


def test_a_runs_own_figures_never_stand_for_what_it_is(terry: Terry, world: World) -> None:
    """Keys of a result called like columns stand beside them."""
    world.submit("cells", 1)
    world.turn(times=3)
    own = {"id": "mine", "state": "great", "seconds": -1.0, "sweep": "s", "attempts": 99, "end_reason": "luck"}
    durable.write_json(world.workspace.run("cells-0001").result, {**own, "step": 3, "loss": 2.0})
    world.end("cells-0001", AttemptEnd(reason=EndReason.SUCCESS, exit_code=0, step=3, first_step_done=True))
    (row,) = terry("results", "--each", "--json").json
    assert (row["id"], row["state"], row["sweep"], row["attempts"]) == ("cells-0001", "completed", "cells", 1)
    assert row["seconds"] >= 0
    assert {key: row[f"result.{key}"] for key in own} == own
    (line,) = csv.DictReader(io.StringIO(terry("results", "--each", "--format", "csv").out))
    assert (line["id"], line["result.id"]) == ("cells-0001", "mine")


@pytest.mark.parametrize("text", ["=1+2", "+1", "-x", "@SUM(A1)", "\tcell", "\rcell"])
def test_a_cell_is_no_formula(terry: Terry, world: World, tmp_path: Path, text: str) -> None:
    """Neither a value nor a column's name; numbers stay numbers."""
    world.submit("cells", 1)
    world.turn(times=3)
    durable.write_json(world.workspace.run("cells-0001").result, {"step": 3, "loss": -2.5, "said": text, text: 1.0})
    world.end("cells-0001", AttemptEnd(reason=EndReason.SUCCESS, exit_code=0, step=3, first_step_done=True))
    terry("results", "--each", "-o", "r.csv")
    with (tmp_path / "r.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["said"] == f"'{text}"
    assert f"'{text}" in row
    assert row["loss"] == "-2.5"
