"""`explain`, `logs`, `wait`, `watch` in lines, and what is asked of jobs and devices."""

from __future__ import annotations

import threading

import pytest

from terry.cluster.core.model import JobState
from tests.helpers.world import World, busy
from tests.unit.cluster.conftest import Terry

# explain


def test_explain_names_signal_stack_and_what_was_done(terry: Terry, world: World) -> None:
    """The evidence, and no other thread's stack."""
    busy(world)
    told = terry("explain", "cells-0002").out
    for words in (
        "crashed: SIGSEGV in backward (models/embedding.py:88), at step 412, last checkpoint at step 400",
        "Fatal Python error: Segmentation fault",
        'File "/opt/terry/models/embedding.py", line 88 in backward',
        "True fact: whales are mammals",
        "memory at most 300 MiB",
        "then: goes on from step 400",
        "advice:",
        "attempt 2 on",
    ):
        assert words in told
    assert "threading.py" not in told
    document = terry("explain", "cells-0002", "--json").json
    assert document["attempts"][0]["attempt"]["end"]["signal"] == 11


def test_explain_shows_the_traceback_of_a_bug(terry: Terry, world: World) -> None:
    """And how to try again."""
    busy(world)
    told = terry("explain", "cells-0003").out
    assert "ValueError: no such optimizer" in told
    assert "terry-cluster resubmit cells-0003" in told


# asking


@pytest.mark.parametrize(
    ("verb", "job_id", "state"),
    [
        ("cancel", "cells-0004", JobState.CANCELLED),
        ("pause", "cells-0004", JobState.HELD),
        ("resubmit", "cells-0003", JobState.PENDING),
    ],
)
def test_what_is_asked_is_done(terry: Terry, world: World, verb: str, job_id: str, state: JobState) -> None:
    """By the controller, from the file that the command line wrote."""
    busy(world)
    said = terry(verb, job_id)
    assert said.code == 0
    assert f"asked to {verb} 1 job: {job_id}" in said.out
    for _ in range(20):
        world.turn()
        if world.record(job_id).state is not JobState.STOPPING:
            break
    expected = {state, JobState.RUNNING, JobState.STARTING} if verb == "resubmit" else {state}
    assert world.record(job_id).state in expected


def test_pause_and_resume(terry: Terry, world: World) -> None:
    """A held job goes on."""
    world.submit("cells", 1, hold=True)
    world.turn()
    assert world.record("cells-0001").state is JobState.HELD
    terry("resume", "cells")
    world.turn(times=3)
    assert world.record("cells-0001").state is JobState.RUNNING


def test_what_does_not_fit_is_not_asked(terry: Terry, world: World) -> None:
    """A finished job cannot be cancelled; the others of the sweep are."""
    busy(world)
    assert "nothing to cancel; 1 job is ended already" in terry("cancel", "cells-0001").out
    document = terry("cancel", "cells", "--json").json
    assert document["unfitting"] == 2
    assert "cells-0001" not in document["jobs"]


def test_drain_and_undrain(terry: Terry, world: World) -> None:
    """A device takes no jobs, says why, and takes jobs again."""
    world.turn(times=2)
    assert terry("drain", "seawolf:cpu", "--reason", "fan is noisy").code == 0
    world.turn()
    assert "drained (fan is noisy)" in terry("nodes").out
    assert "did you mean 'seawolf:cpu'" in terry("drain", "seawolf:cpo").err
    terry("undrain", "seawolf:cpu")
    world.turn()
    assert [d["condition"] for d in terry("nodes", "--json").json] == ["online"]


# logs


def write_log(world: World, job_id: str, attempt: int, text: str) -> None:
    folder = world.workspace.run(job_id).attempt(attempt)
    with folder.stdout.open("a") as stream:
        stream.write(text)


def test_logs_of_all_attempts(terry: Terry, world: World) -> None:
    """With a header each; standard error apart."""
    busy(world)
    write_log(world, "cells-0002", 1, "epoch 1\nno newline at the end")
    write_log(world, "cells-0002", 2, "epoch 2\n")
    lines = terry("logs", "cells-0002").out.splitlines()
    assert lines[0].startswith("==> attempt 1 on seawolf:cpu, ")
    assert lines[1:3] == ["epoch 1", "no newline at the end"]
    assert lines[3].startswith("==> attempt 2 on ")
    assert lines[4:] == ["epoch 2"]
    assert "whales" in terry("logs", "cells-0002", "--stderr").out
    assert [entry["text"] for entry in terry("logs", "cells-0002", "--json").json][1] == "epoch 2\n"


@pytest.mark.parametrize(("fails", "code"), [(False, 0), (True, 1)])
def test_logs_follow_until_the_end(
    terry: Terry, world: World, monkeypatch: pytest.MonkeyPatch, fails: bool, code: int
) -> None:
    """New text as it comes; the exit code tells whether the job failed."""
    world.submit("cells", 1)
    world.turn(times=3)
    write_log(world, "cells-0001", 1, "first\n")
    moments = iter([lambda: write_log(world, "cells-0001", 1, "second\n"), lambda: _end(world, fails)])
    monkeypatch.setattr("terry.cluster.cli.logs.time.sleep", lambda _: next(moments)())
    said = terry("logs", "cells-0001", "-f")
    assert said.code == code
    assert said.out.splitlines()[1:] == ["first", "second", "last"]


def test_logs_follow_across_attempts(terry: Terry, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It crashes, waits a moment for its turn, goes on: one text, with a header for each attempt."""
    world.submit("cells", 1)
    world.turn(times=3)
    write_log(world, "cells-0001", 1, "first")
    moments = iter(
        [
            lambda: world.crash("cells-0001"),
            lambda: world.turn(5.0, times=3),
            lambda: write_log(world, "cells-0001", 2, "second\n"),
            lambda: world.finish("cells-0001"),
        ]
    )
    monkeypatch.setattr("terry.cluster.cli.logs.time.sleep", lambda _: next(moments)())
    said = terry("logs", "cells-0001", "-f")
    assert said.code == 0
    lines = said.out.splitlines()
    assert [line for line in lines if "==>" not in line] == ["first", "second"]
    assert [line[:13] for line in lines if "==>" in line] == ["==> attempt 1", "==> attempt 2"]


def test_logs_say_why_nothing_comes_and_where_there_is_more(
    terry: Terry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody runs the queue; later: the job failed, and what it said of that is on standard error."""
    world.submit("cells", 1)
    world.stop_controller()

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("terry.cluster.cli.logs.time.sleep", stop)
    said = terry("logs", "cells-0001", "-f")
    assert said.code == 130
    assert "cells-0001 is pending; waiting for it to start: no controller runs" in said.err


def test_logs_of_a_failed_job_lead_on(terry: Terry, world: World) -> None:
    """To standard error, where there is something on it, and to its story."""
    busy(world)
    folder = world.workspace.run("cells-0003").attempt(1)
    folder.stderr.write_text("Traceback ...\n")
    said = terry("logs", "cells-0003", "-f")
    assert said.code == 1
    assert "there is more on standard error: `terry-cluster logs cells-0003 --stderr`" in said.err
    assert "`terry-cluster explain cells-0003` tells why" in said.err
    assert "more on standard error" not in terry("logs", "cells-0003", "--stderr").err


def _end(world: World, fails: bool) -> None:
    write_log(world, "cells-0001", 1, "last\n")
    if fails:
        world.fail("cells-0001")
    else:
        world.finish("cells-0001")
    world.turn(times=2)


# wait


@pytest.mark.parametrize(("fails", "code"), [(False, 0), (True, 1)])
def test_wait_says_what_happens_and_how_it_ended(terry: Terry, world: World, fails: bool, code: int) -> None:
    """On standard error; with --json the jobs on standard output."""
    world.submit("cells", 1)
    world.turn(times=3)
    later = threading.Timer(0.5, _end, [world, fails])
    later.start()
    said = terry("wait", "cells", "--json")
    later.join()
    assert said.code == code
    assert [job["state"] for job in said.json] == ["failed" if fails else "completed"]
    assert "cells-0001 " in said.err


def test_wait_times_out(terry: Terry, world: World) -> None:
    """Exit code 124; the jobs go on."""
    world.submit("cells", 2)
    said = terry("wait", "cells", "--timeout", "0.3")
    assert said.code == 124
    assert "the jobs go on" in said.err


def test_wait_for_what_is_done_returns_at_once(terry: Terry, world: World) -> None:
    """Cancelled counts as failed."""
    world.submit("cells", 1)
    world.turn()
    terry("cancel", "cells")
    world.turn(times=3)
    assert terry("wait", "cells").code == 1


def test_watch_without_a_terminal_is_plain_lines(terry: Terry, world: World) -> None:
    """One for each change, without any escape sequence."""
    world.submit("cells", 1)
    world.turn(times=3)
    later = threading.Timer(0.5, _end, [world, False])
    later.start()
    said = terry("watch", "--until-done")
    later.join()
    assert said.code == 0
    assert "cells-0001 done after 1,000 steps on seawolf:cpu" in said.out
    assert "\x1b" not in said.out
