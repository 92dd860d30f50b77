"""What the processes of both actors do: run one thread for ever, log to a file, keep Ray's settings from jobs.

Ray restarts an actor when its process dies (`max_restarts=-1`), but never after an exception in `__init__`: so
`__init__` only starts a thread, and whatever goes wrong in it ends the process after a pause.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from terry.cluster.errors import UserError
from terry.cluster.files.durable import make_way, share

_log = logging.getLogger(__name__)

_PAUSE_S = 1.0
_PAUSE_FOR_PEOPLE_S = 20.0


class _SharedLog(RotatingFileHandler):
    """Whoever may read the workspace may read it, whatever the umask is here."""

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        share(stream.fileno(), Path(self.baseFilename).parent)
        return stream


def log_to(path: Path) -> None:
    """Send this process's log to a file of its own, at most about 10 MB."""
    make_way(path)
    handler = _SharedLog(path, maxBytes=5_000_000, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("terry")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def run_for_ever(what: str, work: Callable[[], None]) -> None:
    """Run `work` in a permanent thread. If it fails, log it, pause, and end the process: Ray starts a new one."""

    def body() -> None:
        pause = _PAUSE_S
        try:
            work()
        except UserError as error:  # a damaged journal, say: a person has to fix it
            _log.error("%s: %s", what, error)
            pause = _PAUSE_FOR_PEOPLE_S
        except BaseException:
            _log.exception("%s failed", what)
        else:
            return
        time.sleep(pause)
        os._exit(1)

    threading.Thread(target=body, name=what, daemon=True).start()


def job_environment() -> dict[str, str]:
    """The environment that jobs inherit: ours without Ray's settings, above all without the path of the token."""
    return {
        k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TERRY_AGENT", "TERRY_HEAD", "TERRY_INSTANCE"))
    }
