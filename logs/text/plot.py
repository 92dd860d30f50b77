"""`plot` without a file: loss curves in the terminal, in colours where it has some. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from terry.logs.records.curves import Curve, smooth
from terry.logs.statistics.bands import band, is_validated, points_of
from terry.logs.text.curve import Piece, Series, chart
from terry.logs.text.palette import SERIES

#: Puts a text in a style of terry.logs.text.palette.
Paint = Callable[[str, str], str]

#: Lines of a chart.
_HEIGHT, _SMALL = 16, 9


def plot_lines(
    curves: Sequence[Curve], groups: Mapping[str, str], smoothing: float, width: int, paint: Paint | None
) -> list[str]:
    """All curves in one chart, a colour for each group; without colours a chart a group, all with the same ranges.

    groups: curve name -> group; a curve without one is a group of its own. paint: None where there are no colours.
    """
    names = list(dict.fromkeys(groups.get(curve.name, curve.name) for curve in curves))
    if len(names) == 1:
        return _single(curves, names[0], smoothing, width, paint)
    if paint is not None and len(names) <= len(SERIES):
        return _joint(curves, groups, names, smoothing, width, paint)
    lines: list[str] = []
    everything = [_series(curve, smoothing) for curve in curves]
    for name in names:
        members = [curve for curve in curves if groups.get(curve.name, curve.name) == name]
        drawn = chart([_series(c, smoothing) for c in members], width, _SMALL, _restarts(members), everything)
        lines += [_title(name, members), *(_text(line, [], None) for line in drawn)]
    return lines


def band_lines(
    curves: Sequence[Curve], groups: Mapping[str, str], smoothing: float, width: int, paint: Paint | None
) -> list[str]:
    """Seeds together: for each group its mean in the band of its 95% interval; a group of one run is a line."""
    members: dict[str, list[Curve]] = {}
    for curve in curves:
        members.setdefault(groups.get(curve.name, curve.name), []).append(curve)
    series = {name: _mean(runs, smoothing) for name, runs in members.items()}
    kind = "validation loss" if all(map(is_validated, curves)) else "loss"
    said = f"{kind}: mean of n seeds, shaded its 95% interval"
    titles = {name: f"{name} (n = {len(runs)})" for name, runs in members.items()}
    if paint is not None and len(series) <= len(SERIES):
        drawn = chart(list(series.values()), width, _HEIGHT)
        legend = "  ".join(f"{paint('━━', SERIES[number])} {title}" for number, title in enumerate(titles.values()))
        return [said, legend, *(_text(line, SERIES, paint) for line in drawn)]
    lines = [said]
    for name, one in series.items():
        drawn = chart([one], width, _HEIGHT if len(series) == 1 else _SMALL, within=list(series.values()))
        lines += [titles[name], *(_text(line, [], None) for line in drawn)]
    return lines


def _mean(runs: Sequence[Curve], smoothing: float) -> Series:
    points = [points_of(curve, smoothing) for curve in runs]
    around = band(points)
    if not around:
        steps, values = [int(step) for step, _ in points[0]], [loss for _, loss in points[0]]
        return Series(steps=steps, values=values)
    edges = [(at.low, at.high) for at in around]
    return Series(steps=[int(at.step) for at in around], values=[at.mean for at in around], band=edges)


def _single(curves: Sequence[Curve], name: str, smoothing: float, width: int, paint: Paint | None) -> list[str]:
    """One group: its losses, and where it is one run and there are colours, its validation losses in another one."""
    series = [_series(curve, smoothing) for curve in curves]
    styles, legend = [SERIES[0]] * len(series), ""
    if len(curves) == 1 and curves[0].valid_steps and paint is not None:
        series.append(Series(steps=curves[0].valid_steps, values=curves[0].valid_losses))
        styles.append(SERIES[1])
        legend = f"  {paint('━━', SERIES[0])} training  {paint('━━', SERIES[1])} validation"
    drawn = chart(series, width, _HEIGHT, _restarts(curves))
    return [_title(name, curves) + legend, *(_text(line, styles, paint) for line in drawn)]


def _joint(
    curves: Sequence[Curve],
    groups: Mapping[str, str],
    names: Sequence[str],
    smoothing: float,
    width: int,
    paint: Paint,
) -> list[str]:
    styles = [SERIES[names.index(groups.get(curve.name, curve.name))] for curve in curves]
    drawn = chart([_series(curve, smoothing) for curve in curves], width, _HEIGHT, _restarts(curves))
    legend = "  ".join(f"{paint('━━', SERIES[number])} {name}" for number, name in enumerate(names))
    return [legend, *(_text(line, styles, paint) for line in drawn)]


def _series(curve: Curve, smoothing: float) -> Series:
    return Series(steps=curve.steps, values=smooth(curve.losses, smoothing))


def _restarts(curves: Sequence[Curve]) -> list[int]:
    return sorted({step for curve in curves for step in curve.restarts})


def _title(name: str, members: Sequence[Curve]) -> str:
    steps = _restarts(members)
    return f"{name}: loss" + (f", restarted at step {', '.join(f'{step:,}' for step in steps)}" if steps else "")


def _text(line: Sequence[Piece], styles: Sequence[str], paint: Paint | None) -> str:
    if paint is None:
        return "".join(text for text, _ in line)
    return "".join(text if owner is None or not text.strip() else paint(text, styles[owner]) for text, owner in line)
