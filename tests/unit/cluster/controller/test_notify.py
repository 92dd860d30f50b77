"""Notifications: what is told when, and that a command which fails, hangs or is tricked does no harm."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from terry.cluster.controller.notify import Notifier
from terry.cluster.core.model import EndReason, JobRecord, JobState
from terry.cluster.files.paths import WorkspacePaths
from tests.helpers.queue_values import Queue, make_cpu


class Told:
    """A queue whose finished jobs are told of, and what the command wrote."""

    def __init__(self, root: Path, command: str, more: str = "") -> None:
        self.workspace = WorkspacePaths(root)
        self.workspace.config.write_text(f"notify:\n  command: {json.dumps(command)}\n{more}")
        self.queue = Queue(make_cpu(cores=2))
        self.notifier = Notifier(self.workspace, lambda sweep: self.queue.state.counts[sweep], os.environ)

    def end(self, job: str, reason: EndReason) -> JobRecord:
        self.queue.start(job)
        record = self.queue.end(job, reason)
        self.notifier.finished(record)
        return record


def test_a_failure_and_the_end_of_a_sweep_are_told(tmp_path: Path) -> None:
    told = Told(tmp_path, f"cat >> '{tmp_path}/told'; env | grep ^TERRY_ >> '{tmp_path}/env'")
    told.queue.submit("s-1")
    told.queue.submit("s-2")
    assert told.end("s-1", EndReason.BAD_INPUT).state is JobState.FAILED
    told.end("s-2", EndReason.SUCCESS)
    told.notifier.wait()
    first, last = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert (first["event"], first["job"], first["state"]) == ("failure", "s-1", "failed")
    assert first["reason"].startswith("failed")
    assert (last["event"], last["state"], last["counts"]) == ("sweep", "failed", {"completed": 1, "failed": 1})
    assert "TERRY_SWEEP=s" in (tmp_path / "env").read_text().split("\n")


def test_a_sweep_that_ends_in_one_turn_is_told_once_and_again_after_a_resubmit(tmp_path: Path) -> None:
    told = Told(tmp_path, f"echo $TERRY_STATE >> '{tmp_path}/told'", "  on: sweep\n")
    told.queue.submit("s-1")
    told.queue.submit("s-2")
    for job in ("s-1", "s-2"):
        told.queue.start(job)
        told.queue.end(job, EndReason.BAD_INPUT)
    ended = [told.queue[job] for job in ("s-1", "s-2")]
    same = [msgspec.structs.replace(record, finished_at=ended[0].finished_at) for record in ended]
    for record in same:
        told.notifier.finished(record)
    told.notifier.wait()
    assert (tmp_path / "told").read_text() == "failed\n"
    told.notifier.finished(msgspec.structs.replace(same[0], state=JobState.COMPLETED, finished_at=told.queue.now))
    told.notifier.wait()
    assert len((tmp_path / "told").read_text().splitlines()) == 2


def test_names_and_reasons_never_become_code(tmp_path: Path) -> None:
    told = Told(tmp_path, f'echo "$TERRY_REASON" >> {tmp_path}/told', "  on: failure\n")
    told.queue.submit("s-1")
    told.queue.start("s-1")
    record = told.queue.end("s-1", EndReason.BAD_INPUT)
    evil = f"$(touch {tmp_path}/owned) `touch {tmp_path}/owned`; touch {tmp_path}/owned"
    told.notifier.finished(msgspec.structs.replace(record, job=replace(record.job, sweep="s"), reason=evil))
    told.notifier.wait()
    assert (tmp_path / "told").read_text() == evil + "\n"
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [("echo no such host; exit 3", "no such host"), ("sleep 600 & sleep 600", "took more than 0.3 s")],
)
def test_a_command_that_fails_or_hangs_is_logged_and_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str, said: str
) -> None:
    told = Told(tmp_path, command, "  timeout: 0.3\n  on: sweep\n")
    told.queue.submit("s-1")
    began = time.monotonic()
    with caplog.at_level(logging.ERROR):
        told.end("s-1", EndReason.SUCCESS)
        assert time.monotonic() - began < 0.25, "the controller does not wait"
        told.notifier.wait()
    assert said in caplog.text


def test_a_mistake_in_the_file_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Told(tmp_path, "true", "  tiemout: 3\n")
    told.queue.submit("s-1")
    told.end("s-1", EndReason.SUCCESS)
    told.notifier.wait()
    assert "did you mean 'timeout'" in caplog.text
