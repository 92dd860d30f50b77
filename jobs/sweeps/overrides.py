"""`key=value` of the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from terry.cluster.config.typed import options, type_at, typed, unknown
from terry.cluster.config.words import Plain
from terry.cluster.config.yaml_file import Problem, Where, parse_value
from terry.cluster.errors import UserError
from terry.jobs.sweeps.spec import RunConfig, SweepFile

_ROOT = tuple(f.name for f in fields(SweepFile))
_RUN = tuple(f.name for f in fields(RunConfig) if f.name not in _ROOT)

#: Below these, what follows is one key that contains dots: `sweep.grid.model.cell`.
_DOTTED_BELOW = (("sweep", "grid"), ("sweep", "zip"), ("sweep", "random", "distributions"))


@dataclass(frozen=True, slots=True)
class Override:
    """One setting from the command line."""

    text: str  #: as given
    path: tuple[str, ...]  #: relative to `run:` where `in_run`, else to the file
    value: Any
    in_run: bool

    @classmethod
    def parse(cls, text: str) -> Override:
        """`training.epochs=3` or `run.training.epochs=3`, `datasets.comments.seed=2`, `sweep.grid.model.cell=[gru]`."""
        key, sign, value = text.partition("=")
        parts = tuple(key.strip().split("."))
        if not sign or not all(parts):
            raise UserError(f"{text!r} is not an override; write key=value, such as training.epochs=3")
        if parts[0] not in _RUN and parts[0] not in _ROOT:
            raise UserError(f"{text}: {unknown(parts[:1], RunConfig, RunConfig).message}")
        in_run = parts[0] in _RUN or (parts[0] == "run" and len(parts) > 1)
        path = _path(parts) if not in_run else parts[1:] if parts[0] == "run" else parts
        return cls(text, path, _value(text, value, path, in_run=in_run), in_run=in_run)

    def error(self, problem: Problem) -> UserError:
        """The error of a problem that it brings."""
        return UserError(f"{self.text}: {problem.message}")


def _value(text: str, value: str, path: Where, *, in_run: bool) -> Any:
    """The value, typed where it is one of the run: text to the letter, whatever YAML would make of it."""
    try:
        kind = type_at(RunConfig, path) if in_run else Any
        is_text = str in options(kind)
        try:
            parsed = parse_value(value)
        except UserError as error:
            if not is_text:
                raise UserError(f"{text}: {error}") from None
            parsed = Plain(value.strip())
        if not in_run:
            return parsed
        return typed(Plain(value.strip()) if is_text and isinstance(parsed, Plain) else parsed, kind, path, RunConfig)
    except Problem as problem:
        raise UserError(f"{text}: {problem.message}") from None


def _path(parts: tuple[str, ...]) -> tuple[str, ...]:
    for prefix in _DOTTED_BELOW:
        if parts[: len(prefix)] == prefix and len(parts) > len(prefix):
            return (*prefix, ".".join(parts[len(prefix) :]))
    return parts
