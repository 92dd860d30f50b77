"""Why no more nodes come: in Slurm's and ssh's own words, for whoever looks at a job that waits for one."""

from __future__ import annotations

import os
from collections.abc import Sequence

from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.lifecycle.overview import Condition, NodeView, node_views

_AWAY = (Condition.UNFIT, Condition.UNREACHABLE, Condition.WAITING, Condition.AWAY, Condition.UNKNOWN)
#: So many names are said; of more, how many.
_NAMES = 2


class AbsentNodes:
    """The reasons, read again only when something has changed on disk."""

    def __init__(self, workspace: WorkspacePaths) -> None:
        self._workspace = workspace
        self._stamp: object = None
        self._reasons: tuple[str, ...] = ()

    def reasons(self, *, alive: bool) -> tuple[str, ...]:
        """A line for each reason, what a person has to do about first. alive: whether a controller is at work."""
        stamp = (alive, self._now())
        if stamp != self._stamp:
            try:
                self._reasons = reasons_of(node_views(self._workspace, alive=alive)) if alive else ()
            except UserError as error:  # what keeps nodes away may be just that
                self._reasons = (str(error),)
            self._stamp = stamp
        return self._reasons

    def _now(self) -> object:
        """Reports are replaced by renames, which change their folder."""
        ws = self._workspace
        return [_changed(path) for path in (ws.config, ws.node_reports, ws.members, ws.head)]


def reasons_of(views: Sequence[NodeView]) -> tuple[str, ...]:
    """Nodes with the same reason share a line."""
    found: dict[tuple[Condition, str], list[str]] = {}
    for view in sorted((view for view in views if view.condition in _AWAY), key=lambda v: _AWAY.index(v.condition)):
        if view.problem:
            found.setdefault((view.condition, view.problem), []).append(view.name)
    return tuple(f"{_names(names)}: {problem}" for (_, problem), names in found.items())


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return " and ".join(names) if more <= 0 else f"{', '.join(names[:_NAMES])} and {more} more"


def _changed(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (asked for several times a second)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
