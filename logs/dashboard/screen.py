"""What the person at the dashboard has chosen, and what a key changes about it. Pure: keys in, a new Screen out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from terry.cluster.core.model import JobState
from terry.logs.text.status import by_attention
from terry.logs.view.view import JobView, View


class Mode(Enum):
    """What the keys act on."""

    LIST = auto()
    PAGE = auto()  #: one job
    FILTER = auto()  #: a filter is being typed
    QUESTION = auto()  #: yes or no
    HELP = auto()


class Sort(StrEnum):
    """Order of the job list."""

    ATTENTION = "what needs attention"
    SUBMITTED = "order of submission"
    LOSS = "loss"
    ETA = "ETA"


class Verb(StrEnum):
    """What can be asked of a job from the dashboard."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RESUBMIT = "resubmit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A person asks something of a job, and has confirmed it."""

    verb: Verb
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """The choices of the person who looks."""

    mode: Mode = Mode.LIST
    back: Mode = Mode.LIST  #: where a question or the help was opened
    cursor: str | None = None  #: id of the job that the cursor is on; None: the first
    top: int = 0  #: first row of the list that is drawn
    scroll: int = 0  #: first line of a job's page
    sort: Sort = Sort.ATTENTION
    filter: str = ""
    typed: str = ""  #: the filter while it is being typed
    question: Request | None = None
    message: str = ""  #: answer to the last key, until the next one
    quit: bool = False

    @property
    def page_is_open(self) -> bool:
        """True where a job's page is shown, or lies below a question or the help."""
        below = self.back if self.mode in {Mode.QUESTION, Mode.HELP} else self.mode
        return below is Mode.PAGE


def rows(view: View, screen: Screen) -> list[JobView]:
    """The jobs of the list: those that the filter lets through, sorted."""
    text = screen.typed if screen.mode is Mode.FILTER else screen.filter
    words = text.lower().split()
    found = [job for job in view.jobs if all(word in _haystack(job) for word in words)] if words else list(view.jobs)
    return _SORTS[screen.sort](found)


def _haystack(job: JobView) -> str:
    labels = " ".join(f"{key}={value}" for key, value in job.labels.items())
    return (
        f"{job.id} state:{job.state} {job.sweep} {job.kind} {job.device or ''} {job.end_reason or ''} {labels}".lower()
    )


def _by_loss(jobs: list[JobView]) -> list[JobView]:
    return sorted(jobs, key=lambda job: _last_if_unknown(job.loss))


def _by_eta(jobs: list[JobView]) -> list[JobView]:
    return sorted(jobs, key=lambda job: _last_if_unknown(job.eta_seconds))


def _last_if_unknown(figure: float | None) -> tuple[bool, float]:
    """Sorts None and NaN behind all numbers."""
    known = figure is not None and not math.isnan(figure)
    return (False, figure) if known and figure is not None else (True, 0.0)


_SORTS: dict[Sort, Callable[[list[JobView]], list[JobView]]] = {
    Sort.ATTENTION: by_attention,
    Sort.SUBMITTED: lambda jobs: jobs,
    Sort.LOSS: _by_loss,
    Sort.ETA: _by_eta,
}


def position(listed: Sequence[JobView], screen: Screen) -> int:
    """Index of the row with the cursor; the first where its job is not in the list."""
    return next((i for i, job in enumerate(listed) if job.id == screen.cursor), 0)


def scrolled(screen: Screen, listed: Sequence[JobView], height: int) -> Screen:
    """The screen with `top` such that the cursor's row is among the `height` rows drawn."""
    at = position(listed, screen)
    top = min(max(screen.top, at - height + 1), at)
    return replace(screen, top=max(0, min(top, len(listed) - height)))


#: Further down than any page reaches.
_END = 1 << 30


def press(screen: Screen, key: str, listed: Sequence[JobView], page: int) -> tuple[Screen, Request | None]:
    """What a key does: the new screen, and a request that was confirmed. `page` is the number of rows that fit."""
    screen = replace(screen, message="")
    if screen.mode is Mode.QUESTION:
        return _answer(screen, key)
    if screen.mode is Mode.FILTER:
        return _type(screen, key), None
    if screen.mode is Mode.HELP:
        return replace(screen, mode=screen.back), None
    if key == "?":
        return replace(screen, mode=Mode.HELP, back=screen.mode), None
    if key in _ASKS:
        return _ask(screen, key, listed), None
    if screen.mode is Mode.PAGE:
        return _turn(screen, key, page), None
    return _move(screen, key, listed, page), None


def _answer(screen: Screen, key: str) -> tuple[Screen, Request | None]:
    asked = screen.question
    assert asked is not None, "a question is asked about something"
    back = replace(screen, mode=screen.back, question=None)
    if key in {"y", "Y"}:
        return replace(back, message=f"asking to {asked.verb} {asked.job_id} ..."), asked
    return replace(back, message="nothing was done"), None


def _type(screen: Screen, key: str) -> Screen:
    if key == "enter":
        return replace(screen, mode=Mode.LIST, filter=screen.typed, top=0)
    if key == "escape":
        return replace(screen, mode=Mode.LIST, typed="")
    if key == "backspace":
        return replace(screen, typed=screen.typed[:-1])
    return replace(screen, typed=screen.typed + key) if len(key) == 1 and key.isprintable() else screen


_ASKS = {"c", "p", "r"}
_PAUSABLE = {JobState.WAITING, JobState.PENDING, JobState.STARTING, JobState.RUNNING}


def _ask(screen: Screen, key: str, listed: Sequence[JobView]) -> Screen:
    """The question before something is done to the job under the cursor, or why it cannot be."""
    if not listed:
        return replace(screen, message="there is no job here")
    job = listed[position(listed, screen)]
    verb = _verb(key, job)
    if verb is None:
        return replace(screen, message=f"{job.id} is {job.state}: {_NOT[key]}")
    asked = Request(verb=verb, job_id=job.id)
    return replace(screen, mode=Mode.QUESTION, back=screen.mode, cursor=job.id, question=asked)


_NOT = {
    "c": "nothing is left to cancel",
    "p": "only a job that runs or waits can be paused, and only a held one resumed",
    "r": "only a failed or cancelled job can be resubmitted",
}


def _verb(key: str, job: JobView) -> Verb | None:
    if key == "c":
        return None if job.state.is_final else Verb.CANCEL
    if key == "r":
        return Verb.RESUBMIT if job.state in {JobState.FAILED, JobState.CANCELLED} else None
    if job.state is JobState.HELD:
        return Verb.RESUME
    return Verb.PAUSE if job.state in _PAUSABLE else None


_STEPS = {"down": 1, "j": 1, "up": -1, "k": -1}


def _move(screen: Screen, key: str, listed: Sequence[JobView], page: int) -> Screen:
    """Keys of the list."""
    at = position(listed, screen)
    if key in {"q", "Q"}:
        return replace(screen, quit=True)
    if key == "enter" and listed:
        return replace(screen, mode=Mode.PAGE, cursor=listed[at].id, scroll=0)
    if key == "/":
        return replace(screen, mode=Mode.FILTER, typed=screen.filter)
    if key == "escape":
        return replace(screen, filter="", typed="", top=0)
    if key == "s":
        order = list(Sort)
        return replace(screen, sort=order[(order.index(screen.sort) + 1) % len(order)], top=0, cursor=None)
    moves = {**_STEPS, "pagedown": page, " ": page, "pageup": -page, "home": -len(listed), "g": -len(listed)}
    moves |= {"end": len(listed), "G": len(listed)}
    if key not in moves or not listed:
        return screen
    return replace(screen, cursor=listed[max(0, min(at + moves[key], len(listed) - 1))].id)


def _turn(screen: Screen, key: str, page: int) -> Screen:
    """Keys of a job's page."""
    if key in {"q", "escape", "enter", "left", "backspace"}:
        return replace(screen, mode=Mode.LIST)
    moves = {**_STEPS, "pagedown": page, " ": page, "pageup": -page, "home": -screen.scroll, "g": -screen.scroll}
    moves |= {"end": _END, "G": _END}
    return replace(screen, scroll=max(0, min(_END, screen.scroll + moves.get(key, 0))))
