"""The way home through Ray: calls of an agent on a node that does not see the workspace, to the controller's actor."""

from __future__ import annotations

from typing import Any

import msgspec
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from terry.cluster.away.home import HomeAway, NeededFiles
from terry.cluster.ports import LaunchOrder

#: Name of the controller's actor in its workspace's namespace.
CONTROLLER = "controller"

_ANSWER_S = 60.0


class RayHome:
    """A WorkspaceHome. Finds the controller anew after it did not answer: it may be another one by then."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._handle: Any = None

    def needs(self, order: LaunchOrder) -> list[NeededFiles]:
        """See WorkspaceHome."""
        return msgspec.json.decode(self._ask("needs", msgspec.json.encode(order)), type=list[NeededFiles])

    def read(self, path: str, offset: int, length: int) -> bytes:
        """See WorkspaceHome."""
        found: bytes = self._ask("read", path, offset, length)
        return found

    def begin(self, job_id: str, attempt: int, launch: bytes) -> str:
        """See WorkspaceHome."""
        refusal: str = self._ask("begin", job_id, attempt, launch)
        return refusal

    def append(self, job_id: str, attempt: int, name: str, offset: int, data: bytes) -> int:
        """See WorkspaceHome."""
        size: int = self._ask("append", job_id, attempt, name, offset, data)
        return size

    def stage(self, job_id: str, attempt: int, token: str, name: str, offset: int, data: bytes) -> None:
        """See WorkspaceHome."""
        self._ask("stage", job_id, attempt, token, name, offset, data)

    def publish(self, job_id: str, attempt: int, token: str, name: str) -> None:
        """See WorkspaceHome."""
        self._ask("publish", job_id, attempt, token, name)

    def discard(self, job_id: str, attempt: int, name: str) -> None:
        """See WorkspaceHome."""
        self._ask("discard", job_id, attempt, name)

    def _ask(self, what: str, *given: Any) -> Any:
        try:
            if self._handle is None:
                self._handle = ray.get_actor(CONTROLLER, namespace=self._namespace)
            return ray.get(self._handle.home.remote(what, given), timeout=_ANSWER_S)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else HomeAway(str(error))) from error
        except (RayActorError, GetTimeoutError) as error:
            self._handle = None
            raise HomeAway(f"the controller does not answer: {error}") from error
        except ValueError as error:  # there is none of this name
            raise HomeAway(str(error)) from error
