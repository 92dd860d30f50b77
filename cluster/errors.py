"""Errors that people see. Each says what is wrong, what would be right, and where to look."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """A mistake in what was asked for: shown as a plain line, exit code 2, never a traceback."""

    def __init__(self, message: str, *, file: Path | str | None = None, line: int | None = None) -> None:
        self.file = None if file is None else str(file)
        self.line = line
        place = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(place + message)


class JournalDamaged(UserError):
    """The journal cannot be read: a bad line that is not a torn tail, or a gap in its sequence."""

    HINT = "; `terry-cluster doctor` says how to fix it"

    def __init__(self, message: str, *, file: Path | str | None = None, line: int | None = None) -> None:
        super().__init__(message + self.HINT, file=file, line=line)


class WorkspaceNewer(UserError):
    """Something whole that this version does not know: it was written by a later one, and must not be touched."""

    def __init__(self, message: str, *, file: Path | str | None = None, line: int | None = None) -> None:
        advice = "; use the version of terry-cluster that wrote it, or a later one (nothing was changed)"
        super().__init__(message + advice, file=file, line=line)


class InvalidTransition(RuntimeError):
    """An event that the state machine does not allow where a job stands. Always a bug or a stale actor."""


class LostLease(RuntimeError):
    """Another controller with a higher epoch has taken the workspace: this one must stop at once."""


def close(name: str, valid: Iterable[str]) -> str:
    """The one of `valid` that is most like `name`; empty where none is like it."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(valid), n=1)), "")


def nearest(name: str, valid: Iterable[str], default: str = "; valid here: {}") -> str:
    """`; did you mean ...?`, or the list of what would be valid, to be put behind what is wrong with a name."""
    names = list(valid)
    found = close(name, names)
    if found:
        return f"; did you mean {found!r}?"
    return default.format(", ".join(names)) if names else ""
