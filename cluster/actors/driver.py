"""`python -m terry.cluster.actors.driver WORKSPACE [end]`: a short-lived Ray driver; it makes sure of a controller.

`end`: or ends what runs for the workspace on a cluster that others have started. `early`: it is begun before there is a
cluster, imports Ray meanwhile (a second), and goes on once it gets a line; it leaves where its input just ends.

A program of its own, because a driver of a cluster that is not well can hang for minutes: whoever calls it sets a time
limit and kills it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import ActorUnavailableError, AuthenticationError, GetTimeoutError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from terry.cluster.actors.controller import ControllerActor
from terry.cluster.actors.home import CONTROLLER
from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.cluster.host.addresses import own_addresses
from terry.cluster.ray.daemons import USER_ERROR, foreign_environment, has_token, token_file
from terry.cluster.ray.head import Head, read_head

_log = logging.getLogger(__name__)

_PING_S = 20.0


def namespace_of(workspace: WorkspacePaths) -> str:
    """Ray's namespace of a workspace's actors."""
    return f"terry-{workspace.id}"


def ensure_controller(workspace: WorkspacePaths) -> str:
    """Create the controller's actor, or wait for the one that is there. Returns what it answers: its state."""
    namespace = namespace_of(workspace)
    # Where the workspace is, not on a node that may not see it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    deadline = time.monotonic() + _PING_S
    while True:
        actor = ControllerActor.options(  # type: ignore[attr-defined]
            name=CONTROLLER,
            namespace=namespace,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            max_concurrency=2,
            num_cpus=0,
            scheduling_strategy=here,
        ).remote(str(workspace.root), namespace)
        state = _ping(actor)
        if state == "running":
            return state
        if time.monotonic() > deadline:
            raise TimeoutError(f"the controller does not answer (last: {state})")
        if state != "restarting":
            ray.kill(actor)  # it has stopped, was superseded, or died for good: begin a new one
        time.sleep(0.2)


def end_actors(workspace: WorkspacePaths) -> None:
    """End controller and agents on a cluster that goes on living."""
    namespace = namespace_of(workspace)
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == namespace:
            ray.kill(ray.get_actor(actor["name"], namespace=namespace), no_restart=True)


def _ping(actor: Any) -> str:
    try:
        state: str = ray.get(actor.ping.remote(), timeout=_PING_S)[0]
    except (ActorUnavailableError, GetTimeoutError):
        return "restarting"
    except RayActorError:
        return "dead"
    return state


def require_admission(workspace: WorkspacePaths, head: Head) -> None:
    """Leave with one sentence where a cluster of others asks for a token that we do not have: Ray itself would try on.

    Where the user has one and has not said whether to use it, it is used: Ray 2.60 writes `~/.ray/auth_token`, and
    asks for it, by itself, while a driver does not use it by itself.
    """
    try:
        GcsClient(address=head.address)
    except AuthenticationError:
        if os.environ.get("RAY_AUTH_MODE") or not has_token():
            _refused(head.address)
        durable.write_json(workspace.head, msgspec.structs.replace(head, asks_token=True))
        environment = foreign_environment(workspace, head.address, asks_token=True)
        words = [word for word in sys.argv[1:] if word != "early"]  # whoever began it early has said so already
        again = [sys.executable, "-m", "terry.cluster.actors.driver", *words]
        os.execve(sys.executable, again, environment)  # noqa: S606  (no shell is wanted)
    except Exception as error:  # not well: what follows tells in which way
        _log.warning("%s", error)


def _refused(address: str) -> NoReturn:
    mode = os.environ.get("RAY_AUTH_MODE", "")
    set_it = "`export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE` (by default ~/.ray/auth_token)"
    if mode.lower() == "token" and has_token():
        where = "in RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else f"in {token_file()}"
        what = f"refuses the token {where}: put that of the cluster there"
    elif mode and mode.lower() != "token":
        what = f"asks for a token, and RAY_AUTH_MODE is {mode!r} here: {set_it}"
    else:
        what = f"asks for a token, and there is none here: {set_it}"
    print(f"the Ray cluster at {address} {what}, then `terry-cluster up`", file=sys.stderr)
    sys.exit(USER_ERROR)


def main() -> None:
    """Connect, make sure, leave."""
    workspace = WorkspacePaths(Path(sys.argv[1]))
    if sys.argv[2:] == ["early"] and not sys.stdin.readline():
        return
    head = read_head(workspace)
    if head is None:
        sys.exit("no Ray head is recorded")
    if head.foreign:
        require_admission(workspace, head)
    host = head.address.rpartition(":")[0]
    ray.init(
        address=head.address,
        namespace=namespace_of(workspace),
        _node_ip_address=None if head.foreign and host not in own_addresses().values() else host,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    if sys.argv[2:] == ["end"]:
        end_actors(workspace)
    else:
        ensure_controller(workspace)
    ray.shutdown()


if __name__ == "__main__":
    main()
