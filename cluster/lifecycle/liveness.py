"""Whether a workspace's controller lives, for commands that look once and end.

On its own node its process tells at once. On another one no clock does: it lives where its lease is seen to change,
which it does every second or so. What one command has seen the next one on this node goes on from, by the monotonic
clock, which all processes of a node share: so that only the first has to look twice.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from terry.cluster.files import durable, lease
from terry.cluster.files.lease import DEAD_AFTER_S, Lease, Liveness, Sight, Watch
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host import clock
from terry.cluster.host.processes import boot_id
from terry.cluster.ray.daemons import runtime_folder

#: A controller that lives shows it within this time (seconds), unless its disk or its node stands still.
LOOK_S = 2.5
_PAUSE_S = 0.1

_SEEN = "lease-seen.json"


class _Seen(msgspec.Struct, frozen=True):
    boot: str  #: of this node: the monotonic clock begins anew with each
    sight: Sight


def watch(workspace: WorkspacePaths) -> Watch:
    """A watch that goes on from what earlier commands on this node have seen."""
    return Watch(clock.monotonic, _recall(workspace), away_s=math.inf)


def liveness(
    workspace: WorkspacePaths, wait_s: float = 0.0, *, notify: Callable[[], None] = lambda: None, anew: bool = False
) -> Liveness:
    """Whether the controller lives. UNKNOWN only where even `wait_s` was too short to tell.

    notify: is called once, where it has to wait.
    anew: a sign of life that an earlier command has seen does not count: it may have died since.
    """
    watched, begun = watch(workspace), clock.monotonic()
    deadline = begun + wait_s
    notified = False
    while True:
        held = lease.read(workspace)
        found = watched.look(held)
        stale = anew and found is Liveness.ALIVE and not _changed(watched, held, begun)
        if (found is not Liveness.UNKNOWN and not stale) or clock.monotonic() >= deadline:
            _keep(workspace, held, watched)
            return found
        if not notified:
            notify()
            notified = True
        time.sleep(_PAUSE_S)


def _changed(watched: Watch, held: Lease | None, since: float) -> bool:
    """Whether it lives by what was seen since then. On this node its process says so at once."""
    if held is not None and held.is_here:
        return True
    after = watched.sight.changed_after if watched.sight is not None else None
    return after is not None and after >= since


def is_alive(workspace: WorkspacePaths) -> bool:
    """Whether it is seen to live, looked at for as long as one that lives needs to show it."""
    return liveness(workspace, LOOK_S) is Liveness.ALIVE


def is_dead(workspace: WorkspacePaths, notify: Callable[[str], None]) -> bool:
    """Whether it is certain that it does not live: only then another may take its place. May take 20 s to find out."""

    def waits() -> None:
        held = lease.read(workspace)
        where = held.host if held else "another node"
        notify(f"watching for {DEAD_AFTER_S:.0f} s at most whether the controller on {where} lives")

    return liveness(workspace, DEAD_AFTER_S + 1.0, notify=waits, anew=True) is not Liveness.ALIVE


def silent_s(workspace: WorkspacePaths) -> float:
    """For how long the lease of another node's controller was seen to stand still from here; 0 where it ended."""
    held, watched = lease.read(workspace), watch(workspace)
    if held is None or held.stopped or held.is_here:
        return 0.0
    found = watched.silent_s(held)
    _keep(workspace, held, watched)
    return found


def _recall(workspace: WorkspacePaths) -> Sight | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        seen = msgspec.json.decode((_place(workspace) / _SEEN).read_bytes(), type=_Seen)
        return seen.sight if seen.boot == boot_id() else None
    return None


def _keep(workspace: WorkspacePaths, held: Lease | None, watched: Watch) -> None:
    """For the next command. Nothing is made for a controller of this node, or for one that ended."""
    if held is not None and not held.is_here and not held.stopped and watched.sight is not None:
        with contextlib.suppress(OSError):
            path = _place(workspace, make=True) / _SEEN
            durable.write_json(path, _Seen(boot_id(), watched.sight), mode=0o600, sync=False)


def _place(workspace: WorkspacePaths, *, make: bool = False) -> Path:
    return runtime_folder(workspace, make=make)
