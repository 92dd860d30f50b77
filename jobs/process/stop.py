"""SIGTERM as a question that the job's own loop answers: write a checkpoint, then leave with exit code 75."""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(BaseException):
    """Raised to leave a job that was asked to stop. No Exception, so that no `except Exception` holds it up."""


class StopFlag:
    """True once SIGTERM came."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Take SIGTERM; ignore SIGINT, which a terminal sends to everything below it."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
