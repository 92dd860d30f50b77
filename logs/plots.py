"""Loss curves as pictures (matplotlib, imported where it is used)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from terry.cluster.files.paths import Run
from terry.logs.records.curves import Curve, read_curve, smooth
from terry.logs.statistics.bands import band, is_validated, points_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_loss_curve(run: Run, name: str = "", first_attempt: int = 1) -> Path | None:
    """Draw `loss_curve.png` of one run; None where it has measured less than two losses: a point is no curve.

    30 to 50 ms after `prepare`. Written whole or not at all. Raises OSError.
    """
    curve = read_curve(run, name or run.root.name, first_attempt)
    if len(curve.steps) < 2:
        return None
    draw([curve], run.loss_curve, title=curve.name)
    return run.loss_curve


def draw(
    curves: Sequence[Curve],
    target: Path,
    *,
    title: str = "",
    smoothing: float = 0.0,
    group_of: dict[str, str] | None = None,
    seeds: bool = False,
) -> None:
    """Draw curves into a PNG, SVG or PDF file (by its ending), whole or not at all.

    smoothing: weight of an exponential moving average, 0 to below 1. group_of: curve name -> group; curves of one group
    have one colour. Vertical marks show where a run was restarted. seeds: curves of one group differ in their seed
    alone: drawn are their mean and the band of its 95% interval.
    """
    figure = _prepared.pop() if _prepared else _blank()
    axes = figure.axes[0]
    if seeds:
        _fill_bands(axes, curves, smoothing, group_of or {})
    else:
        _fill(axes, curves, smoothing, group_of or {})
    axes.set_title(title)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format=target.suffix.removeprefix(".").lower() or "png", dpi=110)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


#: At most one figure whose fonts, ticks and labels have been laid out once; taken by the first picture.
_prepared: list[Figure] = []


def prepare() -> None:
    """Make the first picture of this process, or of each process forked from it, three times as fast.

    Never fails: a person's matplotlibrc may ask for what is not there (LaTeX). Whoever draws will say so.
    """
    _prepared.clear()
    try:
        figure = _blank()
        figure.draw_without_rendering()
    except Exception:
        return
    _prepared.append(figure)


def _blank() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.1, top=0.93)  # a layout engine takes as long as all the rest
    axes = figure.add_subplot()
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.grid(alpha=0.3)
    return figure


def _fill(axes: Axes, curves: Sequence[Curve], smoothing: float, group_of: dict[str, str]) -> None:
    groups = list(dict.fromkeys(group_of.get(curve.name, curve.name) for curve in curves))
    named: set[str] = set()
    for curve in curves:
        group = group_of.get(curve.name, curve.name)
        colour = f"C{groups.index(group) % 10}"
        label = group if group not in named else None
        named.add(group)
        if smoothing:
            axes.plot(curve.steps, curve.losses, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(curve.steps, smooth(curve.losses, smoothing), color=colour, label=label, linewidth=1.2)
        if curve.valid_steps:
            name = f"{group} (validation)" if label else None
            axes.plot(
                curve.valid_steps, curve.valid_losses, "o--", color=colour, label=name, markersize=3, linewidth=0.9
            )
        for step in curve.restarts:
            name = None if "restart" in named else "restarted here"
            named.add("restart")
            axes.axvline(step, color=colour, linestyle=":", linewidth=0.8, label=name)
    if len(groups) > 1 or any(curve.valid_steps or curve.restarts for curve in curves):
        axes.legend(fontsize="small", ncols=1 + len(groups) // 12)


def _fill_bands(axes: Axes, curves: Sequence[Curve], smoothing: float, group_of: dict[str, str]) -> None:
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(group_of.get(curve.name, curve.name), []).append(curve)
    for index, (name, members) in enumerate(groups.items()):
        colour = f"C{index % 10}"
        runs = [points_of(curve, smoothing) for curve in members]
        around = band(runs)
        for points in runs:
            label = None if around or points is not runs[0] else f"{name} (n = 1)"
            alpha, width = (0.3, 0.6) if around else (1.0, 1.2)
            steps, losses = [step for step, _ in points], [loss for _, loss in points]
            axes.plot(steps, losses, color=colour, label=label, alpha=alpha, linewidth=width)
        if around:
            steps = [at.step for at in around]
            axes.fill_between(
                steps, [at.low for at in around], [at.high for at in around], color=colour, alpha=0.2, linewidth=0
            )
            label = f"{name} (n = {len(runs)})"
            axes.plot(steps, [at.mean for at in around], color=colour, label=label, linewidth=1.6)
    everything = [point for curve in curves for point in points_of(curve, smoothing)]
    finite = [loss for _, loss in everything if math.isfinite(loss)]
    if finite:  # bands of two seeds are very wide
        more = (max(finite) - min(finite)) / 2 or 1.0
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, min(finite) - more), min(high, max(finite) + more))
    kind = "validation loss" if all(map(is_validated, curves)) else "loss"
    axes.set_ylabel(f"{kind} (nats per token): mean, 95% interval")
    axes.legend(fontsize="small", ncols=1 + len(groups) // 12)
