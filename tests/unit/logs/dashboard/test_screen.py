"""What keys do: pure, and so tested without a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.cluster.core.model import JobState
from terry.logs.dashboard.screen import Mode, Request, Screen, Sort, Verb, position, press, rows, scrolled
from tests.helpers.views import JOBS, job, many, view

KEYS = [
    "up",
    "down",
    "j",
    "k",
    "pageup",
    "pagedown",
    "home",
    "end",
    "enter",
    "escape",
    "s",
    "/",
    "c",
    "p",
    "r",
    "y",
    "n",
]
KEYS += ["?", "g", "G", "a", "backspace", "é", " "]


def type_keys(screen: Screen, *keys: str) -> tuple[Screen, list[Request]]:
    asked = []
    for key in keys:
        screen, request = press(screen, key, rows(view(), screen), 5)
        asked += [request] if request else []
    return screen, asked


def test_what_needs_attention_stands_first() -> None:
    """Failed, crashed and going on, running, held, queued, done."""
    order = [j.id[-1] for j in rows(view(), Screen())]
    assert order == ["2", "3", "4", "5", "8", "6", "7", "1"]


def test_moving_stays_inside() -> None:
    """The cursor follows a job, and stops at both ends."""
    screen, _ = type_keys(Screen(), "down", "j")
    assert screen.cursor == "cells-0004"
    screen, _ = type_keys(screen, "up", "k", "k", "k")
    assert screen.cursor == "cells-0002"
    screen, _ = type_keys(screen, "G", "down")
    assert screen.cursor == "cells-0001"


def test_cursor_stays_on_its_job_when_the_order_changes() -> None:
    """A job that moves up the list takes the cursor with it."""
    screen = Screen(cursor="cells-0004")
    worse = tuple(job(4, JobState.FAILED, attention=5) if j.id == "cells-0004" else j for j in JOBS)
    assert rows(view(jobs=worse), screen)[position(rows(view(jobs=worse), screen), screen)].id == "cells-0004"


def test_filter_is_typed_kept_and_taken_away() -> None:
    """All words must fit; escape in the list takes the filter away."""
    screen, _ = type_keys(Screen(), "/", *"state:PENDINx", "backspace", *"G cells", "enter")
    assert screen.filter == "state:PENDING cells"
    assert [j.id for j in rows(view(), screen)] == ["cells-0006", "cells-0007"]
    screen, _ = type_keys(screen, "escape")
    assert len(rows(view(), screen)) == len(JOBS)


def test_nothing_is_asked_without_a_yes() -> None:
    """A question comes first; any key but y means no."""
    screen, asked = type_keys(Screen(cursor="cells-0004"), "c")
    assert screen.mode is Mode.QUESTION
    assert not asked
    screen, asked = type_keys(screen, "n")
    assert screen.mode is Mode.LIST
    assert not asked
    _, asked = type_keys(screen, "c", "y")
    assert asked == [Request(verb=Verb.CANCEL, job_id="cells-0004")]


@pytest.mark.parametrize(
    ("job_id", "key", "verb"),
    [
        ("cells-0004", "p", Verb.PAUSE),
        ("cells-0008", "p", Verb.RESUME),
        ("cells-0002", "r", Verb.RESUBMIT),
        ("cells-0006", "c", Verb.CANCEL),
    ],
)
def test_what_can_be_asked(job_id: str, key: str, verb: Verb) -> None:
    """Each job can be asked what fits its state."""
    _, asked = type_keys(Screen(cursor=job_id), key, "y")
    assert asked == [Request(verb=verb, job_id=job_id)]


@pytest.mark.parametrize(("job_id", "key"), [("cells-0001", "c"), ("cells-0001", "p"), ("cells-0004", "r")])
def test_what_cannot_be_asked_is_said(job_id: str, key: str) -> None:
    """A finished job cannot be cancelled: the line below says so."""
    screen, asked = type_keys(Screen(cursor=job_id), key)
    assert screen.mode is Mode.LIST
    assert job_id in screen.message
    assert not asked


def test_question_on_a_page_returns_to_the_page() -> None:
    """Also help does."""
    screen, asked = type_keys(Screen(cursor="cells-0004"), "enter", "p", "y")
    assert screen.mode is Mode.PAGE
    assert len(asked) == 1
    screen, _ = type_keys(screen, "?")
    assert screen.mode is Mode.HELP
    assert type_keys(screen, "x")[0].mode is Mode.PAGE


def test_sorting_goes_round() -> None:
    """Jobs without a loss, and with NaN, stand behind the others."""
    screen, _ = type_keys(Screen(), "s", "s")
    assert screen.sort is Sort.LOSS
    losses = [j.loss for j in rows(view(), screen)]
    assert losses[:4] == sorted(loss for loss in losses[:4] if loss is not None)
    assert type_keys(screen, "s", "s")[0].sort is Sort.ATTENTION


def test_q_quits_the_list_and_leaves_the_page() -> None:
    """One q a level."""
    screen, _ = type_keys(Screen(), "enter", "q")
    assert not screen.quit
    assert type_keys(screen, "q")[0].quit


@given(st.lists(st.sampled_from(KEYS), max_size=40), st.integers(1, 30))
def test_any_keys_leave_a_screen_that_can_be_drawn(pressed: list[str], height: int) -> None:
    """No sequence of keys raises, asks without a yes, or puts the cursor off the screen."""
    shown = many(57)
    screen = Screen()
    for before, key in zip(["", *pressed], pressed, strict=False):
        screen, request = press(screen, key, rows(shown, screen), height)
        assert request is None or (key == "y" and before in {"c", "p", "r"})
        listed = rows(shown, screen)
        screen = scrolled(screen, listed, height)
        if listed:
            assert screen.top <= position(listed, screen) < screen.top + height
