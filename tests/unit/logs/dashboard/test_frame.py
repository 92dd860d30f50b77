"""Frames of the dashboard: as golden files at fixed sizes, and what holds for any size."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from terry.cluster.core.model import JobState
from terry.logs.dashboard.frame import Size, draw, job_rows
from terry.logs.dashboard.screen import Mode, Request, Screen, Sort, Verb, rows, scrolled
from terry.logs.view.view import DeviceCondition, View
from tests.helpers.views import detail, job, many, view

GOLDEN = Path(__file__).with_name("golden")
SIZES = [Size(80, 24), Size(120, 40), Size(200, 60)]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def frame(shown: View, screen: Screen, size: Size) -> list[str]:
    listed = rows(shown, screen)
    screen = scrolled(screen, listed, job_rows(shown, size))
    return [line.plain for line in draw(shown, screen, listed, size)]


SCREENS = {
    "list": (view(), Screen()),
    "page": (view(detail=detail()), Screen(mode=Mode.PAGE, cursor="cells-0004")),
    "help": (view(), Screen(mode=Mode.HELP)),
    "question": (
        view(),
        Screen(mode=Mode.QUESTION, cursor="cells-0003", question=Request(verb=Verb.CANCEL, job_id="cells-0003")),
    ),
    "many": (many(10_000), Screen(sort=Sort.SUBMITTED, cursor="cells-5000")),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s.width}x{s.height}")
@pytest.mark.parametrize("name", SCREENS)
def test_golden(name: str, size: Size) -> None:
    """The frame is the one that was looked at and found good. TERRY_GOLDEN=write writes it anew."""
    shown, screen = SCREENS[name]
    lines = frame(shown, screen, size)
    path = GOLDEN / f"{name}-{size.width}x{size.height}.txt"
    text = "".join(line.rstrip() + "\n" for line in lines)
    if os.environ.get("TERRY_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@given(width=st.integers(20, 250), height=st.integers(5, 70), name=st.sampled_from(sorted(SCREENS)))
@settings(max_examples=150, deadline=None)
def test_fits_any_terminal(width: int, height: int, name: str) -> None:
    """Exactly as many lines as the terminal has, none wider."""
    shown, screen = SCREENS[name]
    lines = frame(shown, screen, Size(width, height))
    assert len(lines) == height
    assert max(cell_len(line) for line in lines) <= width


def test_cursor_is_always_drawn() -> None:
    """Wherever the cursor stands among ten thousand jobs, its row is on the screen, and reversed."""
    shown = many(10_000)
    for job_id in ("cells-0001", "cells-0777", "cells-10000"):
        screen = Screen(sort=Sort.SUBMITTED, cursor=job_id)
        listed = rows(shown, screen)
        screen = scrolled(screen, listed, job_rows(shown, SIZES[0]))
        found = [line for line in draw(shown, screen, listed, SIZES[0]) if line.plain.startswith(f"{job_id} ")]
        assert len(found) == 1
        assert any("reverse" in str(span.style) for span in found[0].spans)


def test_no_escape_sequence_of_a_job_reaches_the_terminal() -> None:
    """What a job printed is shown, not obeyed."""
    lines = frame(view(detail=detail()), Screen(mode=Mode.PAGE, cursor="cells-0004"), Size(100, 40))
    assert not any("\x1b" in line for line in lines)
    assert any("\\x1b[31mred" in line for line in lines)


def test_wide_characters_keep_columns() -> None:
    """A reason in Japanese takes two columns a character, and is cut by columns."""
    shown = view(jobs=(job(1, JobState.HELD, reason="一時停止" * 20),), timeline=())
    for line in frame(shown, Screen(), Size(120, 30)):
        assert cell_len(line) <= 120


def test_says_that_nobody_runs_the_queue() -> None:
    """Without a controller the header says how old all this is."""
    dead = replace(view().controller, alive=False, age_s=125.0)
    assert "no controller: shown is what was known 2m05s ago" in frame(view(controller=dead), Screen(), SIZES[1])[0]


@pytest.mark.parametrize("condition", DeviceCondition)
def test_a_device_in_any_condition_is_drawn(condition: DeviceCondition) -> None:
    device = replace(view().devices[0], condition=condition)
    text = "\n".join(frame(replace(view(), devices=(device,)), Screen(), SIZES[-1]))
    assert condition in text or condition is DeviceCondition.ONLINE


def test_an_empty_workspace_is_no_crash() -> None:
    """Nothing to show is shown as nothing."""
    empty = view(jobs=(), sweeps=(), devices=(), timeline=(), losses={})
    assert any("no jobs" in line for line in frame(empty, Screen(), SIZES[1]))
    assert len(frame(empty, Screen(mode=Mode.PAGE, cursor="gone"), SIZES[0])) == 24
