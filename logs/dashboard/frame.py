"""The dashboard's frames: a View and a Screen drawn as exactly as many lines as the terminal has. Never queries.

Only rows that are visible are drawn, so a frame costs the same for ten jobs and for ten thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from terry.cluster.core.model import JobState
from terry.logs.dashboard.screen import Mode, Screen, position
from terry.logs.format import decimals, duration, figure, plural, printable, short, shortened, size, sparkline
from terry.logs.text.curve import Series, chart
from terry.logs.text.palette import BAD, BUSY, GOOD, STATES, WARNING
from terry.logs.text.status import eta_words, remark, settings, steps
from terry.logs.view.view import (
    Attention,
    Detail,
    DeviceCondition,
    DeviceView,
    JobView,
    Severity,
    SweepView,
    TimelineEntry,
    View,
)

#: From this height on (lines) there is room for more than the necessary.
_TALL = 30

_SEVERITIES = {Severity.PLAIN: "", Severity.GOOD: GOOD, Severity.WARNING: WARNING, Severity.BAD: BAD}
_CONDITIONS = {
    DeviceCondition.ONLINE: GOOD,
    DeviceCondition.DRAINED: WARNING,
    DeviceCondition.BLOCKED: WARNING,
    DeviceCondition.OFFLINE: BAD,
    DeviceCondition.GIVEN_BACK: "dim",
}

_Item = TypeVar("_Item")

#: Key, and what it does.
_KEYS = (
    ("up, k", "one job up"),
    ("down, j", "one job down"),
    ("page up", "a page up"),
    ("page down", "a page down"),
    ("g, home", "the first job"),
    ("G, end", "the last job"),
    ("enter", "the job's page: curve, story, log"),
    ("/", "filter: words of id, state, sweep, settings"),
    ("escape", "take the filter away"),
    ("s", "sort: attention, submission, loss, ETA"),
    ("p", "pause a job, or resume it"),
    ("c", "cancel a job"),
    ("r", "resubmit a failed or cancelled job"),
    ("q", "leave; the jobs go on"),
)
_HELP = (
    "Keys",
    *(f"  {key:<11}{what}" for key, what in _KEYS),
    "",
    "! before a state: it crashed and goes on. ! in a curve: a loss not finite.",
    "",
    "Any key goes back.",
)


@dataclass(frozen=True, slots=True)
class Size:
    """Of the terminal, in characters."""

    width: int
    height: int


def job_rows(view: View, terminal: Size) -> int:
    """How many rows of jobs fit on the list."""
    return _heights(view, terminal)[2]


def draw(view: View, screen: Screen, listed: Sequence[JobView], terminal: Size) -> list[Text]:
    """One frame: `terminal.height` lines, none wider than `terminal.width`."""
    width, height = terminal.width, terminal.height
    mode = screen.back if screen.mode is Mode.QUESTION else screen.mode
    if mode is Mode.HELP:
        body = [Text(line) for line in _HELP]
    elif mode is Mode.PAGE:
        body = _page(view, screen, Size(width, height - 2))[0]
    else:
        body = _list(view, screen, listed, terminal)
    body = body[: height - 2]
    body += [Text()] * (height - 2 - len(body))
    lines = [_header(view, width), *body, _footer(screen, len(listed), len(view.jobs))]
    return [_fit(line, width) for line in lines[:height]]


def _fit(line: Text, width: int) -> Text:
    """The line in at most `width` columns, and nothing in it that a terminal would obey."""
    if not line.plain.isprintable():
        line = Text(printable(line.plain), line.style)
    if cell_len(line.plain) > width:
        line = line.copy()
        line.truncate(width, overflow="ellipsis")
    return line


def _heights(view: View, terminal: Size) -> tuple[int, int, int, int]:
    """Rows for sweeps, devices, jobs and events: jobs get what the others, capped by the terminal's height, leave."""
    cap = 3 if terminal.height < _TALL else 6 if terminal.height < 48 else 9
    sweeps, devices, events = (min(cap, len(x)) for x in (view.sweeps, view.devices, view.timeline))
    # One line each for header, footer and the jobs' titles; a title for each section that has rows.
    fixed = 3 + (terminal.height >= _TALL) + sum(rows + 1 for rows in (sweeps, devices, events) if rows)
    jobs = max(1, terminal.height - fixed)
    more = max(0, min(jobs - len(view.jobs), len(view.timeline) - events)) if events else 0
    return sweeps, devices, jobs - more, events + more


def _list(view: View, screen: Screen, listed: Sequence[JobView], terminal: Size) -> list[Text]:
    width = terminal.width
    sweeps, devices, rows, events = _heights(view, terminal)
    lines: list[Text] = []
    if sweeps:
        lines += [_rule("sweeps", width), *_capped(view.sweeps, sweeps, _sweep_line, width, key=_sweep_key)]
    if devices:
        lines += [_rule("devices", width), *_capped(view.devices, devices, _device_line, width, key=_device_key)]
    if terminal.height >= _TALL:
        lines.append(_rule(_place(screen, len(listed), rows), width))
    lines += _job_lines(view, screen, listed, width, rows)
    if events:
        lines += [_rule("events", width), *(_event_line(h, view) for h in view.timeline[-events:])]
    return lines


def _header(view: View, width: int) -> Text:
    style = "bold" if view.controller.alive else f"bold {WARNING}"
    right = f"{view.controller.sentence}  {view.now.astimezone():%H:%M:%S}"
    if view.notice:
        right, style = f"{view.notice}  {view.now.astimezone():%H:%M:%S}", f"bold {BAD}"
    elif view.absent:
        right, style = f"no more nodes: {view.absent[0]}  {view.now.astimezone():%H:%M:%S}", f"bold {WARNING}"
    if cell_len(right) > width:
        right = set_cell_size(right, width)
    left = f"terry  {view.workspace}"
    room = width - cell_len(right) - 2
    return Text(set_cell_size(left, max(0, room)), "bold") + Text("  " if room > 0 else "") + Text(right, style)


def _footer(screen: Screen, listed: int, total: int) -> Text:
    if screen.mode is Mode.QUESTION and screen.question is not None:
        return Text(f"{screen.question.verb} {screen.question.job_id}? y: yes, any other key: no", "bold reverse")
    if screen.mode is Mode.FILTER:
        return Text(f"filter: {screen.typed}▏ {listed} of {total} jobs; enter: keep, escape: none", "bold")
    if screen.message:
        return Text(screen.message, "bold")
    keys = "q back  j/k scroll  p pause  c cancel  r resubmit  ? help"
    if screen.mode is not Mode.PAGE:
        keys = "q quit  ? help  enter open  / filter  s sort  p pause  c cancel  r resubmit"
        if screen.filter:
            keys = f"filter: {screen.filter} ({listed} of {total} jobs; escape: none)  {keys}"
    return Text(keys, "dim")


def _rule(title: str, width: int) -> Text:
    return Text(f"─ {title} " + "─" * max(0, width - len(title) - 3), "dim")


def _capped(
    items: Sequence[_Item],
    number: int,
    draw_one: Callable[[_Item, int], Text],
    width: int,
    *,
    key: Callable[[_Item], int],
) -> list[Text]:
    """At most `number` lines; where there are more items, those that matter most and how many are left out."""
    if len(items) <= number:
        return [draw_one(item, width) for item in items]
    first = sorted(items, key=key)[: number - 1]
    return [*(draw_one(item, width) for item in first), Text(f"and {len(items) - len(first)} more", "dim")]


def _sweep_key(sweep: SweepView) -> int:
    return 1 if sweep.final == sweep.total else 0


def _device_key(device: DeviceView) -> int:
    return {DeviceCondition.DRAINED: 0, DeviceCondition.OFFLINE: 2, DeviceCondition.GIVEN_BACK: 2}.get(
        device.condition, 1
    )


def _sweep_line(sweep: SweepView, width: int) -> Text:
    name = _cell(sweep.name, min(28, max(12, width // 5)))
    bar = _bar(sweep.fraction, max(8, width // 6))
    counts = sweep.counts
    line = Text(name, "bold") + Text(" ") + bar
    line.append(f" {int(sweep.fraction * 100):3d}% {counts.get(JobState.COMPLETED, 0):,}/{sweep.total:,}")
    running = sum(n for state, n in counts.items() if state.holds_device)
    parts = [("running", running, BUSY), ("failed", counts.get(JobState.FAILED, 0), f"bold {BAD}")]
    parts += [(s, counts.get(JobState(s), 0), STATES[JobState(s)]) for s in ("held", "cancelled")]
    for word, number, style in parts:
        if number:
            line.append("  ").append(f"{number:,} {word}", style)
    if sweep.final < sweep.total and sweep.eta is not None:
        line.append(f"  ETA {eta_words(sweep.eta) if width >= 100 else duration(sweep.eta.seconds)}")
    if sweep.restarts:
        line.append(f"  {plural(sweep.restarts, 'restart')}", "dim")
    return line


def _bar(fraction: float, width: int) -> Text:
    full = min(width, int(fraction * width + 1e-9))
    return Text("█" * full, GOOD) + Text("░" * (width - full), "dim")


def _device_line(device: DeviceView, width: int) -> Text:
    line = Text(_cell(device.id, min(24, max(14, width // 6))))
    condition = device.condition + (f": {printable(device.reason)}" if device.reason else "")
    if device.condition is DeviceCondition.ONLINE:
        line.append(f" {device.used:g}/{device.capacity:g}".ljust(6))
    else:
        line.append(f" {condition}", _CONDITIONS[device.condition])
    if device.utilisation is not None:
        line.append(f" {device.utilisation:4.0%}")
    if device.memory_used_bytes is not None:
        line.append(f" {size(device.memory_used_bytes)} of {size(device.memory_bytes)}")
    if device.temperature_c is not None:
        line.append(f" {device.temperature_c:.0f}°C")
    if width >= 100:
        line.append(f" {device.model}", "dim")
    return line + Text(" " + " ".join(device.jobs), BUSY)


def _event_line(entry: TimelineEntry, view: View) -> Text:
    local = entry.time.astimezone()
    form = "%H:%M:%S" if (view.now - entry.time).total_seconds() < 43_200 else "%m-%d %H:%M"
    line = Text(f"{local:{form}} ", "dim") + Text(entry.job_id, "bold")
    return line + Text(f" {printable(entry.text)}", _SEVERITIES[entry.severity])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column of the job list."""

    title: str
    width: int
    keep: int  #: the smaller, the longer it stays as the terminal gets narrow
    cell: Callable[[JobView, View, int], str]
    right: bool = True


def _state_cell(job: JobView, view: View, width: int) -> str:
    del view, width
    return ("!" if job.attention is Attention.TROUBLED else "") + job.state


def _steps_cell(job: JobView, view: View, width: int) -> str:
    del view
    full = steps(job)
    return full if len(full) <= width else steps(job, brief=True)


def _settings_cell(job: JobView, view: View, width: int) -> str:
    del view
    full = printable(settings(job))
    return full if cell_len(full) <= width else printable(settings(job, brief=True))


def _curve_cell(job: JobView, view: View, width: int) -> str:
    return sparkline(view.losses.get(job.id, ()), width)


_COLUMNS = (
    _Column(title="STATE", width=10, keep=1, cell=_state_cell, right=False),
    _Column(title="SETTINGS", width=16, keep=3, cell=_settings_cell, right=False),
    _Column(title="TRY", width=3, keep=5, cell=lambda j, _v, _w: str(j.attempt or "-")),
    _Column(title="EPOCH", width=5, keep=4, cell=lambda j, _v, _w: decimals(j.epoch, 1)),
    _Column(title="STEP", width=10, keep=3, cell=_steps_cell),
    _Column(title="LOSS", width=8, keep=2, cell=lambda j, _v, _w: figure(j.loss)),
    _Column(title="CURVE", width=9, keep=7, cell=_curve_cell, right=False),
    _Column(title="TOK/S", width=5, keep=6, cell=lambda j, _v, _w: short(j.tokens_per_s)),
    _Column(title="ETA", width=6, keep=3, cell=lambda j, _v, _w: duration(j.eta_seconds)),
    _Column(title="DEVICE", width=14, keep=9, cell=lambda j, _v, _w: j.device or "-", right=False),
    _Column(title="VALID", width=8, keep=10, cell=lambda j, _v, _w: figure(j.valid_loss)),
    _Column(title="NOTE", width=24, keep=8, cell=lambda j, _v, _w: printable(remark(j)), right=False),
)

#: Columns that take what is left on a wide terminal, and how much of it at most.
_GROWING = {"SETTINGS": 40, "STEP": 17, "CURVE": 16, "NOTE": 1000}


def _layout(width: int, longest: int, told: int) -> tuple[int, list[tuple[_Column, int]]]:
    """Width of the ids, and the columns that fit with the width of each.

    longest, told: what the longest of the ids and of the settings take.
    """
    name = min(max(longest, 8), max(10, width // 5))
    kept = sorted(_COLUMNS, key=lambda c: c.keep)
    while kept and name + sum(c.width + 1 for c in kept) > width:
        kept.pop()
    left = width - name - sum(c.width + 1 for c in kept)
    widths = {c.title: c.width for c in kept}
    for title in (t for t in _GROWING if t in widths):
        most = min(_GROWING[title], told) if title == "SETTINGS" else _GROWING[title]
        more = max(0, min(left, most - widths[title]))
        widths[title] += more
        left -= more
    return name, [(c, widths[c.title]) for c in _COLUMNS if c in kept]


def _job_lines(view: View, screen: Screen, listed: Sequence[JobView], width: int, rows: int) -> list[Text]:
    shown = listed[screen.top : screen.top + rows]
    told = max((cell_len(printable(settings(job))) for job in shown), default=0)
    name, columns = _layout(width, max((len(job.id) for job in shown), default=8), told)
    titles = [_cell(column.title, w, right=column.right) for column, w in columns]
    lines = [Text(" ".join([_cell("JOB", name), *titles]), "dim underline")]
    at = position(listed, screen)
    for number, job in enumerate(shown, start=screen.top):
        lines.append(_job_line(job, view, name, columns, selected=number == at and screen.mode is not Mode.FILTER))
    return lines + [Text()] * (rows - len(shown))


def _place(screen: Screen, listed: int, rows: int) -> str:
    """Which of the jobs are drawn, in which order."""
    place = f"jobs {screen.top + 1:,}-{min(screen.top + rows, listed):,} of {listed:,}" if listed else "no jobs"
    return f"{place}, by {screen.sort}" + (f", filter: {screen.filter}" if screen.filter else "")


def _job_line(job: JobView, view: View, name: int, columns: Sequence[tuple[_Column, int]], *, selected: bool) -> Text:
    line = Text(_cell(job.id, name))
    for column, width in columns:
        text = _cell(column.cell(job, view, width), width, right=column.right)
        style = STATES[job.state] if column.title == "STATE" else BUSY if column.title == "CURVE" else ""
        line.append(" ").append(text, "" if selected else style)  # colours cannot be read reversed
    if selected:
        line.stylize("bold reverse" if job.attention is Attention.FAILED else "reverse")
    return line


def _cell(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly `width` columns."""
    length = cell_len(text)
    if length > width:
        return shortened(text, width) if text.isascii() else set_cell_size(text, width - 1) + "…"
    return " " * (width - length) + text if right else text + " " * (width - length)


def page_scroll(view: View, screen: Screen, terminal: Size) -> int:
    """How far the job's page is scrolled: never beyond its end."""
    return min(screen.scroll, _page(view, screen, Size(terminal.width, terminal.height - 2))[1])


def _page(view: View, screen: Screen, area: Size) -> tuple[list[Text], int]:
    """One job: its figures, its curve, then its story and the end of its log, scrolled; how far it can be."""
    job = next((job for job in view.jobs if job.id == screen.cursor), None)
    if job is None:
        return [Text("this job is not known any more")], 0
    lines = [_page_title(job)]
    lines += [Text("  ".join(f"{k}={printable(v)}" for k, v in job.labels.items()), "dim")] if job.labels else []
    detail = view.detail if view.detail is not None and view.detail.job_id == job.id else None
    if detail is None:
        return [*lines, Text("reading ...", "dim")], screen.scroll
    lines += [_rule("loss", area.width), *_curve(detail, area)] if detail.steps else []
    rest = [*(Text(printable(x)) for x in detail.story), _rule("log", area.width)]
    rest += [Text(printable(x)) for x in detail.log] or [Text("(it has not printed anything)", "dim")]
    room = max(1, area.height - len(lines) - 1)
    limit = max(0, len(rest) - room)
    top = min(screen.scroll, limit)
    return [*lines, _rule("story", area.width), *rest[top : top + room]], limit


def _curve(detail: Detail, area: Size) -> list[Text]:
    """The loss over the steps, with `^` where a later attempt went on."""
    series = Series(steps=detail.steps, values=detail.losses)
    lines = chart([series], area.width, max(5, area.height // 3), detail.restarts)
    return [Text.assemble(*((text, "dim" if owner is None else BUSY) for text, owner in line)) for line in lines]


def _page_title(job: JobView) -> Text:
    line = Text(job.id, "bold") + Text("  ") + Text(job.state, STATES[job.state])
    line.append(f"  attempt {job.attempt}" + (f" on {job.device}" if job.device else ""))
    figures = [("step", steps(job)), ("loss", figure(job.loss))]
    figures += [("valid", figure(job.valid_loss)), ("tokens/s", short(job.tokens_per_s))]
    figures += [("ETA", duration(job.eta_seconds))]
    for word, text in figures:
        line.append(f"  {word} ", "dim").append(text)
    return line
